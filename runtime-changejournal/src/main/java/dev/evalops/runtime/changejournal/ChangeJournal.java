package dev.evalops.runtime.changejournal;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.function.IntFunction;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;

/**
 * Writes the audit entry and the change row of a mutation in the mutation's own transaction, in one round trip: all of it is there
 * afterwards, or nothing.
 *
 * <pre>{@code
 * Note note = insert(tx, command);
 * long sequence = ChangeJournal.write(tx, actor, "note", note.id(), "create", note, Map.of("source", "api"));
 * }</pre>
 *
 * <p>The tables {@code audit_entries} and {@code change_journal} belong to the service, which may start from the resource {@code
 * changejournal.sql} beside this class. Their columns are found by name; ids may be {@code uuid} or {@code text}, metadata and payload
 * {@code json}, {@code jsonb} or {@code text}, times {@code timestamptz} or {@code timestamp}, which then is UTC. The tables are those of the
 * connection's {@code search_path}.
 *
 * <p><strong>The sequence is not the order of commits.</strong> It is handed out when the row is written, so that a row with a smaller number
 * can appear after one with a greater, and numbers of mutations that were rolled back are missing. Who tails the journal with {@code seq > last} alone
 * loses rows; {@link #reader} does not.
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
   * Writes both rows; the action of the audit entry is {@code <resourceType>.<operation>}, both trimmed, or the one that is not blank.
   *
   * @param tx the connection with the mutation's transaction, not in auto-commit mode; the caller commits
   * @param actor who changes it
   * @param resourceType the kind of what changes, such as {@code note}; stored as it is
   * @param resourceId its id; blank when it has none, and then stored as NULL
   * @param operation what is done to it, such as {@code create}; stored as it is
   * @param payload what it becomes, or null: a protobuf {@code Message} is stored as the JSON of a {@code google.protobuf.Any} with the names of
   *     the {@code .proto} file (as a {@code TypedMessage} of the package {@code proto} if it holds an {@code Any} of a type that its file does not
   *     import), anything else as Jackson writes it (a {@code JsonNode} as it is; a text becomes a JSON text). An integer field
   *     {@code version} of it is the version of the change, zero too, as in the {@code ETag} of an answer; without one it is 1
   * @param metadata what else the audit entry says, such as the source; empty for none, which is stored as JSON {@code null}
   * @return the sequence number of the change
   * @throws IllegalArgumentException before anything is sent: if the connection is in auto-commit mode, if type and operation are both blank, if an
   *     id begins or ends with white space, if a text cannot be stored, or if metadata or payload cannot be written as JSON or have NUL or half a surrogate pair in a text or key ({@code
   *     marshal_audit_metadata: ...}, {@code marshal_change_payload: ...})
   * @throws SQLException if the rows cannot be written, with the SQL state of the cause; none of them is. The message begins with {@code
   *     insert_audit_entry: }, {@code insert_change_journal: } or, where the server does not say which, both
   */
  public static long write(
      Connection tx,
      ChangeActor actor,
      String resourceType,
      String resourceId,
      String operation,
      @Nullable Object payload,
      Map<String, ?> metadata)
      throws SQLException {
    String action = defaultAction(resourceType, operation);
    return insert(tx, actor, resourceType, resourceId, operation, payload, metadata, action);
  }

  /**
   * Writes both rows; see {@link #write(Connection, ChangeActor, String, String, String, Object, Map)}.
   *
   * @param tx the connection with the mutation's transaction, not in auto-commit mode; the caller commits
   * @param actor who changes it
   * @param resourceType the kind of what changes
   * @param resourceId its id
   * @param operation what is done to it
   * @param payload what it becomes, or null
   * @param metadata what else the audit entry says; empty for none
   * @return the sequence number of the change
   * @throws IllegalArgumentException before anything is sent: if an argument is wrong
   * @throws SQLException if the rows cannot be written; none of them is
   */
  public static long write(
      Connection tx,
      ChangeActor actor,
      String resourceType,
      UUID resourceId,
      String operation,
      @Nullable Object payload,
      Map<String, ?> metadata)
      throws SQLException {
    return write(tx, actor, resourceType, resourceId.toString(), operation, payload, metadata);
  }

  /**
   * Writes both rows with an action of its own in the audit entry; see {@link #write(Connection, ChangeActor, String, String, String, Object, Map)}.
   *
   * @param tx the connection with the mutation's transaction, not in auto-commit mode; the caller commits
   * @param actor who changes it
   * @param resourceType the kind of what changes
   * @param resourceId its id; blank when it has none
   * @param operation what is done to it
   * @param payload what it becomes, or null
   * @param metadata what else the audit entry says; empty for none
   * @param action the action of the audit entry, such as {@code note.archive}; stored as it is
   * @return the sequence number of the change
   * @throws IllegalArgumentException before anything is sent: if an argument is wrong, or the action is blank
   * @throws SQLException if the rows cannot be written; none of them is
   */
  public static long write(
      Connection tx,
      ChangeActor actor,
      String resourceType,
      String resourceId,
      String operation,
      @Nullable Object payload,
      Map<String, ?> metadata,
      String action)
      throws SQLException {
    if (Text.trim(Text.storable("action", action)).isEmpty()) {
      throw new IllegalArgumentException("action must not be blank");
    }
    return insert(tx, actor, resourceType, resourceId, operation, payload, metadata, action);
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
   * The two inserts as statements of their own, for a service that runs them by other means than this class. Their arguments are, in this order:
   *
   * <ol>
   *   <li>{@code id} (a random UUID), {@code organization_id}, {@code actor_type}, {@code actor_id}, {@code action}, {@code resource_type}, {@code
   *       resource_id}, {@code metadata}, {@code created_at}
   *   <li>{@code organization_id}, {@code aggregate_type}, {@code aggregate_id}, {@code operation}, {@code actor_type}, {@code actor_id}, {@code
   *       aggregate_version}, {@code recorded_at}, {@code payload}
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

  static String defaultAction(String resourceType, String operation) {
    String type = Text.trim(Text.storable("resourceType", resourceType));
    String done = Text.trim(Text.storable("operation", operation));
    return type.isEmpty() || done.isEmpty() ? type + done : type + "." + done;
  }

  private static long insert(
      Connection tx,
      ChangeActor actor,
      String resourceType,
      String resourceId,
      String operation,
      @Nullable Object payload,
      Map<String, ?> metadata,
      String action)
      throws SQLException {
    if (defaultAction(resourceType, operation).isEmpty()) {
      throw new IllegalArgumentException("resourceType and operation must not both be blank");
    }
    String resource = Text.id("resourceId", resourceId).orElse(null);
    String actorId = Text.id("actor", actor.id()).orElse(null);
    String metadataJson = Payload.metadata(metadata);
    Payload stored = Payload.of(payload);
    String version = Long.toString(stored.version().orElse(1));
    String now = Instant.now().truncatedTo(ChronoUnit.MICROS).toString();
    if (tx.getAutoCommit()) {
      throw new IllegalArgumentException(
          "tx must not be in auto-commit mode: nothing would tie the two rows to the mutation");
    }

    // List.of takes no null.
    List<@Nullable String> arguments = new ArrayList<>();
    arguments.add(UUID.randomUUID().toString());
    arguments.add(actor.organizationId());
    arguments.add(actor.type());
    arguments.add(actorId);
    arguments.add(action);
    arguments.add(resourceType);
    arguments.add(resource);
    arguments.add(metadataJson);
    arguments.add(now);

    arguments.add(actor.organizationId());
    arguments.add(resourceType);
    arguments.add(resource);
    arguments.add(operation);
    arguments.add(actor.type());
    arguments.add(actorId);
    arguments.add(version);
    arguments.add(now);
    arguments.add(stored.json());
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
