package dev.evalops.runtime.changejournal;

import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.io.IOException;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.Map;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Counted on the wire, between the driver and the server. */
@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/changejournal/changejournal.sql")
class RoundTripTest {
  @ParameterizedTest
  @ValueSource(strings = {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"})
  void writesBothRowsInOneRoundTrip(String mode, HikariDataSource db)
      throws IOException, SQLException {
    try (WireTap tap = WireTap.to(db.getJdbcUrl());
        Connection tx = Tx.begin(
            db,
            tap.url(),
            Map.of("preferQueryMode", mode, "sslmode", "disable", "gssEncMode", "disable"))) {
      Rows.execute(tx, "CREATE TEMPORARY TABLE notes (id int)");
      // Past the fifth the driver prepares the statement at the server.
      for (int i = 0; i < 10; i++) {
        long before = tap.roundTrips();
        ChangeJournal.mutation("note", "1", "update")
            .by(Tx.ACTOR)
            .payload(Map.of("i", i))
            .write(tx);
        assertThat(tap.roundTrips() - before).as("write %d", i).isEqualTo(1);
      }
      long before = tap.roundTrips();
      Rows.execute(tx, "SELECT 1", "SELECT 2");
      assertThat(tap.roundTrips() - before).as("two statements").isEqualTo(2);
      tx.commit();
    }
    assertThat(Rows.count(db, "change_journal")).isEqualTo(10);
  }
}
