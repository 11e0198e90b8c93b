package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.google.protobuf.StringValue;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.testutil.NatsCluster;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import io.nats.client.Connection.Status;
import io.nats.client.JetStreamSubscription;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.PushSubscribeOptions;
import java.io.IOException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.LongStream;

/** Notes, each edit of which is a change in the outbox; the stream that they go to, and a feed that is made of it. */
final class Notes implements AutoCloseable {
  static final Duration PATIENT = Duration.ofSeconds(90);
  static final String STREAM = "NOTES";

  final PostgresServer postgres;
  final PostgresServer.TestSchema schema;
  final HikariDataSource db;
  final NatsServer nats; // null on a cluster
  final int count;
  private final String natsUrl;
  private final boolean ownPostgres;

  /** An event and when the stream has stored it. */
  record Stored(Event event, Instant at) {
    /** More exact than the event's own time. */
    Instant written() {
      String payload = event.payload(StringValue.getDefaultInstance()).getValue();
      return Instant.parse(payload.substring(0, payload.indexOf(' ')));
    }

    long microsFromEdit() {
      return Duration.between(written(), at).toNanos() / 1000;
    }
  }

  private Notes(PostgresServer postgres, boolean own, NatsServer nats, String natsUrl, int count)
      throws IOException, SQLException {
    this.postgres = postgres;
    this.ownPostgres = own;
    this.nats = nats;
    this.natsUrl = natsUrl;
    this.count = count;
    schema = postgres.schema(Outbox.schema());
    db = schema.dataSource();
    execute(
        "CREATE TABLE notes (id int PRIMARY KEY, version bigint NOT NULL)",
        "CREATE TABLE feed (seq bigint GENERATED ALWAYS AS IDENTITY, note text, version bigint)",
        "INSERT INTO notes SELECT i, 0 FROM generate_series(0, " + (count - 1) + ") i");
  }

  static Notes of(int count) throws IOException, SQLException {
    NatsServer nats = NatsServer.start();
    return new Notes(PostgresServer.shared(), false, nats, nats.url(), count);
  }

  /** On a Postgres that may be killed. */
  static Notes withPostgres(int count) throws IOException, SQLException {
    NatsServer nats = NatsServer.start();
    return new Notes(PostgresServer.start(), true, nats, nats.url(), count);
  }

  static Notes on(NatsCluster nats, int count) throws IOException, SQLException {
    return new Notes(PostgresServer.shared(), false, null, nats.url(), count);
  }

  NatsBus bus() {
    return bus(natsUrl);
  }

  static NatsBus bus(String url) {
    return NatsBus.open(url, STREAM, "notes.changes");
  }

  void execute(String... statements) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      for (String sql : statements) {
        statement.execute(sql);
      }
    }
  }

  long number(String sql) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getLong(1);
    }
  }

  long pending() throws SQLException {
    return number("SELECT count(*) FROM change_outbox WHERE parked_at IS NULL");
  }

  /** Edits a note, and returns the id of the event. */
  String edit(int note) throws SQLException {
    return edit(note, "");
  }

  String edit(int note, String more) throws SQLException {
    try (Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      try {
        long version = nextVersion(tx, note);
        var event = EventFormat.JSON.encode(
            Change.of("note", Integer.toString(note), "update")
                .organization("org-1")
                .version(version)
                .payload(StringValue.of(Instant.now() + " " + more)),
            "notes.changes",
            Instant.now(),
            Map.of());
        Rows.insert(tx, event);
        tx.commit();
        return event.id();
      } catch (SQLException e) {
        tx.rollback();
        throw e;
      }
    }
  }

  private static long nextVersion(Connection tx, int note) throws SQLException {
    try (PreparedStatement update = tx.prepareStatement(
        "UPDATE notes SET version = version + 1 WHERE id = ? RETURNING version")) {
      update.setInt(1, note);
      try (ResultSet row = update.executeQuery()) {
        row.next();
        return row.getLong(1);
      }
    }
  }

  int anyNote() {
    return ThreadLocalRandom.current().nextInt(count);
  }

  void editSome(int edits) throws SQLException {
    for (int i = 0; i < edits; i++) {
      edit(anyNote());
    }
  }

  /** A row for each time that an event has its effect. */
  static void apply(Event event, Connection tx) throws SQLException {
    try (PreparedStatement insert =
        tx.prepareStatement("INSERT INTO feed (note, version) VALUES (?, ?)")) {
      insert.setString(1, event.aggregateId().orElseThrow());
      insert.setLong(2, event.version().orElseThrow());
      insert.execute();
    }
  }

  void awaitAllSent() {
    await().atMost(PATIENT).ignoreExceptions().until(() -> pending() == 0);
  }

  /** All that the stream holds, in its order. */
  List<Stored> stream() throws Exception {
    Options options = Options.builder().servers(natsUrl.split(",")).build();
    try (io.nats.client.Connection connection = Nats.connect(options)) {
      await().atMost(PATIENT).until(() -> connection.getStatus() == Status.CONNECTED);
      long all = connection
          .jetStreamManagement()
          .getStreamInfo(STREAM)
          .getStreamState()
          .getMsgCount();
      JetStreamSubscription subscription = connection
          .jetStream()
          .subscribe(
              "notes.changes.>", PushSubscribeOptions.builder().ordered(true).build());
      List<Stored> stored = new ArrayList<>();
      while (stored.size() < all) {
        Message message = subscription.nextMessage(PATIENT);
        assertThat(message).as("message %d of %d", stored.size(), all).isNotNull();
        stored.add(
            new Stored(NatsBus.read(message), message.metaData().timestamp().toInstant()));
      }
      return stored;
    }
  }

  /** Each committed edit is in the stream, once and in the order of the commits. */
  List<Stored> assertStreamIsWhole() throws Exception {
    List<Stored> stored = stream();
    Map<String, List<Long>> versions = new HashMap<>();
    stored.forEach(each -> versions
        .computeIfAbsent(each.event().aggregateId().orElseThrow(), note -> new ArrayList<>())
        .add(each.event().version().orElseThrow()));
    for (int note = 0; note < count; note++) {
      assertThat(versions.getOrDefault(Integer.toString(note), List.of()))
          .as("changes of note %d in the stream", note)
          .isEqualTo(edits(note));
    }
    return stored;
  }

  /**
   * Each committed edit has had its effect once. An event that fails comes again behind others, so the order is not
   * asked for.
   */
  void assertFeedIsWhole() throws SQLException {
    Map<String, List<Long>> feed = new HashMap<>();
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery("SELECT note, version FROM feed")) {
      while (row.next()) {
        feed.computeIfAbsent(row.getString(1), note -> new ArrayList<>()).add(row.getLong(2));
      }
    }
    for (int note = 0; note < count; note++) {
      assertThat(feed.getOrDefault(Integer.toString(note), List.of()))
          .as("changes of note %d, each once", note)
          .containsExactlyInAnyOrderElementsOf(edits(note));
    }
  }

  private List<Long> edits(int note) throws SQLException {
    long version = number("SELECT version FROM notes WHERE id = " + note);
    return LongStream.rangeClosed(1, version).boxed().toList();
  }

  long edits() throws SQLException {
    return number("SELECT sum(version) FROM notes");
  }

  @Override
  public void close() {
    if (nats != null) {
      nats.close();
    }
    schema.close();
    if (ownPostgres) {
      postgres.close();
    }
  }
}
