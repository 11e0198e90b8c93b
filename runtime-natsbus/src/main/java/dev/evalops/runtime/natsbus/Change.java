package dev.evalops.runtime.natsbus;

import com.google.protobuf.Message;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.UUID;

/**
 * What has happened to one aggregate, on its way to the bus. Immutable: each method that sets something returns a copy.
 *
 * <pre>{@code
 * Change.of("note", note.id()).operation("create").tenant(org).version(1).payload(noteProto)
 * }</pre>
 *
 * @param aggregateType the kind of thing, one token of a NATS subject: not empty, without blanks, {@code .}, {@code *} and {@code >}
 * @param aggregateId which thing; changes of the same thing are kept in order, and a consumer finds it as {@link Event#partitionKey}
 * @param operation what has happened to it, one token of a subject; {@code change} unless it is said
 * @param tenantId whose it is
 * @param sequence its place among all changes of the service, such as that of the change journal; not negative
 * @param version the version of the thing after it; not negative
 * @param recordedAt when it happened, in the years 0001 to 9999; the time of publishing unless it is said
 * @param eventId the id of the event; a random one for each publishing unless it is said. Within two minutes (the duplicate window
 *     of the stream) the stream stores an id once, so that a change with an id may be published again
 * @param payload the details
 */
public record Change(
    String aggregateType,
    Optional<String> aggregateId,
    String operation,
    Optional<String> tenantId,
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
      problems.add("aggregateId is empty");
    }
    if (sequence.isPresent() && sequence.getAsLong() < 0) {
      problems.add("sequence is negative");
    }
    if (version.isPresent() && version.getAsLong() < 0) {
      problems.add("version is negative");
    }
    if (recordedAt.isPresent() && !EventTime.canBeWritten(recordedAt.get())) {
      problems.add("recordedAt is not in the years 0001 to 9999");
    }
    if (!problems.isEmpty()) {
      throw new IllegalArgumentException(String.join("; ", problems));
    }
    Objects.requireNonNull(tenantId, "tenantId");
    Objects.requireNonNull(eventId, "eventId");
    Objects.requireNonNull(payload, "payload");
  }

  /**
   * A change of one thing.
   *
   * @param aggregateType the kind of thing, one token of a subject
   * @param aggregateId which thing, not empty
   * @return the change
   * @throws IllegalArgumentException if a parameter is wrong
   */
  public static Change of(String aggregateType, String aggregateId) {
    return new Change(
        aggregateType,
        Optional.of(aggregateId),
        "change",
        Optional.empty(),
        OptionalLong.empty(),
        OptionalLong.empty(),
        Optional.empty(),
        Optional.empty(),
        Optional.empty());
  }

  /**
   * A change of one thing.
   *
   * @param aggregateType the kind of thing, one token of a subject
   * @param aggregateId which thing
   * @return the change
   * @throws IllegalArgumentException if the type is wrong
   */
  public static Change of(String aggregateType, UUID aggregateId) {
    return of(aggregateType, aggregateId.toString());
  }

  /**
   * Says what has happened.
   *
   * @param operation one token of a subject, such as {@code create}
   * @return a copy
   * @throws IllegalArgumentException if it is no token
   */
  public Change operation(String operation) {
    return new Change(
        aggregateType,
        aggregateId,
        operation,
        tenantId,
        sequence,
        version,
        recordedAt,
        eventId,
        payload);
  }

  /**
   * Says whose it is.
   *
   * @param tenantId the organisation
   * @return a copy
   */
  public Change tenant(String tenantId) {
    return new Change(
        aggregateType,
        aggregateId,
        operation,
        Optional.of(tenantId),
        sequence,
        version,
        recordedAt,
        eventId,
        payload);
  }

  /**
   * Says its place among all changes of the service.
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
        tenantId,
        OptionalLong.of(sequence),
        version,
        recordedAt,
        eventId,
        payload);
  }

  /**
   * Says the version of the thing after it.
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
        tenantId,
        sequence,
        OptionalLong.of(version),
        recordedAt,
        eventId,
        payload);
  }

  /**
   * Says when it happened.
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
        tenantId,
        sequence,
        version,
        Optional.of(recordedAt),
        eventId,
        payload);
  }

  /**
   * Gives the event its id, so that it is stored once however often it is published within the duplicate window of the stream.
   *
   * @param eventId the id; no two changes may have the same
   * @return a copy
   */
  public Change eventId(UUID eventId) {
    return new Change(
        aggregateType,
        aggregateId,
        operation,
        tenantId,
        sequence,
        version,
        recordedAt,
        Optional.of(eventId),
        payload);
  }

  /**
   * Adds the details.
   *
   * @param payload any message; it travels as a {@code google.protobuf.Any}, and one that is an Any as it is
   * @return a copy
   */
  public Change payload(Message payload) {
    return new Change(
        aggregateType,
        aggregateId,
        operation,
        tenantId,
        sequence,
        version,
        recordedAt,
        eventId,
        Optional.of(payload));
  }

  /** Names the change without its payload. */
  @Override
  public String toString() {
    return "Change[" + aggregateType + " " + aggregateId.orElse("-") + " " + operation + "]";
  }
}
