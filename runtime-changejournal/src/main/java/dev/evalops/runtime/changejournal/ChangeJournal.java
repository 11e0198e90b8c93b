package dev.evalops.runtime.changejournal;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.UUID;
import java.util.function.IntFunction;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;

/**
 * Writes the audit entry and the change row of a mutation in the mutation's own transaction, in one round trip: all of
 * it is there afterwards, or nothing.
 *
 * <pre>{@code
 * Note note = insert(tx, command);
 * long sequence =
 *     ChangeJournal.mutation("note", note.id(), "create").by(actor).payload(note).metadata("source", "api").write(tx);
 * }</pre>
 *
 * <p>The tables {@code audit_entries} and {@code change_journal} belong to the service, which may start from {@link
 * #schema}. Their columns are found by name; ids may be {@code uuid} or {@code text}, metadata and payload {@code
 * json}, {@code jsonb} or {@code text}, times {@code timestamptz} or {@code timestamp}, which then is UTC. The tables
 * are those of the connection's {@code search_path}.
 *
 * <p><strong>The sequence is not the order of commits.</strong> It is handed out when the row is written, so that a row
 * with a smaller number can appear after one with a greater, and numbers of mutations that were rolled back are
 * missing. Who tails the journal with {@code seq > last} alone loses rows; {@link #reader} does not.
 *
 * <p>Thread-safe, as far as the connection is: it has no state.
 */
public final class ChangeJournal {
  private static final String AUDIT_ENTRIES = "audit_entries";
  private static final String CHANGE_JOURNAL = "change_journal";
  private static final String INSERT_AUDIT_ENTRY = "insert_audit_entry";
  private static final String INSERT_CHANGE_JOURNAL = "insert_change_journal";
  private static final List<String> AUDIT_COLUMNS = List.of(
      "id",
      "organization_id",
      "actor_type",
      "actor_id",
      "action",
      "resource_type",
      "resource_id",
      "metadata",
      "created_at");
  private static final List<String> JOURNAL_COLUMNS = List.of(
      "organization_id",
      "aggregate_type",
      "aggregate_id",
      "operation",
      "actor_type",
      "actor_id",
      "aggregate_version",
      "recorded_at",
      "payload");
  // The transaction has its id before it takes a number of either table: the reader relies on it.
  private static final String INSERT_BOTH = "WITH audit AS ("
      + into(AUDIT_ENTRIES, AUDIT_COLUMNS)
      + " SELECT " + placeholders(AUDIT_COLUMNS, i -> "?")
      + " WHERE txid_current() IS NOT NULL RETURNING 1) "
      + into(CHANGE_JOURNAL, JOURNAL_COLUMNS)
      + " SELECT " + placeholders(JOURNAL_COLUMNS, i -> "?") + " FROM audit RETURNING seq";

  private ChangeJournal() {}

  /**
   * Returns a mutation, to describe and {@link Mutation#write write}.
   *
   * @param aggregateType the kind of what changes, such as {@code note}; stored as it is
   * @param aggregateId its id; blank when it has none, and then stored as NULL
   * @param operation what is done to it, such as {@code create}; stored as it is
   * @return the mutation
   */
  public static Mutation mutation(String aggregateType, String aggregateId, String operation) {
    return new Mutation(aggregateType, aggregateId, operation);
  }

  /**
   * Returns a mutation, to describe and {@link Mutation#write write}.
   *
   * @param aggregateType the kind of what changes, such as {@code note}; stored as it is
   * @param aggregateId its id
   * @param operation what is done to it, such as {@code create}; stored as it is
   * @return the mutation
   */
  public static Mutation mutation(String aggregateType, UUID aggregateId, String operation) {
    return mutation(aggregateType, aggregateId.toString(), operation);
  }

  /**
   * Returns the SQL that creates {@code audit_entries} and {@code change_journal}, for the service's own migration or
   * {@code init}.
   *
   * @return statements that change nothing where the tables exist; they name no schema, and end with a semicolon
   */
  public static String schema() {
    try (InputStream sql =
        Objects.requireNonNull(ChangeJournal.class.getResourceAsStream("changejournal.sql"))) {
      return new String(sql.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * Returns a reader of the journal that misses nothing.
   *
   * @param db where the tables are; the primary, not a standby
   * @return the reader
   */
  public static JournalReader reader(DataSource db) {
    return new JournalReader(db);
  }

  /**
   * The two inserts as statements of their own, for a service that runs them by other means than this class. Their
   * arguments are, in this order:
   *
   * <ol>
   *   <li>{@code id} (a random UUID), {@code organization_id}, {@code actor_type}, {@code actor_id}, {@code action},
   *       {@code resource_type}, {@code resource_id}, {@code metadata}, {@code created_at}
   *   <li>{@code organization_id}, {@code aggregate_type}, {@code aggregate_id}, {@code operation}, {@code actor_type},
   *       {@code actor_id}, {@code aggregate_version}, {@code recorded_at}, {@code payload}
   * </ol>
   *
   * @param style how the arguments are marked
   * @return the statements
   */
  public static Templates templates(Placeholders style) {
    IntFunction<String> placeholder = switch (style) {
      case NUMBERED -> i -> "$" + i;
      case QUESTION_MARKS -> i -> "?";
    };
    return new Templates(
        into(AUDIT_ENTRIES, AUDIT_COLUMNS) + " VALUES (" + placeholders(AUDIT_COLUMNS, placeholder)
            + ")",
        into(CHANGE_JOURNAL, JOURNAL_COLUMNS) + " VALUES ("
            + placeholders(JOURNAL_COLUMNS, placeholder) + ") RETURNING seq");
  }

  /** How the arguments of a statement are marked. */
  public enum Placeholders {
    /** {@code $1}, {@code $2}, …: what Postgres itself reads. */
    NUMBERED,
    /** {@code ?}: what JDBC reads. */
    QUESTION_MARKS
  }

  /**
   * The two inserts.
   *
   * @param auditEntry inserts into {@code audit_entries}
   * @param changeJournal inserts into {@code change_journal} and returns {@code seq}
   */
  public record Templates(String auditEntry, String changeJournal) {}

  /**
   * What is written of a mutation. {@link #by} is required.
   *
   * <p>Not thread-safe.
   */
  public static final class Mutation {
    private final String aggregateType;
    private final String aggregateId;
    private final String operation;
    private final Map<String, @Nullable Object> metadata = new LinkedHashMap<>();
    private @Nullable ChangeActor actor;
    private @Nullable Object payload;
    private @Nullable String action;

    private Mutation(String aggregateType, String aggregateId, String operation) {
      this.aggregateType = Objects.requireNonNull(aggregateType, "aggregateType");
      this.aggregateId = Objects.requireNonNull(aggregateId, "aggregateId");
      this.operation = Objects.requireNonNull(operation, "operation");
    }

    /**
     * Sets who changes it.
     *
     * @param actor the actor
     * @return this
     */
    public Mutation by(ChangeActor actor) {
      this.actor = Objects.requireNonNull(actor, "actor");
      return this;
    }

    /**
     * Sets what it becomes. An integer field {@code version} of the payload, zero too, is the version of the change;
     * without one it is 1.
     *
     * @param payload a protobuf {@code Message} is stored as the JSON of a {@code google.protobuf.Any} with the names
     *     of the {@code .proto} file (as a {@code TypedMessage} of the package {@code proto} if it holds an {@code Any}
     *     of a type that its file does not import), anything else as Jackson writes it (a {@code JsonNode} as it is; a
     *     text becomes a JSON text); null, the default, as JSON {@code null}
     * @return this
     */
    public Mutation payload(@Nullable Object payload) {
      this.payload = payload;
      return this;
    }

    /**
     * Adds to the metadata of the audit entry, such as the source. Without any, JSON {@code null} is stored.
     *
     * @param name the name; a name that was added before gets the new value
     * @param value the value, written by Jackson
     * @return this
     */
    public Mutation metadata(String name, @Nullable Object value) {
      metadata.put(Objects.requireNonNull(name, "name"), value);
      return this;
    }

    /**
     * Sets the action of the audit entry.
     *
     * @param action for example {@code note.archive}, stored as it is; by default {@code <aggregateType>.<operation>},
     *     both trimmed, or the one that is not blank
     * @return this
     */
    public Mutation action(String action) {
      this.action = Objects.requireNonNull(action, "action");
      return this;
    }

    /**
     * Writes both rows.
     *
     * @param tx the connection with the mutation's transaction, not in auto-commit mode; the caller commits
     * @return the sequence number of the change
     * @throws IllegalArgumentException before anything is sent, with all problems: if there is no actor, if the
     *     connection is in auto-commit mode, if type and operation are both blank, if the action is blank, if the id
     *     begins or ends with white space, if a text cannot be stored, or if metadata or payload cannot be written as
     *     JSON or have NUL or half a surrogate pair in a text or key ({@code marshal_audit_metadata: ...}, {@code
     *     marshal_change_payload: ...})
     * @throws SQLException if the rows cannot be written, with the SQL state of the cause; none of them is. The message
     *     begins with {@code insert_audit_entry: }, {@code insert_change_journal: } or, where the server does not say
     *     which, both
     */
    public long write(Connection tx) throws SQLException {
      List<IllegalArgumentException> problems = new ArrayList<>();
      ChangeActor by = actor;
      if (by == null) {
        problems.add(new IllegalArgumentException("actor must be set: by(actor)"));
      }
      check(problems, () -> Text.storable("aggregateType", aggregateType), "");
      check(problems, () -> Text.storable("operation", operation), "");
      String auditAction = defaultAction(aggregateType, operation);
      if (auditAction.isEmpty()) {
        problems.add(
            new IllegalArgumentException("aggregateType and operation must not both be blank"));
      }
      String own = action;
      if (own != null) {
        auditAction = check(problems, () -> Text.storable("action", own), "-");
        if (Text.trim(auditAction).isEmpty()) {
          problems.add(new IllegalArgumentException("action must not be blank"));
        }
      }
      Optional<String> id =
          check(problems, () -> Text.id("aggregateId", aggregateId), Optional.empty());
      String metadataJson = check(problems, () -> Payload.metadata(metadata), "");
      Payload stored =
          check(problems, () -> Payload.of(payload), new Payload("", OptionalLong.empty()));
      if (tx.getAutoCommit()) {
        problems.add(new IllegalArgumentException(
            "tx must not be in auto-commit mode: nothing would tie the two rows to the mutation"));
      }
      if (by == null || !problems.isEmpty()) {
        throw joined(problems);
      }
      return insert(
          tx, by, aggregateType, id.orElse(null), operation, stored, metadataJson, auditAction);
    }

    private static <T> T check(
        List<IllegalArgumentException> problems, Supplier<T> value, T otherwise) {
      try {
        return value.get();
      } catch (IllegalArgumentException e) {
        problems.add(e);
        return otherwise;
      }
    }

    private static IllegalArgumentException joined(List<IllegalArgumentException> problems) {
      return problems.size() == 1
          ? problems.getFirst()
          : new IllegalArgumentException(
              problems.stream().map(Throwable::getMessage).collect(Collectors.joining("; ")),
              problems.getFirst());
    }
  }

  static String defaultAction(String aggregateType, String operation) {
    String type = Text.trim(aggregateType);
    String done = Text.trim(operation);
    return type.isEmpty() || done.isEmpty() ? type + done : type + "." + done;
  }

  private static long insert(
      Connection tx,
      ChangeActor actor,
      String aggregateType,
      @Nullable String aggregateId,
      String operation,
      Payload payload,
      String metadata,
      String action)
      throws SQLException {
    String actorId = Text.id("actor", actor.id()).orElse(null);
    String version = Long.toString(payload.version().orElse(1));
    String now = Instant.now().truncatedTo(ChronoUnit.MICROS).toString();

    // List.of takes no null.
    List<@Nullable String> arguments = new ArrayList<>();
    arguments.add(UUID.randomUUID().toString());
    arguments.add(actor.organizationId());
    arguments.add(actor.type());
    arguments.add(actorId);
    arguments.add(action);
    arguments.add(aggregateType);
    arguments.add(aggregateId);
    arguments.add(metadata);
    arguments.add(now);

    arguments.add(actor.organizationId());
    arguments.add(aggregateType);
    arguments.add(aggregateId);
    arguments.add(operation);
    arguments.add(actor.type());
    arguments.add(actorId);
    arguments.add(version);
    arguments.add(now);
    arguments.add(payload.json());
    try (PreparedStatement statement = tx.prepareStatement(INSERT_BOTH)) {
      for (int i = 0; i < arguments.size(); i++) {
        // Without a type of its own, a text takes that of the column.
        statement.setObject(i + 1, arguments.get(i), Types.OTHER);
      }
      try (ResultSet written = statement.executeQuery()) {
        if (!written.next()) {
          throw new SQLException("a rule or trigger of the table has kept the row away");
        }
        return written.getLong(1);
      }
    } catch (SQLException e) {
      throw failure(e);
    }
  }

  /** The details that follow the first line can hold the values of the row; whoever wants them has the cause. */
  private static SQLException failure(SQLException cause) {
    String message =
        Objects.requireNonNullElse(cause.getMessage(), "").lines().findFirst().orElse("");
    boolean audit = message.contains(AUDIT_ENTRIES);
    boolean journal = message.contains(CHANGE_JOURNAL);
    String failed = audit == journal
        ? INSERT_AUDIT_ENTRY + " or " + INSERT_CHANGE_JOURNAL
        : audit ? INSERT_AUDIT_ENTRY : INSERT_CHANGE_JOURNAL;
    return new SQLException(
        failed + ": " + message, cause.getSQLState(), cause.getErrorCode(), cause);
  }

  private static String into(String table, List<String> columns) {
    return "INSERT INTO " + table + " (" + String.join(", ", columns) + ")";
  }

  private static String placeholders(List<String> columns, IntFunction<String> placeholder) {
    return IntStream.rangeClosed(1, columns.size())
        .mapToObj(placeholder)
        .collect(Collectors.joining(", "));
  }
}
