package dev.evalops.runtime.auth.identity;

import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.auth.TokenVerifier;
import dev.evalops.runtime.auth.VerifiedToken;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.identity.IdentityClient;
import dev.evalops.runtime.identity.IdentityException;
import dev.evalops.runtime.identity.Introspection;
import java.util.HashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;

/**
 * Asks the identity service about tokens. Thread-safe.
 *
 * <p>The actor's id is the subject. Its type is {@code agent} for a token with an agent type, else {@code service} for
 * one that names a service, else the token type, else {@code unknown}. Of these {@code human} and {@code user} are
 * human: an agent that holds a user's token is not. The actor's attributes are {@code agent_type}, {@code run_id},
 * {@code surface} and, unless it is a user's token, {@code agent_id}, each if there is one; mail address and name stay
 * out.
 */
public final class IdentityTokens {
  private static final String OP = "auth.identity";

  private IdentityTokens() {}

  /**
   * Returns a verifier for {@link dev.evalops.runtime.auth.Auth.Builder#tokens}. The client gets 401 {@code
   * invalid_token} or {@code inactive_token} when the identity service says so, 403 {@code missing_subject} or {@code
   * missing_organization} for a token of nobody, and 503 for everything else.
   *
   * @param identity the client; its request timeout bounds the verification, and closing it stays with the caller
   * @return the verifier
   */
  public static TokenVerifier of(IdentityClient identity) {
    Objects.requireNonNull(identity, "identity");
    return (token, requiredScopes) -> verify(identity, token);
  }

  private static Optional<VerifiedToken> verify(IdentityClient identity, String token) {
    try {
      return Optional.of(verified(identity.introspect(token)));
    } catch (IdentityException e) {
      return switch (e.reason()) {
        case INVALID_TOKEN -> Optional.empty();
        case INACTIVE_TOKEN ->
          throw ServiceException.of(ErrorCode.UNAUTHORIZED, e.reason().code(), e)
              .op(OP);
        default -> throw e;
      };
    }
  }

  private static VerifiedToken verified(Introspection found) {
    if (found.subject().isEmpty() || found.organizationId().isEmpty()) {
      throw ServiceException.of(
              ErrorCode.FORBIDDEN,
              found.subject().isEmpty() ? "missing_subject" : "missing_organization")
          .op(OP);
    }
    Actor actor = new Actor(
        type(found), found.subject().get(), found.organizationId().get(), attributes(found));
    return new VerifiedToken(
        actor,
        found.tokenType(),
        found.service(),
        found.userSubject(),
        Set.copyOf(found.scopes()),
        isHuman(actor.type()) && found.runId().isEmpty() && found.capabilities().isEmpty());
  }

  private static String type(Introspection found) {
    if (found.agentType().isPresent()) {
      return "agent";
    }
    if (found.service().isPresent()) {
      return "service";
    }
    return found.tokenType().orElse("unknown");
  }

  private static boolean isHuman(String type) {
    return type.equalsIgnoreCase("human") || type.equalsIgnoreCase("user");
  }

  private static Map<String, String> attributes(Introspection found) {
    Map<String, String> attributes = new HashMap<>();
    found.agentType().ifPresent(type -> attributes.put("agent_type", type));
    found.runId().ifPresent(run -> attributes.put("run_id", run));
    found.surface().ifPresent(surface -> attributes.put("surface", surface));
    if (found.agentType().isPresent() && !isHuman(found.tokenType().orElse(""))) {
      found.subject().ifPresent(subject -> attributes.put("agent_id", subject));
    }
    return attributes;
  }
}
