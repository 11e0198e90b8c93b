package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.awaitility.Awaitility.await;

import com.google.protobuf.StringValue;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.events.EventHandler;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/outbox/outbox.sql")
class InboxTest {
  private static final Duration SOON = Duration.ofSeconds(20);

  private HikariDataSource db;

  @BeforeEach
  void table(HikariDataSource pool) throws SQLException {
    db = pool;
    execute("CREATE TABLE effects (event text)");
  }

  private static Event event() {
    var encoded = EventFormat.JSON.encode(
        Change.of("note", "1", "update").organization("org-1").payload(StringValue.of("x")),
        "notes.changes",
        Instant.now(),
        Map.of());
    return Event.read(encoded.headers(), encoded.body());
  }

  private void execute(String sql) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  private static void effect(Event event, Connection tx) throws SQLException {
    try (Statement statement = tx.createStatement()) {
      statement.execute("INSERT INTO effects VALUES ('" + event.id() + "')");
    }
  }

  private long count(String table) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT count(*) FROM " + table)) {
      row.next();
      return row.getLong(1);
    }
  }

  @Test
  void anEventHasItsEffectOnce_forEachConsumer() throws Exception {
    EventHandler feed = Inbox.of(db).handler(InboxTest::effect).forConsumer("feed");
    EventHandler index = Inbox.of(db).handler(InboxTest::effect).forConsumer("index");
    Event event = event();
    feed.handle(event);
    feed.handle(event);
    assertThat(count("effects")).isEqualTo(1);
    index.handle(event);
    assertThat(count("effects")).isEqualTo(2);
  }

  @Test
  void handlesNothing_whileItDoesNotKnowItsConsumer() throws Exception {
    EventHandler unnamed = Inbox.of(db).handler(InboxTest::effect);
    assertThatIllegalStateException()
        .isThrownBy(() -> unnamed.handle(event()))
        .withMessage(
            "inbox: no consumer is named: a handler around this one calls its forConsumer(name)");
    assertThat(count("effects")).isZero();
    EventHandler named = unnamed.forConsumer("feed");
    assertThat(named.forConsumer("index")).as("keeps its name").isSameAs(named);
  }

  @Test
  void anEventWhoseHandlerFails_isNotRecorded() throws Exception {
    Event event = event();
    EventHandler fails = Inbox.of(db)
        .handler((failing, tx) -> {
          effect(failing, tx);
          throw new IllegalStateException("after its effect");
        })
        .forConsumer("feed");
    assertThatIllegalStateException().isThrownBy(() -> fails.handle(event));
    assertThat(count("effects")).isZero();
    Inbox.of(db).handler(InboxTest::effect).forConsumer("feed").handle(event);
    assertThat(count("effects")).isEqualTo(1);
  }

  @Test
  void anEventIsNotHandled_whenAStatementHasFailedAndItsHandlerGoesOn() throws Exception {
    Event event = event();
    EventHandler catches = Inbox.of(db)
        .handler((failing, tx) -> {
          effect(failing, tx);
          try (Statement statement = tx.createStatement()) {
            statement.execute("INSERT INTO nowhere VALUES (1)");
          } catch (SQLException e) {
            // not looked at
          }
        })
        .forConsumer("feed");
    assertThatExceptionOfType(SQLException.class)
        .isThrownBy(() -> catches.handle(event))
        .withStackTraceContaining("relation \"nowhere\" does not exist");
    assertThat(count("effects")).isZero();
    EventHandler returns = Inbox.of(db)
        .handler((failing, tx) -> {
          effect(failing, tx);
          var before = tx.setSavepoint();
          try (Statement statement = tx.createStatement()) {
            statement.execute("INSERT INTO nowhere VALUES (1)");
          } catch (SQLException e) {
            tx.rollback(before);
          }
        })
        .forConsumer("feed");
    returns.handle(event);
    assertThat(count("effects")).isEqualTo(1);
  }

  @Test
  void anEventThatComesTwiceAtTheSameTime_hasItsEffectOnce() throws Exception {
    Event event = event();
    CountDownLatch inHand = new CountDownLatch(1);
    CountDownLatch goOn = new CountDownLatch(1);
    EventHandler slow = Inbox.of(db)
        .handler((first, tx) -> {
          effect(first, tx);
          inHand.countDown();
          goOn.await(20, TimeUnit.SECONDS);
        })
        .forConsumer("feed");
    EventHandler other = Inbox.of(db).handler(InboxTest::effect).forConsumer("feed");
    try (ExecutorService two = Executors.newFixedThreadPool(2)) {
      List<Future<?>> handled = new ArrayList<>();
      handled.add(two.submit(() -> {
        slow.handle(event);
        return null;
      }));
      assertThat(inHand.await(20, TimeUnit.SECONDS)).isTrue();
      handled.add(two.submit(() -> {
        other.handle(event);
        return null;
      }));
      await()
          .atMost(SOON)
          .until(() -> count("pg_stat_activity WHERE wait_event_type = 'Lock'"
                  + " AND query LIKE 'INSERT INTO event_inbox%'")
              == 1);
      goOn.countDown();
      for (Future<?> each : handled) {
        each.get(20, TimeUnit.SECONDS);
      }
    }
    assertThat(count("effects")).isEqualTo(1);
  }

  @Test
  void theHandlerCannotEndTheTransaction() throws Exception {
    EventHandler commits = Inbox.of(db)
        .handler((event, tx) -> {
          effect(event, tx);
          tx.commit();
        })
        .forConsumer("feed");
    assertThatExceptionOfType(SQLException.class)
        .isThrownBy(() -> commits.handle(event()))
        .withMessage("commit is not allowed in a handler: the inbox ends the transaction");
    assertThat(count("effects")).isZero();
    EventHandler undoes = Inbox.of(db)
        .handler((event, tx) -> {
          var before = tx.setSavepoint();
          effect(event, tx);
          tx.rollback(before);
        })
        .forConsumer("feed");
    undoes.handle(event());
    assertThat(count("effects")).isZero();
    assertThat(count("event_inbox")).isEqualTo(1);
  }

  @Test
  void idsAreForgottenAfterAWhile_eachConsumersForItself() throws Exception {
    execute(
        "INSERT INTO event_inbox SELECT consumer, i::text, now() - age FROM generate_series(1, 1500) i,"
            + " (VALUES ('feed', interval '2 days'), ('index', interval '2 days')) old (consumer, age)");
    execute("INSERT INTO event_inbox VALUES ('feed', 'young', now())");
    Inbox feed = Inbox.builder(db).keepFor(Duration.ofDays(1)).build();
    assertThat(feed.sweepSome("feed")).isEqualTo(1000);
    assertThat(feed.sweepSome("feed")).isEqualTo(500);
    assertThat(feed.sweepSome("feed")).isZero();
    assertThat(count("event_inbox WHERE consumer = 'feed'")).isEqualTo(1);
    assertThat(Inbox.of(db).sweepSome("index")).as("keeps them for a week").isZero();
    assertThat(count("event_inbox WHERE consumer = 'index'")).isEqualTo(1500);
  }

  @Test
  void refusesWrongSettings_andATableThatIsMissing() throws Exception {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Inbox.builder(db).keepFor(Duration.ZERO).build())
        .withMessage("keepFor must be from a minute to 100 years: PT0S");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Inbox.of(db).handler(InboxTest::effect).forConsumer(" "))
        .withMessage("consumer must not be blank");
    // Without the key each delivery would be a first one.
    execute("ALTER TABLE event_inbox DROP CONSTRAINT event_inbox_pkey");
    assertThatExceptionOfType(StartupException.class)
        .isThrownBy(() -> Inbox.of(db).handler(InboxTest::effect).forConsumer("feed"))
        .withMessageContaining("outbox.sql");
    execute("CREATE UNIQUE INDEX ON event_inbox (event_id, consumer)");
    Inbox.of(db).handler(InboxTest::effect).forConsumer("feed");
    execute("DROP TABLE event_inbox");
    assertThatExceptionOfType(StartupException.class)
        .isThrownBy(() -> Inbox.of(db).handler(InboxTest::effect).forConsumer("feed"))
        .withMessageContaining("outbox.sql");
  }
}
