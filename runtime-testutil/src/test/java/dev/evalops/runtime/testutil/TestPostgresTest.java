package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(TestPostgres.class)
class TestPostgresTest {
  private static final List<String> USED = new ArrayList<>();

  private String inBeforeEach = "";

  @AfterAll
  static void everyTestHadItsOwnSchema_dropped() throws SQLException {
    assertThat(USED).hasSize(4).doesNotHaveDuplicates();
    try (PostgresServer.TestSchema schema = PostgresServer.shared().schema()) {
      assertThat(query(schema.dataSource(), "SELECT string_agg(nspname, ',') FROM pg_namespace"))
          .contains(schema.name())
          .doesNotContain(USED);
    }
  }

  @BeforeEach
  void remember(DataSource db) throws SQLException {
    inBeforeEach = query(db, "SELECT current_schema()");
    USED.add(inBeforeEach);
  }

  @Test
  void appliesSchema_whenParameterNamesIt(@Schema("schema.sql") DataSource db) throws SQLException {
    assertThat(query(db, "SELECT text || twice(21) FROM notes")).isEqualTo("a; b42");
  }

  @Test
  @Schema("schema.sql")
  void appliesSchema_whenMethodNamesIt(DataSource db) throws SQLException {
    assertThat(query(db, "SELECT count(*) FROM notes")).isEqualTo("1");
  }

  @Test
  void appliesAResourceOnce_withAndWithoutASlashBeforeIt(
      @Schema({"schema.sql", "/schema.sql"}) DataSource db) throws SQLException {
    assertThat(query(db, "SELECT count(*) FROM notes")).isEqualTo("1");
  }

  @Test
  void searchPathIsTheOwnSchemaAlone(HikariDataSource db, PostgresServer.TestSchema schema)
      throws SQLException {
    assertThat(schema.name()).matches("test_[0-9a-f]{12}").isEqualTo(inBeforeEach);
    assertThat(query(db, "SHOW search_path")).isEqualTo(schema.name());
    assertThat(schema.dataSource()).isSameAs(db);
  }

  static String query(DataSource db, String sql) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet result = statement.executeQuery(sql)) {
      result.next();
      return result.getString(1);
    }
  }
}
