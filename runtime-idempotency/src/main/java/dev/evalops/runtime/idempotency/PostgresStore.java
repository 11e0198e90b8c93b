package dev.evalops.runtime.idempotency;

import dev.evalops.runtime.errors.StartupException;
import java.sql.Array;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.locks.LockSupport;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;

/**
 * Keeps keys in the table of {@code idempotency.sql}, which a service of another language may share: a row is pending
 * while {@code response_code} is null. The start of the lease, {@code created_at}, is also what tells one attempt from
 * another; each attempt at a row has a later one, whatever the clock does. Times are the database's.
 */
final class PostgresStore implements IdempotencyStore {
  static final String TABLE = "api_idempotency_keys";

  /** With the pauses between them half a second. */
  private static final int MAX_TRIES = 10;

  private static final String INSPECT = """
      SELECT c.relname, n.nspname,
        quote_ident(n.nspname) || '.' || quote_ident(c.relname),
        (SELECT array_agg(a.attname || ' ' || trim('"' FROM format_type(a.atttypid, a.atttypmod)))
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
        EXISTS (
          SELECT FROM pg_index i
          WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
            AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = 2
            AND (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid
              AND a.attnum IN (i.indkey[0], i.indkey[1])
              AND a.attname IN ('scope', 'idempotency_key')) = 2),
        concat_ws(', ',
          CASE WHEN NOT has_any_column_privilege(c.oid, 'SELECT') THEN 'SELECT' END,
          CASE WHEN NOT has_any_column_privilege(c.oid, 'INSERT') THEN 'INSERT' END,
          CASE WHEN NOT has_any_column_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END,
          CASE WHEN NOT has_table_privilege(c.oid, 'DELETE') THEN 'DELETE' END)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid = to_regclass('api_idempotency_keys')
      """;

  private static final String HEADERS = """
      (SELECT array_agg(ARRAY[h.key, h.value]) FROM jsonb_each_text(
        CASE jsonb_typeof(response_headers) WHEN 'object' THEN response_headers ELSE '{}' END) h)""";

  private static final List<String> COLUMNS = List.of(
      "scope",
      "idempotency_key",
      "request_hash",
      "response_code",
      "response_body",
      "content_type",
      "created_at",
      "expires_at",
      "completed_at");
  private static final String TIME = "timestamp with time zone";

  private final DataSource db;
  private final boolean hasHeaders;
  private final String beginSql;
  private final String takeOverSql;
  private final String replaySql;
  private final String completeSql;
  private final String releaseSql;
  private final String sweepSql;

  private PostgresStore(DataSource db, String table, boolean hasHeaders) {
    this.db = db;
    this.hasHeaders = hasHeaders;

    // Never null: what has no time to expire is not free.
    String free = """
        ((expires_at <= now() OR (response_code IS NULL AND request_hash = ?
          AND created_at <= now() - ? * interval '1 microsecond')) IS TRUE)""";
    // Reads first: what is answered from a row that stands neither writes nor locks. No row comes
    // back when another attempt came between the reading and the writing. Each part of a statement
    // costs the database at each call, so what few requests need has statements of its own.
    beginSql = """
        WITH entry AS (
          SELECT request_hash, response_code, %2$s AS free
          FROM %1$s WHERE scope = ? AND idempotency_key = ?),
        inserted AS (
          INSERT INTO %1$s (scope, idempotency_key, request_hash, created_at, expires_at)
          SELECT ?, ?, ?, now(), now() + ? * interval '1 microsecond'
          WHERE NOT EXISTS (SELECT FROM entry)
          ON CONFLICT (scope, idempotency_key) DO NOTHING
          RETURNING created_at)
        SELECT NULL::timestamptz, request_hash, response_code, free FROM entry
        UNION ALL SELECT created_at, NULL, NULL, false FROM inserted
        """.formatted(table, free);
    // A row that somebody holds is passed over, so that nothing here waits for another request.
    takeOverSql = """
        UPDATE %1$s AS k SET request_hash = ?,
          created_at = greatest(now(), k.created_at + interval '1 microsecond'),
          expires_at = now() + ? * interval '1 microsecond', response_code = NULL,
          response_body = DEFAULT, content_type = DEFAULT, completed_at = NULL%3$s
        WHERE (k.scope, k.idempotency_key) = (
          SELECT scope, idempotency_key FROM %1$s
          WHERE scope = ? AND idempotency_key = ? AND %2$s FOR UPDATE SKIP LOCKED)
        RETURNING k.created_at
        """.formatted(table, free, hasHeaders ? ", response_headers = DEFAULT" : "");
    replaySql = """
        SELECT response_code, response_body, content_type, %2$s
        FROM %1$s WHERE scope = ? AND idempotency_key = ? AND request_hash = ?
          AND response_code IS NOT NULL AND (expires_at <= now()) IS NOT TRUE
        """.formatted(table, hasHeaders ? HEADERS : "NULL::text[]");
    completeSql = """
        UPDATE %s SET response_code = ?, response_body = ?, content_type = ?, completed_at = now()%s
        WHERE scope = ? AND idempotency_key = ? AND created_at = ?
        """.formatted(
            table, hasHeaders ? ", response_headers = jsonb_object(?::text[], ?::text[])" : "");
    releaseSql = """
        DELETE FROM %1$s WHERE (scope, idempotency_key) = (
          SELECT scope, idempotency_key FROM %1$s
          WHERE scope = ? AND idempotency_key = ? AND created_at = ? AND response_code IS NULL
          FOR UPDATE SKIP LOCKED)
        """.formatted(table);
    // The lock keeps the instances from sweeping all at once. The time is asked twice because every
    // partition of a table has the same ctids.
    sweepSql = """
        DELETE FROM %1$s WHERE expires_at <= now() AND ctid = ANY (ARRAY(
          SELECT ctid FROM %1$s
          WHERE expires_at <= now()
            AND (SELECT pg_try_advisory_xact_lock(1768187247, '%2$s'::regclass::oid::integer))
          ORDER BY expires_at LIMIT ? FOR UPDATE SKIP LOCKED))
        """.formatted(table, table.replace("'", "''"));
  }

  /**
   * Checks the table.
   *
   * @throws StartupException if it is missing or cannot be used; names everything that is wrong with it
   */
  static PostgresStore open(DataSource db) throws SQLException {
    try (Connection connection = autoCommitting(db);
        PreparedStatement select = connection.prepareStatement(INSPECT);
        ResultSet rows = select.executeQuery()) {
      if (!rows.next()) {
        throw new StartupException("the table " + TABLE + " is not in the search path; create it"
            + " with /dev/evalops/runtime/idempotency/idempotency.sql of runtime-idempotency");
      }
      String table = rows.getString(3);
      Map<String, String> types = new TreeMap<>();
      for (String column : (String[]) rows.getArray(4).getArray()) {
        int space = column.indexOf(' ');
        types.put(column.substring(0, space), column.substring(space + 1));
      }
      List<String> problems = new ArrayList<>();
      for (String column : COLUMNS) {
        if (!types.containsKey(column)) {
          problems.add("it has no column " + column);
        }
      }
      for (String column : List.of("created_at", "expires_at", "completed_at")) {
        requireType(types, column, TIME, problems);
      }
      requireType(types, "response_body", "bytea", problems);
      requireType(types, "response_headers", "jsonb", problems);
      if (!rows.getBoolean(5)) {
        problems.add("it has no unique key on (scope, idempotency_key), so that two requests with"
            + " one key could both run");
      }
      String missingRights = rows.getString(6);
      if (!missingRights.isEmpty()) {
        problems.add("the role lacks the right to " + missingRights);
      }
      if (!problems.isEmpty()) {
        throw new StartupException(
            "the table " + table + " cannot be used: " + String.join("; ", problems));
      }
      return new PostgresStore(db, table, types.containsKey("response_headers"));
    }
  }

  private static void requireType(
      Map<String, String> types, String column, String wanted, List<String> problems) {
    String type = types.getOrDefault(column, wanted);
    if (!type.equals(wanted)
        && !(wanted.equals(TIME) && type.equals("timestamp(6) with time zone"))) {
      problems.add("its column " + column + " must be of type " + wanted + ", not " + type);
    }
  }

  /** A connection for one statement, for which nothing has to be committed. */
  private static Connection autoCommitting(DataSource db) throws SQLException {
    Connection connection = db.getConnection();
    try {
      if (!connection.getAutoCommit()) {
        connection.setAutoCommit(true);
      }
      return connection;
    } catch (SQLException e) {
      connection.close();
      throw e;
    }
  }

  /** A connection for the transaction of a handler. */
  Connection transaction() throws SQLException {
    Connection connection = db.getConnection();
    try {
      connection.setAutoCommit(false);
      return connection;
    } catch (SQLException e) {
      connection.close();
      throw e;
    }
  }

  @Override
  public Decision begin(Attempt attempt) throws SQLException {
    try (Connection connection = autoCommitting(db);
        PreparedStatement begin = connection.prepareStatement(beginSql)) {
      bind(begin, attempt);
      for (int i = 0; i < MAX_TRIES; i++) {
        if (i > 1) {
          LockSupport.parkNanos(1_000_000L << (i - 2));
          if (Thread.currentThread().isInterrupted()) {
            break;
          }
        }
        Decision decision = begin(connection, begin, attempt);
        if (decision != null) {
          return decision;
        }
      }
      // Somebody holds the row: to complete it, to take it over or to sweep it.
      return new InProgress();
    }
  }

  /** Null if the row has changed meanwhile. */
  private @Nullable Decision begin(Connection connection, PreparedStatement begin, Attempt attempt)
      throws SQLException {
    try (ResultSet rows = begin.executeQuery()) {
      if (!rows.next()) {
        return null;
      }
      OffsetDateTime inserted = rows.getObject(1, OffsetDateTime.class);
      if (inserted != null) {
        return started(attempt, inserted);
      }
      if (rows.getBoolean(4)) {
        return takeOver(connection, attempt);
      }
      if (!attempt.requestHash().equals(rows.getString(2))) {
        return new Conflict();
      }
      return rows.getObject(3) == null ? new InProgress() : replay(connection, attempt);
    } catch (SQLException e) {
      // With a stricter isolation than the default this is how the database says the same.
      if ("40001".equals(e.getSQLState())) {
        return null;
      }
      throw e;
    }
  }

  private static void bind(PreparedStatement begin, Attempt attempt) throws SQLException {
    int i = 0;
    begin.setString(++i, attempt.requestHash());
    begin.setLong(++i, micros(attempt.lease()));
    begin.setString(++i, attempt.scope());
    begin.setString(++i, attempt.key());

    begin.setString(++i, attempt.scope());
    begin.setString(++i, attempt.key());
    begin.setString(++i, attempt.requestHash());
    begin.setLong(++i, micros(attempt.ttl()));
  }

  private static Started started(Attempt attempt, OffsetDateTime at) {
    long fence = ChronoUnit.MICROS.between(Instant.EPOCH, at.toInstant());
    return new Started(new Claim(attempt.scope(), attempt.key(), fence));
  }

  /** Begins with a row that has expired or whose lease has ended. */
  private @Nullable Decision takeOver(Connection connection, Attempt attempt) throws SQLException {
    try (PreparedStatement update = connection.prepareStatement(takeOverSql)) {
      int i = 0;
      update.setString(++i, attempt.requestHash());
      update.setLong(++i, micros(attempt.ttl()));
      update.setString(++i, attempt.scope());
      update.setString(++i, attempt.key());
      update.setString(++i, attempt.requestHash());
      update.setLong(++i, micros(attempt.lease()));
      try (ResultSet rows = update.executeQuery()) {
        return rows.next() ? started(attempt, rows.getObject(1, OffsetDateTime.class)) : null;
      }
    }
  }

  private @Nullable Decision replay(Connection connection, Attempt attempt) throws SQLException {
    try (PreparedStatement select = connection.prepareStatement(replaySql)) {
      select.setString(1, attempt.scope());
      select.setString(2, attempt.key());
      select.setString(3, attempt.requestHash());
      try (ResultSet row = select.executeQuery()) {
        if (!row.next()) {
          return null;
        }
        byte[] body = row.getBytes(2);
        String contentType = row.getString(3);
        return new Replay(new StoredResponse(
            row.getInt(1),
            contentType == null ? "" : contentType,
            headers(row.getArray(4)),
            body == null ? new byte[0] : body));
      }
    }
  }

  private static Map<String, String> headers(@Nullable Array pairs) throws SQLException {
    Map<String, String> headers = new TreeMap<>();
    if (pairs != null) {
      for (String[] pair : (String[][]) pairs.getArray()) {
        if (pair[1] != null) {
          headers.put(pair[0], pair[1]);
        }
      }
    }
    return headers;
  }

  @Override
  public boolean complete(Claim claim, StoredResponse response) throws SQLException {
    try (Connection connection = autoCommitting(db)) {
      return complete(connection, claim, response);
    }
  }

  /** Completes in a transaction of the caller. */
  boolean complete(Connection connection, Claim claim, StoredResponse response)
      throws SQLException {
    try (PreparedStatement update = connection.prepareStatement(completeSql)) {
      int i = 0;
      update.setInt(++i, response.status());
      update.setBytes(++i, response.body());
      update.setString(++i, response.contentType());
      if (hasHeaders) {
        // Map.copyOf has one order for keys and values.
        update.setArray(
            ++i, connection.createArrayOf("text", response.headers().keySet().toArray()));
        update.setArray(
            ++i, connection.createArrayOf("text", response.headers().values().toArray()));
      }
      setClaim(update, i, claim);
      return update.executeUpdate() == 1;
    }
  }

  @Override
  public void release(Claim claim) throws SQLException {
    try (Connection connection = autoCommitting(db)) {
      release(connection, claim);
    }
  }

  /** Releases with a connection of the caller, which is in auto-commit mode. */
  void release(Connection connection, Claim claim) throws SQLException {
    try (PreparedStatement delete = connection.prepareStatement(releaseSql)) {
      setClaim(delete, 0, claim);
      delete.executeUpdate();
    }
  }

  private static void setClaim(PreparedStatement statement, int i, Claim claim)
      throws SQLException {
    statement.setString(i + 1, claim.scope());
    statement.setString(i + 2, claim.key());
    statement.setObject(
        i + 3, Instant.EPOCH.plus(claim.fence(), ChronoUnit.MICROS).atOffset(ZoneOffset.UTC));
  }

  @Override
  public int sweep(int limit) throws SQLException {
    try (Connection connection = autoCommitting(db);
        PreparedStatement delete = connection.prepareStatement(sweepSql)) {
      delete.setInt(1, limit);
      return delete.executeUpdate();
    }
  }

  private static long micros(Duration duration) {
    return duration.dividedBy(Duration.of(1, ChronoUnit.MICROS));
  }
}
