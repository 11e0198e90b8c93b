package dev.evalops.runtime.postgres;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.testutil.FaultProxy;
import dev.evalops.runtime.testutil.PostgresServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Several hosts, of which some are dead, mute or not the primary. */
class HostsTest {
  private static final Retry ONCE = Retry.builder().maxAttempts(1).build();

  /** Of a connection. What the mute hosts leave of it must do for a login on a busy machine. */
  private static final Duration LIMIT = Duration.ofSeconds(8);

  private static PostgresServer a;
  private static PostgresServer b;

  @BeforeAll
  static void start() throws SQLException {
    a = PostgresServer.start();
    b = PostgresServer.start();
    for (PostgresServer each : List.of(a, b)) {
      execute(each, "CREATE TABLE items (n int)");
    }
  }

  @AfterAll
  static void stop() {
    a.close();
    b.close();
  }

  @BeforeEach
  void aIsThePrimary() throws SQLException {
    readOnly(a, false);
    readOnly(b, true);
  }

  @AfterEach
  void bothWrite() throws SQLException {
    readOnly(b, false);
  }

  private static void execute(PostgresServer server, String... commands) throws SQLException {
    try (Connection connection = DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + server.port() + "/postgres", "test", "test");
        Statement statement = connection.createStatement()) {
      for (String command : commands) {
        statement.execute(command);
      }
    }
  }

  /** Connections stay; they learn it with their next statement. */
  private static void readOnly(PostgresServer server, boolean readOnly) throws SQLException {
    execute(
        server,
        "ALTER SYSTEM SET default_transaction_read_only = " + readOnly,
        "SELECT pg_reload_conf()");
    await().atMost(Duration.ofSeconds(20)).until(() -> {
      try (Connection connection = DriverManager.getConnection(
              "jdbc:postgresql://127.0.0.1:" + server.port() + "/postgres", "test", "test");
          Statement statement = connection.createStatement();
          ResultSet row = statement.executeQuery("SHOW transaction_read_only")) {
        return row.next() && row.getString(1).equals(readOnly ? "on" : "off");
      }
    });
  }

  private static String url(String parameters, int... ports) {
    List<String> hosts = new ArrayList<>();
    for (int port : ports) {
      hosts.add("127.0.0.1:" + port);
    }
    return "postgres://test:test@" + String.join(",", hosts) + "/postgres" + parameters;
  }

  private static int port(HikariDataSource pool) throws SQLException {
    try (Connection connection = pool.getConnection();
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT current_setting('port')::int")) {
      row.next();
      return row.getInt(1);
    }
  }

  private static HikariDataSource open(String url) {
    return Postgres.builder(url)
        .pingTimeout(LIMIT)
        .configure(pool -> {
          pool.setMaximumPoolSize(3);
          pool.setConnectionTimeout(LIMIT.toMillis());
        })
        .retry(ONCE)
        .open();
  }

  /** Takes connections, and never says a word. */
  private static FaultProxy mute() {
    FaultProxy mute = FaultProxy.start(a.port());
    mute.blackHole();
    return mute;
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "?connect_timeout=2",
        "?target_session_attrs=read-write",
        "?target_session_attrs=prefer-standby",
        "?load_balance_hosts=random"
      })
  void aHostThatIsMuteOrTakesNoConnectionLeavesTimeForTheNext(String parameters) throws Exception {
    try (FaultProxy mute = mute();
        Full full = new Full();
        HikariDataSource pool =
            open(url(parameters, full.port(), mute.port(), FreePort.next(), a.port()))) {
      assertThat(port(pool)).isEqualTo(a.port());
      for (int i = 0; i < 3; i++) {
        pool.getHikariPoolMXBean().softEvictConnections();
        assertThat(port(pool)).isEqualTo(a.port());
      }
      // Those that have failed are tried last for a while.
      assertThat(mute.connections()).isLessThanOrEqualTo(3);
    }
  }

  @Test
  void theDriversOwnUrlHasItsShares_too() throws Exception {
    try (FaultProxy mute = mute();
        HikariDataSource pool = open("jdbc:postgresql://127.0.0.1:" + mute.port() + ",127.0.0.1:"
            + b.port() + ",127.0.0.1:" + a.port()
            + "/postgres?targetServerType=primary&user=test&password=test")) {
      assertThat(port(pool)).isEqualTo(a.port());
    }
  }

  @Test
  void aStandbyThatIsPromoted_isFoundWhileTheFormerPrimaryIsSilent() throws Exception {
    int loginTimeoutSeconds = 12;
    try (FaultProxy mute = mute();
        ExecutorService other = Executors.newSingleThreadExecutor()) {
      PgDataSource source = source(b.port(), mute.port());
      source.setLoginTimeout(loginTimeoutSeconds);
      Future<?> found = other.submit(() -> {
        assertThatThrownBy(source::getConnection).isInstanceOf(SQLException.class);
        source.getConnection().close();
        return null;
      });
      await().until(() -> mute.connections() > 0); // so the standby has said what it is
      readOnly(b, false);
      found.get(loginTimeoutSeconds - 1, TimeUnit.SECONDS);
    }
  }

  /** As the pool's one thread that connects does when the primary has fallen silent a moment ago. */
  @Test
  void aLoginAtASilentServer_endsWhenAnotherHasFoundThePrimary() throws Exception {
    try (FaultProxy proxy = FaultProxy.start(a.port());
        ExecutorService other = Executors.newSingleThreadExecutor()) {
      PgDataSource source = source(proxy.port(), b.port());
      try (Connection before = source.getConnection()) {
        proxy.blackHole();
        readOnly(b, false);
        int connections = proxy.connections();
        source.setLoginTimeout(100);
        Future<?> waiting = other.submit(() -> {
          source.getConnection().close();
          return null;
        });
        await().until(() -> proxy.connections() > connections);
        source.setLoginTimeout(10);
        source.getConnection().close();
        waiting.get(30, TimeUnit.SECONDS); // its share of 100 s is 50
        assertThat(before.isClosed()).isTrue();
      }
    }
  }

  private static PgDataSource source(int... ports) {
    String hosts =
        Arrays.stream(ports).mapToObj(port -> "127.0.0.1:" + port).collect(Collectors.joining(","));
    return new PgDataSource(
        "jdbc:postgresql://" + hosts + "/postgres?targetServerType=primary&user=test&password=test",
        new Properties(),
        Duration.ofSeconds(5),
        null,
        null);
  }

  @Test
  void aMuteHostAloneIsGivenUpAfterTheConnectTimeout() throws Exception {
    try (FaultProxy mute = mute()) {
      assertThatThrownBy(() -> Postgres.builder(url("?connect_timeout=1", mute.port()))
              .pingTimeout(Duration.ofSeconds(60))
              .retry(ONCE)
              .open()
              .close())
          .hasMessage("startup failed after 1 attempts: ping_postgres: no connection to 127.0.0.1:"
              + mute.port() + " within 1000 ms");
    }
  }

  @Test
  void theKindOfServerIsFound_onlyThatWhichIsAskedFor() throws Exception {
    for (String[] each : new String[][] {
      {"read-write", "a"},
      {"primary", "a"},
      {"read-only", "b"},
      {"standby", "b"},
      {"prefer-standby", "b"},
      {"any", "b"}
    }) {
      try (HikariDataSource pool =
          open(url("?target_session_attrs=" + each[0], FreePort.next(), b.port(), a.port()))) {
        assertThat(port(pool)).as(each[0]).isEqualTo((each[1].equals("a") ? a : b).port());
        // What a check of the service's health goes by.
        try (Connection connection = pool.getConnection()) {
          assertThat(connection.getMetaData().getURL().contains("?targetServerType=primary"))
              .isEqualTo(each[1].equals("a"));
        }
      }
    }
    assertThatThrownBy(
            () -> open(url("?target_session_attrs=read-write", b.port())).close())
        .hasMessageContaining("primary");
    try (HikariDataSource pool =
        open(url("?target_session_attrs=prefer-standby", FreePort.next(), a.port()))) {
      assertThat(port(pool)).isEqualTo(a.port());
    }
  }

  @Test
  void aRefusalOfOneHostEndsTheStart_ifNoOtherTakesTheConnection() throws Exception {
    Queue<Object> failures = new ConcurrentLinkedQueue<>();
    try (FaultProxy mute = mute()) {
      String wrong = "postgres://test:wrong@127.0.0.1:" + a.port() + ",127.0.0.1:" + mute.port()
          + "/postgres?connect_timeout=1";
      assertThatThrownBy(() -> Postgres.builder(wrong)
              .retry(Retry.builder()
                  .maxAttempts(3)
                  .delay(Duration.ZERO)
                  .onFailedAttempt(failures::add)
                  .build())
              .open()
              .close())
          .hasMessageContaining("password authentication failed");
      assertThat(failures).hasSize(1);
    }
  }

  private static boolean write(HikariDataSource pool) {
    try (Connection connection = pool.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute("INSERT INTO items VALUES (1)");
      return true;
    } catch (SQLException failure) {
      assertThat(FailureKind.of(failure)).isEqualTo(FailureKind.UNAVAILABLE);
      return false;
    }
  }

  private static void switchover() throws SQLException {
    readOnly(a, true);
    readOnly(b, false);
  }

  /** At most one failure for each connection of the pool. */
  private static void assertWritesTo(HikariDataSource pool, PostgresServer server)
      throws SQLException {
    int failed = 0;
    while (!write(pool)) {
      failed++;
      assertThat(failed).isLessThanOrEqualTo(pool.getMaximumPoolSize());
    }
    assertThat(port(pool)).isEqualTo(server.port());
  }

  @Test
  void writesReachTheNewPrimary_afterASwitchoverThatKeepsConnections() throws Exception {
    try (HikariDataSource pool =
        open(url("?target_session_attrs=read-write", a.port(), b.port()))) {
      assertThat(write(pool)).isTrue();
      await().until(() -> pool.getHikariPoolMXBean().getIdleConnections() == 3);
      switchover();
      assertWritesTo(pool, b);
    }
  }

  @Test
  void writesReachTheNewPrimary_behindAProxyThatSwitches() throws Exception {
    try (FaultProxy proxy = FaultProxy.start(a.port());
        HikariDataSource pool = open(url("", proxy.port()))) {
      assertThat(write(pool)).isTrue();
      await().until(() -> pool.getHikariPoolMXBean().getIdleConnections() == 3);
      switchover();
      proxy.target(b.port());
      assertWritesTo(pool, b);
    }
  }

  /** Does not even take a connection: the queue of those that wait for it is full. */
  private static final class Full implements AutoCloseable {
    private final ServerSocket listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
    private final List<Socket> sockets = new ArrayList<>();

    Full() throws IOException {
      for (int i = 0; i < 20; i++) {
        Socket socket = new Socket();
        sockets.add(socket);
        try {
          socket.connect(
              new InetSocketAddress(InetAddress.getLoopbackAddress(), listener.getLocalPort()),
              100);
        } catch (SocketTimeoutException full) {
          return;
        }
      }
    }

    int port() {
      return listener.getLocalPort();
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
