package dev.evalops.runtime.testutil;

import static dev.evalops.runtime.testutil.TestPostgresTest.query;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

class PostgresServerTest {
  private final PostgresServer server = PostgresServer.shared();

  @Test
  void schemasAreIsolated() throws SQLException {
    try (PostgresServer.TestSchema one =
            server.schema("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
        PostgresServer.TestSchema two =
            server.schema("CREATE TABLE t (n int); INSERT INTO t VALUES (2)")) {
      assertThat(query(one.dataSource(), "SELECT n FROM t")).isEqualTo("1");
      assertThat(query(two.dataSource(), "SELECT n FROM t")).isEqualTo("2");
    }
  }

  @Test
  void schemaIsDroppedOnClose_alsoTwice_andWhileASessionHoldsALock() throws SQLException {
    PostgresServer.TestSchema schema = server.schema("CREATE TABLE t (n int)");
    try (Connection leaked = connect(schema.url());
        Statement statement = leaked.createStatement()) {
      leaked.setAutoCommit(false);
      statement.execute("INSERT INTO " + schema.name() + ".t VALUES (1)");
      schema.close();
      schema.close();
      assertThatThrownBy(() -> statement.execute("SELECT 1")).isInstanceOf(SQLException.class);
    }
    assertThat(exists(schema.name())).isFalse();
    assertThat(schema.dataSource().isClosed()).isTrue();
  }

  @Test
  void schemaIsDropped_whenItsSqlFails() throws SQLException {
    String before = schemas();
    assertThatThrownBy(() -> server.schema("CREATE TABLE t (n int); CREATE TABLE t (n int)"))
        .isInstanceOf(SQLException.class)
        .hasMessageContaining("already exists");
    assertThat(schemas()).isEqualTo(before);
  }

  @Test
  void urlNamesTheSchema() throws SQLException {
    try (PostgresServer.TestSchema schema = server.schema()) {
      assertThat(schema.url()).isEqualTo(server.url() + "?search_path=" + schema.name());
    }
  }

  @Test
  void aUrlWithoutADatabaseMeansThatOfTheUser() throws SQLException {
    try (PostgresServer own = PostgresServer.start()) {
      try (Connection connection = connect(own.url());
          Statement statement = connection.createStatement()) {
        statement.execute("CREATE DATABASE test");
      }
      String url = "postgres://test:test@127.0.0.1:" + own.port();
      Host host = new Host(Map.of("TEST_DATABASE_URL", url), "linux-amd64", () -> false);
      try (PostgresServer.TestSchema schema = PostgresServer.shared(host).schema()) {
        assertThat(query(schema.dataSource(), "SELECT current_database()")).isEqualTo("test");
      }
    }
  }

  @Test
  void sqlWithBracesAndQuestionMarksIsTakenAsItIs() throws SQLException {
    try (PostgresServer.TestSchema schema = server.schema(
        "CREATE TABLE t AS SELECT '{\"a\":1}'::jsonb ? 'a' AS yes, '{fn now()}' AS text")) {
      assertThat(query(schema.dataSource(), "SELECT yes || text FROM t"))
          .isEqualTo("true{fn now()}");
    }
  }

  @Test
  void whatWasCommittedSurvivesAKill_andClosingASchemaOfADeadServerIsQuiet() throws SQLException {
    try (PostgresServer own = PostgresServer.start();
        PostgresServer.TestSchema schema = own.schema("CREATE TABLE t (n int)")) {
      query(schema.dataSource(), "INSERT INTO t VALUES (7) RETURNING n");
      own.kill();
      own.restart();
      try (Connection connection = connect(own.url())) {
        assertThat(connection
                .createStatement()
                .executeUpdate("UPDATE " + schema.name() + ".t SET n = 8"))
            .isEqualTo(1);
      }
      own.kill();
    }
  }

  @Test
  void leavesNoPool_whenTheServerRefusesASchema() {
    Set<Thread> before = Thread.getAllStackTraces().keySet();
    try (PostgresServer own = PostgresServer.start()) {
      own.kill();
      assertThatThrownBy(own::schema).isInstanceOf(SQLException.class);
    }
    await()
        .atMost(Duration.ofSeconds(10))
        .untilAsserted(() -> assertThat(Thread.getAllStackTraces().keySet())
            .filteredOn(thread -> !before.contains(thread))
            .extracting(Thread::getName)
            .noneMatch(name -> name.startsWith("test_")));
  }

  @Test
  void isVersion18_andRefusesAWrongPassword() throws SQLException {
    try (PostgresServer own = PostgresServer.start()) {
      try (Connection connection = connect(own.url())) {
        assertThat(connection.getMetaData().getDatabaseMajorVersion()).isEqualTo(18);
      }
      assertThatThrownBy(() -> connect(own.url().replace("test:test@", "test:wrong@")))
          .isInstanceOfSatisfying(
              SQLException.class, e -> assertThat(e.getSQLState()).isEqualTo("28P01"));
    }
  }

  private static Connection connect(String url) throws SQLException {
    URI uri = URI.create(url);
    String[] user = uri.getUserInfo().split(":", 2);
    return DriverManager.getConnection(
        "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath(),
        user[0],
        user[1]);
  }

  private boolean exists(String schema) throws SQLException {
    return schemas().contains(schema);
  }

  private String schemas() throws SQLException {
    try (PostgresServer.TestSchema schema = server.schema()) {
      return query(
          schema.dataSource(),
          "SELECT string_agg(nspname, ',' ORDER BY nspname) FROM pg_namespace WHERE nspname <> current_schema()");
    }
  }
}
