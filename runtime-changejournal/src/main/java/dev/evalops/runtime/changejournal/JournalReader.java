package dev.evalops.runtime.changejournal;

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.regex.Pattern;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.util.RawValue;

/**
 * Reads the journal page by page and misses nothing, although {@code seq} is not the order of commits: a row with a
 * smaller number can appear after one with a greater.
 *
 * <pre>{@code
 * JournalReader reader = ChangeJournal.reader(db);
 * JournalReader.Changes page = reader.changes(position, 100);
 * page.changes().forEach(this::index);
 * position = page.next(); // keep it with what the changes have caused
 * }</pre>
 *
 * <p>A page takes one statement, or two. The reader notes where the journal ends, and reads up to that point when all
 * transactions that were open then have ended. So a long transaction, anywhere on the server, delays the reader, but no
 * row is missed ({@link #lag} names the transaction). Changes come in the order of {@code seq}. For one aggregate that
 * is the order of the commits, if its writers lock the aggregate before they write the journal.
 *
 * <p>It needs the primary of PostgreSQL 13 or later, connections of its own (of a pool, not the one of a running
 * transaction, which would be committed), and a sequence that caches no numbers (the default). Other writers of the
 * journal must write the audit entry first, in the same transaction, as {@link ChangeJournal} does. Rows that are
 * deleted before they are read are skipped. JSON with a number that no {@link BigDecimal} can be, which {@code json}
 * and {@code text} columns may hold, is one node that writes it as it is.
 *
 * <p>A failover to a standby that did not have everything (asynchronous replication) gives the numbers of lost changes
 * again. A reader that is beyond them passes over the new changes, and {@link #lag} does not tell: after such a
 * failover begin again at a position from before it.
 *
 * <p>Thread-safe: all state is in the {@link Position}.
 */
public final class JournalReader {
  private static final JsonMapper MAPPER = JsonMapper.builder(Payload.UNLIMITED)
      .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
      .build();

  static final String CHANGES = page(
      "change_journal",
      "organization_id, aggregate_type, aggregate_id::text AS aggregate_id, operation, actor_type,"
          + " actor_id::text AS actor_id, aggregate_version, extract(epoch FROM recorded_at) AS at,"
          + " payload::text AS json");

  static final String AUDIT_ENTRIES = page(
      "audit_entries",
      "id::text AS id, organization_id, actor_type, actor_id::text AS actor_id, action, resource_type,"
          + " resource_id::text AS resource_id, metadata::text AS json, extract(epoch FROM created_at) AS at");

  static final String LAG =
      "SELECT max(seq) AS high, (SELECT extract(epoch FROM recorded_at) FROM change_journal WHERE seq > ?"
          + " ORDER BY seq LIMIT 1) AS oldest, (SELECT description FROM ("
          + "SELECT age(backend_xid) AS age, format('pid %s (%s, %s) since %s', pid,"
          + " coalesce(nullif(application_name, ''), 'no name'), state, xact_start) AS description"
          + " FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
          + " UNION ALL SELECT age(transaction), format('prepared transaction %s since %s', gid, prepared)"
          + " FROM pg_prepared_xacts) open ORDER BY age DESC LIMIT 1) AS blocker"
          + " FROM change_journal WHERE seq > ?";

  private final DataSource db;

  JournalReader(DataSource db) {
    this.db = Objects.requireNonNull(db, "db");
  }

  /**
   * How far a reader has come. Keep it as its text, in the transaction of what the page has caused.
   *
   * @param sequence everything up to this {@code seq} has been read
   * @param high how far the journal went when the reader last looked; empty if it found nothing new
   * @param fence what the reader waits for before it reads up to there: the end of every transaction with a smaller id
   */
  public record Position(long sequence, OptionalLong high, OptionalLong fence) {
    private static final Pattern TEXT = Pattern.compile("(\\d{1,19})(?::(\\d{1,19}):(\\d{1,19}))?");

    private static final String NO_POSITION =
        "position must be <sequence> or <sequence>:<high>:<fence>, with a high beyond the sequence: ";

    /** Before the first row. */
    public static final Position START = of(0);

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException if the sequence or the fence is negative, if {@code high} is not beyond the
     *     sequence, or if one of {@code high} and {@code fence} is there without the other
     */
    public Position {
      if (sequence < 0) {
        throw new IllegalArgumentException("sequence must be 0 or more: " + sequence);
      }
      if (high.isPresent() != fence.isPresent()) {
        throw new IllegalArgumentException("high and fence must both be present or both be empty");
      }
      if (high.isPresent() && high.getAsLong() <= sequence) {
        throw new IllegalArgumentException(
            "high must be greater than the sequence " + sequence + ": " + high.getAsLong());
      }
      if (fence.isPresent() && fence.getAsLong() < 0) {
        throw new IllegalArgumentException("fence must be 0 or more: " + fence.getAsLong());
      }
    }

    /**
     * Returns the position behind a row.
     *
     * @param sequence its {@code seq}; zero is before the first row
     * @return the position
     * @throws IllegalArgumentException if the sequence is negative
     */
    public static Position of(long sequence) {
      return new Position(sequence, OptionalLong.empty(), OptionalLong.empty());
    }

    /**
     * Returns the position that {@link #toString()} has written.
     *
     * @param text the text
     * @return the position
     * @throws IllegalArgumentException if it is none
     */
    public static Position parse(String text) {
      var matcher = TEXT.matcher(text);
      if (matcher.matches()) {
        try {
          long sequence = Long.parseLong(matcher.group(1));
          return matcher.group(2) == null
              ? of(sequence)
              : new Position(
                  sequence,
                  OptionalLong.of(Long.parseLong(matcher.group(2))),
                  OptionalLong.of(Long.parseLong(matcher.group(3))));
        } catch (IllegalArgumentException e) {
          throw new IllegalArgumentException(NO_POSITION + text, e);
        }
      }
      throw new IllegalArgumentException(NO_POSITION + text);
    }

    /**
     * Returns the position as a text to keep.
     *
     * @return for example {@code 1200} or {@code 1200:1310:990421}
     */
    @Override
    public String toString() {
      return high.isEmpty()
          ? Long.toString(sequence)
          : sequence + ":" + high.getAsLong() + ":" + fence.orElseThrow();
    }
  }

  /**
   * A page of changes.
   *
   * @param changes in the order of their sequence; empty when there is nothing new that may be read yet
   * @param next where to continue; not always the position that was given when the page is empty
   */
  public record Changes(List<Change> changes, Position next) {
    /** Copies the list. */
    public Changes {
      changes = List.copyOf(changes);
      Objects.requireNonNull(next, "next");
    }
  }

  /**
   * A page of audit entries.
   *
   * @param auditEntries in the order in which they were written; empty when there is nothing new that may be read yet
   * @param next where to continue; not always the position that was given when the page is empty
   */
  public record AuditEntries(List<AuditEntry> auditEntries, Position next) {
    /** Copies the list. */
    public AuditEntries {
      auditEntries = List.copyOf(auditEntries);
      Objects.requireNonNull(next, "next");
    }
  }

  /**
   * How far a reader is behind.
   *
   * @param changes how many numbers of the journal lie between the position and its end; not all of them need have a
   *     row
   * @param oldest when the oldest change that was not read yet was recorded; empty when there is none
   * @param waitsFor the oldest transaction that is open on the server, which the reader may be waiting for: its
   *     process, application, state and start; empty when none is open
   */
  public record Lag(long changes, Optional<Instant> oldest, Optional<String> waitsFor) {}

  /**
   * Reads a page of {@code change_journal}.
   *
   * @param after where the last page ended; {@link Position#START} for the first
   * @param max how many changes at most, 1 or more
   * @return the page
   * @throws IllegalArgumentException if {@code max} is less than 1
   * @throws SQLException if the journal cannot be read, or a row in it, as when a text is no JSON; names the row
   */
  public Changes changes(Position after, int max) throws SQLException {
    List<Change> changes = new ArrayList<>();
    Position next = read(CHANGES, after, max, row -> changes.add(change(row)));
    return new Changes(changes, next);
  }

  /**
   * Reads a page of {@code audit_entries}. The table needs the column {@code seq}, which writers do not set: {@code
   * ALTER TABLE audit_entries ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE}. Code that writes audit
   * entries without {@link ChangeJournal} must write something else first, in the same transaction, such as the
   * mutation.
   *
   * @param after where the last page of audit entries ended; {@link Position#START} for the first
   * @param max how many entries at most, 1 or more
   * @return the page
   * @throws IllegalArgumentException if {@code max} is less than 1
   * @throws SQLException if the entries cannot be read, or one of them, as when a text is no JSON; names the row
   */
  public AuditEntries auditEntries(Position after, int max) throws SQLException {
    List<AuditEntry> entries = new ArrayList<>();
    Position next = read(AUDIT_ENTRIES, after, max, row -> entries.add(auditEntry(row)));
    return new AuditEntries(entries, next);
  }

  /**
   * Asks how far a reader of changes is behind, and which transaction it may be waiting for. A user that is not a
   * member of {@code pg_read_all_stats} sees the transactions of its own role alone.
   *
   * @param after where the last page ended
   * @return the lag
   * @throws SQLException if the server cannot be asked
   */
  public Lag lag(Position after) throws SQLException {
    return inAutoCommit(connection -> {
      try (PreparedStatement statement = connection.prepareStatement(LAG)) {
        statement.setLong(1, after.sequence());
        statement.setLong(2, after.sequence());
        try (ResultSet row = statement.executeQuery()) {
          row.next();
          long high = Math.max(row.getLong("high"), after.sequence());
          BigDecimal oldest = row.getBigDecimal("oldest");
          return new Lag(
              high - after.sequence(),
              oldest == null ? Optional.empty() : Optional.of(instant(oldest)),
              Optional.ofNullable(row.getString("blocker")));
        }
      }
    });
  }

  /**
   * One statement, and so one snapshot, that reads the window if its fence is passed, and looks how far the table goes
   * now. The fence of that is an id which this statement takes: whoever has taken a number by now has a smaller one.
   * (The snapshot's xmax would not do: it is the end of the transactions that have ended.) The statement's transaction
   * has ended when the position is there, so a fence that is not below xmax is of another server, such as the one that
   * a dump comes from, or of a time that a crash has undone; the reader then looks again.
   */
  private static String page(String table, String columns) {
    return "WITH given AS (SELECT ?::bigint AS after, ?::bigint AS high, ?::text::xid8 AS fence),"
        + " look AS MATERIALIZED (SELECT given.*, (SELECT max(seq) FROM " + table
        + " WHERE seq > given.after) AS new_high, high > 0 AND pg_snapshot_xmin(now) >= fence AS ended,"
        + " fence >= pg_snapshot_xmax(now) AS foreign_fence FROM given, pg_current_snapshot() AS now),"
        + " upper AS MATERIALIZED (SELECT look.*, CASE WHEN new_high IS NOT NULL AND (high = 0 OR "
        + "ended OR foreign_fence)"
        + " THEN pg_current_xact_id()::text END AS new_fence, CASE WHEN ended THEN high END AS upto FROM look)"
        + " SELECT upper.ended, upper.foreign_fence, upper.new_high, upper.new_fence, page.*"
        + " FROM upper LEFT JOIN LATERAL (SELECT seq, " + columns + " FROM " + table
        + " WHERE seq > upper.after AND seq <= upper.upto ORDER BY seq LIMIT ?) page ON true ORDER BY page.seq";
  }

  private Position read(String sql, Position after, int max, RowReader reader) throws SQLException {
    Objects.requireNonNull(after, "after");
    if (max < 1) {
      throw new IllegalArgumentException("max must be 1 or more: " + max);
    }
    return inAutoCommit(connection -> {
      Position next = page(connection, sql, after, max, reader);
      boolean looked = after.high().isEmpty() && next.high().isPresent();
      return looked ? page(connection, sql, next, max, reader) : next;
    });
  }

  private static Position page(
      Connection connection, String sql, Position after, int max, RowReader reader)
      throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      statement.setLong(1, after.sequence());
      statement.setLong(2, after.high().orElse(0));
      statement.setString(3, Long.toString(after.fence().orElse(0)));
      statement.setInt(4, max);
      try (ResultSet rows = statement.executeQuery()) {
        return page(rows, after, max, reader);
      }
    }
  }

  private static Position page(ResultSet rows, Position after, int max, RowReader reader)
      throws SQLException {
    rows.next(); // there is always one
    boolean ended = rows.getBoolean("ended");
    if (after.high().isPresent() && !ended && !rows.getBoolean("foreign_fence")) {
      return after;
    }
    long high = rows.getLong("new_high");
    String fence = rows.getString("new_fence");
    long last = after.sequence();
    int count = 0;
    do {
      long sequence = rows.getLong("seq");
      if (!rows.wasNull()) {
        last = sequence;
        count++;
        try {
          reader.read(rows);
        } catch (JacksonException e) { // of a column of type text
          throw new SQLException(
              "the row with seq " + sequence + " has no JSON where it should", e);
        } catch (SQLException | RuntimeException e) { // such as no time, or infinity
          throw new SQLException(
              "the row with seq " + sequence + " cannot be read: " + e.getMessage(), e);
        }
      }
    } while (rows.next());

    if (ended) {
      if (count == max && last < after.high().orElseThrow()) {
        return new Position(last, after.high(), after.fence()); // the rest may be read at once
      }
      last = after.high().orElseThrow();
    }
    return fence == null || high <= last
        ? Position.of(last)
        : new Position(last, OptionalLong.of(high), OptionalLong.of(Long.parseLong(fence)));
  }

  private static Change change(ResultSet row) throws SQLException {
    return new Change(
        row.getLong("seq"),
        row.getString("organization_id"),
        row.getString("aggregate_type"),
        Optional.ofNullable(row.getString("aggregate_id")),
        row.getString("operation"),
        row.getString("actor_type"),
        Optional.ofNullable(row.getString("actor_id")),
        row.getLong("aggregate_version"),
        instant(row.getBigDecimal("at")),
        json(row.getString("json")));
  }

  private static AuditEntry auditEntry(ResultSet row) throws SQLException {
    return new AuditEntry(
        row.getString("id"),
        row.getString("organization_id"),
        row.getString("actor_type"),
        Optional.ofNullable(row.getString("actor_id")),
        row.getString("action"),
        row.getString("resource_type"),
        Optional.ofNullable(row.getString("resource_id")),
        json(row.getString("json")),
        instant(row.getBigDecimal("at")));
  }

  /** A time with a zone, or one without, which is UTC, as its seconds since 1970. */
  private static Instant instant(BigDecimal seconds) {
    long micros = seconds.movePointRight(6).longValue();
    return Instant.EPOCH.plus(micros, ChronoUnit.MICROS);
  }

  /** A row that cannot be read would be the last that a reader sees. */
  private static JsonNode json(@Nullable String json) {
    String text = json == null ? "null" : json;
    try {
      return MAPPER.readTree(text);
    } catch (NumberFormatException beyond) {
      return MAPPER.getNodeFactory().rawValueNode(new RawValue(text));
    }
  }

  private interface RowReader {
    void read(ResultSet row) throws SQLException;
  }

  private interface Query<T> {
    T run(Connection connection) throws SQLException;
  }

  /** Each statement has a transaction and a snapshot of its own then, whatever the pool's isolation is. */
  private <T> T inAutoCommit(Query<T> query) throws SQLException {
    try (Connection connection = db.getConnection()) {
      boolean before = connection.getAutoCommit();
      connection.setAutoCommit(true);
      T result;
      try {
        result = query.run(connection);
      } catch (SQLException | RuntimeException e) {
        try {
          connection.setAutoCommit(before);
        } catch (SQLException lost) {
          e.addSuppressed(lost);
        }
        throw e;
      }
      connection.setAutoCommit(before);
      return result;
    }
  }
}
