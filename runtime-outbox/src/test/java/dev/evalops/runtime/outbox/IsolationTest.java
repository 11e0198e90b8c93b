package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Level;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/outbox/outbox.sql")
class IsolationTest {
  @Test
  void relaysFromAPoolThatIsSerializable(HikariDataSource db) throws Exception {
    try (Broker broker = new Broker();
        CapturedLog log = new CapturedLog(Outbox.class);
        HikariDataSource strict = new HikariDataSource()) {
      strict.setJdbcUrl(db.getJdbcUrl());
      strict.setDataSourceProperties(db.getDataSourceProperties());
      strict.setAutoCommit(false);
      strict.setTransactionIsolation("TRANSACTION_SERIALIZABLE");
      strict.setMaximumPoolSize(8);
      try (Outbox one = Outbox.start(strict, broker);
          Outbox two = Outbox.start(strict, broker);
          ExecutorService service = Executors.newFixedThreadPool(4)) {
        List<Future<?>> writing = new ArrayList<>();
        for (int w = 0; w < 4; w++) {
          int writer = w;
          writing.add(service.submit(() -> {
            for (int i = 0; i < 150; ) {
              try (Connection tx = strict.getConnection()) {
                Rows.insert(tx, Broker.event("note/" + writer, i));
                tx.commit();
                i++;
              } catch (SQLException e) {
                assertThat(e.getSQLState()).isEqualTo("40001"); // the service tries again
              }
              one.wake();
            }
            return null;
          }));
        }
        for (Future<?> future : writing) {
          future.get(60, TimeUnit.SECONDS);
        }
        await().atMost(Duration.ofSeconds(60)).until(() -> one.pending() == 0);
        assertThat(two.pending()).isZero();
      }
      assertThat(log.events()).noneMatch(event -> event.getLevel().isGreaterOrEqual(Level.WARN));
      assertThat(broker.stored).hasSize(600);
    }
  }

  @Test
  void repeatsWhatTheDatabaseRolledBackForAnother(DataSource db) throws Exception {
    try (Connection connection = db.getConnection();
        Statement sql = connection.createStatement()) {
      sql.execute("CREATE SEQUENCE tries");
      sql.execute("""
          CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('tries') % 4 <> 0 THEN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END IF;
            RETURN OLD;
          END $$""");
      sql.execute(
          "CREATE TRIGGER conflict BEFORE DELETE ON change_outbox FOR EACH ROW EXECUTE FUNCTION conflict()");
      for (int i = 0; i < 3; i++) {
        Rows.insert(connection, Broker.event("note/1", i));
      }
    }
    try (Broker broker = new Broker();
        CapturedLog log = new CapturedLog(Outbox.class);
        Outbox outbox = Outbox.start(db, broker)) {
      await().until(() -> outbox.pending() == 0);
      assertThat(log.events()).noneMatch(event -> event.getLevel().isGreaterOrEqual(Level.WARN));
      assertThat(broker.stored).hasSize(3);
    }
  }
}
