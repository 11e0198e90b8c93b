package dev.evalops.runtime.identity;

import java.time.Instant;
import java.util.List;
import java.util.Optional;

/**
 * What the identity service says of a token. The token itself is not in it. A text that the service leaves out is empty, as in
 * protobuf. Immutable.
 *
 * @param active always true in what {@link IdentityClient#introspect} returns
 * @param subject who the token is for
 * @param tokenType such as {@code user} or {@code service}
 * @param service the service, if the token is a service's
 * @param organizationId the organization that the subject acts in
 * @param scopes what the token allows, in the order of the answer
 * @param agentType the kind of agent, if the token is an agent's
 * @param capabilities what the agent can do, in the order of the answer
 * @param runId the run of the agent
 * @param surface where the agent runs
 * @param userSubject the user on whose behalf the subject acts
 * @param email the user's address
 * @param name the user's name
 * @param expiresAt the end of the token's life; empty when the service does not say
 * @param issuedAt the begin of the token's life; empty when the service does not say
 */
public record Introspection(
    boolean active,
    String subject,
    String tokenType,
    String service,
    String organizationId,
    List<String> scopes,
    String agentType,
    List<String> capabilities,
    String runId,
    String surface,
    String userSubject,
    String email,
    String name,
    Optional<Instant> expiresAt,
    Optional<Instant> issuedAt) {

  /** Copies the lists. */
  public Introspection {
    scopes = List.copyOf(scopes);
    capabilities = List.copyOf(capabilities);
  }
}
