package dev.evalops.examples.notes;

import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;

/** The service owns its tables. Several replicas may start at once. */
final class NotesSchema {
  private static final String DDL = """
      SELECT pg_advisory_xact_lock(hashtext('notes.schema'));
      CREATE TABLE IF NOT EXISTS notes (
        id uuid PRIMARY KEY,
        title text NOT NULL,
        body text NOT NULL,
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
      );
      CREATE INDEX IF NOT EXISTS notes_by_age ON notes (created_at DESC, id DESC);
      CREATE SEQUENCE IF NOT EXISTS note_changes;
      """;

  private NotesSchema() {}

  static void apply(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute(DDL);
    }
  }
}
