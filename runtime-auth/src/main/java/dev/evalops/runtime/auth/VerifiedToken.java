package dev.evalops.runtime.auth;

import java.util.Objects;
import java.util.Set;

/**
 * What a {@link TokenVerifier} has found a token to say. What decides over access is here and typed: an attribute of the actor
 * never makes it human, a service, or of another token type.
 *
 * @param actor whom the token was issued to; its id is the subject of the token
 * @param tokenType what kind of token it is, for example {@code user}; may be empty
 * @param service the service that calls; empty if none does, and then the subject if the actor's type is {@code service}
 * @param userSubject the user on whose behalf the actor calls; may be empty, and then taken from the attribute {@code
 *     user_subject}
 * @param scopes all scopes of the token, not only those that were asked for
 * @param human whether a human being holds the token, and not a program on their behalf
 */
public record VerifiedToken(
    Actor actor,
    String tokenType,
    String service,
    String userSubject,
    Set<String> scopes,
    boolean human) {

  /** Copies the scopes. */
  public VerifiedToken {
    Objects.requireNonNull(actor, "actor");
    Objects.requireNonNull(tokenType, "tokenType");
    Objects.requireNonNull(service, "service");
    Objects.requireNonNull(userSubject, "userSubject");
    scopes = Set.copyOf(Objects.requireNonNull(scopes, "scopes"));
  }

  /**
   * A token of the actor's own: the token type is the actor's type, and the types {@code human} and {@code user} are human.
   *
   * @param actor whom the token was issued to
   * @param scopes all scopes of the token
   * @return the token
   */
  public static VerifiedToken of(Actor actor, Set<String> scopes) {
    String type = actor.type();
    boolean human = type.equalsIgnoreCase("human") || type.equalsIgnoreCase("user");
    return new VerifiedToken(actor, type, "", "", scopes, human);
  }
}
