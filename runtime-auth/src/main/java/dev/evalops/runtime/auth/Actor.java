package dev.evalops.runtime.auth;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * Who did it, for audit rows and ownership. Jackson writes {@code type}, {@code id}, {@code organization_id} and, if there are
 * any, {@code attributes}.
 *
 * @param type for example {@code user}, {@code service} or {@code api_key}; not blank
 * @param id the id within the type; not blank
 * @param organizationId the organization that the actor belongs to; not blank
 * @param attributes more that the verifier knows of the actor, as it was told; the names that {@link Principal} reads are
 *     listed there
 */
public record Actor(
    String type,
    String id,
    @JsonProperty("organization_id") String organizationId,
    @JsonInclude(JsonInclude.Include.NON_EMPTY) Map<String, String> attributes) {

  /**
   * Checks the values and copies the map.
   *
   * @throws IllegalArgumentException if type, id or organization are blank, or begin or end with white space: {@code "a "} and
   *     {@code "a"} would be two owners that look like one; the message names each of them
   */
  public Actor {
    attributes = Map.copyOf(Objects.requireNonNull(attributes, "attributes"));
    requireNames("type", type, "id", id, "organizationId", organizationId);
  }

  /**
   * An actor without attributes.
   *
   * @param type for example {@code user}, {@code service} or {@code api_key}; not blank
   * @param id the id within the type; not blank
   * @param organizationId the organization that the actor belongs to; not blank
   * @throws IllegalArgumentException if a value is blank, or begins or ends with white space; the message names each of them
   */
  public Actor(String type, String id, String organizationId) {
    this(type, id, organizationId, Map.of());
  }

  static void requireNames(String... namesAndValues) {
    require(true, namesAndValues);
  }

  static void requireNotBlank(String... namesAndValues) {
    require(false, namesAndValues);
  }

  private static void require(boolean trimmed, String... namesAndValues) {
    List<String> problems = new ArrayList<>(0);
    for (int i = 0; i < namesAndValues.length; i += 2) {
      String value = Objects.requireNonNull(namesAndValues[i + 1], namesAndValues[i]);
      if (Text.isBlank(value)) {
        problems.add(namesAndValues[i] + " must not be blank");
      } else if (trimmed && Text.trim(value).length() != value.length()) {
        problems.add(namesAndValues[i] + " must not begin or end with white space");
      }
    }
    if (!problems.isEmpty()) {
      throw new IllegalArgumentException(String.join("; ", problems));
    }
  }
}
