package dev.evalops.runtime.changejournal;

import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** However far behind a reader is, no statement of its reads the whole table. */
@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/changejournal/changejournal.sql")
class PlansTest {
  /** After five executions Postgres may prefer a plan that knows no arguments. */
  private static final int EXECUTIONS = 7;

  @Test
  void everyStatementOfTheReaderUsesAnIndex(HikariDataSource db) throws Exception {
    plans(db, 100_000);
  }

  @Test
  @Tag("soak")
  void everyStatementOfTheReaderUsesAnIndex_soak(HikariDataSource db) throws Exception {
    plans(db, 1_000_000);
  }

  private static void plans(HikariDataSource db, int rows) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute(
          "INSERT INTO change_journal (organization_id, aggregate_type, aggregate_id, operation, actor_type,"
              + " aggregate_version, recorded_at, payload)"
              + " SELECT 'org-' || i % 10, 'note', i::text, 'update', 'user', 1, now(), '{}' FROM generate_series(1, "
              + rows + ") i");
      statement.execute(
          "INSERT INTO audit_entries (id, organization_id, actor_type, action, resource_type, metadata, created_at)"
              + " SELECT gen_random_uuid(), 'org-' || i % 10, 'user', 'note.update', 'note', '{}', now()"
              + " FROM generate_series(1, " + rows + ") i");
      statement.execute("VACUUM ANALYZE change_journal, audit_entries");
      for (String sql : new String[] {JournalReader.CHANGES, JournalReader.AUDIT_ENTRIES}) {
        for (long after : new long[] {0, rows / 2, rows - 10}) {
          usesIndexes(statement, sql, Long.toString(after), Long.toString(rows), "'5'", "100");
          usesIndexes(statement, sql, Long.toString(after), "0", "'0'", "100");
        }
      }
      usesIndexes(statement, JournalReader.LAG, "0", "0");
      usesIndexes(statement, JournalReader.LAG, Long.toString(rows), Long.toString(rows));
    }
  }

  private static void usesIndexes(Statement statement, String sql, String... arguments)
      throws SQLException {
    assertThat(plan(statement, sql, arguments))
        .contains("Index")
        .doesNotContain("Seq Scan on change_journal")
        .doesNotContain("Seq Scan on audit_entries");
  }

  private static String plan(Statement statement, String sql, String... arguments)
      throws SQLException {
    String[] parts = sql.split("\\?", -1);
    StringBuilder numbered = new StringBuilder(parts[0]);
    for (int i = 1; i < parts.length; i++) {
      numbered.append('$').append(i).append(parts[i]);
    }
    statement.execute("PREPARE planned AS " + numbered);
    StringBuilder plan = new StringBuilder();
    for (int i = 0; i < EXECUTIONS; i++) {
      plan.setLength(0);
      try (ResultSet lines =
          statement.executeQuery("EXPLAIN EXECUTE planned(" + String.join(",", arguments) + ")")) {
        while (lines.next()) {
          plan.append(lines.getString(1)).append('\n');
        }
      }
    }
    statement.execute("DEALLOCATE planned");
    return plan.toString();
  }
}
