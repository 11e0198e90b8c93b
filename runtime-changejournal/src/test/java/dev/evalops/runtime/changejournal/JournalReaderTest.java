package dev.evalops.runtime.changejournal;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.changejournal.JournalReader.Position;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.sql.DataSource;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.util.RawValue;

@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/changejournal/changejournal.sql")
class JournalReaderTest {
  private static final int AGGREGATES = 5;

  @BeforeEach
  void notes(DataSource db) throws SQLException {
    Rows.execute(
        db,
        "CREATE TABLE notes (id int PRIMARY KEY, version int NOT NULL)",
        "INSERT INTO notes SELECT i, 0 FROM generate_series(0, 99) i");
  }

  /** Reads on with the position that the last page gave. */
  private static final class Tail {
    private final JournalReader reader;
    private Position position = Position.START;

    Tail(DataSource db) {
      reader = ChangeJournal.reader(db);
    }

    List<Change> poll(int max) throws SQLException {
      JournalReader.Changes page = reader.changes(position, max);
      position = Position.parse(page.next().toString());
      return page.changes();
    }

    /** Two polls: the first may but look how far the journal goes. */
    List<Long> numbers() throws SQLException {
      List<Change> changes = new ArrayList<>(poll(100));
      changes.addAll(poll(100));
      return changes.stream().map(Change::sequence).toList();
    }
  }

  @Test
  void readsWhatIsLongerThanAParserTakesByDefault(HikariDataSource db) throws Exception {
    BigDecimal small = new BigDecimal("1e-1000"); // no request has a longer one
    BigDecimal large = new BigDecimal("1e2000");
    String name = "n".repeat(60_000);
    try (Connection tx = Tx.begin(db)) {
      ChangeJournal.mutation("note", "n-1", "create")
          .by(Tx.ACTOR)
          .payload(Map.of("price", small))
          .metadata("large", large)
          .metadata(name, 1)
          .write(tx);
      ChangeJournal.mutation("note", "n-2", "create")
          .by(Tx.ACTOR)
          .payload(Map.of("large", large.toBigInteger(), name, 2))
          .write(tx);
      tx.commit();
    }
    Tail tail = new Tail(db);
    List<Change> changes = new ArrayList<>();
    await().until(() -> changes.addAll(tail.poll(10)));
    assertThat(changes).hasSize(2);
    assertThat(changes.get(0).payload().get("price").decimalValue()).isEqualByComparingTo(small);
    assertThat(changes.get(1).payload().get("large").bigIntegerValue())
        .isEqualTo(large.toBigInteger());
    assertThat(changes.get(1).payload().get(name).intValue()).isEqualTo(2);

    JournalReader reader = ChangeJournal.reader(db);
    List<AuditEntry> entries = new ArrayList<>();
    await().until(() -> entries.addAll(reader.auditEntries(Position.START, 10).auditEntries()));
    assertThat(entries.get(0).metadata().get("large").decimalValue()).isEqualByComparingTo(large);
    assertThat(entries.get(0).metadata().get(name).intValue()).isEqualTo(1);
  }

  @Test
  void waitsForTheTransactionThatTookItsNumberFirst(HikariDataSource db) throws Exception {
    Tail tail = new Tail(db);
    try (Connection fast = Tx.begin(db);
        Connection slow = Tx.begin(db)) {
      // The hard case: the slow one took the smaller number, and its transaction began to write
      // later.
      Rows.execute(fast, "UPDATE notes SET version = 1 WHERE id = 1");
      Rows.execute(slow, "UPDATE notes SET version = 1 WHERE id = 2");
      long first = write(slow, 2);
      long second = write(fast, 1);
      fast.commit();
      assertThat(tail.numbers()).isEmpty();
      assertThat(tail.numbers()).isEmpty();

      slow.commit();
      assertThat(tail.numbers()).containsExactly(first, second);
      assertThat(tail.numbers()).isEmpty();
    }
  }

  @Test
  void waitsForATransactionThatHasWrittenNothingBefore(HikariDataSource db) throws Exception {
    Tail tail = new Tail(db);
    try (Connection fast = Tx.begin(db);
        Connection slow = Tx.begin(db)) {
      long first = write(slow, 2);
      long second = write(fast, 1);
      fast.commit();
      assertThat(tail.numbers()).isEmpty();
      long third = write(slow, 2);
      slow.rollback();
      assertThat(tail.numbers()).containsExactly(second);

      assertThat(List.of(first, third)).doesNotContain(second);
      assertThat(tail.numbers()).isEmpty();
      long fourth = write(fast, 1);
      fast.commit();
      assertThat(tail.numbers()).containsExactly(fourth);
    }
  }

  @Test
  void aTransactionThatIsOpenForLongHoldsBackWhatCameAfterIt_andNothingThatCameBefore(
      HikariDataSource db) throws Exception {
    Tail tail = new Tail(db);
    try (Connection tx = Tx.begin(db);
        Connection open = Tx.begin(db)) {
      long before = write(tx, 1);
      tx.commit();
      assertThat(tail.poll(100)).extracting(Change::sequence).containsExactly(before);
      Rows.execute(open, "SELECT txid_current()");
      long after = write(tx, 1);
      tx.commit();
      assertThat(tail.numbers()).isEmpty();

      JournalReader.Lag lag = ChangeJournal.reader(db).lag(tail.position);
      assertThat(lag.changes()).isEqualTo(1);
      assertThat(lag.oldest()).hasValueSatisfying(at -> assertThat(at).isBefore(Instant.now()));
      assertThat(lag.waitsFor())
          .hasValueSatisfying(transaction ->
              assertThat(transaction).contains("pid ").contains("idle in transaction"));

      open.rollback();
      assertThat(tail.numbers()).containsExactly(after);
      lag = ChangeJournal.reader(db).lag(tail.position);
      assertThat(lag.changes()).isZero();
      assertThat(lag.oldest()).isEmpty();
    }
  }

  @Test
  void givesPagesOfTheSizeAskedFor(HikariDataSource db) throws Exception {
    List<Long> written = new ArrayList<>();
    try (Connection tx = Tx.begin(db)) {
      for (int i = 0; i < 7; i++) {
        written.add(write(tx, 1));
      }
      tx.commit();
    }
    Tail tail = new Tail(db);
    List<Long> read = new ArrayList<>();
    for (int size : new int[] {3, 3, 1, 0}) {
      List<Change> page = tail.poll(3);
      assertThat(page).hasSize(size);
      page.forEach(change -> read.add(change.sequence()));
    }
    assertThat(read).isEqualTo(written);
    assertThat(tail.position).isEqualTo(Position.of(written.getLast()));
  }

  @Test
  void givesWholeRows(HikariDataSource db) throws Exception {
    Instant start = Instant.now().minusSeconds(1);
    long sequence;
    try (Connection tx = Tx.begin(db)) {
      sequence = ChangeJournal.mutation("note", "7", "create")
          .by(Tx.ACTOR)
          .payload(Map.of("version", 3))
          .metadata("source", "api")
          .write(tx);
      tx.commit();
    }
    JournalReader reader = ChangeJournal.reader(db);
    Change change = reader.changes(Position.START, 1).changes().getFirst();
    assertThat(change.sequence()).isEqualTo(sequence);
    assertThat(change.aggregateId()).hasValue("7");
    assertThat(change.actorId()).hasValue(Tx.ACTOR.id());
    assertThat(change.version()).isEqualTo(3);
    assertThat(change.recordedAt()).isBetween(start, Instant.now());
    assertThat(change.payload()).hasToString("{\"version\":3}");

    AuditEntry entry = reader.auditEntries(Position.START, 1).auditEntries().getFirst();
    assertThat(entry.action()).isEqualTo("note.create");
    assertThat(entry.aggregateId()).hasValue("7");
    assertThat(entry.metadata()).hasToString("{\"source\":\"api\"}");
    assertThat(entry.createdAt()).isEqualTo(change.recordedAt());
  }

  @Test
  void waitsForTheTransactionsOfAuditEntries_too(HikariDataSource db) throws Exception {
    JournalReader reader = ChangeJournal.reader(db);
    try (Connection fast = Tx.begin(db);
        Connection slow = Tx.begin(db)) {
      write(slow, 1);
      write(fast, 2);
      fast.commit();
      JournalReader.AuditEntries page = reader.auditEntries(Position.START, 10);
      page = reader.auditEntries(page.next(), 10);
      assertThat(page.auditEntries()).isEmpty();
      slow.commit();
      page = reader.auditEntries(page.next(), 10);
      assertThat(page.auditEntries())
          .extracting(entry -> entry.aggregateId().orElseThrow())
          .containsExactly("1", "2");
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"json", "text"})
  void keepsANumberAsItIsWritten_whenItIsBeyondEveryDecimal(String type, HikariDataSource db)
      throws Exception {
    Rows.execute(
        db,
        "ALTER TABLE change_journal ALTER payload TYPE " + type + " USING payload::" + type,
        "ALTER TABLE audit_entries ALTER metadata TYPE " + type + " USING metadata::" + type);
    String payload = "{\"a\":1e2147483648,\"b\":[-1.5E-99999999999,2.5],\"c\":{\"d\":0.10}}";
    try (Connection tx = Tx.begin(db)) {
      ChangeJournal.mutation("note", "n-1", "create")
          .by(Tx.ACTOR)
          .payload(new RawValue(payload))
          .metadata("large", new RawValue("1e2147483648"))
          .write(tx);
      write(tx, 1);
      tx.commit();
    }
    Tail tail = new Tail(db);
    List<Change> changes = new ArrayList<>();
    await().until(() -> changes.addAll(tail.poll(10)));
    assertThat(changes).hasSize(2);
    assertThat(changes.get(0).payload()).hasToString(payload);

    JournalReader reader = ChangeJournal.reader(db);
    List<AuditEntry> entries = new ArrayList<>();
    await().until(() -> entries.addAll(reader.auditEntries(Position.START, 10).auditEntries()));
    assertThat(entries.get(0).metadata()).hasToString("{\"large\":1e2147483648}");
  }

  @Test
  void namesTheRow_whoseTextIsNoJson(HikariDataSource db) throws Exception {
    Rows.execute(
        db,
        "ALTER TABLE change_journal ALTER payload TYPE text",
        "INSERT INTO change_journal (organization_id, aggregate_type, operation, actor_type, aggregate_version,"
            + " recorded_at, payload) VALUES ('o', 'note', 'create', 'user', 1, now(), 'oops')");
    JournalReader reader = ChangeJournal.reader(db);
    await()
        .untilAsserted(() -> assertThatThrownBy(() -> reader.changes(Position.START, 10))
            .isInstanceOf(SQLException.class)
            .hasMessage("the row with seq 1 has no JSON where it should")
            .hasCauseInstanceOf(JacksonException.class));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"organization_id = NULL", "recorded_at = NULL", "recorded_at = 'infinity'"})
  void namesTheRow_thatIsNoChange(String broken, HikariDataSource db) throws Exception {
    Rows.execute(
        db,
        "ALTER TABLE change_journal ALTER organization_id DROP NOT NULL, ALTER recorded_at DROP NOT NULL",
        "INSERT INTO change_journal (organization_id, aggregate_type, operation, actor_type, aggregate_version,"
            + " recorded_at, payload) VALUES ('o', 'note', 'create', 'user', 1, now(), '{}')",
        "UPDATE change_journal SET " + broken);
    JournalReader reader = ChangeJournal.reader(db);
    await()
        .untilAsserted(() -> assertThatThrownBy(() -> reader.changes(Position.START, 10))
            .isInstanceOf(SQLException.class)
            .hasMessageStartingWith("the row with seq 1 cannot be read: "));
  }

  @Test
  void readsTheColumnsOfOlderTables(HikariDataSource db) throws Exception {
    Rows.execute(
        db,
        "ALTER TABLE change_journal ALTER recorded_at TYPE timestamp USING recorded_at AT TIME ZONE 'UTC',"
            + " ALTER payload TYPE text");
    try (Connection tx = Tx.begin(db)) {
      Rows.execute(tx, "SET LOCAL TimeZone = 'Pacific/Auckland'");
      write(tx, 1);
      tx.commit();
    }
    Change change =
        ChangeJournal.reader(db).changes(Position.START, 1).changes().getFirst();
    assertThat(change.recordedAt())
        .isBetween(Instant.now().minusSeconds(60), Instant.now().plusSeconds(1));
  }

  @Test
  void goesOnBehindRowsThatWereDeleted(HikariDataSource db) throws Exception {
    Tail tail = new Tail(db);
    try (Connection tx = Tx.begin(db);
        Connection open = Tx.begin(db)) {
      Rows.execute(open, "SELECT txid_current()");
      write(tx, 1);
      tx.commit();
      assertThat(tail.numbers()).isEmpty();
      Rows.execute(db, "DELETE FROM change_journal");
      open.rollback();
      assertThat(tail.numbers()).isEmpty();
      long later = write(tx, 1);
      tx.commit();
      assertThat(tail.numbers()).containsExactly(later);
    }
  }

  @Test
  void goesOnBehindRowsThatWereDeletedBetweenTwoPages(HikariDataSource db) throws Exception {
    Tail tail = new Tail(db);
    List<Long> written = new ArrayList<>();
    try (Connection tx = Tx.begin(db)) {
      for (int i = 0; i < 5; i++) {
        written.add(write(tx, 1));
      }
      tx.commit();
      assertThat(tail.poll(2)).extracting(Change::sequence).isEqualTo(written.subList(0, 2));
      Rows.execute(
          db,
          "DELETE FROM change_journal WHERE seq IN (" + written.get(2) + ", " + written.get(4)
              + ")");
      assertThat(tail.poll(1)).extracting(Change::sequence).containsExactly(written.get(3));
      assertThat(tail.poll(1)).isEmpty();
      long later = write(tx, 1);
      tx.commit();
      assertThat(tail.numbers()).containsExactly(later);
      assertThat(tail.position).isEqualTo(Position.of(later));
    }
  }

  @Test
  void waitsForSubtransactions_andPassesOverThoseThatWereRolledBack(HikariDataSource db)
      throws Exception {
    Tail tail = new Tail(db);
    try (Connection fast = Tx.begin(db);
        Connection slow = Tx.begin(db)) {
      slow.setSavepoint();
      long first = write(slow, 1);
      var second = slow.setSavepoint();
      long undone = write(slow, 1);
      slow.rollback(second);
      fast.setSavepoint();
      long third = write(fast, 2);
      fast.commit();
      assertThat(tail.numbers()).isEmpty();
      // A number that is taken after the reader looked, in a subtransaction of a transaction from
      // before.
      slow.setSavepoint();
      long fourth = write(slow, 1);
      assertThat(tail.numbers()).isEmpty();
      slow.commit();
      List<Long> read = new ArrayList<>(tail.numbers());
      read.addAll(tail.numbers());
      assertThat(read).containsExactly(first, third, fourth).doesNotContain(undone);
    }
  }

  @Test
  @Timeout(60)
  void goesOnAfterACrash_andWaitsForPreparedTransactions() throws Exception {
    try (PostgresServer server = PostgresServer.start();
        PostgresServer.TestSchema schema = server.schema(ChangeJournal.schema())) {
      HikariDataSource db = schema.dataSource();
      Tail tail = new Tail(db);
      Rows.execute(db, "ALTER SYSTEM SET max_prepared_transactions = 2");
      try (Connection fast = Tx.begin(db);
          Connection slow = Tx.begin(db)) {
        unversioned(slow);
        long second = unversioned(fast);
        fast.commit();
        // These ids, and the reader's own, are not on disk: the server hands them out again after
        // the crash.
        for (int i = 0; i < 20; i++) {
          Rows.execute(db, "SELECT txid_current()");
        }
        assertThat(tail.numbers()).isEmpty();
        server.kill();
        server.restart();
        db.getHikariPoolMXBean().softEvictConnections();
        assertThat(tail.numbers()).containsExactly(second);
      }
      try (Connection tx = Tx.begin(db)) {
        long first = unversioned(tx);
        Rows.execute(tx, "PREPARE TRANSACTION 'later'");
        tx.commit();
        long second = unversioned(tx);
        tx.commit();
        assertThat(tail.numbers()).isEmpty();
        assertThat(ChangeJournal.reader(db).lag(tail.position).waitsFor())
            .hasValueSatisfying(open -> assertThat(open).startsWith("prepared transaction later"));
        Rows.execute(db, "COMMIT PREPARED 'later'");
        assertThat(tail.numbers()).containsExactly(first, second);
      }
    }
  }

  static Stream<Consumer<HikariConfig>> pools() {
    return Stream.of(
        pool -> pool.setAutoCommit(false),
        pool -> pool.setTransactionIsolation("TRANSACTION_REPEATABLE_READ"),
        pool -> pool.setTransactionIsolation("TRANSACTION_SERIALIZABLE"),
        pool -> pool.setReadOnly(true),
        pool -> pool.addDataSourceProperty("readOnlyMode", "always"),
        pool -> pool.setConnectionInitSql("SET default_transaction_read_only = on"),
        pool -> {
          pool.setAutoCommit(false);
          pool.setReadOnly(true);
          pool.addDataSourceProperty("readOnlyMode", "always");
          pool.setTransactionIsolation("TRANSACTION_REPEATABLE_READ");
        });
  }

  @ParameterizedTest
  @MethodSource("pools")
  void readsThroughAnyPool(Consumer<HikariConfig> settings, HikariDataSource db) throws Exception {
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl(db.getJdbcUrl());
    config.setDataSourceProperties(db.getDataSourceProperties());
    config.setMaximumPoolSize(1);
    settings.accept(config);
    try (HikariDataSource pool = new HikariDataSource(config);
        Connection fast = Tx.begin(db);
        Connection slow = Tx.begin(db)) {
      Tail tail = new Tail(pool);
      long first = write(slow, 1);
      long second = write(fast, 2);
      fast.commit();
      assertThat(tail.numbers()).isEmpty();
      assertThat(ChangeJournal.reader(pool).lag(tail.position).changes()).isEqualTo(2);
      slow.commit();
      assertThat(tail.numbers()).containsExactly(first, second);
      try (Connection given = pool.getConnection()) {
        assertThat(given.getAutoCommit()).isEqualTo(config.isAutoCommit());
        if (config.getConnectionInitSql() != null) {
          assertThat(Rows.column(given, "SHOW transaction_read_only")).containsExactly("on");
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void saysWhyItFailed_whenTheConnectionIsLost(boolean autoCommit, HikariDataSource db)
      throws Exception {
    Rows.execute(
        db,
        "ALTER TABLE change_journal RENAME TO journal",
        "CREATE VIEW change_journal AS SELECT * FROM journal WHERE pg_terminate_backend(pg_backend_pid())",
        "INSERT INTO journal (organization_id, aggregate_type, operation, actor_type, "
            + "aggregate_version, recorded_at, payload)"
            + " VALUES ('o', 'note', 'update', 'user', 1, now(), 'null')");
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl(db.getJdbcUrl());
    config.setDataSourceProperties(db.getDataSourceProperties());
    config.setAutoCommit(autoCommit);
    try (HikariDataSource pool = new HikariDataSource(config)) {
      assertThatThrownBy(() -> ChangeJournal.reader(pool).changes(Position.START, 1))
          .isInstanceOfSatisfying(
              SQLException.class, failure -> assertThat(failure.getSQLState()).isEqualTo("57P01"));
    }
  }

  /** A fence that was restored from another server, or whose transaction a crash has undone. */
  @ParameterizedTest
  @ValueSource(longs = {1, 1_000, 900_000, 2_000_000_000, 999_999_999_999_999L})
  void looksAnewWhenTheFenceLiesAhead(long ahead, HikariDataSource db) throws Exception {
    JournalReader reader = ChangeJournal.reader(db);
    try (Connection slow = Tx.begin(db);
        Connection fast = Tx.begin(db)) {
      long first = write(slow, 1);
      long second = write(fast, 2);
      fast.commit();
      long fence = ahead
          + Long.parseLong(Rows.column(fast, "SELECT pg_snapshot_xmax(pg_current_snapshot())")
              .getFirst());
      fast.commit();
      Position restored = new Position(first - 1, OptionalLong.of(second), OptionalLong.of(fence));
      JournalReader.Changes page = reader.changes(restored, 10);
      assertThat(page.changes()).isEmpty();
      assertThat(page.next().fence().orElseThrow()).isLessThanOrEqualTo(fence);
      slow.commit();
      List<Change> changes = new ArrayList<>(reader.changes(page.next(), 10).changes());
      assertThat(changes).extracting(Change::sequence).containsExactly(first, second);
    }
  }

  @Test
  void usesTheIndexOnALongJournal(HikariDataSource db) throws Exception {
    Rows.execute(
        db,
        "INSERT INTO change_journal (organization_id, aggregate_type, operation, actor_type,"
            + " aggregate_version, recorded_at, payload)"
            + " SELECT 'o', 'note', 'update', 'user', 1, now(), 'null' FROM generate_series(1, 20000)",
        "ANALYZE change_journal");
    try (Connection connection = db.getConnection();
        PreparedStatement explain =
            connection.prepareStatement("EXPLAIN " + JournalReader.CHANGES)) {
      explain.setLong(1, 19_900);
      explain.setLong(2, 20_000);
      explain.setString(3, "1");
      explain.setInt(4, 100);
      StringBuilder plan = new StringBuilder();
      try (ResultSet lines = explain.executeQuery()) {
        while (lines.next()) {
          plan.append(lines.getString(1)).append('\n');
        }
      }
      assertThat(plan.toString())
          .contains("Index Scan using change_journal_pkey")
          .doesNotContain("Seq Scan on change_journal");
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        " ",
        "-1",
        "+1",
        "a",
        "1:2",
        "1:2:",
        ":1:2",
        "1:2:3:4",
        "1.5",
        "1 ",
        "\u0661",
        "9223372036854775808",
        "0:0:5",
        "5:5:7",
        "5:3:7",
        "1:2:-3",
        "1:2:9223372036854775808"
      })
  void refusesATextThatIsNoPosition(String text) {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Position.parse(text))
        .withMessageStartingWith("position must be ");
  }

  @Test
  void readsTheTextOfAPosition() {
    for (Position position : List.of(
        Position.START,
        Position.of(Long.MAX_VALUE),
        new Position(0, OptionalLong.of(1), OptionalLong.of(0)),
        new Position(
            Long.MAX_VALUE - 1,
            OptionalLong.of(Long.MAX_VALUE),
            OptionalLong.of(Long.MAX_VALUE)))) {
      assertThat(Position.parse(position.toString())).isEqualTo(position);
    }
    assertThat(Position.of(7)).hasToString("7");
    assertThat(Position.parse("1200:1310:990421"))
        .isEqualTo(new Position(1200, OptionalLong.of(1310), OptionalLong.of(990421)));
  }

  @Test
  void refusesAPositionThatGoesNowhere() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new Position(5, OptionalLong.of(5), OptionalLong.of(1)))
        .withMessage("high must be greater than the sequence 5: 5");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new Position(5, OptionalLong.of(6), OptionalLong.of(-1)))
        .withMessage("fence must be 0 or more: -1");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new Position(5, OptionalLong.of(6), OptionalLong.empty()))
        .withMessage("high and fence must both be present or both be empty");
  }

  @Test
  void refusesAPageOfNothing(DataSource db) {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> ChangeJournal.reader(db).changes(Position.START, 0))
        .withMessage("max must be 1 or more: 0");
  }

  @Test
  @Timeout(60)
  void readsEveryChangeOnce_whileManyWrite(HikariDataSource db) throws Exception {
    assertThat(readsAll(db, 8, 30)).isPositive();
  }

  @Test
  @Tag("soak")
  void readsEveryChangeOnce_whileManyWrite_soak(HikariDataSource db) throws Exception {
    int read = readsAll(db, 16, 1000);
    System.out.printf(
        "changejournal: 16 writers, 16000 transactions, a quarter of them rolled back, %d changes "
            + "read, none lost, none twice%n",
        read);
  }

  /**
   * Writers that take the id of their transaction early or late, wait for each other's rows after they took a number,
   * and roll back, beside transactions that stay open for a while.
   */
  private static int readsAll(HikariDataSource db, int writers, int transactions) throws Exception {
    db.setMaximumPoolSize(writers + 4);
    Set<Long> written = new ConcurrentSkipListSet<>();
    List<Change> read = new ArrayList<>();
    Set<Long> bySequence = new TreeSet<>();
    long last = 0;
    AtomicBoolean done = new AtomicBoolean();
    Tail tail = new Tail(db);
    try (ExecutorService service = Executors.newFixedThreadPool(writers + 1)) {
      Callable<Void> writer = () -> {
        ThreadLocalRandom random = ThreadLocalRandom.current();
        try (Connection tx = Tx.begin(db)) {
          for (int i = 0; i < transactions; i++) {
            int aggregate = random.nextInt(AGGREGATES);
            if (i % 2 == 0) {
              Rows.execute(tx, "SELECT txid_current()");
            }
            Rows.execute(tx, "SELECT pg_sleep(random() * 0.003)");
            // The lock first, as a mutation has it, then the journal, then another's row.
            Rows.execute(tx, "UPDATE notes SET version = version + 1 WHERE id = " + aggregate);
            long sequence = write(tx, aggregate);
            Rows.execute(tx, "UPDATE notes SET version = version + 1 WHERE id = 99");
            Rows.execute(tx, "SELECT pg_sleep(random() * 0.001)");
            if (i % 4 == 3) {
              tx.rollback();
            } else {
              tx.commit();
              written.add(sequence);
            }
          }
        }
        return null;
      };
      Callable<Void> lingers = () -> {
        try (Connection tx = Tx.begin(db)) {
          while (!done.get()) {
            Rows.execute(tx, "SELECT txid_current(), pg_sleep(random() * 0.05)");
            tx.rollback();
          }
        }
        return null;
      };
      Future<Void> lingering = service.submit(lingers);
      List<Future<Void>> writing = new ArrayList<>();
      for (int i = 0; i < writers; i++) {
        writing.add(service.submit(writer));
      }
      while (writing.stream().anyMatch(future -> !future.isDone())) {
        read.addAll(tail.poll(1 + ThreadLocalRandom.current().nextInt(50)));
        last = naive(db, last, bySequence);
      }
      for (Future<Void> future : writing) {
        future.get(0, TimeUnit.SECONDS);
      }
      done.set(true);
      lingering.get(10, TimeUnit.SECONDS);
      await().atMost(Duration.ofSeconds(20)).until(() -> {
        read.addAll(tail.poll(100));
        return read.size() >= written.size();
      });
      naive(db, last, bySequence);
    }
    assertThat(read).extracting(Change::sequence).containsExactlyElementsOf(written);
    assertThat(bySequence)
        .as("a reader by seq > last alone loses changes in this test")
        .hasSizeLessThan(written.size());
    assertThat(outOfOrder(read))
        .as("changes after a later one of their aggregate")
        .isZero();
    Map<Long, Change> changes =
        read.stream().collect(Collectors.toMap(Change::sequence, Function.identity()));
    try (Connection connection = db.getConnection()) {
      List<Change> byTransaction = Rows.column(
              connection, "SELECT seq FROM change_journal ORDER BY xmin::text::bigint, seq")
          .stream()
          .map(sequence -> changes.get(Long.parseLong(sequence)))
          .toList();
      assertThat(outOfOrder(byTransaction))
          .as("the order of transaction ids is not that of the changes in this test")
          .isPositive();
    }
    return read.size();
  }

  private static long outOfOrder(List<Change> changes) {
    Map<String, Long> versions = new HashMap<>();
    return changes.stream()
        .filter(change -> {
          Long before = versions.put(change.aggregateId().orElseThrow(), change.version());
          return before != null && before >= change.version();
        })
        .count();
  }

  private static long naive(DataSource db, long last, Set<Long> found) throws SQLException {
    try (Connection connection = db.getConnection()) {
      for (String sequence : Rows.column(
          connection, "SELECT seq FROM change_journal WHERE seq > " + last + " ORDER BY seq")) {
        last = Long.parseLong(sequence);
        found.add(last);
      }
    }
    return last;
  }

  private static long unversioned(Connection tx) throws SQLException {
    return ChangeJournal.mutation("note", "1", "update").by(Tx.ACTOR).write(tx);
  }

  /** With the version that the note has in this transaction. */
  private static long write(Connection tx, int note) throws SQLException {
    long version = Long.parseLong(
        Rows.column(tx, "SELECT version FROM notes WHERE id = " + note).getFirst());
    return ChangeJournal.mutation("note", Integer.toString(note), "update")
        .by(Tx.ACTOR)
        .payload(Map.of("version", version))
        .write(tx);
  }
}
