package dev.evalops.runtime.changejournal;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.io.BufferedReader;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Map;
import java.util.Random;
import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The mutation, its audit entry and its change row are there together or not at all, whoever dies when. */
@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/changejournal/changejournal.sql")
class AtomicityTest {
  private static final String ODD_ONES = """
      SELECT count(*) FROM notes n
        FULL JOIN change_journal c ON c.aggregate_id = n.id::text
        FULL JOIN audit_entries a ON a.resource_id = coalesce(n.id::text, c.aggregate_id)
      WHERE n.id IS NULL OR c.seq IS NULL OR a.id IS NULL""";

  @BeforeEach
  void notes(DataSource db) throws SQLException {
    Rows.execute(db, "CREATE TABLE notes (id uuid PRIMARY KEY)");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "TRIGGER t BEFORE INSERT ON notes",
        "TRIGGER t BEFORE INSERT ON audit_entries",
        "TRIGGER t AFTER INSERT ON audit_entries",
        "TRIGGER t BEFORE INSERT ON change_journal",
        "TRIGGER t AFTER INSERT ON change_journal",
        "CONSTRAINT TRIGGER t AFTER INSERT ON audit_entries DEFERRABLE INITIALLY DEFERRED",
        "CONSTRAINT TRIGGER t AFTER INSERT ON change_journal DEFERRABLE INITIALLY DEFERRED"
      })
  void leavesNothing_whenTheSessionIsEndedAtThisPoint(String trigger, HikariDataSource db)
      throws SQLException {
    Rows.execute(
        db,
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            + " PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$",
        "CREATE " + trigger + " FOR EACH ROW EXECUTE FUNCTION die()");
    try (Connection tx = Tx.begin(db, db.getJdbcUrl(), Map.of())) {
      assertThatThrownBy(() -> {
            UUID id = UUID.randomUUID();
            Rows.execute(tx, "INSERT INTO notes VALUES ('" + id + "')");
            ChangeJournal.mutation("note", id, "create").by(Tx.ACTOR).write(tx);
            tx.commit();
          })
          .isInstanceOfSatisfying(
              SQLException.class, failure -> assertThat(failure.getSQLState()).isEqualTo("57P01"));
    }
    assertThat(Rows.count(db, "notes")).isZero();
    assertThat(Rows.count(db, "audit_entries")).isZero();
    assertThat(Rows.count(db, "change_journal")).isZero();
  }

  @Test
  @Timeout(60)
  void leavesAllOrNothing_whenTheSessionIsEndedAtAnyTime(HikariDataSource db) throws Exception {
    Random random = new Random(7);
    try (ExecutorService service = Executors.newVirtualThreadPerTaskExecutor()) {
      for (int round = 0; round < 20; round++) {
        String name = "writer-" + round;
        Future<?> writer = service.submit(() -> {
          EndlessWriter.main(new String[] {
            db.getJdbcUrl(),
            db.getDataSourceProperties().getProperty("user"),
            db.getDataSourceProperties().getProperty("password"),
            name
          });
          return null;
        });
        await().atMost(Duration.ofSeconds(20)).until(() -> backends(db, name) == 1);
        Rows.execute(db, "SELECT pg_sleep(" + random.nextInt(30) / 1000.0 + ")");
        Rows.execute(
            db,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '"
                + name + "'");
        assertThatThrownBy(() -> writer.get(20, TimeUnit.SECONDS))
            .hasRootCauseInstanceOf(Exception.class)
            .cause()
            .isInstanceOf(SQLException.class);
        checked(db);
      }
    }
    assertThat(Rows.count(db, "notes")).isPositive();
  }

  @Test
  @Timeout(120)
  void leavesAllOrNothing_whenTheServiceIsKilledAtAnyTime(HikariDataSource db) throws Exception {
    kill(db, 15);
  }

  @Test
  @Tag("soak")
  void leavesAllOrNothing_whenTheServiceIsKilledAtAnyTime_soak(HikariDataSource db)
      throws Exception {
    kill(db, 200);
    System.out.printf(
        "changejournal: 200 kills, %d notes, %d audit entries, %d changes, none without the others%n",
        Rows.count(db, "notes"), Rows.count(db, "audit_entries"), Rows.count(db, "change_journal"));
  }

  private static void kill(HikariDataSource db, int rounds) throws Exception {
    Random random = new Random(11);
    for (int round = 0; round < rounds; round++) {
      String name = "killed-" + round;
      Process child = Child.start(EndlessWriter.class, Child.wholeClassPath(), db, name);
      try (BufferedReader output = child.inputReader()) {
        assertThat(output.readLine()).isEqualTo("writing");
        assertThat(child.waitFor(random.nextInt(50_000), TimeUnit.MICROSECONDS))
            .as("ended by itself")
            .isFalse();
      } finally {
        child.destroyForcibly().waitFor();
      }
      await().atMost(Duration.ofSeconds(20)).until(() -> backends(db, name) == 0);
      checked(db);
    }
    assertThat(Rows.count(db, "notes")).isGreaterThanOrEqualTo(rounds);
  }

  private static void checked(DataSource db) throws SQLException {
    try (Connection connection = db.getConnection()) {
      assertThat(Rows.column(connection, ODD_ONES)).containsExactly("0");
    }
  }

  private static int backends(DataSource db, String name) throws SQLException {
    try (Connection connection = db.getConnection()) {
      return Rows.column(
              connection,
              "SELECT pid FROM pg_stat_activity WHERE application_name = '" + name + "'")
          .size();
    }
  }
}
