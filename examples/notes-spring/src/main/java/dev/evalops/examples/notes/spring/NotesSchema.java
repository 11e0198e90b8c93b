package dev.evalops.examples.notes.spring;

import dev.evalops.runtime.changejournal.ChangeJournal;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.outbox.Outbox;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;

/** The service owns its tables. Several replicas may start at once. */
final class NotesSchema {
  private static final String DDL = """
      SELECT pg_advisory_xact_lock(hashtext('notes.schema'));
      CREATE TABLE IF NOT EXISTS notes (
        organization_id text NOT NULL,
        id uuid PRIMARY KEY,
        title text NOT NULL,
        body text NOT NULL,
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL
      );
      CREATE INDEX IF NOT EXISTS notes_by_age ON notes (organization_id, created_at DESC, id DESC);
      CREATE TABLE IF NOT EXISTS feed (
        note_id uuid NOT NULL,
        version bigint NOT NULL,
        seq bigint NOT NULL,
        organization_id text NOT NULL,
        operation text NOT NULL,
        title text NOT NULL,
        changed_at timestamptz NOT NULL,
        PRIMARY KEY (note_id, version)
      );
      CREATE INDEX IF NOT EXISTS feed_newest ON feed (organization_id, seq DESC);
      """;

  private NotesSchema() {}

  static void apply(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute(DDL);
      statement.execute(ChangeJournal.schema());
      statement.execute(Idempotency.schema());
      statement.execute(Outbox.schema());
    }
  }
}
