package dev.evalops.benchmarks;

import dev.evalops.runtime.changejournal.ChangeActor;
import dev.evalops.runtime.changejournal.ChangeJournal;
import dev.evalops.runtime.testutil.PostgresServer;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.time.Instant;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;
import tools.jackson.databind.json.JsonMapper;

/**
 * The audit entry and the change row of a mutation, in one transaction on a Postgres over loopback: in one round trip,
 * as two statements one after the other, and an empty round trip as the floor. Sampled, because the median stands a
 * machine that is not quiet.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(2)
public class JournalBenchmark {
  private static final JsonMapper JSON = JsonMapper.shared();
  private static final ChangeJournal.Templates TEMPLATES =
      ChangeJournal.templates(ChangeJournal.Placeholders.QUESTION_MARKS);

  record Note(String id, String text, long version) {}

  private final ChangeActor actor = new ChangeActor("user", "u-1", "org-1");
  private final Note note = new Note(
      "6b9f98af-60f6-4410-ba22-1af334cead9a", "a note of some forty characters, no more", 7);
  private final Map<String, ?> metadata = Map.of("source", "api");
  private final PostgresServer server = PostgresServer.start();
  private final PostgresServer.TestSchema schema;
  private final Connection tx;

  public JournalBenchmark() {
    try {
      schema = server.schema(ChangeJournal.schema());
      tx = schema.dataSource().getConnection();
      tx.setAutoCommit(false);
    } catch (SQLException e) {
      throw new IllegalStateException(e);
    }
  }

  @TearDown(Level.Iteration)
  public void empty() throws SQLException {
    try (Statement statement = tx.createStatement()) {
      statement.execute("TRUNCATE audit_entries, change_journal");
      tx.commit();
    }
  }

  @TearDown
  public void close() throws SQLException {
    tx.close();
    schema.close();
    server.close();
  }

  @Benchmark
  public long emptyRoundTrip() throws SQLException {
    try (PreparedStatement statement = tx.prepareStatement("SELECT 1");
        ResultSet result = statement.executeQuery()) {
      result.next();
      return result.getLong(1);
    }
  }

  @Benchmark
  public long journal() throws SQLException {
    return ChangeJournal.mutation("note", note.id(), "update")
        .by(actor)
        .payload(note)
        .metadata("source", "api")
        .write(tx);
  }

  @Benchmark
  public long twoStatements() throws SQLException {
    String now = Instant.now().toString();
    try (PreparedStatement audit = tx.prepareStatement(TEMPLATES.auditEntry())) {
      bind(
          audit,
          UUID.randomUUID().toString(),
          actor.organizationId(),
          actor.type(),
          actor.id(),
          "note.update",
          "note",
          note.id(),
          JSON.writeValueAsString(metadata),
          now);
      audit.executeUpdate();
    }
    try (PreparedStatement change = tx.prepareStatement(TEMPLATES.changeJournal())) {
      bind(
          change,
          actor.organizationId(),
          "note",
          note.id(),
          "update",
          actor.type(),
          actor.id(),
          Long.toString(note.version()),
          now,
          JSON.writeValueAsString(note));
      try (ResultSet written = change.executeQuery()) {
        written.next();
        return written.getLong(1);
      }
    }
  }

  private static void bind(PreparedStatement statement, String... arguments) throws SQLException {
    for (int i = 0; i < arguments.length; i++) {
      statement.setObject(i + 1, arguments[i], Types.OTHER);
    }
  }
}
