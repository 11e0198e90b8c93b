package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher;
import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.testutil.FaultProxy;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.Serial;
import java.lang.reflect.Proxy;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import javax.sql.DataSource;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/outbox/outbox.sql")
class OutboxTest {
  private static final Duration SOON = Duration.ofSeconds(20);

  private final Broker broker = new Broker();

  @AfterEach
  void close() {
    broker.close();
  }

  private static void add(HikariDataSource db, EncodedEvent... events) throws SQLException {
    try (Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      for (EncodedEvent event : events) {
        Rows.insert(tx, event);
      }
      tx.commit();
    }
  }

  private static List<String> numbered(String lane, int count) {
    return IntStream.range(0, count).mapToObj(i -> lane + ":" + i).toList();
  }

  @Test
  void publishesWhatIsCommitted_whole(HikariDataSource db) throws Exception {
    EncodedEvent event = Broker.event("note/1", 0);
    try (Outbox outbox = Outbox.start(db, broker)) {
      add(db, event);
      outbox.wake();
      await().atMost(SOON).until(() -> outbox.pending() == 0);
    }
    assertThat(broker.stored).containsExactly(event);
  }

  @Test
  void publishesNothingOfATransactionThatRollsBack(HikariDataSource db) throws Exception {
    try (Outbox outbox = Outbox.start(db, broker);
        Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      Rows.insert(tx, Broker.event("note/1", 0));
      tx.rollback();
      EncodedEvent later = Broker.event("note/1", 1);
      add(db, later);
      await().atMost(SOON).until(() -> outbox.pending() == 0);
      assertThat(broker.stored).containsExactly(later);
    }
  }

  /** A backlog of large changes, over a network that is slow. */
  @ParameterizedTest
  @ValueSource(ints = {1, 2})
  void sendsPagesThatTakeLongerThanALease(
      int relays, HikariDataSource db, PostgresServer.TestSchema schema) throws Exception {
    byte[] body = new byte[512 * 1024];
    for (int i = 0; i < 48; i++) {
      EncodedEvent small = Broker.event("note/" + i % 24, i);
      add(db, new EncodedEvent(small.id(), small.subject(), small.headers(), body, small.lane()));
    }
    try (FaultProxy network = FaultProxy.start(PostgresServer.shared().port());
        HikariDataSource slow = Postgres.open(network.url(schema.url()));
        Outbox one = Outbox.start(slow, broker)) {
      network.delay(Duration.ofMillis(8));
      try (Outbox other = relays == 1 ? null : Outbox.start(slow, broker)) {
        await().atMost(Duration.ofSeconds(60)).until(() -> broker.stored.size() == 48);
      }
    }
  }

  /** The server counts the time in which it sends the rows, too. */
  @Test
  void sendsPagesThatTakeLongerThanAStatementMay(
      HikariDataSource db, PostgresServer.TestSchema schema) throws Exception {
    byte[] body = new byte[512 * 1024];
    for (int i = 0; i < 48; i++) {
      EncodedEvent small = Broker.event("note/" + i % 24, i);
      add(db, new EncodedEvent(small.id(), small.subject(), small.headers(), body, small.lane()));
    }
    try (FaultProxy network = FaultProxy.start(PostgresServer.shared().port());
        HikariDataSource slow =
            Postgres.open(network.url(schema.url()) + "&statement_timeout=600ms")) {
      network.delay(Duration.ofMillis(8));
      try (Outbox outbox = Outbox.start(slow, broker)) {
        await().atMost(Duration.ofSeconds(60)).until(() -> outbox.pending() == 0);
      }
    }
    assertThat(broker.stored).hasSize(48);
  }

  @Test
  void countsLessFar_whenThatTakesLongerThanAStatementMay(
      HikariDataSource db, PostgresServer.TestSchema schema) throws Exception {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute("ALTER TABLE change_outbox RENAME TO changes");
      statement.execute("CREATE VIEW change_outbox AS SELECT * FROM changes"
          + " WHERE CASE WHEN current_query() LIKE 'SELECT (SELECT count%' AND seq > 0"
          + " THEN pg_sleep(0.0005)::text END IS DISTINCT FROM '-'"); // for each row
      statement.execute("INSERT INTO changes (id, lane, subject, headers, body, created_at)"
          + " SELECT i, 'note/' || i, 's', ARRAY['a', 'b'], '', now() - interval '10 minutes'"
          + " FROM generate_series(1, 5000) i");
    }
    broker.away = true;
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    try (HikariDataSource limited = Postgres.open(schema.url() + "&statement_timeout=2s");
        Outbox outbox = Outbox.builder(limited, broker).metrics(registry).start()) {
      await().atMost(Duration.ofSeconds(60)).untilAsserted(() -> {
        assertThat(registry.get("outbox.pending").gauge().value()).isIn(100.0, 1000.0);
        assertThat(registry.get("outbox.oldest").gauge().value()).isGreaterThan(600);
      });
    }
  }

  /** As after a long transaction, for which the database keeps millions of rows that were removed. */
  @ParameterizedTest
  @ValueSource(ints = {1, 2})
  void sendsWhatIsFoundAfterALookLongerThanALease(int relays, HikariDataSource db)
      throws Exception {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute("ALTER TABLE change_outbox RENAME TO changes");
      statement.execute("CREATE VIEW change_outbox AS SELECT * FROM changes"
          + " WHERE (SELECT CASE WHEN current_query() LIKE 'SELECT%' THEN pg_sleep(0.8)::text END)"
          + " IS DISTINCT FROM '-'"); // twice in a look
    }
    try (Outbox one = Outbox.start(db, broker);
        Outbox other = relays == 1 ? null : Outbox.start(db, broker)) {
      for (int i = 0; i < 10; i++) {
        add(db, Broker.event("note/1", i), Broker.event("note/2", i));
      }
      await().atMost(Duration.ofSeconds(60)).until(() -> broker.stored.size() == 20);
    }
    assertThat(broker.bodies("note/1")).isEqualTo(numbered("note/1", 10));
  }

  @Test
  void keepsTheOrderOfALane_whenAcknowledgementsAreLost(HikariDataSource db) throws Exception {
    broker.percentLost = 30;
    try (Outbox outbox = Outbox.start(db, broker)) {
      for (int i = 0; i < 40; i++) {
        add(db, Broker.event("note/1", i), Broker.event("note/2", i));
      }
      await().atMost(Duration.ofSeconds(60)).until(() -> outbox.pending() == 0);
    }
    assertThat(broker.bodies("note/1")).isEqualTo(numbered("note/1", 40));
    assertThat(broker.bodies("note/2")).isEqualTo(numbered("note/2", 40));
    assertThat(broker.sent.get()).isGreaterThan(80);
  }

  @Test
  void keepsTheOrderOfCommits_whenSomebodyTookItsTurnEarly(HikariDataSource db) throws Exception {
    try (Connection first = db.getConnection();
        Connection second = db.getConnection();
        ExecutorService service = Executors.newSingleThreadExecutor()) {
      first.setAutoCommit(false);
      second.setAutoCommit(false);
      Rows.insert(first, Broker.event("note/1", 0));
      Future<?> waits = service.submit(() -> {
        Rows.insert(second, Broker.event("note/1", 1));
        second.commit();
        return null;
      });
      // Without the lock of the lane it would not wait, and come before the next one.
      await().atMost(SOON).until(() -> waits.isDone() || waitsForALane(db));
      Rows.insert(first, Broker.event("note/1", 0));
      first.commit();
      waits.get(20, TimeUnit.SECONDS);
    }
    try (Outbox outbox = Outbox.start(db, broker)) {
      await().atMost(SOON).until(() -> outbox.pending() == 0);
    }
    assertThat(broker.bodies("note/1")).containsExactly("note/1:0", "note/1:0", "note/1:1");
  }

  private static boolean waitsForALane(HikariDataSource db) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        var row =
            statement.executeQuery("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'"
                + " AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = "
                + "current_database()))")) {
      row.next();
      return row.getBoolean(1);
    }
  }

  @Test
  void leavesNoConnectionBehind(HikariDataSource db) throws Exception {
    Outbox outbox = Outbox.start(db, broker);
    add(db, Broker.event("note/1", 0));
    await().atMost(SOON).until(() -> outbox.pending() == 0);
    outbox.close();
    assertThat(db.getHikariPoolMXBean().getActiveConnections()).isZero();
  }

  @Test
  void aPageEndsWithTheRowThatReachesItsBytes(HikariDataSource db) throws Exception {
    for (int i = 0; i < 5; i++) {
      add(db, Broker.event("note/" + i, 0)); // of 8 bytes
    }
    RelayRows rows = new RelayRows(db, true);
    assertThat(rows.fetch(List.of(), List.of(), 10, 1)).hasSize(1);
    assertThat(rows.fetch(List.of(), List.of(), 10, 17)).hasSize(3);
    assertThat(rows.fetch(List.of(), List.of(), 10, 1000)).hasSize(5);
    assertThat(rows.fetch(List.of(), List.of(), 2, 1000)).hasSize(2);
    List<RelayRows.Row> behind = rows.fetch(List.of(1L, 2L), List.of("note/2"), 10, 1000);
    assertThat(behind).extracting(row -> row.event().lane()).containsExactly("note/3", "note/4");
    rows.rest();
  }

  @Test
  void leavesNoGaugeBehind(HikariDataSource db) {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    for (int i = 0; i < 2; i++) {
      Outbox outbox = Outbox.builder(db, broker).metrics(registry).start();
      assertThat(registry.find("outbox.pending").gauge()).isNotNull();
      outbox.close();
      assertThat(registry.find("outbox.pending").gauge()).isNull();
    }
  }

  @Test
  void closingTwiceLeavesTheGaugesOfTheNext(HikariDataSource db) {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    Outbox first = Outbox.builder(db, broker).metrics(registry).start();
    first.close();
    try (Outbox next = Outbox.builder(db, broker).metrics(registry).start()) {
      first.close();
      assertThat(registry.find("outbox.pending").gauge()).isNotNull();
    }
  }

  @Test
  void anOutageCostsNoAttempt_andParksNothing(HikariDataSource db) throws Exception {
    broker.away = true;
    try (Outbox outbox = Outbox.start(db, broker)) {
      for (int i = 0; i < 50; i++) {
        add(db, Broker.event("note/" + i, 0));
      }
      await().atMost(SOON).until(() -> broker.sent.get() > 9);
      assertThat(outbox.pending()).isEqualTo(50);
      assertThat(outbox.parked(10)).isEmpty();
      assertThat(outbox.oldest()).isPresent();
      assertThatIllegalStateException()
          .isThrownBy(() -> outbox.check(Duration.ofMillis(1)))
          .withMessageStartingWith("outbox: a change has waited for ");
      outbox.check(Duration.ofHours(1));
      assertThat(attempts(db)).isZero();
      broker.away = false;
      await().atMost(SOON).until(() -> outbox.pending() == 0);
    }
    assertThat(broker.stored).hasSize(50);
  }

  @Test
  void oneLaneThatTheBrokerDoesNotTakeNow_holdsUpNoOther(HikariDataSource db) throws Exception {
    broker.awayLanes.add("note/1");
    try (Outbox outbox = Outbox.start(db, broker)) {
      add(db, Broker.event("note/1", 0));
      await().atMost(SOON).until(() -> broker.sent.get() > 9);
      for (int i = 0; i < 5; i++) {
        add(db, Broker.event("note/2", i));
      }
      await().atMost(SOON).until(() -> broker.bodies("note/2").size() == 5);
      await().atMost(SOON).until(() -> outbox.pending() == 1);
      assertThat(outbox.parked(1)).isEmpty();
      broker.awayLanes.clear();
      await().atMost(SOON).until(() -> outbox.pending() == 0);
    }
  }

  private static long attempts(HikariDataSource db) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        var row = statement.executeQuery("SELECT coalesce(sum(attempts), 0) FROM change_outbox")) {
      row.next();
      return row.getLong(1);
    }
  }

  @Test
  void parksWhatIsRefused_andHoldsItsLaneAlone(HikariDataSource db) throws Exception {
    broker.refusedLanes.add("note/1");
    try (Outbox outbox = Outbox.start(db, broker)) {
      EncodedEvent poison = Broker.event("note/1", 0);
      add(db, poison, Broker.event("note/1", 1), Broker.event("note/2", 0));
      await().atMost(SOON).until(() -> !outbox.parked(10).isEmpty());
      await().atMost(SOON).until(() -> broker.stored.size() == 1);
      Outbox.Parked parked = outbox.parked(10).getFirst();
      assertThat(parked.id()).isEqualTo(poison.id());
      assertThat(parked.reason()).isEqualTo("maximum payload exceeded");
      assertThatIllegalStateException().isThrownBy(() -> outbox.check(Duration.ofHours(1)));

      broker.refusedLanes.clear();
      add(db, Broker.event("note/2", 1));
      await().atMost(SOON).until(() -> broker.bodies("note/2").size() == 2);
      assertThat(broker.bodies("note/1")).as("held behind the parked one").isEmpty();

      assertThat(outbox.requeue(poison.id())).isTrue();
      assertThat(outbox.requeue(poison.id())).isFalse();
      await().atMost(SOON).until(() -> outbox.pending() == 0);
      assertThat(broker.bodies("note/1")).containsExactly("note/1:0", "note/1:1");
    }
  }

  @Test
  void goesOnBehindWhatIsDiscarded(HikariDataSource db) throws Exception {
    broker.refusedLanes.add("note/1");
    try (Outbox outbox = Outbox.start(db, broker)) {
      EncodedEvent poison = Broker.event("note/1", 0);
      add(db, poison, Broker.event("note/1", 1));
      await().atMost(SOON).until(() -> !outbox.parked(10).isEmpty());
      broker.refusedLanes.clear();
      assertThat(outbox.discard(poison.id())).isTrue();
      await().atMost(SOON).until(() -> broker.bodies("note/1").equals(List.of("note/1:1")));
    }
  }

  @Test
  void passesParkedChanges_ifToldTo(HikariDataSource db) throws Exception {
    broker.refusedLanes.add("note/1");
    try (Outbox outbox = Outbox.builder(db, broker).passParked().start()) {
      add(db, Broker.event("note/1", 0));
      await().atMost(SOON).until(() -> outbox.parked(10).size() == 1);
      broker.refusedLanes.clear();
      add(db, Broker.event("note/1", 1));
      await().atMost(SOON).until(() -> broker.bodies("note/1").equals(List.of("note/1:1")));
    }
  }

  @Test
  void oneRelaysAtATime_andAnotherTakesOver(HikariDataSource db) throws Exception {
    try (Broker other = new Broker();
        Outbox second = Outbox.start(db, other)) {
      add(db, Broker.event("note/1", 0));
      await().atMost(SOON).until(() -> second.pending() == 0);
      try (Outbox first = Outbox.start(db, broker)) {
        for (int i = 1; i < 20; i++) {
          add(db, Broker.event("note/1", i));
        }
        await().atMost(SOON).until(() -> first.pending() == 0);
        assertThat(broker.stored).isEmpty();
        second.close();
        add(db, Broker.event("note/1", 20));
        await().atMost(SOON).until(() -> first.pending() == 0);
        assertThat(broker.bodies("note/1")).containsExactly("note/1:20");
      }
      assertThat(other.bodies("note/1")).isEqualTo(numbered("note/1", 20));
    }
  }

  @Test
  void takesOverALeaseThatLastsLongerThanAny_asAfterTheClockWasSetBack(HikariDataSource db)
      throws Exception {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute("INSERT INTO change_outbox_lease (name, holder, expires_at)"
          + " VALUES ('relay', 'gone', now() + interval '1 hour')");
    }
    try (Outbox outbox = Outbox.start(db, broker)) {
      add(db, Broker.event("note/1", 0));
      await().atMost(SOON).until(() -> outbox.pending() == 0);
    }
  }

  @Test
  void sendsAgain_whenThePublisherHasThrownAnything(HikariDataSource db) throws Exception {
    AtomicInteger calls = new AtomicInteger();
    ChangePublisher failing = new ChangePublisher() {
      @Override
      public EncodedEvent encode(Change change) {
        return broker.encode(change);
      }

      @Override
      public CompletableFuture<Outcome> send(EncodedEvent event) {
        if (calls.incrementAndGet() <= 2) {
          throw new NoClassDefFoundError("of a library");
        }
        return broker.send(event);
      }
    };
    try (Outbox outbox = Outbox.start(db, failing)) {
      add(db, Broker.event("note/1", 0), Broker.event("note/1", 1));
      await().atMost(SOON).until(() -> outbox.pending() == 0);
    }
    assertThat(broker.bodies("note/1")).isEqualTo(numbered("note/1", 2));
  }

  @Test
  void refusesALaneThatNoIndexCanHold(HikariDataSource db) throws Exception {
    ChangePublisher encoding = new ChangePublisher() {
      @Override
      public EncodedEvent encode(Change change) {
        return EventFormat.JSON.encode(change, "notes.changes", Instant.EPOCH, Map.of());
      }

      @Override
      public CompletableFuture<Outcome> send(EncodedEvent event) {
        return broker.send(event);
      }
    };
    try (Outbox outbox = Outbox.start(db, encoding);
        Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      String longest = "\u00e9".repeat(997); // with "note/" 1999 bytes
      outbox.add(tx, Change.of("note", longest, "create"));
      assertThatIllegalArgumentException()
          .isThrownBy(() -> outbox.add(tx, Change.of("note", longest + "\u00e9", "create")))
          .withMessage("aggregateId must have at most 2000 bytes with its type: 2001");
      outbox.add(tx, Change.of("note", "1", "create"));
      tx.commit();
      await().atMost(SOON).until(() -> outbox.pending() == 0);
    }
    assertThat(broker.stored).hasSize(2);
  }

  @Test
  void publishesAllOfManyWriters_inOrder(HikariDataSource db) throws Exception {
    db.setMaximumPoolSize(12);
    int writers = 4;
    int lanes = 10;
    int each = 100;
    int[] next = new int[lanes];
    Object[] locks = IntStream.range(0, lanes).mapToObj(i -> new Object()).toArray();
    broker.percentLost = 1;
    try (Outbox outbox =
            Outbox.builder(db, broker).metrics(new SimpleMeterRegistry()).start();
        ExecutorService service = Executors.newFixedThreadPool(writers)) {
      List<Future<?>> writing = new ArrayList<>();
      for (int w = 0; w < writers; w++) {
        writing.add(service.submit(() -> {
          for (int i = 0; i < each; i++) {
            int lane = ThreadLocalRandom.current().nextInt(lanes);
            synchronized (locks[lane]) {
              add(db, Broker.event("note/" + lane, next[lane]++));
            }
            outbox.wake();
          }
          return null;
        }));
      }
      for (Future<?> future : writing) {
        future.get(60, TimeUnit.SECONDS);
      }
      await().atMost(Duration.ofSeconds(60)).until(() -> outbox.pending() == 0);
    }
    for (int lane = 0; lane < lanes; lane++) {
      assertThat(broker.bodies("note/" + lane)).isEqualTo(numbered("note/" + lane, next[lane]));
    }
  }

  @Test
  void goesOnWhenTheDatabaseHasClosedItsConnections(HikariDataSource db) throws Exception {
    try (Outbox outbox = Outbox.start(db, broker)) {
      for (int i = 0; i < 5; i++) {
        add(db, Broker.event("note/1", i));
        try (Connection connection = db.getConnection();
            Statement statement = connection.createStatement()) {
          statement.execute(
              "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                  + " WHERE pid <> pg_backend_pid() AND application_name = current_setting('application_name')"
                  + " AND backend_type = 'client backend' AND usename = current_user AND datname = current_database()");
        }
      }
      await().atMost(SOON).ignoreExceptions().until(() -> outbox.pending() == 0);
    }
    assertThat(broker.bodies("note/1")).isEqualTo(numbered("note/1", 5));
  }

  /** As where there is no memory, neither for the connection nor for the log line. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void goesOn_whenItFailsWithWhatCannotEvenBeLogged(boolean ofDatabase, HikariDataSource db)
      throws Exception {
    AtomicInteger failures = new AtomicInteger();
    DataSource failing = (DataSource) Proxy.newProxyInstance(
        OutboxTest.class.getClassLoader(),
        new Class<?>[] {DataSource.class},
        (proxy, method, args) -> {
          if (Thread.currentThread().getName().equals("outbox")
              && failures.incrementAndGet() == 1) {
            throw ofDatabase ? new UnspeakableFailure() : new UnspeakableError();
          }
          return method.invoke(db, args);
        });
    try (Outbox outbox = Outbox.start(failing, broker)) {
      add(db, Broker.event("note/1", 0));
      await().atMost(SOON).until(() -> outbox.pending() == 0);
      assertThat(failures).hasValueGreaterThan(1);
    }
    assertThat(broker.bodies("note/1")).isEqualTo(numbered("note/1", 1));
  }

  private static final class UnspeakableFailure extends SQLException {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    public String getMessage() {
      throw new UnspeakableError();
    }
  }

  private static final class UnspeakableError extends Error {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    public String getMessage() {
      throw new Error("no memory for the log line");
    }
  }

  /** A server process that waits for a lock does not notice that its client has gone. */
  @Test
  void leavesNothingWaitingOnTheServer_whileItsTableIsLocked(HikariDataSource db) throws Exception {
    try (Outbox outbox = Outbox.start(db, broker);
        Connection locks = db.getConnection();
        Statement lock = locks.createStatement()) {
      locks.setAutoCommit(false);
      lock.execute("LOCK TABLE change_outbox IN ACCESS EXCLUSIVE MODE");
      // The fetch that met the lock is given up and stays; the tries after it do not.
      Set<String> all = new HashSet<>();
      await().atMost(SOON).until(() -> {
        Set<String> now = waiting(db);
        all.addAll(now);
        return all.size() >= 3 && now.size() <= 2;
      });
      locks.commit();

      add(db, Broker.event("note/1", 0));
      await().atMost(SOON).until(() -> outbox.pending() == 0);
    }
    assertThat(broker.bodies("note/1")).isEqualTo(numbered("note/1", 1));
  }

  private static Set<String> waiting(HikariDataSource db) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery(
            "SELECT concat(pid, ' ', query_start) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                + " AND datname = current_database() AND query LIKE '%change_outbox%'")) {
      Set<String> waiting = new HashSet<>();
      while (rows.next()) {
        waiting.add(rows.getString(1));
      }
      return waiting;
    }
  }

  @Test
  void refusesWrongSettings_andATableThatIsMissing(HikariDataSource db) throws Exception {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Outbox.builder(db, broker).maxInFlight(0).start())
        .withMessage("maxInFlight must be from 1 to 10000: 0");
    try (Outbox outbox = Outbox.start(db, broker)) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> outbox.check(Duration.ZERO))
          .withMessage("maxAge must be more than zero: PT0S");
    }
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute("ALTER TABLE change_outbox_lease DROP CONSTRAINT change_outbox_lease_pkey");
      assertThatExceptionOfType(StartupException.class)
          .isThrownBy(() -> Outbox.start(db, broker))
          .withMessageContaining("outbox.sql");
      statement.execute("ALTER TABLE change_outbox_lease ADD PRIMARY KEY (name)");
      statement.execute("DROP TABLE change_outbox");
    }
    assertThatExceptionOfType(StartupException.class)
        .isThrownBy(() -> Outbox.start(db, broker))
        .withMessageContaining("outbox.sql");
  }

  /** Else what is sent could not be removed, and nothing would follow it. */
  @Test
  void refusesARoleThatMayNotRemoveWhatIsSent(HikariDataSource db) throws Exception {
    String role = "r" + UUID.randomUUID().toString().replace("-", "");
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute("CREATE ROLE " + role + "; GRANT USAGE ON SCHEMA "
          + connection.getSchema() + " TO " + role
          + "; GRANT SELECT, INSERT, UPDATE ON change_outbox, change_outbox_lease TO " + role);
      HikariConfig config = new HikariConfig();
      db.copyStateTo(config);
      config.setConnectionInitSql("SET ROLE " + role);
      try (HikariDataSource limited = new HikariDataSource(config)) {
        assertThatExceptionOfType(StartupException.class)
            .isThrownBy(() -> Outbox.start(limited, broker))
            .withMessageContaining("permission denied for table change_outbox");
        statement.execute("GRANT DELETE ON change_outbox TO " + role);
        Outbox.start(limited, broker).close();
      } finally {
        statement.execute("DROP OWNED BY " + role + "; DROP ROLE " + role);
      }
    }
  }
}
