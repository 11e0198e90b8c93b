package dev.evalops.runtime.auth;

import java.util.Optional;
import java.util.Set;

/**
 * What tells good tokens from bad ones: an identity service, a public key. An implementation is thread-safe and bounds
 * how long it takes.
 */
@FunctionalInterface
public interface TokenVerifier {
  /**
   * Verifies a token. A token that is not good is a normal outcome and empty; an exception says that the question could
   * not be answered, so that an outage does not log everybody out:
   *
   * <ul>
   *   <li>empty: 401 {@code authorization_failed}, {@code invalid_token};
   *   <li>a {@link dev.evalops.runtime.errors.ServiceException} of status 401 or 403: that status, {@code
   *       authorization_failed}, and the message that it has for the client;
   *   <li>what {@link Auth.Builder#forbiddenWhen} matches: 403 {@code authorization_failed}, {@code forbidden};
   *   <li>any other exception: 503 {@code unavailable}, and the exception is the cause for the log.
   * </ul>
   *
   * @param token the token, 1 or more printable ASCII characters; a secret
   * @param requiredScopes the scopes that the request needs, for a verifier that passes them on; {@link Auth} checks
   *     the scopes of the result in any case
   * @return what the token says, or empty if it is not valid, or no longer
   * @throws Exception if that cannot be found out now; the client never reads its text
   */
  Optional<VerifiedToken> verify(String token, Set<String> requiredScopes) throws Exception;
}
