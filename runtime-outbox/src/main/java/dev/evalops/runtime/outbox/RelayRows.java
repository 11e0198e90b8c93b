package dev.evalops.runtime.outbox;

import dev.evalops.runtime.events.EncodedEvent;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;

/**
 * What the relay does with the table, and the lease of who relays. Keeps its connection from one statement to the next,
 * for a while or until {@link #rest}, so that it does not queue behind the mutations for each, and the pool does not
 * check it again for each. Of one thread.
 */
final class RelayRows {
  static final int MAX_COUNTED = 100_000;
  private static final int MIN_COUNTED = 100;
  private static final String CANCELED = "57014"; // SQLSTATE of a statement_timeout
  private static final long KEEP_FOR = TimeUnit.SECONDS.toNanos(10);

  /**
   * One row, so that what it locks is free again before a process that has stopped would have to read the answer. A
   * lease that lasts longer than any can is of a time before the server's clock was set back, and nobody may be there
   * to renew it.
   */
  static final String LEASE =
      "WITH given AS (SELECT ?::text AS holder, ? * interval '1 millisecond' AS ttl),"
          + " other AS (SELECT expires_at FROM change_outbox_lease, given"
          + " WHERE name = 'relay' AND change_outbox_lease.holder <> given.holder AND expires_at > now()"
          + " AND expires_at <= clock_timestamp() + 2 * ttl),"
          + " taken AS (INSERT INTO change_outbox_lease (name, holder, expires_at)"
          + " SELECT 'relay', holder, now() + ttl FROM given WHERE NOT EXISTS (SELECT FROM other)"
          + " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at"
          + " WHERE change_outbox_lease.holder = excluded.holder OR change_outbox_lease.expires_at <= now()"
          + " OR change_outbox_lease.expires_at > (SELECT clock_timestamp() + 2 * ttl FROM given)"
          + " RETURNING 1)"
          + " SELECT EXISTS (SELECT FROM taken) AS held,"
          + " EXISTS (SELECT FROM change_outbox_lease l, given"
          + " WHERE name = 'relay' AND l.holder = given.holder) AS kept,"
          + " (SELECT ceil(1000 * extract(epoch FROM expires_at - now()))::bigint FROM other) AS other_millis,"
          + " EXISTS (SELECT FROM taken) AND ? AND (SELECT seq FROM change_outbox WHERE parked_at IS NULL"
          + " ORDER BY seq LIMIT 1) IS NOT NULL AS waiting";

  // Found by number, which is cheap; but after a failover to a standby that had not seen all, a
  // number may be given again.
  static final String REMOVE =
      "DELETE FROM change_outbox o USING unnest(?::bigint[], ?::text[]) AS sent (seq, id)"
          + " WHERE o.seq = sent.seq AND o.id = sent.id";

  static final String REFUSED =
      "UPDATE change_outbox SET attempts = ?, reason = ?, parked_at = CASE WHEN ? THEN now() END"
          + " WHERE id = ? AND parked_at IS NULL";

  static final String DEPTH =
      "SELECT (SELECT count(*) FROM (SELECT FROM change_outbox WHERE parked_at IS NULL LIMIT ?"
          + ") w), (SELECT count(*) FROM change_outbox WHERE parked_at IS NOT NULL),"
          + " (SELECT " + Rows.AGE
          + " FROM change_outbox WHERE parked_at IS NULL ORDER BY seq LIMIT 1)";

  private static final String NOT_HELD =
      " AND NOT EXISTS (SELECT FROM change_outbox p WHERE p.lane = o.lane AND p.parked_at IS NOT NULL)";

  private final DataSource db;
  private final String fetch;
  private @Nullable Lent lent;
  private long lentAt;
  private int counted = MAX_COUNTED;

  RelayRows(DataSource db, boolean holdParkedLanes) {
    this.db = db;
    this.fetch = fetch(holdParkedLanes);
  }

  static String fetch(boolean holdParkedLanes) {
    // The database hashes what a query gives; an array it searches from the start for each row.
    String next = "SELECT seq, id, lane, subject, headers, body, attempts FROM change_outbox o"
        + " WHERE parked_at IS NULL AND seq NOT IN (SELECT unnest(?::bigint[]))"
        + " AND lane NOT IN (SELECT unnest(?::text[]))"
        + (holdParkedLanes ? NOT_HELD : "") + " ORDER BY seq LIMIT ?";
    // The first whatever its size, then as many as fit.
    return "SELECT * FROM (SELECT *, sum(octet_length(body)) OVER (ORDER BY seq) - octet_length(body) AS before"
        + " FROM (" + next + ") next) page WHERE before < ? ORDER BY seq";
  }

  /** An event that waits. */
  record Row(long seq, EncodedEvent event, int attempts) {
    int bytes() {
      return event.body().length;
    }
  }

  /** How full it is. */
  record Depth(long pending, long oldestMillis, long parked) {}

  /**
   * Who relays.
   *
   * @param kept whether it was the caller's before, even if it has expired meanwhile
   * @param otherMillis for how long the lease of another lasts; empty if the caller holds it, or if another was faster
   *     just now
   * @param waiting whether the holder has something to send, if it was looked for
   */
  record Lease(boolean held, boolean kept, OptionalLong otherMillis, boolean waiting) {}

  /** Takes or renews the lease; looks for what waits only if that is asked for. */
  Lease lease(String holder, Duration ttl, boolean looks) throws SQLException {
    return run(connection -> {
      try (PreparedStatement statement = Lent.prepare(connection, LEASE)) {
        statement.setString(1, holder);
        statement.setLong(2, ttl.toMillis());
        statement.setBoolean(3, looks);
        try (ResultSet row = statement.executeQuery()) {
          row.next();
          long millis = row.getLong("other_millis");
          OptionalLong other = row.wasNull() ? OptionalLong.empty() : OptionalLong.of(millis);
          return new Lease(
              row.getBoolean("held"), row.getBoolean("kept"), other, row.getBoolean("waiting"));
        }
      }
    });
  }

  void release(String holder) throws SQLException {
    run(connection -> {
      try (PreparedStatement update = Lent.prepare(
          connection,
          "UPDATE change_outbox_lease SET expires_at = now() WHERE name = 'relay' AND holder = ?")) {
        update.setString(1, holder);
        return update.executeUpdate();
      }
    });
  }

  /** Fails while the table is locked, and leaves nothing behind that waits for it, as a fetch would. */
  void probe() throws SQLException {
    run(connection -> {
      try (PreparedStatement select =
          Lent.prepare(connection, "SELECT FROM change_outbox LIMIT 0")) {
        return select.execute();
      }
    });
  }

  /** Returns the next ones, no more than so many, and none after the one that reaches so many bytes. */
  List<Row> fetch(Collection<Long> without, Collection<String> lanes, int max, long maxBytes)
      throws SQLException {
    return run(connection -> {
      // Without a limit for the whole of it: over a slow network a page takes its time.
      try (PreparedStatement statement = connection.prepareStatement(fetch)) {
        statement.setArray(1, connection.createArrayOf("bigint", without.toArray()));
        statement.setArray(2, connection.createArrayOf("text", lanes.toArray()));
        statement.setInt(3, max);
        statement.setLong(4, maxBytes);
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

  void remove(Collection<Row> rows) throws SQLException {
    run(connection -> {
      try (PreparedStatement delete = Lent.prepare(connection, REMOVE)) {
        delete.setArray(
            1, connection.createArrayOf("bigint", rows.stream().map(Row::seq).toArray()));
        delete.setArray(
            2,
            connection.createArrayOf(
                "text", rows.stream().map(row -> row.event().id()).toArray()));
        return delete.executeUpdate();
      }
    });
  }

  /** Counts a refusal, and parks the row at the last. */
  void refused(Row row, boolean park, String reason) throws SQLException {
    run(connection -> {
      try (PreparedStatement update = Lent.prepare(connection, REFUSED)) {
        update.setInt(1, row.attempts() + 1);
        update.setString(2, reason.replace("\0", ""));
        update.setBoolean(3, park);
        update.setString(4, row.event().id());
        return update.executeUpdate();
      }
    });
  }

  /**
   * Counts no further than {@link #MAX_COUNTED}, so that a long outage does not make it slow, and less far the next
   * time if a {@code statement_timeout} has ended it.
   */
  Depth depth() throws SQLException {
    int max = counted;
    Depth depth;
    try {
      depth = run(connection -> {
        try (PreparedStatement statement = Lent.prepare(connection, DEPTH)) {
          statement.setInt(1, max);
          try (ResultSet row = statement.executeQuery()) {
            row.next();
            return new Depth(row.getLong(1), row.getLong(3), row.getLong(2));
          }
        }
      });
    } catch (SQLException e) {
      if (CANCELED.equals(e.getSQLState())) {
        counted = Math.max(MIN_COUNTED, max / 10);
      }
      throw e;
    }
    if (depth.pending() < max) {
      counted = MAX_COUNTED;
    }
    return depth;
  }

  /** Gives the connection back. */
  void rest() throws SQLException {
    if (lent != null) {
      Lent last = lent;
      lent = null;
      last.close();
    }
  }

  private <T> T run(Lent.Query<T> query) throws SQLException {
    if (lent == null) {
      lent = new Lent(db);
      lentAt = System.nanoTime();
    }
    T result;
    try {
      result = lent.run(query);
    } catch (SQLException | RuntimeException e) {
      try {
        rest();
      } catch (SQLException again) {
        e.addSuppressed(again);
      }
      throw e;
    }
    if (System.nanoTime() - lentAt >= KEEP_FOR) {
      rest();
    }
    return result;
  }
}
