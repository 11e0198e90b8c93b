package dev.evalops.runtime.postgres;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;
import static org.assertj.core.api.Assertions.catchThrowableOfType;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.PostgresServer.TestSchema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.KeyStore;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import javax.net.SocketFactory;
import org.assertj.core.api.InstanceOfAssertFactories;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.LoggerFactory;

@ExtendWith(TestPostgres.class)
class PostgresTest {
  private static PostgresServer server;

  private final List<Throwable> failures = new CopyOnWriteArrayList<>();

  @BeforeAll
  static void start() throws SQLException {
    server = PostgresServer.start();
    execute(
        server,
        "CREATE ROLE app LOGIN PASSWORD 'S3cret'",
        "CREATE ROLE nobody NOLOGIN PASSWORD 'S3cret'",
        "CREATE DATABASE closed",
        "REVOKE CONNECT ON DATABASE closed FROM PUBLIC");
  }

  @AfterAll
  static void stop() {
    server.close();
  }

  @Test
  void opensAPool_thatHonoursTheSearchPath(TestSchema schema) throws SQLException {
    try (HikariDataSource pool = Postgres.open(schema.url())) {
      assertThat(query(pool, "SELECT current_schema()")).isEqualTo(schema.name());
      assertThat(pool.getPoolName()).isEqualTo("postgres");
      assertThat(pool.getMaximumPoolSize()).isEqualTo(10);
      assertThat(pool.getConnectionTimeout()).isEqualTo(10_000);
    }
  }

  @Test
  void warnsOncePerPlace_whenAThreadTakesASecondConnectionDuringItsTransaction(TestSchema schema)
      throws SQLException {
    Logger logger = (Logger) LoggerFactory.getLogger(Postgres.class);
    ListAppender<ILoggingEvent> log = new ListAppender<>();
    log.start();
    logger.addAppender(log);
    logger.setLevel(Level.WARN);
    logger.setAdditive(false);
    try (HikariDataSource pool = Postgres.open(schema.url())) {
      for (int i = 0; i < 3; i++) {
        try (Connection transaction = pool.getConnection()) {
          try (Connection withoutTransaction = pool.getConnection()) {
            assertThat(withoutTransaction.getAutoCommit()).isTrue();
          }
          transaction.setAutoCommit(false);
        }
        pool.getConnection().close(); // the transaction's is given back
      }
      assertThat(log.list).isEmpty();

      for (int i = 0; i < 3; i++) {
        try (Connection transaction = pool.getConnection()) {
          transaction.setAutoCommit(false);
          takeAnother(pool);
          takeAnother(pool);
        }
      }

      assertThat(log.list).hasSize(1);
      assertThat(log.list.getFirst().getLevel()).isEqualTo(Level.WARN);
      assertThat(log.list.getFirst().getKeyValuePairs().get(1).value.toString())
          .contains("PostgresTest.takeAnother(PostgresTest.java:");
    } finally {
      logger.detachAppender(log);
      logger.setLevel(null);
      logger.setAdditive(true);
    }
  }

  private static void takeAnother(HikariDataSource pool) throws SQLException {
    pool.getConnection().close();
  }

  @Test
  void takesAPingTimeoutBeyondALongOfNanoseconds(TestSchema schema) {
    Postgres.builder(schema.url())
        .pingTimeout(Duration.ofSeconds(Long.MAX_VALUE))
        .retry(Retry.builder().maxAttempts(1).build())
        .open()
        .close();
  }

  @Test
  void opensAPoolFromTheDriversOwnUrl() throws SQLException {
    String url = "jdbc:postgresql://127.0.0.1:" + server.port()
        + "/postgres?user=app&password=S3cret&currentSchema=pg_catalog";
    try (HikariDataSource pool = Postgres.open(url)) {
      assertThat(query(pool, "SELECT current_user || ' ' || current_schema()"))
          .isEqualTo("app pg_catalog");
    }
  }

  @Test
  void theFirstHostThatAnswersIsTaken() throws Exception {
    String url = "postgres://app:S3cret@127.0.0.1:" + FreePort.next() + ",127.0.0.1:"
        + server.port() + "/postgres?target_session_attrs=read-write";
    try (HikariDataSource pool = Postgres.open(url)) {
      assertThat(query(pool, "SELECT current_user")).isEqualTo("app");
    }
  }

  @Test
  void runtimeParametersOfTheUrlReachTheServer() throws SQLException {
    String url = url("app", "S3cret", "postgres")
        + "?statement_timeout=7s&app.tenant=a%20b%5Cc&options=-c%20geqo%3Doff"
        + "&application_name=notes&keepalives=1&connect_timeout=3";
    try (HikariDataSource pool = Postgres.open(url)) {
      assertThat(query(
              pool,
              "SELECT concat_ws('|', current_setting('statement_timeout'), "
                  + "current_setting('app.tenant'), current_setting('geqo'),"
                  + " current_setting('application_name'))"))
          .isEqualTo("7s|a b\\c|off|notes");
    }
  }

  @Test
  void configureChangesThePoolAndTheDriver() throws SQLException {
    try (HikariDataSource pool = Postgres.builder(url("app", "wrong", "postgres"))
        .configure(config -> config.setPoolName("billing"))
        .configure(config -> {
          config.setMaximumPoolSize(2);
          config.setPassword("S3cret");
          config.addDataSourceProperty("options", "-c geqo=off");
        })
        .open()) {
      assertThat(pool.getMaximumPoolSize()).isEqualTo(2);
      assertThat(
              query(pool, "SELECT current_setting('geqo') || current_setting('application_name')"))
          .isEqualTo("offbilling");
    }
  }

  @Test
  void configureRefusesWhatWouldBeIgnored() {
    Postgres.Builder builder = Postgres.builder(url("app", "S3cret", "postgres"))
        .configure(config -> config.setJdbcUrl("jdbc:postgresql://other/db"))
        .configure(config -> config.addDataSourceProperty("rewriteBatch", "true"));
    assertThatThrownBy(builder::open)
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(
            "open_postgres: configure must not set another URL or data source: the database is "
                + "the one of the URL given first;"
                + " configure: the driver has no property \"rewriteBatch\"");
  }

  @Test
  void configureRefusesAValueThatTheDriverDoesNotTake() {
    Postgres.Builder builder = Postgres.builder(url("app", "S3cret", "postgres"))
        .configure(config -> config.addDataSourceProperty("socketTimeout", "1m"));
    assertThatThrownBy(builder::open)
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("open_postgres: configure: socketTimeout must be a whole number");
  }

  @ParameterizedTest
  @CsvSource({
    "pool_min_conns=5&pool_max_conns=4, 0, 4: 5",
    "pool_min_idle_conns=11, 0, 10: 11",
    "pool_min_conns=5, 4, 4: 5",
  })
  void refusesMoreIdleConnectionsThanThePoolHolds(String query, int max, String values) {
    Postgres.Builder builder = Postgres.builder("postgres://127.0.0.1:1/d?" + query)
        .configure(config -> {
          if (max > 0) {
            config.setMaximumPoolSize(max);
          }
        });
    assertThatThrownBy(builder::open)
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("open_postgres: pool_min_conns (minimumIdle) must be at most pool_max_conns"
            + " (maximumPoolSize), " + values);
  }

  /** As the connectors of cloud databases do it. */
  public static final class Connector extends SocketFactory {
    private final int port;

    public Connector(Properties settings) {
      port = Integer.parseInt(settings.getProperty("instance"));
    }

    @Override
    public Socket createSocket() throws IOException {
      return new Socket(InetAddress.getLoopbackAddress(), port);
    }

    @Override
    public Socket createSocket(String host, int ignored) throws IOException {
      return createSocket();
    }

    @Override
    public Socket createSocket(String host, int ignored, InetAddress local, int localPort)
        throws IOException {
      return createSocket();
    }

    @Override
    public Socket createSocket(InetAddress host, int ignored) throws IOException {
      return createSocket();
    }

    @Override
    public Socket createSocket(InetAddress host, int ignored, InetAddress local, int localPort)
        throws IOException {
      return createSocket();
    }
  }

  @Test
  void connectsBySocketsOfAnother_whichGetsItsOwnSettings() throws SQLException {
    String factory = Connector.class.getName();
    try (HikariDataSource pool = Postgres.open("jdbc:postgresql:///postgres?instance="
            + server.port() + "&socketFactory=" + factory + "&user=app&password=S3cret");
        HikariDataSource configured = Postgres.builder("postgres://app:S3cret@127.0.0.1:1/postgres")
            .configure(config -> {
              config.addDataSourceProperty("socketFactory", factory);
              config.addDataSourceProperty("instance", server.port());
            })
            .open()) {
      assertThat(query(pool, "SELECT current_user")).isEqualTo("app");
      assertThat(query(configured, "SELECT current_user")).isEqualTo("app");
    }
  }

  @Test
  void theLoginTimeoutOfTheProcessIsLeftAlone() {
    int before = DriverManager.getLoginTimeout();
    DriverManager.setLoginTimeout(7);
    try (HikariDataSource pool = Postgres.open(url("app", "S3cret", "postgres"))) {
      assertThat(DriverManager.getLoginTimeout()).isEqualTo(7);
    } finally {
      DriverManager.setLoginTimeout(before);
    }
  }

  @Test
  void waitsForAServerThatComesUpLater() throws Exception {
    int port = FreePort.next();
    AtomicReference<CompletableFuture<PostgresServer>> late = new AtomicReference<>();
    Retry retry = retry(600, attempt -> {
      if (late.get() == null) {
        late.set(CompletableFuture.supplyAsync(() -> PostgresServer.start(port)));
      }
    });
    try (HikariDataSource pool = Postgres.builder(
            "postgres://test:test@127.0.0.1:" + port + "/postgres")
        .retry(retry)
        .open()) {
      assertThat(query(pool, "SELECT 1")).isEqualTo("1");
      assertThat(failures.getFirst())
          .hasMessageStartingWith("ping_postgres: Connection to 127.0.0.1:" + port + " refused.");
    } finally {
      late.get().get(60, TimeUnit.SECONDS).close();
    }
  }

  @Test
  void waitsWhileTheServerIsFull() throws Exception {
    execute(server, "CREATE ROLE crowd LOGIN PASSWORD 'x' CONNECTION LIMIT 1");
    Connection only = DriverManager.getConnection(
        "jdbc:postgresql://127.0.0.1:" + server.port() + "/postgres", "crowd", "x");
    Retry retry = retry(600, attempt -> {
      try {
        only.close();
      } catch (SQLException failure) {
        throw new IllegalStateException(failure);
      }
    });
    try (HikariDataSource pool = Postgres.builder(url("crowd", "x", "postgres"))
        .configure(c -> c.setMaximumPoolSize(1))
        .retry(retry)
        .open()) {
      assertThat(query(pool, "SELECT 1")).isEqualTo("1");
      assertThat(failures.getFirst())
          .hasMessage("ping_postgres: too many connections for role \"crowd\"");
    }
  }

  @Test
  void triesAgain_whenTheHostHasNoAddressYet() {
    assertThat(gaveUp(3, "postgres://u:S3cret@no-such-host.invalid/d"))
        .hasMessageStartingWith(
            "startup failed after 3 attempts: ping_postgres: The connection attempt failed.")
        .hasMessageContaining("no-such-host.invalid");
    assertThat(failures).hasSize(3);
  }

  @Test
  void stopsAtOnce_whenTheServerWillNeverAgree() {
    assertThat(gaveUp(5, url("app", "wr0ng", "postgres")))
        .hasMessage(
            "startup failed after 1 attempts: ping_postgres: password authentication failed for user \"app\"");
    assertThat(gaveUp(5, url("stranger", "S3cret", "postgres")))
        .hasMessage(
            "startup failed after 1 attempts: ping_postgres: password authentication failed for user \"stranger\"");
    assertThat(gaveUp(5, url("app", "S3cret", "nowhere")))
        .hasMessage(
            "startup failed after 1 attempts: ping_postgres: database \"nowhere\" does not exist");
    assertThat(gaveUp(5, url("nobody", "S3cret", "postgres")))
        .hasMessageContaining(
            "1 attempts: ping_postgres: role \"nobody\" is not permitted to log in");
    assertThat(gaveUp(5, url("app", "S3cret", "closed")))
        .hasMessageContaining(
            "1 attempts: ping_postgres: permission denied for database \"closed\"");
  }

  @Test
  void stopsAtOnce_whenASettingIsUnknownToTheServer() {
    assertThat(gaveUp(5, url("app", "S3cret", "postgres") + "?options=-c%20no_such_setting%3D1"))
        .hasMessageContaining(
            "1 attempts: ping_postgres: unrecognized configuration parameter \"no_such_setting\"");
    assertThat(gaveUp(5, url("app", "S3cret", "postgres") + "?statement_timeout=soon"))
        .hasMessageContaining("1 attempts: ping_postgres: invalid value");
  }

  @Test
  void tlsFilesOfTheUrlAreUsed_andTlsThatDoesNotDoStopsAtOnce(@TempDir Path directory)
      throws Exception {
    assertThat(gaveUp(5, url("app", "S3cret", "postgres") + "?sslmode=require"))
        .hasMessage(
            "startup failed after 1 attempts: ping_postgres: The server does not support SSL.");

    Path certificate = certificate(directory.resolve("server"), "dns:localhost");
    Path stranger = certificate(directory.resolve("stranger"), "dns:localhost");
    try (PostgresServer tls = PostgresServer.start()) {
      Path data;
      try (Connection connection = DriverManager.getConnection(
              "jdbc:postgresql://127.0.0.1:" + tls.port() + "/postgres", "test", "test");
          ResultSet row = connection.createStatement().executeQuery("SHOW data_directory")) {
        row.next();
        data = Path.of(row.getString(1));
      }
      for (String file : List.of("server.crt", "server.key")) {
        Path copy = Files.copy(
            certificate.resolveSibling(file),
            data.resolve(file),
            StandardCopyOption.COPY_ATTRIBUTES);
        Files.setOwner(copy, Files.getOwner(data));
      }
      execute(tls, "ALTER SYSTEM SET ssl = on", "ALTER SYSTEM SET ssl_ca_file = 'server.crt'");
      tls.kill();
      tls.restart();
      String named = "postgres://test:test@localhost:" + tls.port() + "/postgres?sslmode=";
      String numbered = "postgres://test:test@127.0.0.1:" + tls.port() + "/postgres?sslmode=";

      try (HikariDataSource pool =
          Postgres.open(named + "verify-full&sslrootcert=" + certificate)) {
        assertThat(query(pool, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
            .isEqualTo("t");
      }
      String mutual =
          "require&sslcert=" + certificate + "&sslkey=" + certificate.resolveSibling("server.key");
      try (HikariDataSource pool = Postgres.builder(named + mutual)
          .configure(config -> config.addDataSourceProperty("pemKeyAlgorithm", "EC"))
          .open()) {
        assertThat(query(pool, "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
            .isEqualTo("/CN=test");
      }
      assertThat(gaveUp(5, named + mutual)).hasMessageContaining("1 attempts: ping_postgres: ");
      Postgres.open(numbered + "verify-ca&sslrootcert=" + certificate).close();
      Postgres.open(numbered + "require").close();
      assertThat(gaveUp(5, numbered + "verify-full&sslrootcert=" + certificate))
          .hasMessageContaining("1 attempts: ping_postgres: The hostname 127.0.0.1");
      assertThat(gaveUp(5, named + "verify-full&sslrootcert=" + stranger))
          .hasMessageContaining("1 attempts: ping_postgres: SSL error");
      assertThat(gaveUp(5, named + "verify-full&sslrootcert=system"))
          .hasMessageContaining("1 attempts: ping_postgres: SSL error");
      assertThat(gaveUp(5, named + "verify-full&sslrootcert=" + directory.resolve("none.crt")))
          .hasMessageContaining(
              "1 attempts: ping_postgres: Could not open SSL root certificate file");
    }
  }

  @Test
  void triesAgain_whenTheConnectionBreaksInTheTlsHandshake() throws Exception {
    try (ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
      Thread closing = Thread.ofVirtual().start(() -> {
        for (int i = 0; i < 3; i++) {
          try (Socket socket = server.accept()) {
            socket.getInputStream().readNBytes(8);
            socket.getOutputStream().write('S');
            socket.getInputStream().read();
          } catch (IOException ended) {
            return;
          }
        }
      });
      assertThat(gaveUp(
              3,
              "postgres://u@127.0.0.1:" + server.getLocalPort()
                  + "/d?sslmode=require&gssencmode=disable"))
          .hasMessageContaining("3 attempts: ping_postgres: ");
      closing.join();
    }
  }

  @Test
  void theUsersOwnRuleToStopIsKept() throws IOException {
    Retry once =
        retry(5, attempt -> {}).stopWhen(failure -> failure.getMessage().contains("refused"));
    assertThatThrownBy(() -> Postgres.builder("postgres://u@127.0.0.1:" + FreePort.next() + "/d")
            .retry(once)
            .open())
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("startup failed after 1 attempts: ping_postgres: ");
  }

  @Test
  void aWrongUrlIsNotTried() {
    assertThatThrownBy(() -> Postgres.builder("postgres://u:S3cret@h/d?sslmod=require")
            .retry(retry(5, attempt -> {}))
            .open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("open_postgres: unknown parameter \"sslmod\"");
    assertThat(failures).isEmpty();
  }

  @Test
  void aServerThatNeverAnswersIsCutAtThePingTimeout() throws Exception {
    try (SilentServer silent = new SilentServer()) {
      Postgres.Builder builder = Postgres.builder(
              "postgres://u:S3cret@127.0.0.1:" + silent.port() + "/d")
          .pingTimeout(Duration.ofMillis(100))
          .retry(retry(2, attempt -> {}));
      assertThatThrownBy(builder::open)
          .hasMessage("startup failed after 2 attempts: ping_postgres: no answer within 100 ms");
      silent.awaitHangUps(2);
    }
  }

  @Test
  void anInterruptStopsAtOnce_whileTheServerIsSilent() throws Exception {
    try (SilentServer silent = new SilentServer()) {
      CompletableFuture<Boolean> flag = new CompletableFuture<>();
      AtomicReference<Throwable> thrown = new AtomicReference<>();
      Thread opening = Thread.ofPlatform().start(() -> {
        thrown.set(catchThrowableOfType(
            StartupException.class,
            () -> Postgres.builder("postgres://u@127.0.0.1:" + silent.port() + "/d")
                .pingTimeout(Duration.ofHours(1))
                .open()));
        flag.complete(Thread.currentThread().isInterrupted());
      });
      silent.awaitConnections(1);
      opening.interrupt();
      assertThat(flag.get(30, TimeUnit.SECONDS)).isTrue();
      assertThat(thrown.get()).hasMessageStartingWith("startup interrupted");
      silent.awaitHangUps(1);
    }
  }

  @Test
  void anInterruptDuringInitClosesThePool() throws Exception {
    CompletableFuture<Boolean> flag = new CompletableFuture<>();
    CompletableFuture<Void> inInit = new CompletableFuture<>();
    Thread opening = Thread.ofPlatform().start(() -> {
      assertThatThrownBy(() -> Postgres.builder(
                  url("app", "S3cret", "postgres") + "?application_name=interrupted")
              .init(connection -> {
                inInit.complete(null);
                try {
                  Thread.sleep(Duration.ofHours(1));
                } catch (InterruptedException interrupted) {
                  Thread.currentThread().interrupt();
                  throw new SQLException(interrupted);
                }
              })
              .open())
          .hasMessageStartingWith("startup interrupted");
      flag.complete(Thread.currentThread().isInterrupted());
    });
    inInit.get(30, TimeUnit.SECONDS);
    opening.interrupt();
    assertThat(flag.get(30, TimeUnit.SECONDS)).isTrue();
    assertNoThreadOf("interrupted");
  }

  @Test
  void initRunsInOneTransaction_thatIsCommitted(TestSchema schema) throws SQLException {
    try (HikariDataSource pool = Postgres.builder(schema.url())
        .init(connection -> {
          assertThat(connection.getAutoCommit()).isFalse();
          update(connection, "CREATE TABLE note (id int)");
          update(connection, "INSERT INTO note VALUES (7)");
        })
        .open()) {
      assertThat(query(pool, "SELECT id FROM note")).isEqualTo("7");
      try (Connection connection = pool.getConnection()) {
        assertThat(connection.getAutoCommit()).isTrue();
      }
    }
  }

  @Test
  void initIsRolledBackAndRunAgain_whenItsFailureCanPass(TestSchema schema) throws SQLException {
    AtomicInteger runs = new AtomicInteger();
    try (HikariDataSource pool = Postgres.builder(schema.url())
        .retry(retry(5, attempt -> {}))
        .init(connection -> {
          update(connection, "CREATE TABLE note (id int)");
          if (runs.incrementAndGet() == 1) {
            throw new SQLException("deadlock detected", "40P01");
          }
        })
        .open()) {
      assertThat(query(pool, "SELECT count(*) FROM note")).isEqualTo("0");
    }
    assertThat(runs).hasValue(2);
    assertThat(failures)
        .singleElement()
        .satisfies(failure -> assertThat(failure).hasMessage("open_postgres: deadlock detected"));
  }

  /** The pool by itself would close it under the transaction. */
  @Test
  void aTransactionGoesOn_afterAStatementThatTheServerDoesNotSupport(TestSchema schema)
      throws SQLException {
    try (HikariDataSource pool = Postgres.open(schema.url());
        Connection connection = pool.getConnection()) {
      connection.setAutoCommit(false);
      update(connection, "CREATE TABLE note (id int)");
      update(connection, "SAVEPOINT before");
      assertThatThrownBy(() -> update(connection, "SELECT count(*) FROM note FOR UPDATE"))
          .asInstanceOf(InstanceOfAssertFactories.type(SQLException.class))
          .returns("0A000", SQLException::getSQLState);
      update(connection, "ROLLBACK TO before");
      connection.commit();
      assertThat(connection.isClosed()).isFalse();
    }
  }

  @Test
  void initRunsAgain_whenAnotherInstanceHasAddedTheColumnMeanwhile(TestSchema schema)
      throws SQLException {
    AtomicInteger runs = new AtomicInteger();
    try (Connection other = schema.dataSource().getConnection()) {
      update(other, "CREATE TABLE note (id int)");
      Postgres.builder(schema.url())
          .retry(retry(2, attempt -> {}))
          .init(connection -> {
            if (runs.incrementAndGet() == 1) { // has seen the table without the column
              update(other, "ALTER TABLE note ADD title text");
              update(connection, "ALTER TABLE note ADD title text");
            }
          })
          .open()
          .close();
    }
    assertThat(runs).hasValue(2);
  }

  @Test
  void aLostConnectionIsUnavailable_alsoToWhoRollsBackOnIt(TestSchema schema) throws SQLException {
    try (HikariDataSource pool = Postgres.open(schema.url());
        Connection connection = pool.getConnection()) {
      connection.setAutoCommit(false);
      for (ThrowingCallable call : List.<ThrowingCallable>of(
          () -> update(connection, "SELECT pg_terminate_backend(pg_backend_pid())"),
          connection::rollback)) {
        assertThat(FailureKind.of(catchThrowable(call))).isEqualTo(FailureKind.UNAVAILABLE);
      }
    }
  }

  @Test
  void aTransactionThatMeetsAChangedTableMaySucceedTheNextTime(TestSchema schema)
      throws SQLException {
    try (HikariDataSource pool = Postgres.open(schema.url());
        Connection connection = pool.getConnection()) {
      update(connection, "CREATE TABLE note (id int)");
      connection.setAutoCommit(false);
      for (int i = 0; i < 6; i++) { // the driver prepares at the fifth
        prepared(connection, "SELECT * FROM note");
        connection.commit();
      }
      try (Connection other = pool.getConnection()) {
        update(other, "ALTER TABLE note ADD title text");
      }
      assertThatThrownBy(() -> prepared(connection, "SELECT * FROM note"))
          .satisfies(
              failure -> assertThat(FailureKind.of(failure)).isEqualTo(FailureKind.UNAVAILABLE));
      connection.rollback();
      prepared(connection, "SELECT * FROM note");
    }
  }

  private static void prepared(Connection connection, String sql) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      statement.executeQuery().close();
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"CREATE INDEX CONCURRENTLY i ON note (id)", "CREATE TABLE nowhere.note ()"})
  void whatInitCanNeverDoStopsAtOnce(String sql, TestSchema schema) {
    Postgres.Builder builder = Postgres.builder(schema.url())
        .retry(retry(5, attempt -> {}))
        .init(connection -> {
          update(connection, "CREATE TABLE note (id int)");
          update(connection, sql);
        });
    assertThatThrownBy(builder::open)
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("startup failed after 1 attempts: open_postgres: ");
  }

  @Test
  void badSqlInInitStopsAtOnce_andLeavesNoThread() {
    Postgres.Builder builder = Postgres.builder(
            url("app", "S3cret", "postgres") + "?application_name=badinit")
        .retry(retry(5, attempt -> {}))
        .init(connection -> update(connection, "CREATE TABEL note (id int)"));
    assertThatThrownBy(builder::open)
        .isInstanceOf(StartupException.class)
        .hasMessage(
            "startup failed after 1 attempts: open_postgres: syntax error at or near \"TABEL\"");
    assertNoThreadOf("badinit");
  }

  @Test
  void aFailureThatInitSwallowsStopsAtOnce_becauseItsTransactionCannotBeCommitted(TestSchema schema)
      throws SQLException {
    Postgres.Builder builder = Postgres.builder(schema.url())
        .retry(retry(5, attempt -> {}))
        .init(connection -> {
          update(connection, "CREATE TABLE note (id int)");
          try {
            update(connection, "DROP TABLE nowhere");
          } catch (SQLException ignored) {
            // as if it did not matter
          }
        });
    assertThatThrownBy(builder::open)
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("startup failed after 1 attempts: open_postgres: ")
        .hasStackTraceContaining("table \"nowhere\" does not exist");
  }

  @Test
  void anErrorInInitPassesThrough_andLeavesNoThread() {
    Postgres.Builder builder = Postgres.builder(
            url("app", "S3cret", "postgres") + "?application_name=broken")
        .init(connection -> {
          throw new StackOverflowError("deep");
        });
    assertThatThrownBy(builder::open).hasStackTraceContaining("StackOverflowError: deep");
    assertNoThreadOf("broken");
  }

  @Test
  void thePingTimeoutDoesNotCutInit() throws SQLException {
    try (HikariDataSource pool = Postgres.builder(url("app", "S3cret", "postgres"))
        .pingTimeout(Duration.ofSeconds(2))
        .init(connection -> update(connection, "SELECT pg_sleep(2.2)"))
        .open()) {
      assertThat(query(pool, "SELECT 1")).isEqualTo("1");
    }
  }

  @Test
  void aPoolThatCannotBeSetUpStopsAtOnce() {
    Postgres.Builder builder = Postgres.builder(
            url("app", "S3cret", "postgres") + "?application_name=setup")
        .configure(config -> config.setConnectionInitSql("SET no_such_setting = 1"))
        .retry(retry(5, attempt -> {}));
    assertThatThrownBy(builder::open)
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("startup failed after 1 attempts: open_postgres: ")
        .hasMessageContaining("unrecognized configuration parameter");
    assertNoThreadOf("setup");
  }

  @Test
  void thePoolRecovers_whenTheServerWasKilled() throws SQLException {
    try (PostgresServer own = PostgresServer.start();
        HikariDataSource pool = Postgres.builder(own.url())
            .configure(config -> {
              config.setMaximumPoolSize(3);
              config.setConnectionTimeout(1000);
            })
            .open()) {
      try (Connection held = pool.getConnection()) {
        own.kill();
        assertThatThrownBy(() -> update(held, "SELECT 1")).isInstanceOf(SQLException.class);
      }
      assertThatThrownBy(() -> query(pool, "SELECT 1")).isInstanceOf(SQLException.class);
      own.restart();
      assertThat(awaitQuery(pool, "SELECT 1")).isEqualTo("1");
    }
  }

  @Test
  void setterRefusesNonsense() {
    assertThatThrownBy(
            () -> Postgres.builder("postgres://h/d").pingTimeout(Duration.ZERO).open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("pingTimeout");
  }

  @Test
  void namesEveryWrongSetting() {
    assertThatThrownBy(() -> Postgres.builder("mysql://h/d")
            .pingTimeout(Duration.ZERO)
            .rotationTimeout(Duration.ofNanos(-1))
            .open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("open_postgres: the database URL must begin with postgres://, postgresql:// or"
            + " jdbc:postgresql:; pingTimeout must be more than zero: PT0S; rotationTimeout must be"
            + " more than zero: PT-0.000000001S");
    assertThatThrownBy(() -> Postgres.builder("postgres://h/d")
            .pingTimeout(Duration.ZERO)
            .configure(config -> config.addDataSourceProperty("tenant", "x"))
            .open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("open_postgres: pingTimeout must be more than zero: PT0S; configure: the driver"
            + " has no property \"tenant\"");
  }

  private StartupException gaveUp(int attempts, String url) {
    failures.clear();
    return catchThrowableOfType(
        StartupException.class,
        () -> Postgres.builder(url).retry(retry(attempts, attempt -> {})).open().close());
  }

  private Retry retry(int attempts, Consumer<Throwable> onFailure) {
    return Retry.builder()
        .maxAttempts(attempts)
        .delay(Duration.ofMillis(100))
        .onFailedAttempt(attempt -> {
          failures.add(attempt.failure());
          onFailure.accept(attempt.failure());
        })
        .build();
  }

  private static String url(String user, String password, String database) {
    return "postgres://" + user + ":" + password + "@127.0.0.1:" + server.port() + "/" + database;
  }

  private static String query(HikariDataSource pool, String sql) throws SQLException {
    try (Connection connection = pool.getConnection();
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getString(1);
    }
  }

  private static String awaitQuery(HikariDataSource pool, String sql) throws SQLException {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (true) {
      try {
        return query(pool, sql);
      } catch (SQLException failure) {
        if (System.nanoTime() > end) {
          throw failure;
        }
      }
    }
  }

  private static void update(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  private static void execute(PostgresServer server, String... sql) throws SQLException {
    try (Connection connection = DriverManager.getConnection(
        "jdbc:postgresql://127.0.0.1:" + server.port() + "/postgres", "test", "test")) {
      for (String each : sql) {
        update(connection, each);
      }
    }
  }

  /** The threads of a closed pool end by themselves, a moment later when the closing thread is interrupted. */
  private static void assertNoThreadOf(String pool) {
    await()
        .atMost(Duration.ofSeconds(30))
        .untilAsserted(() -> assertThat(Thread.getAllStackTraces().keySet())
            .extracting(Thread::getName)
            .noneMatch(name -> name.startsWith(pool + ":")));
  }

  /** A self-signed certificate in PEM form, with its key beside it as {@code server.key}. */
  private static Path certificate(Path directory, String name) throws Exception {
    Files.createDirectories(directory);
    Path store = directory.resolve("store.p12");
    Process keytool = new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
            "-genkeypair",
            "-alias",
            "a",
            "-keyalg",
            "EC",
            "-groupname",
            "secp256r1",
            "-dname",
            "CN=test",
            "-ext",
            "san=" + name,
            "-validity",
            "30",
            "-storetype",
            "PKCS12",
            "-keystore",
            store.toString(),
            "-storepass",
            "changeit")
        .inheritIO()
        .start();
    assertThat(keytool.waitFor()).isZero();
    KeyStore keys = KeyStore.getInstance(store.toFile(), "changeit".toCharArray());
    Path key = directory.resolve("server.key");
    Files.writeString(
        key, pem("PRIVATE KEY", keys.getKey("a", "changeit".toCharArray()).getEncoded()));
    Files.setPosixFilePermissions(key, PosixFilePermissions.fromString("rw-------"));
    return Files.writeString(
        directory.resolve("server.crt"),
        pem("CERTIFICATE", keys.getCertificate("a").getEncoded()));
  }

  private static String pem(String type, byte[] der) {
    return "-----BEGIN " + type + "-----\n"
        + Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der) + "\n-----END " + type
        + "-----\n";
  }

  /** Takes connections and what is sent on them, and never says a word. */
  private static final class SilentServer implements AutoCloseable {
    private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    private final List<Socket> sockets = new ArrayList<>();

    SilentServer() throws IOException {
      listener.setSoTimeout(30_000);
    }

    int port() {
      return listener.getLocalPort();
    }

    void awaitConnections(int count) throws IOException {
      while (sockets.size() < count) {
        Socket socket = listener.accept();
        socket.setSoTimeout(30_000);
        sockets.add(socket);
        assertThat(socket.getInputStream().read()).isNotNegative();
      }
    }

    void awaitHangUps(int count) throws IOException {
      awaitConnections(count);
      for (Socket socket : sockets) {
        socket.getInputStream().transferTo(OutputStream.nullOutputStream());
      }
    }

    @Override
    public void close() throws IOException {
      for (Socket socket : sockets) {
        socket.close();
      }
      listener.close();
    }
  }
}
