package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.google.protobuf.StringValue;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.natsbus.EventConsumer;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import io.nats.client.api.DeliverPolicy;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** From the commit to the effect, on real servers that are killed. */
@Timeout(300)
class OutboxNatsTest {
  private static final Duration PATIENT = Duration.ofSeconds(90);
  private static final int NOTES = 10;

  private PostgresServer.TestSchema schema;
  private HikariDataSource db;
  private NatsServer nats;

  @BeforeEach
  void start() throws Exception {
    try (InputStream sql = Outbox.class.getResourceAsStream("outbox.sql")) {
      schema =
          PostgresServer.shared().schema(new String(sql.readAllBytes(), StandardCharsets.UTF_8));
    }
    db = schema.dataSource();
    nats = NatsServer.start();
    execute(
        "CREATE TABLE notes (id int PRIMARY KEY, version int NOT NULL)",
        "CREATE TABLE feed (seq bigint GENERATED ALWAYS AS IDENTITY, note text, version bigint)",
        "INSERT INTO notes SELECT i, 0 FROM generate_series(0, " + (NOTES - 1) + ") i");
  }

  @AfterEach
  void stop() {
    nats.close();
    schema.close();
  }

  static NatsBus bus(String url) {
    return NatsBus.builder(url).stream("NOTES")
        .subjectPrefix("notes.changes")
        .publishTimeout(Duration.ofSeconds(2))
        .open();
  }

  private void execute(String... statements) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      for (String sql : statements) {
        statement.execute(sql);
      }
    }
  }

  private void edit(NatsBus bus, int note) throws SQLException {
    try (Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      try (PreparedStatement update = tx.prepareStatement(
          "UPDATE notes SET version = version + 1 WHERE id = ? RETURNING version")) {
        update.setInt(1, note);
        try (ResultSet row = update.executeQuery()) {
          row.next();
          int version = row.getInt(1);
          Rows.insert(
              tx,
              bus.encode(Change.of("note", Integer.toString(note), "update")
                  .version(version)
                  .payload(StringValue.of(Integer.toString(version)))));
        }
      }
      tx.commit();
    }
  }

  private static void apply(Event event, Connection tx) throws Exception {
    try (PreparedStatement insert =
        tx.prepareStatement("INSERT INTO feed (note, version) VALUES (?, ?)")) {
      insert.setString(1, event.aggregateId().orElseThrow());
      insert.setLong(
          2, Long.parseLong(event.payload(StringValue.getDefaultInstance()).getValue()));
      insert.execute();
    }
  }

  private Map<String, List<Long>> feed() throws SQLException {
    Map<String, List<Long>> feed = new HashMap<>();
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT note, version FROM feed ORDER BY seq")) {
      while (row.next()) {
        feed.computeIfAbsent(row.getString(1), note -> new ArrayList<>()).add(row.getLong(2));
      }
    }
    return feed;
  }

  /** An event that fails comes again behind others, so that the order is not asked for here. */
  private void assertFeedIsWhole(int[] edits) throws SQLException {
    Map<String, List<Long>> feed = feed();
    for (int note = 0; note < NOTES; note++) {
      assertThat(feed.getOrDefault(Integer.toString(note), List.of()))
          .as("changes of note %d, each once", note)
          .containsExactlyInAnyOrderElementsOf(
              IntStream.rangeClosed(1, edits[note]).mapToObj(Long::valueOf).toList());
    }
  }

  private long rows(String table) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT count(*) FROM " + table)) {
      row.next();
      return row.getLong(1);
    }
  }

  @Test
  void everyChangeHasItsEffectOnce_whenTheBrokerIsKilledAndEventsComeAgain() throws Exception {
    int[] edits = new int[NOTES];
    Set<String> failedOnce = ConcurrentHashMap.newKeySet();
    try (NatsBus bus = bus(nats.url());
        Outbox outbox = Outbox.start(db, bus);
        EventConsumer consumer = bus.consumer("notes.changes.>", "feed")
            .deliver(DeliverPolicy.All)
            .redeliveryDelay(Duration.ofMillis(50), Duration.ofMillis(200))
            .start(Inbox.of(db, "feed").handler((event, tx) -> {
              apply(event, tx);
              if (failedOnce.size() < 10 && failedOnce.add(event.id())) {
                throw new IllegalStateException("fails once, after its effect");
              }
            }))) {
      for (int i = 0; i < 200; i++) {
        if (i == 60) {
          nats.kill();
        }
        if (i == 120) {
          nats.restart();
        }
        int note = ThreadLocalRandom.current().nextInt(NOTES);
        edit(bus, note);
        outbox.wake();
        edits[note]++;
      }
      await().atMost(PATIENT).until(() -> outbox.pending() == 0);
      await().atMost(PATIENT).until(() -> rows("feed") == 200);
      assertThat(outbox.parked(1)).isEmpty();
    }
    assertFeedIsWhole(edits);
    assertThat(rows("event_inbox")).isEqualTo(200);
  }

  @Test
  void theOrderHolds_whenTheProcessThatRelaysIsKilled() throws Exception {
    killed(3, 40);
  }

  @Test
  @Tag("soak")
  void theOrderHolds_whenTheProcessThatRelaysIsKilled_soak() throws Exception {
    int rounds = 60;
    int edits = killed(rounds, 60);
    System.out.printf(
        "outbox: %d kills and stops of relaying processes, %d changes, each in the stream once and in order%n",
        rounds, edits);
  }

  /** Two processes relay; one of them is killed, or stopped and let go, in each round. */
  private int killed(int rounds, int editsARound) throws Exception {
    int[] edits = new int[NOTES];
    Rows outbox = new Rows(db, true);
    try (NatsBus bus = bus(nats.url())) {
      RelayProcess[] relays = {
        RelayProcess.start(schema.url(), nats.url()), RelayProcess.start(schema.url(), nats.url())
      };
      try {
        for (int round = 0; round < rounds; round++) {
          int victim = round % 2;
          for (int i = 0; i < editsARound; i++) {
            if (i == editsARound / 2) {
              if (round % 3 == 2) {
                relays[victim].signal("STOP");
              } else {
                relays[victim].close();
                relays[victim] = RelayProcess.start(schema.url(), nats.url());
              }
            }
            int note = ThreadLocalRandom.current().nextInt(NOTES);
            edit(bus, note);
            edits[note]++;
          }
          if (round % 3 == 2) {
            await().atMost(PATIENT).until(() -> outbox.pending() == 0);
            relays[victim].signal("CONT");
          }
        }
        await().atMost(PATIENT).until(() -> outbox.pending() == 0);
      } finally {
        for (RelayProcess relay : relays) {
          relay.close();
        }
      }
      Map<String, List<Long>> stream = new HashMap<>();
      int all = IntStream.of(edits).sum();
      List<Event> seen = new ArrayList<>();
      try (EventConsumer reader = bus.consumer("notes.changes.>", "reader")
          .deliver(DeliverPolicy.All)
          .start(event -> {
            synchronized (seen) {
              seen.add(event);
            }
          })) {
        await().atMost(PATIENT).until(() -> seen.size() >= all);
      }
      for (Event event : seen) {
        stream
            .computeIfAbsent(event.aggregateId().orElseThrow(), note -> new ArrayList<>())
            .add(event.version().orElseThrow());
      }
      for (int note = 0; note < NOTES; note++) {
        assertThat(stream.getOrDefault(Integer.toString(note), List.of()))
            .as("changes of note %d in the stream", note)
            .isEqualTo(
                IntStream.rangeClosed(1, edits[note]).mapToObj(Long::valueOf).toList());
      }
      return all;
    }
  }
}
