package dev.evalops.runtime.changejournal;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import java.time.Instant;
import java.util.Objects;
import java.util.Optional;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.annotation.JsonNaming;

/**
 * A row of {@code change_journal}. Jackson writes and reads it with the names of the columns; an id that is absent is
 * left out. {@link dev.evalops.runtime.changejournal.proto.ChangeProtos} converts it to and from protobuf.
 *
 * <p>Immutable, but for the payload: nobody changes it afterwards.
 *
 * @param sequence the number of the row; unique, and not in the order of commits
 * @param organizationId the organization
 * @param aggregateType the kind of what changed
 * @param aggregateId the id of what changed
 * @param operation what was done to it, such as {@code create}
 * @param actorType the kind of actor
 * @param actorId the actor's id
 * @param version the version after the change
 * @param recordedAt when it was done
 * @param payload what it became; JSON {@code null} when the change has none
 */
@JsonNaming(PropertyNamingStrategies.SnakeCaseStrategy.class)
@JsonPropertyOrder({
  "seq",
  "organization_id",
  "aggregate_type",
  "aggregate_id",
  "operation",
  "actor_type",
  "actor_id",
  "aggregate_version",
  "recorded_at",
  "payload"
})
public record Change(
    @JsonProperty("seq") long sequence,
    String organizationId,
    String aggregateType,
    @JsonInclude(JsonInclude.Include.NON_ABSENT) Optional<String> aggregateId,
    String operation,
    String actorType,
    @JsonInclude(JsonInclude.Include.NON_ABSENT) Optional<String> actorId,
    @JsonProperty("aggregate_version") long version,
    Instant recordedAt,
    JsonNode payload) {
  /**
   * Checks that every part is there.
   *
   * @throws NullPointerException if one is null; the message names it
   */
  public Change {
    Objects.requireNonNull(organizationId, "organizationId");
    Objects.requireNonNull(aggregateType, "aggregateType");
    Objects.requireNonNull(aggregateId, "aggregateId");
    Objects.requireNonNull(operation, "operation");
    Objects.requireNonNull(actorType, "actorType");
    Objects.requireNonNull(actorId, "actorId");
    Objects.requireNonNull(recordedAt, "recordedAt");
    Objects.requireNonNull(payload, "payload");
  }
}
