package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** The table after very many changes, which have come and gone. */
@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/outbox/outbox.sql")
class GrowthTest {
  private static final int BATCH = 5000;

  @Test
  @Tag("soak")
  void theTableDoesNotGrowWithWhatHasGone_soak(HikariDataSource db) throws Exception {
    int changes = Integer.getInteger("outbox.soak.changes", 10_000_000);
    try (Broker broker = new Broker();
        Outbox outbox = Outbox.start(db, broker)) {
      long max = 0;
      long begin = System.nanoTime();
      for (int i = 0; i < changes / BATCH; i++) {
        execute(
            db,
            "INSERT INTO change_outbox (id, lane, subject, headers, body)"
                + " SELECT gen_random_uuid()::text, 'note/' || i % 1000, 'notes.changes', ARRAY['ce-id', 'x'],"
                + " decode(repeat('ab', 300), 'hex') FROM generate_series(1, " + BATCH + ") i");
        outbox.wake();
        await().atMost(Duration.ofSeconds(90)).until(() -> outbox.pending() < BATCH);
        broker.forget();
        max = Math.max(max, size(db));
      }
      await().atMost(Duration.ofSeconds(90)).until(() -> outbox.pending() == 0);
      double seconds = (System.nanoTime() - begin) / 1e9;
      long before = size(db);
      execute(db, "VACUUM change_outbox");
      System.out.printf(
          "outbox: %d changes of 300 bytes in %.0f s, %.0f a second: the table with its indexes "
              + "has at most %d MB, at the end %d MB,"
              + " after a vacuum %d MB%n",
          changes, seconds, changes / seconds, max >> 20, before >> 20, size(db) >> 20);
      assertThat(max).isLessThan(2048L << 20);
    }
  }

  private static void execute(HikariDataSource db, String sql) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  private static long size(HikariDataSource db) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT pg_total_relation_size('change_outbox')")) {
      row.next();
      return row.getLong(1);
    }
  }
}
