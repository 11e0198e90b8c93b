package dev.evalops.runtime.outbox;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.EncodedEvent;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import javax.sql.DataSource;

/** The table of the outbox, and the lease of who relays. */
final class Rows {
  private static final int NETWORK_TIMEOUT_MILLIS = 5000;
  private static final long MAX_PAGE_BYTES = 8 << 20;
  private static final int MAX_COUNTED = 100_000;

  // The lock is taken before the number: within a lane the numbers have the order of the commits.
  private static final String INSERT =
      "INSERT INTO change_outbox (id, lane, subject, headers, body) SELECT ?, ?, ?, ?, ?"
          + " WHERE pg_advisory_xact_lock(hashtextextended(?, 0)) IS NOT NULL";

  private static final String LEASE = "INSERT INTO change_outbox_lease (name, holder, expires_at)"
      + " VALUES ('relay', ?, now() + ? * interval '1 millisecond')"
      + " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at"
      + " WHERE change_outbox_lease.holder = excluded.holder OR change_outbox_lease.expires_at <= now()"
      + " RETURNING 1";

  private static final String NOT_HELD =
      " AND NOT EXISTS (SELECT FROM change_outbox p WHERE p.lane = o.lane AND p.parked_at IS NOT NULL)";

  private final DataSource db;
  private final String fetch;

  Rows(DataSource db, boolean holdParkedLanes) {
    this.db = db;
    String next = "SELECT seq FROM change_outbox o"
        + " WHERE parked_at IS NULL AND seq <> ALL (?) AND lane <> ALL (?)"
        + (holdParkedLanes ? NOT_HELD : "") + " ORDER BY seq LIMIT ?";
    // The first whatever its size, then as many as fit.
    this.fetch = "SELECT * FROM (SELECT seq, id, lane, subject, headers, body, attempts,"
        + " sum(octet_length(body)) OVER (ORDER BY seq) - octet_length(body) AS before"
        + " FROM change_outbox WHERE seq IN (" + next + ")) page WHERE before < ? ORDER BY seq";
  }

  /** An event that waits. */
  record Row(long seq, EncodedEvent event, int attempts) {}

  /** How full it is. */
  record Depth(long pending, Optional<Instant> oldest, long parked) {}

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
        try (Statement statement = connection.createStatement()) {
          statement.execute("SELECT seq, id, lane, subject, headers, body, created_at, attempts,"
              + " parked_at, reason FROM change_outbox LIMIT 0");
          statement.execute("SELECT name, holder, expires_at FROM change_outbox_lease LIMIT 0");
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
        state.equals("42P01") || state.equals("42703")
            ? who + ": tables are missing or too old; make them with"
                + " /dev/evalops/runtime/outbox/outbox.sql of runtime-outbox"
            : who + ": tables could not be checked: " + failure.getMessage(),
        failure);
  }

  /**
   * Takes or renews the lease. By itself, so that the row is locked for as long as one statement takes, and not until a page has been sent to a
   * process that may have stopped.
   */
  boolean lease(String holder, Duration ttl) throws SQLException {
    return run(connection -> {
      try (PreparedStatement statement = connection.prepareStatement(LEASE)) {
        statement.setString(1, holder);
        statement.setLong(2, ttl.toMillis());
        try (ResultSet held = statement.executeQuery()) {
          return held.next();
        }
      }
    });
  }

  List<Row> fetch(Collection<Long> without, Collection<String> lanes, int max) throws SQLException {
    return run(connection -> {
      try (PreparedStatement statement = connection.prepareStatement(fetch)) {
        statement.setArray(1, connection.createArrayOf("bigint", without.toArray()));
        statement.setArray(2, connection.createArrayOf("text", lanes.toArray()));
        statement.setInt(3, max);
        statement.setLong(4, MAX_PAGE_BYTES);
        try (ResultSet result = statement.executeQuery()) {
          List<Row> rows = new ArrayList<>();
          while (result.next()) {
            rows.add(row(result));
          }
          return rows;
        }
      }
    });
  }

  private static Row row(ResultSet result) throws SQLException {
    Map<String, List<String>> headers = new LinkedHashMap<>();
    String[] pairs = (String[]) result.getArray("headers").getArray();
    for (int i = 0; i + 1 < pairs.length; i += 2) {
      headers.computeIfAbsent(pairs[i], name -> new ArrayList<>()).add(pairs[i + 1]);
    }
    return new Row(
        result.getLong("seq"),
        new EncodedEvent(
            result.getString("id"),
            result.getString("subject"),
            headers,
            result.getBytes("body"),
            result.getString("lane")),
        result.getInt("attempts"));
  }

  void release(String holder) throws SQLException {
    update(
        "UPDATE change_outbox_lease SET expires_at = now() WHERE name = 'relay' AND holder = ?",
        holder);
  }

  /** By id: after a failover to a standby that had not seen all, a number may be given again. */
  void remove(Collection<String> ids) throws SQLException {
    run(connection -> {
      try (PreparedStatement delete =
          connection.prepareStatement("DELETE FROM change_outbox WHERE id = ANY (?)")) {
        delete.setArray(1, connection.createArrayOf("text", ids.toArray()));
        return delete.executeUpdate();
      }
    });
  }

  /** Counts a refusal, and parks the row at the last. */
  void refused(Row row, boolean park, String reason) throws SQLException {
    run(connection -> {
      try (PreparedStatement update = connection.prepareStatement(
          "UPDATE change_outbox SET attempts = ?, reason = ?, parked_at = CASE WHEN ? THEN now() END"
              + " WHERE id = ? AND parked_at IS NULL")) {
        update.setInt(1, row.attempts() + 1);
        update.setString(2, reason.replace("\0", ""));
        update.setBoolean(3, park);
        update.setString(4, row.event().id());
        return update.executeUpdate();
      }
    });
  }

  boolean requeue(String id) throws SQLException {
    return update(
        "UPDATE change_outbox SET parked_at = NULL, attempts = 0, reason = NULL"
            + " WHERE id = ? AND parked_at IS NOT NULL",
        id);
  }

  boolean discard(String id) throws SQLException {
    return update("DELETE FROM change_outbox WHERE id = ? AND parked_at IS NOT NULL", id);
  }

  private boolean update(String sql, String argument) throws SQLException {
    return run(connection -> {
      try (PreparedStatement update = connection.prepareStatement(sql)) {
        update.setString(1, argument);
        return update.executeUpdate() > 0;
      }
    });
  }

  long pending() throws SQLException {
    return run(connection -> {
      try (Statement statement = connection.createStatement();
          ResultSet row = statement.executeQuery(
              "SELECT count(*) FROM change_outbox WHERE parked_at IS NULL")) {
        row.next();
        return row.getLong(1);
      }
    });
  }

  Optional<Instant> oldest() throws SQLException {
    return run(connection -> {
      try (Statement statement = connection.createStatement();
          ResultSet row = statement.executeQuery(
              "SELECT created_at FROM change_outbox WHERE parked_at IS NULL ORDER BY seq LIMIT 1")) {
        return row.next()
            ? Optional.of(row.getObject(1, OffsetDateTime.class).toInstant())
            : Optional.empty();
      }
    });
  }

  /** Counts no further than {@link #MAX_COUNTED}, so that a long outage does not make it slow. */
  Depth depth() throws SQLException {
    return run(connection -> {
      try (Statement statement = connection.createStatement();
          ResultSet row = statement.executeQuery(
              "SELECT (SELECT count(*) FROM (SELECT FROM change_outbox WHERE parked_at IS NULL LIMIT "
                  + MAX_COUNTED
                  + ") w), (SELECT count(*) FROM change_outbox WHERE parked_at IS NOT NULL),"
                  + " (SELECT created_at FROM change_outbox WHERE parked_at IS NULL ORDER BY seq LIMIT 1)")) {
        row.next();
        OffsetDateTime oldest = row.getObject(3, OffsetDateTime.class);
        return new Depth(
            row.getLong(1),
            oldest == null ? Optional.empty() : Optional.of(oldest.toInstant()),
            row.getLong(2));
      }
    });
  }

  List<Outbox.Parked> parked(int max) throws SQLException {
    return run(connection -> {
      try (PreparedStatement select = connection.prepareStatement(
          "SELECT id, lane, subject, reason, created_at, parked_at FROM change_outbox"
              + " WHERE parked_at IS NOT NULL ORDER BY seq LIMIT ?")) {
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

  private interface Query<T> {
    T run(Connection connection) throws SQLException;
  }

  /** Runs a statement by itself; a server that does not answer is not waited for. */
  private <T> T run(Query<T> query) throws SQLException {
    try (Connection connection = db.getConnection()) {
      boolean before = connection.getAutoCommit();
      int timeout = connection.getNetworkTimeout();
      connection.setAutoCommit(true);
      connection.setNetworkTimeout(Runnable::run, NETWORK_TIMEOUT_MILLIS);
      T result;
      try {
        result = query.run(connection);
      } catch (SQLException | RuntimeException e) {
        restore(connection, before, timeout, e);
        throw e;
      }
      connection.setNetworkTimeout(Runnable::run, timeout);
      connection.setAutoCommit(before);
      return result;
    }
  }

  private static void restore(
      Connection connection, boolean autoCommit, int timeout, Exception failure) {
    try {
      connection.setNetworkTimeout(Runnable::run, timeout);
      connection.setAutoCommit(autoCommit);
    } catch (SQLException e) { // the connection is gone, which the failure says better
      failure.addSuppressed(e);
    }
  }
}
