package dev.evalops.runtime.events;

import com.google.protobuf.Message;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.UUID;

/**
 * A change of one aggregate, to be published. Immutable: each method that sets something returns a copy.
 *
 * <pre>{@code
 * Change.of("note", note.id(), "create").organization(org).version(1).payload(noteProto)
 * }</pre>
 *
 * @param aggregateType the type of the aggregate, one token of a subject: ASCII, not empty, without blanks, {@code .},
 *     {@code *} and {@code >}
 * @param aggregateId the id of the aggregate; changes of the same aggregate are kept in order, and a consumer finds the
 *     id as {@link Event#aggregateId}
 * @param operation what has happened to the aggregate, one token of a subject
 * @param organizationId the organization of the aggregate, on the wire the tenant
 * @param sequence the number among all changes of the service, such as that of the change journal; not negative
 * @param version the version of the aggregate after the change; not negative
 * @param recordedAt when it happened, in the years 0001 to 9999; the time of encoding unless it is set
 * @param eventId the id of the event; a random one at each encoding unless it is set. Within its duplicate window the
 *     broker stores an id once, so that a change with an id may be published again
 * @param payload the payload of the event
 */
public record Change(
    String aggregateType,
    Optional<String> aggregateId,
    String operation,
    Optional<String> organizationId,
    OptionalLong sequence,
    OptionalLong version,
    Optional<Instant> recordedAt,
    Optional<UUID> eventId,
    Optional<Message> payload) {

  /**
   * Checks the parts.
   *
   * @throws IllegalArgumentException if some are wrong; the message names all of them
   */
  public Change {
    List<String> problems = new ArrayList<>();
    Subjects.checkToken("aggregateType", aggregateType, problems);
    Subjects.checkToken("operation", operation, problems);
    if (aggregateId.isPresent() && aggregateId.get().isEmpty()) {
      problems.add("aggregateId must not be empty");
    }
    if (aggregateId.isPresent() && !isText(aggregateId.get())) {
      problems.add("aggregateId must not have NUL or half a surrogate pair");
    }
    if (organizationId.isPresent() && !isText(organizationId.get())) {
      problems.add("organizationId must not have NUL or half a surrogate pair");
    }
    if (sequence.isPresent() && sequence.getAsLong() < 0) {
      problems.add("sequence must be 0 or more: " + sequence.getAsLong());
    }
    if (version.isPresent() && version.getAsLong() < 0) {
      problems.add("version must be 0 or more: " + version.getAsLong());
    }
    if (recordedAt.isPresent() && !EventTime.canBeWritten(recordedAt.get())) {
      problems.add("recordedAt must be in the years 0001 to 9999: " + recordedAt.get());
    }
    if (!problems.isEmpty()) {
      throw new IllegalArgumentException(String.join("; ", problems));
    }
    Objects.requireNonNull(organizationId, "organizationId");
    Objects.requireNonNull(eventId, "eventId");
    Objects.requireNonNull(payload, "payload");
  }

  /** Half a surrogate pair would become something else on the wire, and no reader takes a NUL. */
  private static boolean isText(String text) {
    for (int i = 0; i < text.length(); i++) {
      if (text.charAt(i) == 0) {
        return false;
      }
      if (Character.isSurrogate(text.charAt(i))) {
        if (!Character.isSupplementaryCodePoint(text.codePointAt(i))) {
          return false;
        }
        i++;
      }
    }
    return true;
  }

  /**
   * Returns a change of an aggregate.
   *
   * @param aggregateType the type of the aggregate, one token of a subject
   * @param aggregateId the id of the aggregate, not empty
   * @param operation what has happened to it, one token of a subject, such as {@code create}
   * @return the change
   * @throws IllegalArgumentException if a parameter is wrong
   */
  public static Change of(String aggregateType, String aggregateId, String operation) {
    return new Change(
        aggregateType,
        Optional.of(aggregateId),
        operation,
        Optional.empty(),
        OptionalLong.empty(),
        OptionalLong.empty(),
        Optional.empty(),
        Optional.empty(),
        Optional.empty());
  }

  /**
   * Returns a change of an aggregate.
   *
   * @param aggregateType the type of the aggregate, one token of a subject
   * @param aggregateId the id of the aggregate
   * @param operation what has happened to it, one token of a subject, such as {@code create}
   * @return the change
   * @throws IllegalArgumentException if the type or the operation is wrong
   */
  public static Change of(String aggregateType, UUID aggregateId, String operation) {
    return of(aggregateType, aggregateId.toString(), operation);
  }

  /**
   * Sets the organization of the aggregate.
   *
   * @param organizationId its id
   * @return a copy
   */
  public Change organization(String organizationId) {
    return new Change(
        aggregateType,
        aggregateId,
        operation,
        Optional.of(organizationId),
        sequence,
        version,
        recordedAt,
        eventId,
        payload);
  }

  /**
   * Sets the number among all changes of the service, such as that of the change journal.
   *
   * @param sequence not negative
   * @return a copy
   * @throws IllegalArgumentException if it is negative
   */
  public Change sequence(long sequence) {
    return new Change(
        aggregateType,
        aggregateId,
        operation,
        organizationId,
        OptionalLong.of(sequence),
        version,
        recordedAt,
        eventId,
        payload);
  }

  /**
   * Sets the version of the aggregate after the change.
   *
   * @param version not negative
   * @return a copy
   * @throws IllegalArgumentException if it is negative
   */
  public Change version(long version) {
    return new Change(
        aggregateType,
        aggregateId,
        operation,
        organizationId,
        sequence,
        OptionalLong.of(version),
        recordedAt,
        eventId,
        payload);
  }

  /**
   * Sets the time of the change.
   *
   * @param recordedAt in the years 0001 to 9999; JSON and header forms carry whole seconds
   * @return a copy
   * @throws IllegalArgumentException if it is out of those years
   */
  public Change recordedAt(Instant recordedAt) {
    return new Change(
        aggregateType,
        aggregateId,
        operation,
        organizationId,
        sequence,
        version,
        Optional.of(recordedAt),
        eventId,
        payload);
  }

  /**
   * Sets the id of the event, so that it is stored once however often it is published within the duplicate window of
   * the broker.
   *
   * @param eventId the id; no two changes may have the same
   * @return a copy
   */
  public Change eventId(UUID eventId) {
    return new Change(
        aggregateType,
        aggregateId,
        operation,
        organizationId,
        sequence,
        version,
        recordedAt,
        Optional.of(eventId),
        payload);
  }

  /**
   * Sets the payload.
   *
   * @param payload any message; it is sent as a {@code google.protobuf.Any}, and an {@code Any} as it is
   * @return a copy
   */
  public Change payload(Message payload) {
    return new Change(
        aggregateType,
        aggregateId,
        operation,
        organizationId,
        sequence,
        version,
        recordedAt,
        eventId,
        Optional.of(payload));
  }

  /** Returns type, id and operation, without the payload. */
  @Override
  public String toString() {
    return "Change[" + aggregateType + " " + aggregateId.orElse("-") + " " + operation + "]";
  }
}
