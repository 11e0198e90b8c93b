package dev.evalops.runtime.outbox;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.EncodedEvent;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import javax.sql.DataSource;

/** The statements of the outbox that are not of the relay: adding, asking, checking, requeueing and discarding. */
final class Rows {
  /** How long a row has waited, in milliseconds. */
  static final String AGE = "(1000 * extract(epoch FROM clock_timestamp() - created_at))::bigint";

  // The lock is taken before the number: within a lane the numbers have the order of the commits.
  private static final String INSERT =
      "INSERT INTO change_outbox (id, lane, subject, headers, body) SELECT ?, ?, ?, ?, ?"
          + " WHERE pg_advisory_xact_lock(hashtextextended(?, 0)) IS NOT NULL";

  private static final String PENDING =
      "SELECT count(*) FROM change_outbox WHERE parked_at IS NULL";
  static final String OLDEST =
      "SELECT created_at FROM change_outbox WHERE parked_at IS NULL ORDER BY seq LIMIT 1";
  static final String OLDEST_AGE =
      "SELECT " + AGE + " FROM change_outbox WHERE parked_at IS NULL ORDER BY seq LIMIT 1";
  static final String PARKED =
      "SELECT id, lane, subject, reason, created_at, parked_at FROM change_outbox"
          + " WHERE parked_at IS NOT NULL ORDER BY seq LIMIT ?";
  static final String REQUEUE =
      "UPDATE change_outbox SET parked_at = NULL, attempts = 0, reason = NULL"
          + " WHERE id = ? AND parked_at IS NOT NULL";
  static final String DISCARD = "DELETE FROM change_outbox WHERE id = ? AND parked_at IS NOT NULL";

  private final DataSource db;

  Rows(DataSource db) {
    this.db = db;
  }

  static void insert(Connection tx, EncodedEvent event) throws SQLException {
    List<String> headers = new ArrayList<>();
    event
        .headers()
        .forEach((name, values) -> values.forEach(value -> {
          headers.add(name);
          headers.add(value);
        }));
    try (PreparedStatement insert = tx.prepareStatement(INSERT)) {
      insert.setString(1, event.id());
      insert.setString(2, event.lane());
      insert.setString(3, event.subject());
      insert.setArray(4, tx.createArrayOf("text", headers.toArray()));
      insert.setBytes(5, event.body());
      insert.setString(6, event.lane());
      insert.executeUpdate();
    }
  }

  void check() {
    try {
      run(connection -> {
        try (PreparedStatement select = Lent.prepare(
            connection,
            "SELECT seq, id, lane, subject, headers, body, created_at, attempts,"
                + " parked_at, reason FROM change_outbox LIMIT 0")) {
          select.execute();
        }
        // Not run: they are planned alone if there are the key and the rights that they need.
        for (String sql : List.of(RelayRows.LEASE, RelayRows.REMOVE, RelayRows.REFUSED)) {
          try (PreparedStatement planned = Lent.prepare(connection, "EXPLAIN " + sql)) {
            for (int i = 1; i <= sql.chars().filter(c -> c == '?').count(); i++) {
              planned.setNull(i, Types.OTHER);
            }
            planned.execute();
          }
        }
        return Optional.empty();
      });
    } catch (SQLException e) {
      throw failedCheck("outbox", e);
    }
  }

  static StartupException failedCheck(String who, SQLException failure) {
    String state = String.valueOf(failure.getSQLState());
    return new StartupException(
        Set.of("42P01", "42703", "42P10").contains(state)
            ? who + ": tables are missing, too old or lack a key; create them with"
                + " /dev/evalops/runtime/outbox/outbox.sql of runtime-outbox"
            : who + ": tables could not be checked: " + failure.getMessage(),
        failure);
  }

  boolean requeue(String id) throws SQLException {
    return update(REQUEUE, id);
  }

  boolean discard(String id) throws SQLException {
    return update(DISCARD, id);
  }

  private boolean update(String sql, String argument) throws SQLException {
    return run(connection -> {
      try (PreparedStatement update = Lent.prepare(connection, sql)) {
        update.setString(1, argument);
        return update.executeUpdate() > 0;
      }
    });
  }

  long pending() throws SQLException {
    return run(connection -> {
      try (PreparedStatement select = Lent.prepare(connection, PENDING);
          ResultSet row = select.executeQuery()) {
        row.next();
        return row.getLong(1);
      }
    });
  }

  Optional<Instant> oldest() throws SQLException {
    return run(connection -> {
      try (PreparedStatement select = Lent.prepare(connection, OLDEST);
          ResultSet row = select.executeQuery()) {
        return row.next()
            ? Optional.of(row.getObject(1, OffsetDateTime.class).toInstant())
            : Optional.empty();
      }
    });
  }

  /** By the clock of the server alone. */
  Optional<Duration> oldestAge() throws SQLException {
    return run(connection -> {
      try (PreparedStatement select = Lent.prepare(connection, OLDEST_AGE);
          ResultSet row = select.executeQuery()) {
        return row.next() ? Optional.of(Duration.ofMillis(row.getLong(1))) : Optional.empty();
      }
    });
  }

  List<Outbox.Parked> parked(int max) throws SQLException {
    return run(connection -> {
      try (PreparedStatement select = Lent.prepare(connection, PARKED)) {
        select.setInt(1, max);
        try (ResultSet row = select.executeQuery()) {
          List<Outbox.Parked> parked = new ArrayList<>();
          while (row.next()) {
            parked.add(new Outbox.Parked(
                row.getString(1),
                row.getString(2),
                row.getString(3),
                row.getString(4),
                row.getObject(5, OffsetDateTime.class).toInstant(),
                row.getObject(6, OffsetDateTime.class).toInstant()));
          }
          return parked;
        }
      }
    });
  }

  private <T> T run(Lent.Query<T> query) throws SQLException {
    try (Lent lent = new Lent(db)) {
      return lent.run(query);
    }
  }
}
