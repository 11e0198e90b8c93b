package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.examples.notes.events.NoteChanged;
import dev.evalops.runtime.changejournal.ChangeActor;
import dev.evalops.runtime.changejournal.ChangeJournal;
import dev.evalops.runtime.changejournal.JournalReader;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher;
import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.events.EventHandler;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.idempotency.IdempotencyStore;
import dev.evalops.runtime.outbox.Inbox;
import dev.evalops.runtime.outbox.Outbox;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.testutil.PostgresServer;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import javax.sql.DataSource;
import org.awaitility.Awaitility;
import org.flywaydb.core.Flyway;
import org.flywaydb.core.api.configuration.FluentConfiguration;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Migrates as {@code docs/migrations.md} says, and uses what the modules find then. */
class FlywayTest {
  private static final ChangeActor ACTOR = new ChangeActor("user", "ann", "org-1");

  @TempDir
  private Path migrations;

  @BeforeEach
  void copyTheResourcesOfTheModules() throws Exception {
    Files.writeString(
        migrations.resolve("V1__notes.sql"), "CREATE TABLE notes (id uuid PRIMARY KEY)");
    copy(ChangeJournal.class, 2, "changejournal");
    copy(Idempotency.class, 3, "idempotency");
    copy(Outbox.class, 4, "outbox");
  }

  private void copy(Class<?> module, int version, String name) throws Exception {
    try (InputStream in = Objects.requireNonNull(module.getResourceAsStream(name + ".sql"))) {
      Files.copy(in, migrations.resolve("V" + version + "__" + name + ".sql"));
    }
  }

  @Test
  void migratesAnEmptyDatabase_soThatEveryModuleWorksForARoleWithoutOwnership() throws Exception {
    try (PostgresServer server = PostgresServer.start();
        HikariDataSource owner = Postgres.open(server.url())) {
      assertThat(flyway(owner).load().migrate().migrationsExecuted).isEqualTo(4);
      execute(
          owner,
          "CREATE ROLE notes LOGIN PASSWORD 'notes';"
              + " GRANT SELECT, INSERT, UPDATE, DELETE ON audit_entries, change_journal, api_idempotency_keys,"
              + " change_outbox, change_outbox_lease, event_inbox TO notes");

      try (HikariDataSource db =
          Postgres.open(server.url().replace("test:test@", "notes:notes@"))) {
        claimsAKeyOnce(Idempotency.of(db));
        List<EncodedEvent> sent = writesAndPublishesAChange(db);
        handlesOnce(db, Event.read(sent.getFirst().headers(), sent.getFirst().body()));
      }

      assertThat(flyway(owner).load().migrate().migrationsExecuted).isZero();
    }
  }

  @Test
  void startsFromTheTablesThatInitHasMade_andKeepsTheirRows() throws Exception {
    try (PostgresServer server = PostgresServer.start();
        HikariDataSource owner =
            Postgres.builder(server.url()).init(NotesSchema::apply).open()) {
      Idempotency idempotency = Idempotency.of(owner);
      assertThat(begin(idempotency)).isInstanceOf(IdempotencyStore.Started.class);

      assertThat(flyway(owner).baselineOnMigrate(true).load().migrate().migrationsExecuted)
          .isEqualTo(3);

      assertThat(begin(Idempotency.of(owner))).isInstanceOf(IdempotencyStore.InProgress.class);
    }
  }

  private FluentConfiguration flyway(DataSource owner) {
    return Flyway.configure().dataSource(owner).locations("filesystem:" + migrations);
  }

  private static void claimsAKeyOnce(Idempotency idempotency) {
    assertThat(begin(idempotency)).isInstanceOf(IdempotencyStore.Started.class);
    assertThat(begin(idempotency)).isInstanceOf(IdempotencyStore.InProgress.class);
  }

  private static IdempotencyStore.Decision begin(Idempotency idempotency) {
    return idempotency.begin("scope", "key", "hash");
  }

  private static List<EncodedEvent> writesAndPublishesAChange(DataSource db) throws Exception {
    Sent sent = new Sent();
    try (Outbox outbox = Outbox.start(db, sent)) {
      try (Connection tx = db.getConnection()) {
        tx.setAutoCommit(false);
        UUID note = UUID.randomUUID();
        ChangeJournal.mutation("note", note, "create").by(ACTOR).write(tx);
        outbox.add(tx, Change.of("note", note, "create").payload(NoteChanged.getDefaultInstance()));
        tx.commit();
      }
      Awaitility.await()
          .atMost(Duration.ofSeconds(60))
          .until(() -> !sent.events.isEmpty() && outbox.pending() == 0);
    }
    JournalReader reader = ChangeJournal.reader(db);
    assertThat(reader.changes(JournalReader.Position.START, 10).changes()).hasSize(1);
    assertThat(reader.auditEntries(JournalReader.Position.START, 10).auditEntries())
        .hasSize(1);
    return sent.events;
  }

  private static void handlesOnce(DataSource db, Event event) throws Exception {
    List<Event> handled = new CopyOnWriteArrayList<>();
    EventHandler once = Inbox.of(db).handler((each, tx) -> handled.add(each)).forConsumer("feed");
    once.handle(event);
    once.handle(event);
    assertThat(handled).hasSize(1);
  }

  private static void execute(DataSource db, String sql) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  /** A broker is no part of this. */
  private static final class Sent implements ChangePublisher {
    private final List<EncodedEvent> events = new CopyOnWriteArrayList<>();

    @Override
    public EncodedEvent encode(Change change) {
      return EventFormat.JSON.encode(change, "notes.changes", Instant.now(), Map.of());
    }

    @Override
    public CompletableFuture<Outcome> send(EncodedEvent event) {
      events.add(event);
      return CompletableFuture.completedFuture(Outcome.STORED);
    }
  }
}
