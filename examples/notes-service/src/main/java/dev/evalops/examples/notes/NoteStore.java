package dev.evalops.examples.notes;

import static dev.evalops.runtime.errors.ErrorCode.NOT_FOUND;
import static dev.evalops.runtime.errors.ErrorCode.VERSION_CONFLICT;

import dev.evalops.runtime.errors.ServiceException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import javax.sql.DataSource;

/** The notes in Postgres; each method is one statement, so each is its own transaction. */
final class NoteStore {
  private static final String COLUMNS = "id, title, body, version, created_at, updated_at";

  private final DataSource db;

  NoteStore(DataSource db) {
    this.db = db;
  }

  Saved create(String title, String body) throws SQLException {
    String sql = "INSERT INTO notes (" + COLUMNS + ") VALUES (?, ?, ?, 1, now(), now()) RETURNING "
        + COLUMNS + ", nextval('note_changes')";
    try (Connection connection = db.getConnection();
        PreparedStatement insert = connection.prepareStatement(sql)) {
      insert.setObject(1, UUID.randomUUID());
      insert.setString(2, title);
      insert.setString(3, body);
      return saved(insert).orElseThrow();
    }
  }

  /** Replaces title and body if the note still has this version. */
  Saved update(UUID id, long version, String title, String body) throws SQLException {
    String sql = "UPDATE notes SET title = ?, body = ?, version = version + 1, updated_at = now()"
        + " WHERE id = ? AND version = ? RETURNING " + COLUMNS + ", nextval('note_changes')";
    try (Connection connection = db.getConnection();
        PreparedStatement update = connection.prepareStatement(sql)) {
      update.setString(1, title);
      update.setString(2, body);
      update.setObject(3, id);
      update.setLong(4, version);
      Optional<Saved> saved = saved(update);
      if (saved.isPresent()) {
        return saved.get();
      }
    }
    read(id);
    throw new ServiceException(VERSION_CONFLICT, "note.update");
  }

  Note read(UUID id) throws SQLException {
    try (Connection connection = db.getConnection();
        PreparedStatement select =
            connection.prepareStatement("SELECT " + COLUMNS + " FROM notes WHERE id = ?")) {
      select.setObject(1, id);
      try (ResultSet rows = select.executeQuery()) {
        if (!rows.next()) {
          throw new ServiceException(NOT_FOUND, "note.read", "no such note");
        }
        return note(rows);
      }
    }
  }

  /** The newest notes first. */
  List<Note> list(int limit) throws SQLException {
    String sql = "SELECT " + COLUMNS + " FROM notes ORDER BY created_at DESC, id DESC LIMIT ?";
    try (Connection connection = db.getConnection();
        PreparedStatement select = connection.prepareStatement(sql)) {
      select.setInt(1, limit);
      List<Note> notes = new ArrayList<>();
      try (ResultSet rows = select.executeQuery()) {
        while (rows.next()) {
          notes.add(note(rows));
        }
      }
      return notes;
    }
  }

  private static Optional<Saved> saved(PreparedStatement statement) throws SQLException {
    try (ResultSet rows = statement.executeQuery()) {
      return rows.next() ? Optional.of(new Saved(note(rows), rows.getLong(7))) : Optional.empty();
    }
  }

  private static Note note(ResultSet row) throws SQLException {
    return new Note(
        row.getObject(1, UUID.class),
        row.getString(2),
        row.getString(3),
        row.getLong(4),
        instant(row, 5),
        instant(row, 6));
  }

  private static Instant instant(ResultSet row, int column) throws SQLException {
    return row.getObject(column, OffsetDateTime.class)
        .withOffsetSameInstant(ZoneOffset.UTC)
        .toInstant();
  }
}
