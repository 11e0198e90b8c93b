package dev.evalops.examples.notes.spring;

import dev.evalops.runtime.changejournal.ChangeJournal;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.outbox.Outbox;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Objects;

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
      statement.execute(resource(ChangeJournal.class, "changejournal.sql"));
      statement.execute(resource(Idempotency.class, "idempotency.sql"));
      statement.execute(resource(Outbox.class, "outbox.sql"));
    }
  }

  private static String resource(Class<?> beside, String name) {
    try (InputStream in = Objects.requireNonNull(beside.getResourceAsStream(name), name)) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
