package dev.evalops.runtime.postgres;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.Load;
import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Credentials;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.testutil.PostgresServer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import javax.net.ssl.SSLContext;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.LoggerFactory;

@Timeout(120)
class RotationTest {
  private static final Duration BOUND = Duration.ofSeconds(60);

  private static final Logger LOGGER = (Logger) LoggerFactory.getLogger("dev.evalops.runtime");

  private static PostgresServer server;
  private static Connection admin;

  private final ListAppender<ILoggingEvent> logged = new ListAppender<>();
  private final AtomicReference<Credentials> given = new AtomicReference<>();

  @TempDir
  Path folder;

  @BeforeAll
  static void start() throws SQLException {
    server = PostgresServer.start();
    admin = DriverManager.getConnection(
        "jdbc:postgresql://127.0.0.1:" + server.port() + "/postgres", "test", "test");
    execute("CREATE ROLE app LOGIN");
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  @BeforeEach
  void begin() throws SQLException {
    rotate("S3cret-0");
    logged.list = new CopyOnWriteArrayList<>();
    logged.start();
    LOGGER.addAppender(logged);
    LOGGER.setLevel(Level.INFO);
    LOGGER.setAdditive(false);
  }

  @AfterEach
  void noSecretIsLogged() {
    LOGGER.detachAppender(logged);
    LOGGER.setLevel(null);
    LOGGER.setAdditive(true);
    assertThat(logged.list)
        .noneMatch(event -> (event.getFormattedMessage()
                + event.getKeyValuePairs()
                + event.getThrowableProxy())
            .contains("S3cret"));
  }

  @Test
  void failsNoRequest_andLeavesNoOldConnection_whenThePasswordIsReplacedUnderLoad()
      throws Exception {
    rotations(3, Duration.ofSeconds(2), 0);
  }

  @Test
  @Tag("soak")
  @Timeout(1800)
  void failsNoRequest_andLeavesNoOldConnectionAfterAMinute_inTenRotations() throws Exception {
    rotations(10, Duration.ofMinutes(1), 20);
  }

  private void rotations(int count, Duration within, int idle) throws Exception {
    Path file = Files.writeString(folder.resolve("password"), "S3cret-0\n");
    try (HikariDataSource db = Postgres.builder(url())
            .credentials(Credentials.fromFile("app", file))
            .rotationTimeout(within)
            .configure(pool -> pool.setMaximumPoolSize(Math.max(10, idle)))
            .open();
        Load load = Load.start(thread -> {
          try (Connection connection = db.getConnection();
              Statement statement = connection.createStatement()) {
            statement.execute("SELECT pg_sleep(0.001)");
          }
        })) {
      await().atMost(BOUND).until(() -> sessions("true") == Math.max(10, idle));
      load.rotate("postgres", count, within, i -> {
        String before = now();
        if (i % 2 == 0) { // some secret stores tell the server first, some the client
          rotate("S3cret-" + i);
        }
        Path next = Files.writeString(folder.resolve("next"), "S3cret-" + i + "\n");
        Files.move(next, file, StandardCopyOption.REPLACE_EXISTING);
        rotate("S3cret-" + i);
        return () -> sessions("backend_start < '" + before + "'") == 0;
      });
      assertThat(load.failures()).isEmpty();
      assertThat(load.requests()).isPositive();
    }
  }

  @Test
  void readsTheSecretOnceMore_whenTheLoginIsRefused() throws Exception {
    List<String> reads = new CopyOnWriteArrayList<>(List.of("S3cret-old", "S3cret-0"));
    Supplier<Credentials> credentials =
        () -> new Credentials("app", reads.size() > 1 ? reads.removeFirst() : reads.getFirst());
    once(Postgres.builder(url()).credentials(credentials)).open().close();
    assertThat(reads).containsExactly("S3cret-0");
  }

  @Test
  void stopsAtOnce_whenTheFirstLoginIsRefused() {
    assertThatExceptionOfType(StartupException.class)
        .isThrownBy(() -> Postgres.builder(url())
            .credentials(() -> new Credentials("app", "S3cret-wrong"))
            .open())
        .withMessageContaining("after 1 attempts: ping_postgres: password authentication failed")
        .withMessageNotContaining("S3cret");
  }

  @Test
  void keepsOpenConnections_andCanPass_whileTheNewSecretIsRefusedOrThereIsNone() throws Exception {
    given.set(new Credentials("app", "S3cret-0"));
    try (HikariDataSource db = Postgres.builder(url())
        .credentials(given::get)
        .rotationTimeout(Duration.ofMillis(300))
        .configure(pool -> {
          pool.setMaximumPoolSize(2);
          pool.setMinimumIdle(1);
          pool.setConnectionTimeout(3000);
        })
        .open()) {
      String before = now();
      for (Credentials wrong : new Credentials[] {new Credentials("app", "S3cret-early"), null}) {
        logged.list.clear();
        given.set(wrong);
        await()
            .atMost(BOUND)
            .until(() -> logged.list.stream()
                .anyMatch(event -> event.getMessage().contains("open connections stay")));
        try (Connection connection = db.getConnection()) { // that of the start
          assertThat(connection.isValid(5)).isTrue();
          assertThatExceptionOfType(SQLException.class)
              .isThrownBy(db::getConnection)
              .satisfies(failure ->
                  assertThat(FailureKind.of(failure)).isEqualTo(FailureKind.UNAVAILABLE));
        }
        assertThat(logged.list.stream()
                .filter(event -> event.getMessage().contains("open connections stay")))
            .hasSize(1);
      }
      assertThat(sessions("backend_start < '" + before + "'")).isEqualTo(1);

      rotate("S3cret-early");
      given.set(new Credentials("app", "S3cret-early"));
      await().atMost(BOUND).until(() -> sessions("backend_start < '" + before + "'") == 0);
    }
  }

  @Test
  void refusesWhatContradictsItself() throws Exception {
    SSLContext context = SSLContext.getDefault();
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Postgres.builder("postgres://app@h/d?sslmode=prefer&sslrootcert=/ca")
            .credentials(given::get)
            .tls(context)
            .open())
        .withMessage(
            "open_postgres: credentials are given: the URL and configure must not have user or"
                + " password; tls is given: sslmode must be one of [require, verify-ca,"
                + " verify-full]; tls is given: sslrootcert must not be");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Postgres.builder(url()).rotationTimeout(Duration.ZERO).open())
        .withMessage("open_postgres: rotationTimeout must be more than zero: PT0S");
  }

  private static Postgres.Builder once(Postgres.Builder builder) {
    return builder.retry(Retry.builder().maxAttempts(1).build());
  }

  private static String url() {
    return "postgres://127.0.0.1:" + server.port() + "/postgres";
  }

  private static void rotate(String password) throws SQLException {
    execute("ALTER ROLE app PASSWORD '" + password + "'");
  }

  private static synchronized void execute(String sql) throws SQLException {
    try (Statement statement = admin.createStatement()) {
      statement.execute(sql);
    }
  }

  private static String now() throws SQLException {
    return query("SELECT clock_timestamp()");
  }

  private static int sessions(String condition) throws SQLException {
    return Integer.parseInt(
        query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND " + condition));
  }

  private static synchronized String query(String sql) throws SQLException {
    try (Statement statement = admin.createStatement();
        ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getString(1);
    }
  }
}
