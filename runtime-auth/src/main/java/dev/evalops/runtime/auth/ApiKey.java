package dev.evalops.runtime.auth;

import java.util.Map;
import java.util.Objects;
import java.util.Set;

/**
 * What an {@link ApiKeyValidator} has found out about a key; not the key itself.
 *
 * @param id what the key is called in audit rows, never the key; not blank
 * @param organizationId the organization that the key belongs to; not blank
 * @param scopes all scopes of the key
 * @param attributes more about the key, for {@link Actor#attributes()}
 */
public record ApiKey(
    String id, String organizationId, Set<String> scopes, Map<String, String> attributes) {

  /**
   * Checks the values and copies the collections.
   *
   * @throws IllegalArgumentException if id or organization are blank, or begin or end with white space; the message
   *     names each of them
   */
  public ApiKey {
    scopes = Set.copyOf(Objects.requireNonNull(scopes, "scopes"));
    attributes = Map.copyOf(Objects.requireNonNull(attributes, "attributes"));
    Actor.requireNames("id", id, "organizationId", organizationId);
  }

  /**
   * A key without attributes.
   *
   * @param id what the key is called in audit rows, never the key; not blank
   * @param organizationId the organization that the key belongs to; not blank
   * @param scopes all scopes of the key
   * @throws IllegalArgumentException if id or organization are blank, or begin or end with white space; the message
   *     names each of them
   */
  public ApiKey(String id, String organizationId, Set<String> scopes) {
    this(id, organizationId, scopes, Map.of());
  }
}
