package dev.evalops.runtime.auth;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.sun.net.httpserver.HttpExchange;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;

/**
 * Who did it, for audit rows and ownership. Jackson writes {@code type}, {@code id}, {@code organization_id} and, if
 * there are any, {@code attributes}.
 *
 * @param type for example {@code user}, {@code service} or {@code api_key}; not blank
 * @param id the id within the type; not blank
 * @param organizationId the organization that the actor belongs to; not blank
 * @param attributes more that the verifier knows of the actor, as it was told; the names that {@link Principal} reads
 *     are listed there
 */
public record Actor(
    String type,
    String id,
    @JsonProperty("organization_id") String organizationId,
    @JsonInclude(JsonInclude.Include.NON_EMPTY) Map<String, String> attributes) {

  /**
   * Checks the values and copies the map.
   *
   * @throws IllegalArgumentException if type, id or organization are blank, or begin or end with white space: {@code "a
   *     "} and {@code "a"} would be two owners that look like one; the message names each of them
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
   * @throws IllegalArgumentException if a value is blank, or begins or ends with white space; the message names each of
   *     them
   */
  public Actor(String type, String id, String organizationId) {
    this(type, id, organizationId, Map.of());
  }

  /**
   * Returns who calls.
   *
   * @param exchange the exchange of a request that {@link Auth#require} has let pass
   * @return the actor
   * @throws IllegalStateException if no filter of {@link Auth#require} is in front of the handler
   */
  public static Actor of(HttpExchange exchange) {
    return find(exchange).orElseThrow(Auth::nobody);
  }

  /**
   * Returns who calls, if that is known: for filters and handlers that also serve routes without auth.
   *
   * @param exchange an exchange of {@code HttpService} or {@code HttpFilters.chain}
   * @return the actor, or empty if no filter of {@link Auth#require} has let the request pass (yet)
   */
  public static Optional<Actor> find(HttpExchange exchange) {
    return Auth.caller(exchange).map(Auth.Caller::actor);
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
