package dev.evalops.runtime.idempotency;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.idempotency.IdempotencyStore.Attempt;
import dev.evalops.runtime.idempotency.IdempotencyStore.Claim;
import dev.evalops.runtime.idempotency.IdempotencyStore.Conflict;
import dev.evalops.runtime.idempotency.IdempotencyStore.Decision;
import dev.evalops.runtime.idempotency.IdempotencyStore.InProgress;
import dev.evalops.runtime.idempotency.IdempotencyStore.Replay;
import dev.evalops.runtime.idempotency.IdempotencyStore.Started;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import javax.sql.DataSource;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/idempotency/idempotency.sql")
class PostgresStoreTest {
  private static final Duration MINUTE = Duration.ofMinutes(1);
  private static final Duration DAY = Duration.ofDays(1);
  private static final StoredResponse OK = new StoredResponse(
      200, "application/json", Map.of(), "{\"n\":1}".getBytes(StandardCharsets.UTF_8));

  private static final String EXPIRE =
      "UPDATE api_idempotency_keys SET expires_at = now() - interval '1 s' ";

  private static Attempt attempt(String key) {
    return new Attempt("org:POST:/v1/notes", key, "hash", MINUTE, DAY);
  }

  private static Claim started(Decision decision) {
    assertThat(decision).isInstanceOf(Started.class);
    return ((Started) decision).claim();
  }

  static void execute(HikariDataSource db, String sql) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  static List<String> query(HikariDataSource db, String sql) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery(sql)) {
      List<String> found = new ArrayList<>();
      while (rows.next()) {
        StringBuilder line = new StringBuilder();
        for (int i = 1; i <= rows.getMetaData().getColumnCount(); i++) {
          line.append(i > 1 ? "|" : "").append(rows.getString(i));
        }
        found.add(line.toString());
      }
      return found;
    }
  }

  @Nested
  class WhenOpened {
    @Test
    @Schema({})
    void refusesADatabaseWithoutTheTable_andSaysWhereItIs(HikariDataSource db) {
      assertThatThrownBy(() -> Idempotency.of(db))
          .isInstanceOf(StartupException.class)
          .hasMessageContaining("api_idempotency_keys is not in the search path")
          .hasMessageContaining("/dev/evalops/runtime/idempotency/idempotency.sql");
      assertThat(Idempotency.class.getResource("/dev/evalops/runtime/idempotency/idempotency.sql"))
          .isNotNull();
    }

    @Test
    @Schema({})
    void acceptsTheTableOfItsSchema(HikariDataSource db) throws SQLException {
      try (Connection connection = db.getConnection();
          Statement statement = connection.createStatement()) {
        statement.execute(Idempotency.schema());
        statement.execute(Idempotency.schema());
      }
      assertThat(Idempotency.of(db)).isNotNull();
    }

    @ParameterizedTest
    @ValueSource(
        strings = {
          "",
          "CREATE UNIQUE INDEX i ON api_idempotency_keys (scope, idempotency_key, request_hash)",
          "CREATE UNIQUE INDEX i ON api_idempotency_keys (scope, idempotency_key)"
              + " WHERE response_code IS NULL",
          "CREATE INDEX i ON api_idempotency_keys (scope, idempotency_key)",
          "CREATE UNIQUE INDEX i ON api_idempotency_keys (scope, lower(idempotency_key))",
          "CREATE UNIQUE INDEX i ON api_idempotency_keys (idempotency_key)",
          "ALTER TABLE api_idempotency_keys ADD UNIQUE (scope, idempotency_key)"
              + " DEFERRABLE INITIALLY DEFERRED"
        })
    void refusesATableWithoutTheUniqueKey(String other, HikariDataSource db) throws SQLException {
      execute(
          db,
          "ALTER TABLE api_idempotency_keys DROP CONSTRAINT api_idempotency_keys_pkey; " + other);

      assertThatThrownBy(() -> Idempotency.of(db))
          .isInstanceOf(StartupException.class)
          .hasMessageContaining("no unique key on (scope, idempotency_key)");
    }

    @Test
    void namesEverythingThatIsWrongWithTheTable(HikariDataSource db) throws SQLException {
      execute(
          db,
          "ALTER TABLE api_idempotency_keys DROP CONSTRAINT api_idempotency_keys_pkey,"
              + " DROP COLUMN completed_at, ALTER COLUMN created_at TYPE timestamp,"
              + " ALTER COLUMN response_headers TYPE text");

      assertThatThrownBy(() -> Idempotency.of(db))
          .hasMessageContaining("no column completed_at")
          .hasMessageContaining("created_at must be of type timestamp with time zone")
          .hasMessageContaining("response_headers must be of type jsonb")
          .hasMessageContaining("no unique key");
    }

    @Test
    void namesTheRightsThatItsRoleLacks(HikariDataSource db) throws SQLException {
      String role = "r" + UUID.randomUUID().toString().replace("-", "");
      execute(
          db,
          "CREATE ROLE " + role + "; GRANT SELECT, INSERT ON api_idempotency_keys TO " + role
              + "; DO $$ BEGIN EXECUTE 'GRANT USAGE ON SCHEMA ' || current_schema || ' TO " + role
              + "'; END $$");
      try (HikariDataSource limited = with("SET ROLE " + role, db)) {
        assertThatThrownBy(() -> Idempotency.of(limited))
            .isInstanceOf(StartupException.class)
            .hasMessageEndingWith("cannot be used: the role lacks the right to UPDATE, DELETE");
        execute(db, "GRANT UPDATE, DELETE ON api_idempotency_keys TO " + role);
        assertThatCode(() -> Idempotency.of(limited)).doesNotThrowAnyException();
      } finally {
        execute(db, "DROP OWNED BY " + role + "; DROP ROLE " + role);
      }
    }

    @Test
    void acceptsTheTable_whereTheServerQuotesAllNames(HikariDataSource db) {
      try (HikariDataSource quoting = with("SET quote_all_identifiers = on", db)) {
        assertThatCode(() -> Idempotency.of(quoting)).doesNotThrowAnyException();
      }
    }

    private static HikariDataSource with(String sql, HikariDataSource db) {
      HikariConfig config = new HikariConfig();
      db.copyStateTo(config);
      config.setConnectionInitSql(sql);
      return new HikariDataSource(config);
    }

    @Test
    void refusesTimesThatCannotTellAttemptsApart(HikariDataSource db) throws SQLException {
      execute(db, "ALTER TABLE api_idempotency_keys ALTER COLUMN created_at TYPE timestamptz(0)");

      assertThatThrownBy(() -> Idempotency.of(db)).hasMessageContaining("created_at");
    }

    @Test
    void saysThatTheDatabaseCannotBeAsked(HikariDataSource db) {
      db.close();

      assertThatThrownBy(() -> Idempotency.of(db))
          .isInstanceOf(StartupException.class)
          .hasMessageContaining("cannot be checked")
          .hasCauseInstanceOf(SQLException.class);
    }

    @Test
    void theResourceMayBeAppliedTwice(
        @Schema({
              "dev/evalops/runtime/idempotency/idempotency.sql",
              "/dev/evalops/runtime/idempotency/idempotency.sql"
            })
            HikariDataSource db) {
      assertThat(Idempotency.of(db)).isNotNull();
    }
  }

  /** The statements of the Go services, as they are known. */
  @Nested
  class BesideServicesInGo {
    private static final String INSERT = "INSERT INTO api_idempotency_keys"
        + " (scope, idempotency_key, request_hash, created_at, expires_at) VALUES (?, ?, ?, ?, ?)";
    private static final String SELECT = "SELECT request_hash, response_code, response_body,"
        + " content_type FROM api_idempotency_keys WHERE scope = ? AND idempotency_key = ?";
    private static final String COMPLETE = "UPDATE api_idempotency_keys SET response_code = ?,"
        + " response_body = ?, content_type = ?, completed_at = ?"
        + " WHERE scope = ? AND idempotency_key = ?";

    private static void insert(HikariDataSource db, String key, Instant createdAt)
        throws SQLException {
      try (Connection connection = db.getConnection();
          PreparedStatement insert = connection.prepareStatement(INSERT)) {
        insert.setString(1, "org:POST:/v1/notes");
        insert.setString(2, key);
        insert.setString(3, "hash");
        insert.setObject(4, createdAt.atOffset(ZoneOffset.UTC));
        insert.setObject(5, createdAt.plus(DAY).atOffset(ZoneOffset.UTC));
        insert.executeUpdate();
      }
    }

    private static int complete(HikariDataSource db, String key) throws SQLException {
      try (Connection connection = db.getConnection();
          PreparedStatement update = connection.prepareStatement(COMPLETE)) {
        update.setInt(1, 200);
        update.setBytes(2, OK.body());
        update.setString(3, "application/json");
        update.setObject(4, Instant.now().atOffset(ZoneOffset.UTC));
        update.setString(5, "org:POST:/v1/notes");
        update.setString(6, key);
        return update.executeUpdate();
      }
    }

    private static String select(HikariDataSource db, String key) throws SQLException {
      try (Connection connection = db.getConnection();
          PreparedStatement select = connection.prepareStatement(SELECT)) {
        select.setString(1, "org:POST:/v1/notes");
        select.setString(2, key);
        try (ResultSet row = select.executeQuery()) {
          assertThat(row.next()).isTrue();
          byte[] body = row.getBytes(3);
          return row.getString(1) + "|" + row.getString(2) + "|"
              + (body == null ? null : new String(body, StandardCharsets.UTF_8)) + "|"
              + row.getString(4);
        }
      }
    }

    @Test
    void theyReadWhatIsWrittenHere(HikariDataSource db) throws SQLException {
      IdempotencyStore store = PostgresStore.open(db);

      Claim claim = started(store.begin(attempt("k")));
      assertThat(select(db, "k")).isEqualTo("hash|null|null|null");
      assertThatThrownBy(() -> insert(db, "k", Instant.now()))
          .isInstanceOf(SQLException.class)
          .hasMessageContaining("duplicate key");

      store.complete(claim, OK);
      assertThat(select(db, "k")).isEqualTo("hash|200|{\"n\":1}|application/json");
      assertThat(
              query(
                  db,
                  "SELECT completed_at >= created_at, expires_at - created_at FROM api_idempotency_keys"))
          .containsExactly("t|1 day");
    }

    @Test
    void whatTheyWriteIsReadHere(HikariDataSource db) throws SQLException {
      IdempotencyStore store = PostgresStore.open(db);

      insert(db, "k", Instant.now());
      assertThat(store.begin(attempt("k"))).isEqualTo(new InProgress());
      complete(db, "k");
      assertThat(store.begin(attempt("k"))).isEqualTo(new Replay(OK));
      assertThat(store.begin(new Attempt("org:POST:/v1/notes", "k", "other", MINUTE, DAY)))
          .isEqualTo(new Conflict());
    }

    @Test
    @Schema("go-table.sql")
    void aRowThatNeverExpiresIsReadLikeAnyOther(HikariDataSource db) throws SQLException {
      execute(db, "ALTER TABLE api_idempotency_keys ALTER COLUMN expires_at DROP NOT NULL");
      IdempotencyStore store = PostgresStore.open(db);
      insert(db, "k", Instant.now());
      insert(db, "dead", Instant.now().minus(Duration.ofMinutes(5)));
      complete(db, "k");
      execute(db, "UPDATE api_idempotency_keys SET expires_at = NULL");

      assertThat(store.begin(attempt("k"))).isEqualTo(new Replay(OK));
      assertThat(store.begin(new Attempt("org:POST:/v1/notes", "k", "other", MINUTE, DAY)))
          .isEqualTo(new Conflict());
      started(store.begin(attempt("dead")));
      assertThat(store.sweep(10)).isZero();
    }

    @Test
    void theirDeadRequestsAreTakenOverAfterTheLease(HikariDataSource db) throws SQLException {
      insert(db, "dead", Instant.now().minus(Duration.ofMinutes(5)));
      insert(db, "live", Instant.now());

      IdempotencyStore store = PostgresStore.open(db);
      started(store.begin(attempt("dead")));
      assertThat(store.begin(attempt("live"))).isEqualTo(new InProgress());
    }

    @Test
    void theyCompleteWhatBeganHere_andTheirSweepRemovesIt(HikariDataSource db) throws SQLException {
      IdempotencyStore store = PostgresStore.open(db);
      started(store.begin(attempt("k")));

      assertThat(complete(db, "k")).isEqualTo(1);
      assertThat(store.begin(attempt("k"))).isEqualTo(new Replay(OK));
      execute(db, "UPDATE api_idempotency_keys SET expires_at = now() - interval '1 second'");
      execute(db, "DELETE FROM api_idempotency_keys WHERE expires_at <= now()");
      started(store.begin(attempt("k")));
    }
  }

  @Test
  void anAttemptIsLaterThanTheOneBefore_evenIfTheClockWasSetBack(HikariDataSource db)
      throws SQLException {
    IdempotencyStore store = PostgresStore.open(db);
    started(store.begin(attempt("k")));
    execute(db, "UPDATE api_idempotency_keys SET created_at = '2200-01-01Z', expires_at = now()");

    Claim later = started(store.begin(attempt("k")));

    assertThat(later.fence()).isEqualTo(7258118400000001L);
    assertThat(store.complete(later, OK)).isTrue();
  }

  @Test
  void neitherADuplicateNorATakeoverWaitsForARowThatIsHeld(HikariDataSource db) throws Exception {
    IdempotencyStore store = PostgresStore.open(db);
    started(store.begin(attempt("k")));
    try (Connection holder = db.getConnection();
        Statement statement = holder.createStatement()) {
      holder.setAutoCommit(false);
      statement.execute("UPDATE api_idempotency_keys SET completed_at = now()");

      CompletableFuture<Decision> duplicate = supply(() -> store.begin(attempt("k")));
      assertThat(duplicate.get(20, TimeUnit.SECONDS)).isEqualTo(new InProgress());

      CompletableFuture<Decision> takeover = supply(() ->
          store.begin(new Attempt("org:POST:/v1/notes", "k", "hash", Duration.ofMillis(1), DAY)));
      assertThat(takeover.get(20, TimeUnit.SECONDS)).isEqualTo(new InProgress());

      execute(
          db,
          "INSERT INTO api_idempotency_keys (scope, idempotency_key, request_hash, created_at,"
              + " expires_at) VALUES ('s', 'gone', 'h', now(), now())");
      CompletableFuture<Integer> sweep = supply(() -> store.sweep(10));
      assertThat(sweep.get(20, TimeUnit.SECONDS)).isEqualTo(1);
      holder.rollback();
    }
  }

  private interface Call<T> {
    T call() throws Exception;
  }

  private static <T> CompletableFuture<T> supply(Call<T> call) {
    CompletableFuture<T> result = new CompletableFuture<>();
    Thread.ofVirtual().start(() -> {
      try {
        result.complete(call.call());
      } catch (Throwable t) {
        result.completeExceptionally(t);
      }
    });
    return result;
  }

  @Test
  void oneOfSeveralReplicasSweepsAtATime(HikariDataSource db) throws Exception {
    IdempotencyStore store = PostgresStore.open(db);
    execute(
        db,
        "INSERT INTO api_idempotency_keys (scope, idempotency_key, request_hash, created_at,"
            + " expires_at) SELECT 's', g::text, 'h', now(), now() FROM generate_series(1, 10) g");
    try (Connection other = db.getConnection();
        Statement statement = other.createStatement()) {
      other.setAutoCommit(false);
      statement.execute("SELECT pg_advisory_xact_lock(1768187247,"
          + " 'api_idempotency_keys'::regclass::oid::integer)");
      assertThat(store.sweep(10)).isZero();
      other.rollback();
    }
    assertThat(store.sweep(10)).isEqualTo(10);
  }

  @Test
  @Schema({})
  void sweepsNoKeyThatIsNotExpired_fromATableWithPartitions(HikariDataSource db)
      throws SQLException {
    execute(
        db,
        "CREATE TABLE api_idempotency_keys (scope text, idempotency_key text, request_hash text,"
            + " response_code int, response_body bytea, content_type text,"
            + " created_at timestamptz, expires_at timestamptz, completed_at timestamptz,"
            + " PRIMARY KEY (scope, idempotency_key)) PARTITION BY LIST (scope);"
            + " CREATE TABLE a PARTITION OF api_idempotency_keys FOR VALUES IN ('a');"
            + " CREATE TABLE b PARTITION OF api_idempotency_keys FOR VALUES IN ('b');"
            + " INSERT INTO api_idempotency_keys (scope, idempotency_key, request_hash, created_at,"
            + " expires_at) SELECT s, g::text, 'h', now(), now() + d FROM generate_series(1, 10) g,"
            + " (VALUES ('a', interval '0'), ('b', interval '1 day')) AS scopes (s, d)");
    IdempotencyStore store = PostgresStore.open(db);

    assertThat(store.sweep(100)).isEqualTo(10);
    assertThat(query(db, "SELECT scope, count(*) FROM api_idempotency_keys GROUP BY 1"))
        .containsExactly("b|10");
  }

  @Test
  void findsItsTable_whateverTheSearchPathIsLater(HikariDataSource db) throws SQLException {
    PostgresStore store = PostgresStore.open(db);
    try (Connection transaction = store.transaction();
        Statement statement = transaction.createStatement()) {
      Claim claim = started(store.begin(attempt("k")));
      statement.execute("SET LOCAL search_path = pg_catalog");
      assertThat(store.complete(transaction, claim, OK)).isTrue();
      transaction.commit();
    }
    assertThat(store.begin(attempt("k"))).isEqualTo(new Replay(OK));
  }

  @Test
  void worksWithPoolsThatDoNotCommitByThemselves_andAreSerializable(HikariDataSource db)
      throws Exception {
    try (HikariDataSource other = new HikariDataSource()) {
      other.setJdbcUrl(db.getJdbcUrl());
      other.setDataSourceProperties(db.getDataSourceProperties());
      other.setAutoCommit(false);
      other.setTransactionIsolation("TRANSACTION_SERIALIZABLE");
      other.setMaximumPoolSize(16);
      IdempotencyStore store = PostgresStore.open(other);
      for (int round = 0; round < 20; round++) {
        Attempt attempt = attempt("k" + round);
        List<CompletableFuture<Decision>> decisions = new ArrayList<>();
        for (int i = 0; i < 16; i++) {
          decisions.add(supply(() -> store.begin(attempt)));
        }
        List<Decision> made = new ArrayList<>();
        for (CompletableFuture<Decision> decision : decisions) {
          made.add(decision.get(30, TimeUnit.SECONDS));
        }
        assertThat(made).filteredOn(Started.class::isInstance).hasSize(1);
        assertThat(made).filteredOn(InProgress.class::isInstance).hasSize(15);
      }
    }
  }

  @Test
  void readsByTheUniqueKey(HikariDataSource db) throws SQLException {
    execute(
        db,
        "INSERT INTO api_idempotency_keys (scope, idempotency_key, request_hash, created_at,"
            + " expires_at) SELECT 'org:POST:/v1/notes', g::text, 'hash', now(), now() + interval"
            + " '1 day' FROM generate_series(1, 20000) g; ANALYZE api_idempotency_keys");
    try (HikariDataSource one = new HikariDataSource()) {
      one.setJdbcUrl(db.getJdbcUrl());
      one.setDataSourceProperties(db.getDataSourceProperties());
      one.setMaximumPoolSize(1); // whose statistics are its own
      PostgresStore store = PostgresStore.open(one);
      String scans = sequentialScans(one);

      store.complete(started(store.begin(attempt("new"))), OK);
      assertThat(store.begin(attempt("new"))).isEqualTo(new Replay(OK));
      execute(one, EXPIRE + "WHERE idempotency_key = '77' AND scope = 'org:POST:/v1/notes'");
      store.release(started(store.begin(attempt("77"))));

      assertThat(sequentialScans(one)).isEqualTo(scans);
    }
  }

  private static String sequentialScans(HikariDataSource db) throws SQLException {
    query(db, "SELECT pg_stat_force_next_flush()");
    return query(
            db,
            "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'api_idempotency_keys'::regclass")
        .getFirst();
  }

  @Nested
  class WhenAnotherComesBetweenTwoStatements {
    private static final String OTHERS =
        "created_at = now(), expires_at = now() + interval '1 day'";

    private Decision begin(HikariDataSource db, String between) throws SQLException {
      PostgresStore store = PostgresStore.open(meddled(db, () -> execute(db, between)));
      return store.begin(attempt("k"));
    }

    @Test
    void anExpiredRowIsTakenByOneOfThem(HikariDataSource db) throws SQLException {
      PostgresStore.open(db).begin(attempt("k"));
      execute(db, EXPIRE);
      assertThat(begin(db, "UPDATE api_idempotency_keys SET " + OTHERS))
          .isInstanceOf(InProgress.class);
    }

    @Test
    void anExpiredRowThatIsSweptIsBegunAnew(HikariDataSource db) throws SQLException {
      PostgresStore.open(db).begin(attempt("k"));
      execute(db, EXPIRE);
      started(begin(db, "DELETE FROM api_idempotency_keys"));
    }

    @Test
    void aCompleteRowThatExpiresIsTakenOver_andNotReplayed(HikariDataSource db)
        throws SQLException {
      PostgresStore store = PostgresStore.open(db);
      store.complete(started(store.begin(attempt("k"))), OK);
      started(begin(db, EXPIRE));
    }

    @Test
    void aCompleteRowThatIsSweptIsBegunAnew(HikariDataSource db) throws SQLException {
      PostgresStore store = PostgresStore.open(db);
      store.complete(started(store.begin(attempt("k"))), OK);
      started(begin(db, "DELETE FROM api_idempotency_keys"));
    }

    @Test
    void aCompleteRowThatBecomesAnothersIsNotReplayed(HikariDataSource db) throws SQLException {
      PostgresStore store = PostgresStore.open(db);
      store.complete(started(store.begin(attempt("k"))), OK);
      assertThat(begin(db, "UPDATE api_idempotency_keys SET request_hash = 'other', " + OTHERS))
          .isInstanceOf(Conflict.class);
    }
  }

  private interface Meddling {
    void meddle() throws SQLException;
  }

  /** Does something before the second statement that is prepared on a connection. */
  private static DataSource meddled(HikariDataSource db, Meddling between) {
    return proxy(DataSource.class, (source, getConnection, none) -> {
      Connection connection = db.getConnection();
      AtomicInteger statements = new AtomicInteger();
      return proxy(Connection.class, (proxy, method, arguments) -> {
        if (method.getName().equals("prepareStatement") && statements.incrementAndGet() == 2) {
          between.meddle();
        }
        return method.invoke(connection, arguments);
      });
    });
  }

  private static <T> T proxy(Class<T> type, InvocationHandler handler) {
    return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, handler));
  }
}
