package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** After a long outage no statement reads the whole table. */
@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/outbox/outbox.sql")
class PlansTest {
  /** After five executions Postgres may prefer a plan that knows no arguments. */
  private static final int EXECUTIONS = 7;

  @Test
  void everyStatementUsesAnIndex(HikariDataSource db) throws Exception {
    plans(db, 100_000);
  }

  @Test
  @Tag("soak")
  void everyStatementUsesAnIndex_soak(HikariDataSource db) throws Exception {
    plans(db, 1_000_000);
  }

  @Test
  @Tag("soak")
  void looksPastALaneThatIsHeld_soak(HikariDataSource db) throws Exception {
    for (int behind : new int[] {10_000, 100_000, 1_000_000}) {
      try (Connection connection = db.getConnection();
          Statement statement = connection.createStatement()) {
        statement.execute("TRUNCATE change_outbox");
        statement.execute("INSERT INTO change_outbox (id, lane, subject, headers, body, parked_at)"
            + " SELECT gen_random_uuid()::text, CASE WHEN i <= " + behind
            + " THEN 'note/0' ELSE 'note/1' END, 'notes.changes', '{}', decode(repeat('ab', 300), 'hex'),"
            + " CASE WHEN i = 1 THEN now() END FROM generate_series(1, " + (behind + 1) + ") i");
        statement.execute("VACUUM ANALYZE change_outbox");
      }
      RelayRows rows = new RelayRows(db, true);
      long best = Long.MAX_VALUE;
      for (int i = 0; i < EXECUTIONS; i++) {
        long begin = System.nanoTime();
        assertThat(rows.fetch(List.of(), List.of(), 1000, 1 << 20))
            .extracting(row -> row.event().lane())
            .containsExactly("note/1");
        best = Math.min(best, System.nanoTime() - begin);
      }
      rows.rest();
      System.out.printf(
          "outbox: a look past %d changes that wait behind a parked one: %.1f ms%n",
          behind, best / 1e6);
    }
  }

  private static void plans(HikariDataSource db, int rows) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute("INSERT INTO change_outbox (id, lane, subject, headers, body, parked_at)"
          + " SELECT gen_random_uuid()::text, 'note/' || i % 5000, 'notes.changes.note.update', ARRAY['ce-id', 'x'],"
          + " decode(repeat('ab', 300), 'hex'), CASE WHEN i % 1000 = 0 THEN now() END FROM generate_series(1, "
          + rows
          + ") i");
      statement.execute(
          "INSERT INTO event_inbox SELECT 'consumer' || i % 4, i::text, now() - i * interval '1 second'"
              + " FROM generate_series(1, " + rows + ") i");
      statement.execute("VACUUM ANALYZE change_outbox, event_inbox");

      String inMemory = LongStream.range(0, 900)
          .mapToObj(Long::toString)
          .collect(Collectors.joining(",", "'{", "}'"));
      for (boolean holdParkedLanes : new boolean[] {true, false}) {
        String fetch = RelayRows.fetch(holdParkedLanes);
        for (String without : new String[] {"'{}'", inMemory}) {
          usesIndexes(statement, fetch, without, "'{note/1,note/2}'", "124", "8388608");
        }
      }
      usesIndexes(statement, RelayRows.LEASE, "'a'", "1450", "true");
      usesIndexes(statement, RelayRows.REMOVE, "ARRAY[1,2,3]", "ARRAY['a','b','c']");
      usesIndexes(statement, RelayRows.REFUSED, "1", "'too large'", "true", "'a'");
      usesIndexes(statement, Rows.OLDEST_AGE);
      usesIndexes(statement, Rows.OLDEST);
      usesIndexes(statement, Rows.PARKED, "10");
      usesIndexes(statement, Rows.REQUEUE, "'a'");
      usesIndexes(statement, Rows.DISCARD, "'a'");
      usesIndexes(statement, Inbox.SWEEP, "'consumer1'", "'consumer1'", "604800000");
      assertThat(plan(statement, RelayRows.DEPTH, Integer.toString(RelayRows.MAX_COUNTED)))
          .as("counts a part alone")
          .containsPattern("Limit.*\\n *-> *Seq Scan on change_outbox")
          .containsOnlyOnce("Seq Scan");
    }
  }

  private static void usesIndexes(Statement statement, String sql, String... arguments)
      throws SQLException {
    assertThat(plan(statement, sql, arguments))
        .contains("Index")
        .doesNotContain("Seq Scan on change_outbox ")
        .doesNotContain("Seq Scan on event_inbox");
  }

  private static String plan(Statement statement, String sql, String... arguments)
      throws SQLException {
    String[] parts = sql.split("\\?", -1);
    int number = parts.length - 1;
    StringBuilder numbered = new StringBuilder(parts[0]);
    for (int i = 1; i <= number; i++) {
      numbered.append('$').append(i).append(parts[i]);
    }
    statement.execute("PREPARE planned AS " + numbered);
    String execute =
        "EXECUTE planned" + (number == 0 ? "" : "(" + String.join(",", arguments) + ")");
    StringBuilder plan = new StringBuilder();
    for (int i = 0; i < EXECUTIONS; i++) {
      plan.setLength(0);
      try (ResultSet lines = statement.executeQuery("EXPLAIN " + execute)) {
        while (lines.next()) {
          plan.append(lines.getString(1)).append('\n');
        }
      }
    }
    statement.execute("DEALLOCATE planned");
    return plan.toString();
  }
}
