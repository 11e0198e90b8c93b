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
 * A row of {@code audit_entries}. Jackson writes and reads it with the names of the columns; an id that is absent is
 * left out.
 *
 * <p>Immutable, but for the metadata: nobody changes them afterwards.
 *
 * @param id the entry's id, a UUID
 * @param organizationId the organization
 * @param actorType the kind of actor
 * @param actorId the actor's id
 * @param action what was done, such as {@code note.create}
 * @param aggregateType the kind of what changed
 * @param aggregateId the id of what changed
 * @param metadata the metadata, a JSON object; JSON {@code null} when there are none
 * @param createdAt when it was done
 */
@JsonNaming(PropertyNamingStrategies.SnakeCaseStrategy.class)
@JsonPropertyOrder({
  "id",
  "organization_id",
  "actor_type",
  "actor_id",
  "action",
  "resource_type",
  "resource_id",
  "metadata",
  "created_at"
})
public record AuditEntry(
    String id,
    String organizationId,
    String actorType,
    @JsonInclude(JsonInclude.Include.NON_ABSENT) Optional<String> actorId,
    String action,
    @JsonProperty("resource_type") String aggregateType,

    @JsonProperty("resource_id") @JsonInclude(JsonInclude.Include.NON_ABSENT)
    Optional<String> aggregateId,

    JsonNode metadata,
    Instant createdAt) {
  /**
   * Checks that every part is there.
   *
   * @throws NullPointerException if one is null; the message names it
   */
  public AuditEntry {
    Objects.requireNonNull(id, "id");
    Objects.requireNonNull(organizationId, "organizationId");
    Objects.requireNonNull(actorType, "actorType");
    Objects.requireNonNull(actorId, "actorId");
    Objects.requireNonNull(action, "action");
    Objects.requireNonNull(aggregateType, "aggregateType");
    Objects.requireNonNull(aggregateId, "aggregateId");
    Objects.requireNonNull(metadata, "metadata");
    Objects.requireNonNull(createdAt, "createdAt");
  }
}
