package dev.evalops.runtime.identity;

import java.time.Instant;
import java.util.List;
import java.util.Optional;

/**
 * What the identity service says about a token. The token itself is not in it. Immutable.
 *
 * @param active always true in what {@link IdentityClient#introspect} returns
 * @param subject who the token is for; empty when the service does not say
 * @param tokenType such as {@code user} or {@code service}; empty when the service does not say
 * @param service the service, if the token is a service's
 * @param organizationId the organization that the subject acts in; empty when the service does not say
 * @param scopes what the token allows, in the order of the answer
 * @param agentType the kind of agent, if the token is an agent's
 * @param capabilities what the agent can do, in the order of the answer
 * @param runId the run of the agent
 * @param surface where the agent runs
 * @param userSubject the user on whose behalf the subject acts
 * @param email the user's address
 * @param name the user's name
 * @param expiresAt the end of the token's life; empty when the service does not say
 * @param issuedAt the start of the token's life; empty when the service does not say
 */
public record Introspection(
    boolean active,
    Optional<String> subject,
    Optional<String> tokenType,
    Optional<String> service,
    Optional<String> organizationId,
    List<String> scopes,
    Optional<String> agentType,
    List<String> capabilities,
    Optional<String> runId,
    Optional<String> surface,
    Optional<String> userSubject,
    Optional<String> email,
    Optional<String> name,
    Optional<Instant> expiresAt,
    Optional<Instant> issuedAt) {

  /** Copies the lists. An optional text that is blank becomes empty, as protobuf does not tell them apart. */
  public Introspection {
    subject = unblank(subject);
    tokenType = unblank(tokenType);
    service = unblank(service);
    organizationId = unblank(organizationId);
    scopes = List.copyOf(scopes);
    agentType = unblank(agentType);
    capabilities = List.copyOf(capabilities);
    runId = unblank(runId);
    surface = unblank(surface);
    userSubject = unblank(userSubject);
    email = unblank(email);
    name = unblank(name);
  }

  private static Optional<String> unblank(Optional<String> text) {
    return text.filter(value -> !Blank.trim(value).isEmpty());
  }
}
