package dev.evalops.examples.notes;

import static dev.evalops.runtime.errors.ErrorCode.NOT_FOUND;
import static dev.evalops.runtime.errors.ErrorCode.VERSION_CONFLICT;

import com.google.protobuf.Timestamp;
import dev.evalops.examples.notes.events.NoteChanged;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.changejournal.ChangeJournal;
import dev.evalops.runtime.changejournal.auth.ChangeActors;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.outbox.Outbox;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import javax.sql.DataSource;

/**
 * The notes of all organizations in Postgres; nobody sees those of another. What changes a note leaves its audit entry,
 * its row in the change journal and one in the outbox in the same transaction, which is the caller's.
 */
final class NoteStore {
  private static final String COLUMNS = "id, title, body, version, created_at, updated_at";

  private final DataSource db;
  private final Outbox outbox;

  NoteStore(DataSource db, Outbox outbox) {
    this.db = db;
    this.outbox = outbox;
  }

  Saved create(Connection tx, Actor actor, String title, String body) throws SQLException {
    String sql = "INSERT INTO notes (organization_id, " + COLUMNS
        + ") VALUES (?, ?, ?, ?, 1, now(), now()) RETURNING " + COLUMNS;
    try (PreparedStatement insert = tx.prepareStatement(sql)) {
      insert.setString(1, actor.organizationId());
      insert.setObject(2, UUID.randomUUID());
      insert.setString(3, title);
      insert.setString(4, body);
      return journaled(tx, actor, "create", note(insert).orElseThrow());
    }
  }

  /** Replaces title and body if the note still has this version. */
  Saved update(Connection tx, Actor actor, UUID id, long version, String title, String body)
      throws SQLException {
    String sql = "UPDATE notes SET title = ?, body = ?, version = version + 1, updated_at = now()"
        + " WHERE organization_id = ? AND id = ? AND version = ? RETURNING " + COLUMNS;
    try (PreparedStatement update = tx.prepareStatement(sql)) {
      update.setString(1, title);
      update.setString(2, body);
      update.setString(3, actor.organizationId());
      update.setObject(4, id);
      update.setLong(5, version);
      Optional<Note> note = note(update);
      if (note.isPresent()) {
        return journaled(tx, actor, "update", note.get());
      }
    }
    read(tx, actor.organizationId(), id);
    throw ServiceException.of(VERSION_CONFLICT).op("note.update");
  }

  private Saved journaled(Connection tx, Actor actor, String operation, Note note)
      throws SQLException {
    long sequence = ChangeJournal.mutation("note", note.id(), operation)
        .by(ChangeActors.of(actor))
        .payload(note)
        .metadata("source", "api")
        .write(tx);
    Instant at = note.updatedAt();
    NoteChanged changed = NoteChanged.newBuilder()
        .setTitle(note.title())
        .setChangedAt(Timestamp.newBuilder().setSeconds(at.getEpochSecond()).setNanos(at.getNano()))
        .build();
    outbox.add(
        tx,
        Change.of("note", note.id(), operation)
            .organization(actor.organizationId())
            .sequence(sequence)
            .version(note.version())
            .payload(changed));
    return new Saved(note, sequence);
  }

  Note read(String organization, UUID id) throws SQLException {
    try (Connection connection = db.getConnection()) {
      return read(connection, organization, id);
    }
  }

  private static Note read(Connection connection, String organization, UUID id)
      throws SQLException {
    String sql = "SELECT " + COLUMNS + " FROM notes WHERE organization_id = ? AND id = ?";
    try (PreparedStatement select = connection.prepareStatement(sql)) {
      select.setString(1, organization);
      select.setObject(2, id);
      return note(select)
          .orElseThrow(() -> ServiceException.of(NOT_FOUND, "no such note").op("note.read"));
    }
  }

  /** The newest notes first. */
  List<Note> list(String organization, int limit) throws SQLException {
    String sql = "SELECT " + COLUMNS
        + " FROM notes WHERE organization_id = ? ORDER BY created_at DESC, id DESC LIMIT ?";
    try (Connection connection = db.getConnection();
        PreparedStatement select = connection.prepareStatement(sql)) {
      select.setString(1, organization);
      select.setInt(2, limit);
      List<Note> notes = new ArrayList<>();
      try (ResultSet rows = select.executeQuery()) {
        while (rows.next()) {
          notes.add(note(rows));
        }
      }
      return notes;
    }
  }

  private static Optional<Note> note(PreparedStatement statement) throws SQLException {
    try (ResultSet rows = statement.executeQuery()) {
      return rows.next() ? Optional.of(note(rows)) : Optional.empty();
    }
  }

  private static Note note(ResultSet row) throws SQLException {
    return new Note(
        row.getObject(1, UUID.class),
        row.getString(2),
        row.getString(3),
        row.getLong(4),
        row.getObject(5, OffsetDateTime.class).toInstant(),
        row.getObject(6, OffsetDateTime.class).toInstant());
  }
}
