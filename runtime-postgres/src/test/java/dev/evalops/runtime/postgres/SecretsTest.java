package dev.evalops.runtime.postgres;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.classic.spi.ThrowableProxyUtil;
import ch.qos.logback.core.AppenderBase;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.testutil.PostgresServer;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.logging.Handler;
import java.util.logging.Level;
import java.util.logging.LogRecord;
import java.util.logging.SimpleFormatter;
import org.junit.jupiter.api.Test;
import org.slf4j.LoggerFactory;

class SecretsTest {
  @Test
  void noPasswordReachesALogOrAnException() throws Exception {
    Queue<String> seen = new ConcurrentLinkedQueue<>();
    AppenderBase<ILoggingEvent> capture = new AppenderBase<>() {
      @Override
      protected void append(ILoggingEvent event) {
        seen.add(event.getFormattedMessage()
            + event.getKeyValuePairs()
            + (event.getThrowableProxy() == null
                ? ""
                : ThrowableProxyUtil.asString(event.getThrowableProxy())));
      }
    };
    Handler driver = new Handler() {
      @Override
      public void publish(LogRecord record) {
        seen.add(new SimpleFormatter().format(record));
      }

      @Override
      public void flush() {}

      @Override
      public void close() {}
    };
    java.util.logging.Logger driverLog = java.util.logging.Logger.getLogger("org.postgresql");
    Logger root = (Logger) LoggerFactory.getLogger(Logger.ROOT_LOGGER_NAME);
    ch.qos.logback.classic.Level before = root.getLevel();
    root.detachAndStopAllAppenders();
    root.addAppender(capture);
    root.setLevel(ch.qos.logback.classic.Level.TRACE);
    capture.start();
    driver.setLevel(Level.ALL);
    driverLog.addHandler(driver);
    driverLog.setUseParentHandlers(false);
    driverLog.setLevel(Level.ALL);
    try (PostgresServer server = PostgresServer.start()) {
      try (Connection admin = DriverManager.getConnection(
          "jdbc:postgresql://127.0.0.1:" + server.port() + "/postgres", "test", "test")) {
        admin.createStatement().execute("CREATE ROLE app LOGIN PASSWORD 'S3cret/word'");
      }
      String at = "127.0.0.1:" + server.port();
      seen.clear();
      Retry twice = Retry.builder().maxAttempts(2).delay(Duration.ZERO).build();
      Retry once = Retry.builder().maxAttempts(1).build();
      for (String url : new String[] {
        "postgres://app:S3cret%2Fword@" + at + "/postgres",
        "postgres://" + at + "/postgres?user=app&password=S3cret%2Fword&sslpassword=S3cretkey",
        "jdbc:postgresql://" + at
            + "/postgres?user=app&password=S3cret%2Fword&sslpassword=S3cretkey"
      }) {
        try (HikariDataSource pool = Postgres.builder(url)
                .configure(config -> config.addDataSourceProperty("sslpassword", "S3cretkey"))
                .retry(twice)
                .open();
            Connection connection = pool.getConnection()) {
          seen.add(
              pool + " " + pool.getJdbcUrl() + pool.getDataSource() + pool.getDataSourceProperties()
                  + connection + connection.getMetaData().getURL());
        }
      }
      for (String url : new String[] {
        "postgres://app:S3cretwrong@" + at + "/postgres",
        "postgres://app:S3cret%2Fword@" + at + "/nowhere",
        "postgres://app:S3cret%2Fword@" + at + "/postgres?sslmode=require",
        "postgres://app:S3cret%2Fword@no-such-host.invalid/postgres",
        "postgres://app:S3cret/word@" + at + "/postgres",
        "postgres://app:S3cret%word@" + at + "/postgres",
        "jdbc:postgresql://" + at + "/postgres?user=app&password=S3cretwrong",
        "jdbc:postgresql://app:S3cret@" + at + "/postgres",
        "jdbc:postgresql://" + at + "/a/b?password=S3cret",
      }) {
        StringWriter trace = new StringWriter();
        catchThrowable(() -> Postgres.builder(url).retry(twice).open().close())
            .printStackTrace(new PrintWriter(trace));
        seen.add(trace.toString());
      }
      int nobody = FreePort.next();
      List<String> passwords = new ArrayList<>(List.of("S3cret%00w0rd", "S3cret\u00e9w0rd"));
      for (char c = ' '; c <= '~'; c++) {
        passwords.add("S3cret" + c + "w0rd");
        passwords.add(c + "S3cret" + c);
        passwords.add("S3cret%%%02xw0rd".formatted((int) c));
      }
      for (String password : passwords) {
        for (String url : new String[] {
          "postgres://us3r:" + password + "@127.0.0.1:" + nobody + "/d",
          "postgresql://us3r:" + password + "@127.0.0.1:" + nobody + ",127.0.0.1:" + nobody
              + "/d?sslmode=disable",
          "postgres://127.0.0.1:" + nobody + "/d?user=us3r&password=" + password,
          "jdbc:postgresql://127.0.0.1:" + nobody + "/d?user=us3r&password=" + password,
          "jdbc:postgresql://127.0.0.1:" + nobody + "/d?password=" + password + "&user=us3r"
        }) {
          StringWriter trace = new StringWriter();
          catchThrowable(() -> Postgres.builder(url).retry(once).open().close())
              .printStackTrace(new PrintWriter(trace));
          seen.add(trace.toString());
        }
      }
    } finally {
      root.setLevel(before);
      root.detachAppender(capture);
      driverLog.removeHandler(driver);
      driverLog.setUseParentHandlers(true);
      driverLog.setLevel(null);
    }
    assertThat(seen)
        .anyMatch(line -> line.contains("ping_postgres: "))
        .anyMatch(line -> line.contains("Connecting with URL: jdbc:postgresql://127.0.0.1"))
        .anyMatch(line -> line.contains("password") && line.contains("<masked>"));
    assertThat(seen)
        .noneMatch(
            line -> line.contains("S3cret") || line.contains("w0rd") || line.contains("us3r"));
  }
}
