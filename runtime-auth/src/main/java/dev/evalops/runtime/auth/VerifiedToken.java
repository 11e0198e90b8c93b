package dev.evalops.runtime.auth;

import java.util.Objects;
import java.util.Optional;
import java.util.Set;

/**
 * What a {@link TokenVerifier} has found a token to say. What decides over access is here and typed: an attribute of
 * the actor never makes it human, a service, or of another token type.
 *
 * @param actor whom the token was issued to; its id is the subject of the token
 * @param tokenType what kind of token it is, for example {@code user}, if it says
 * @param service the service that calls, if one does; if none, the subject if the actor's type is {@code service}
 * @param userSubject the user on whose behalf the actor calls, if any; if none, taken from the attribute {@code
 *     user_subject}
 * @param scopes all scopes of the token, not only those that were asked for
 * @param human whether a human being holds the token, and not a program on their behalf
 */
public record VerifiedToken(
    Actor actor,
    Optional<String> tokenType,
    Optional<String> service,
    Optional<String> userSubject,
    Set<String> scopes,
    boolean human) {

  /** Copies the scopes. An optional text that is blank becomes empty. */
  public VerifiedToken {
    Objects.requireNonNull(actor, "actor");
    tokenType = Text.unblank("tokenType", tokenType);
    service = Text.unblank("service", service);
    userSubject = Text.unblank("userSubject", userSubject);
    scopes = Set.copyOf(Objects.requireNonNull(scopes, "scopes"));
  }

  /**
   * A token of the actor's own: the token type is the actor's type, and the types {@code human} and {@code user} are
   * human.
   *
   * @param actor whom the token was issued to
   * @param scopes all scopes of the token
   * @return the token
   */
  public static VerifiedToken of(Actor actor, Set<String> scopes) {
    String type = actor.type();
    boolean human = type.equalsIgnoreCase("human") || type.equalsIgnoreCase("user");
    return new VerifiedToken(
        actor, Optional.of(type), Optional.empty(), Optional.empty(), scopes, human);
  }
}
