package dev.evalops.examples.notes.spring;

import static dev.evalops.runtime.errors.ErrorCode.NOT_FOUND;
import static dev.evalops.runtime.errors.ErrorCode.VERSION_CONFLICT;

import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.changejournal.ChangeJournal;
import dev.evalops.runtime.changejournal.auth.ChangeActors;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.outbox.Outbox;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.OffsetDateTime;
import java.util.List;
import java.util.UUID;
import javax.sql.DataSource;
import org.springframework.context.ApplicationEventPublisher;
import org.springframework.jdbc.core.simple.JdbcClient;
import org.springframework.jdbc.datasource.DataSourceUtils;
import org.springframework.stereotype.Service;
import org.springframework.transaction.annotation.Transactional;
import org.springframework.transaction.event.TransactionalEventListener;

/**
 * The notes of all organizations; nobody sees those of another. What changes a note leaves its audit entry, its row in
 * the change journal and one in the outbox in the same transaction, which is that of the request.
 */
@Service
class NoteService {
  private static final String COLUMNS = "id, title, body, version, created_at, updated_at";

  private final JdbcClient jdbc;
  private final DataSource db;
  private final Outbox outbox;
  private final ApplicationEventPublisher events;

  /** A note and its place in the change journal. */
  record Saved(Note note, long sequence) {}

  NoteService(JdbcClient jdbc, DataSource db, Outbox outbox, ApplicationEventPublisher events) {
    this.jdbc = jdbc;
    this.db = db;
    this.outbox = outbox;
    this.events = events;
  }

  @Transactional(rollbackFor = SQLException.class)
  Saved create(Actor actor, EditNote edit) throws SQLException {
    Note note = jdbc.sql("INSERT INTO notes (organization_id, " + COLUMNS
            + ") VALUES (?, ?, ?, ?, 1, now(), now()) RETURNING " + COLUMNS)
        .params(actor.organizationId(), UUID.randomUUID(), edit.checkedTitle(), edit.bodyOrEmpty())
        .query(NoteService::note)
        .single();
    return journaled(actor, "create", note);
  }

  /** Replaces title and body if the note still has this version. */
  @Transactional(rollbackFor = SQLException.class)
  Saved update(Actor actor, UUID id, long version, EditNote edit) throws SQLException {
    List<Note> updated = jdbc.sql(
            "UPDATE notes SET title = ?, body = ?, version = version + 1, updated_at = now()"
                + " WHERE organization_id = ? AND id = ? AND version = ? RETURNING " + COLUMNS)
        .params(edit.checkedTitle(), edit.bodyOrEmpty(), actor.organizationId(), id, version)
        .query(NoteService::note)
        .list();
    if (updated.isEmpty()) {
      read(actor.organizationId(), id);
      throw ServiceException.of(VERSION_CONFLICT).op("note.update");
    }
    return journaled(actor, "update", updated.getFirst());
  }

  private Saved journaled(Actor actor, String operation, Note note) throws SQLException {
    Connection tx = DataSourceUtils.getConnection(db); // that of the transaction
    long sequence = ChangeJournal.mutation("note", note.id(), operation)
        .by(ChangeActors.of(actor))
        .payload(note)
        .metadata("source", "api")
        .write(tx);
    outbox.add(
        tx,
        Change.of("note", note.id(), operation)
            .organization(actor.organizationId())
            .sequence(sequence)
            .version(note.version())
            .payload(Struct.newBuilder()
                .putFields("title", text(note.title()))
                .putFields("changed_at", text(note.updatedAt().toString()))
                .build()));
    Saved saved = new Saved(note, sequence);
    events.publishEvent(saved);
    return saved;
  }

  private static Value text(String text) {
    return Value.newBuilder().setStringValue(text).build();
  }

  /** After the commit, when the change can be relayed. */
  @TransactionalEventListener(Saved.class)
  void relay() {
    outbox.wake();
  }

  Note read(String organization, UUID id) {
    return jdbc.sql("SELECT " + COLUMNS + " FROM notes WHERE organization_id = ? AND id = ?")
        .params(organization, id)
        .query(NoteService::note)
        .optional()
        .orElseThrow(() -> ServiceException.of(NOT_FOUND, "no such note").op("note.read"));
  }

  /** The newest notes first. */
  List<Note> list(String organization, long limit) {
    return jdbc.sql("SELECT " + COLUMNS
            + " FROM notes WHERE organization_id = ? ORDER BY created_at DESC, id DESC LIMIT ?")
        .params(organization, limit)
        .query(NoteService::note)
        .list();
  }

  private static Note note(ResultSet row, int number) throws SQLException {
    return new Note(
        row.getObject(1, UUID.class),
        row.getString(2),
        row.getString(3),
        row.getLong(4),
        row.getObject(5, OffsetDateTime.class).toInstant(),
        row.getObject(6, OffsetDateTime.class).toInstant());
  }
}
