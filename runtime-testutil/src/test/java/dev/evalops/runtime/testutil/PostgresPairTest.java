package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class PostgresPairTest {
  private static final Duration SOON = Duration.ofSeconds(60);

  private static Connection connect(String hosts) throws SQLException {
    return DriverManager.getConnection(
        "jdbc:postgresql://" + hosts + "/postgres?targetServerType=primary&connectTimeout=5",
        "test",
        "test");
  }

  private static String hosts(PostgresPair pair) {
    return pair.url().replaceFirst("^postgres://test:test@([^/]*)/.*", "$1");
  }

  private static void write(Connection connection, int n) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute("INSERT INTO items VALUES (" + n + ")");
    }
  }

  private static String read(PostgresServer server, String sql) throws SQLException {
    URI uri = server.uri();
    try (Connection connection = DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + uri.getPort() + "/postgres", "test", "test");
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getString(1);
    }
  }

  private static final String ITEMS = "SELECT string_agg(n::text, ',' ORDER BY n) FROM items";

  @Test
  void whatWasAnsweredSurvivesEachPromotion_andTheFormerPrimaryComesBackAsStandby()
      throws Exception {
    try (PostgresPair pair = PostgresPair.start()) {
      PostgresServer a = pair.primary();
      PostgresServer b = pair.standby();
      assertThat(pair.url()).endsWith("/postgres?target_session_attrs=read-write");
      assertThatThrownBy(pair::rejoin).isInstanceOf(IllegalStateException.class);
      try (Connection connection = connect(hosts(pair));
          Statement statement = connection.createStatement()) {
        statement.execute("CREATE TABLE items (n int)");
        write(connection, 1);
      }
      // The standby has what was answered, and replays it a moment later.
      await()
          .atMost(SOON)
          .ignoreExceptionsInstanceOf(SQLException.class)
          .until(() -> read(b, ITEMS).equals("1"));
      assertThat(read(b, "SHOW transaction_read_only")).isEqualTo("on");

      a.kill();
      pair.promote();
      assertThat(pair.primary()).isSameAs(b);
      assertThatThrownBy(pair::promote)
          .isInstanceOf(IllegalStateException.class)
          .hasMessageContaining("rejoin");
      try (Connection connection = connect(hosts(pair))) {
        write(connection, 2);
      }
      pair.rejoin();
      assertThat(pair.standby().port()).isEqualTo(a.port());
      try (Connection connection = connect(hosts(pair))) {
        write(connection, 3);
      }

      pair.primary().pause();
      pair.promote();
      assertThat(read(pair.primary(), ITEMS)).isEqualTo("1,2,3");
      pair.rejoin();
      assertThat(read(pair.standby(), ITEMS)).isEqualTo("1,2,3");
    }
  }

  @Test
  void aPrimaryThatIsCutOffAnswersNoCommit() throws Exception {
    try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
        PostgresPair pair = PostgresPair.start();
        Connection direct = connect("127.0.0.1:" + pair.primary().port());
        Statement statement = direct.createStatement()) {
      statement.execute("CREATE TABLE items (n int)");
      write(direct, 1);

      PostgresServer former = pair.primary();
      pair.cutOff(former);
      Future<?> commit = threads.submit(() -> {
        write(direct, 2);
        return null;
      });
      await()
          .atMost(SOON)
          .until(() -> read(
                  former, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
              .equals("1"));
      pair.promote();

      assertThat(read(pair.primary(), ITEMS)).isEqualTo("1");
      assertThat(commit.isDone()).isFalse();
      pair.rejoin();
      assertThatThrownBy(() -> commit.get(SOON.toSeconds(), TimeUnit.SECONDS))
          .hasCauseInstanceOf(SQLException.class);
      assertThat(read(pair.standby(), ITEMS)).isEqualTo("1");
    }
  }
}
