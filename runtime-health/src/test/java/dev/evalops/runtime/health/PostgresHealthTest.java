package dev.evalops.runtime.health;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.testutil.PostgresServer;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(120)
class PostgresHealthTest {
  private static final int POOL_SIZE = 3;

  private PostgresServer server;
  private HikariDataSource pool;
  private final List<HealthChecker> opened = new ArrayList<>();
  private HealthChecker health;

  @BeforeEach
  void start() {
    server = PostgresServer.start();
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl("jdbc:postgresql://127.0.0.1:" + server.port() + "/postgres");
    config.setUsername("test");
    config.setPassword("test");
    config.setMaximumPoolSize(POOL_SIZE);
    pool = new HikariDataSource(config);
    health = checker(Duration.ofSeconds(2));
  }

  @AfterEach
  void stop() {
    opened.forEach(HealthChecker::close);
    pool.close();
    server.close();
  }

  private HealthChecker checker(Duration timeout) {
    HealthChecker checker = HealthChecker.builder()
        .checkTimeout(timeout)
        .checkEvery(Duration.ofMillis(20))
        .required("postgres", HealthChecks.postgres(pool))
        .open();
    opened.add(checker);
    return checker;
  }

  @Test
  void isHealthy_andGivesTheConnectionBack() throws Exception {
    AtomicInteger runs = new AtomicInteger();
    try (HealthChecker counted = HealthChecker.builder()
        .checkEvery(Duration.ofMillis(20))
        .required("postgres", () -> {
          HealthChecks.postgres(pool).check();
          runs.incrementAndGet();
        })
        .open()) {
      await().until(() -> runs.get() > 2 * POOL_SIZE);
      await().until(() -> counted.report().healthy());
    }
  }

  @Test
  void showsNeitherHostNorUser_whenTheServerIsKilled_andRecoversWithIt() throws Exception {
    await().until(() -> health.report().healthy());
    server.kill();

    await().until(() -> !health.report().healthy());
    assertThat(health.report().checks().getFirst().error().orElseThrow())
        .isIn("check failed", "timed out");

    server.restart();
    await().until(() -> health.report().healthy());
  }

  @Test
  void isTimedOut_whenTheServerHangs_andThePoolKeepsItsConnections() throws Exception {
    health.close();
    HealthChecker shortly = checker(Duration.ofMillis(300));
    Set<Integer> before = backends();
    long aBackend = before.iterator().next();
    long postmaster =
        ProcessHandle.of(aBackend).flatMap(ProcessHandle::parent).orElseThrow().pid();

    try (Paused paused = Paused.tree(postmaster)) {
      await()
          .untilAsserted(
              () -> assertThat(shortly.report().checks().getFirst().error()).contains("timed out"));
    }

    await().until(() -> shortly.report().healthy());
    assertThat(backends()).isEqualTo(before);
  }

  @Test
  void isTimedOut_whenThePoolHasNoConnectionToGive() throws Exception {
    health.close();
    List<Connection> all = borrowAll();
    HealthChecker shortly = checker(Duration.ofMillis(100));

    assertThat(shortly.report().checks().getFirst().error()).contains("timed out");

    for (Connection connection : all) {
      connection.close();
    }
    await().until(() -> shortly.report().healthy());
  }

  @Test
  void fails_whenThePoolIsClosed() throws Exception {
    pool.close();

    await()
        .untilAsserted(
            () -> assertThat(health.report().checks().getFirst().error()).contains("check failed"));
  }

  @Test
  void tellsAPrimaryFromAStandby_whereTheUrlAsksForOne() throws Exception {
    try (HikariDataSource ofPrimary = new HikariDataSource()) {
      ofPrimary.setJdbcUrl(pool.getJdbcUrl() + "?targetServerType=primary");
      ofPrimary.setUsername("test");
      ofPrimary.setPassword("test");
      ofPrimary.setMaximumPoolSize(1);
      HealthChecker both = HealthChecker.builder()
          .checkEvery(Duration.ofMillis(20))
          .required("any", HealthChecks.postgres(pool))
          .required("primary", HealthChecks.postgres(ofPrimary))
          .open();
      opened.add(both);
      await().until(() -> both.report().healthy());

      try (Connection connection = pool.getConnection();
          Statement statement = connection.createStatement()) {
        statement.execute("ALTER SYSTEM SET default_transaction_read_only = on");
        statement.execute("SELECT pg_reload_conf()");
      }

      await()
          .untilAsserted(() -> assertThat(both.report().checks())
              .satisfiesExactly(
                  any -> assertThat(any.healthy()).isTrue(),
                  primary -> assertThat(primary.error()).contains("postgres_read_only")));
    }
  }

  private Set<Integer> backends() throws SQLException {
    Set<Integer> pids = new TreeSet<>();
    for (Connection connection : borrowAll()) {
      try (connection;
          Statement statement = connection.createStatement();
          ResultSet row = statement.executeQuery("SELECT pg_backend_pid()")) {
        row.next();
        pids.add(row.getInt(1));
      }
    }
    return pids;
  }

  private List<Connection> borrowAll() throws SQLException {
    List<Connection> all = new ArrayList<>();
    for (int i = 0; i < POOL_SIZE; i++) {
      all.add(pool.getConnection());
    }
    return all;
  }
}
