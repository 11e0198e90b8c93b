package dev.evalops.runtime.auth;

import java.util.Optional;

/**
 * A service's own table of API keys. An implementation is thread-safe, bounds how long it takes, and stores a hash of
 * the key rather than the key.
 */
@FunctionalInterface
public interface ApiKeyValidator {
  /**
   * Looks a key up. Scopes are not its business: {@link Auth} checks them.
   *
   * @param key the key, with its prefix {@code pk_}; a secret
   * @return what the key stands for, or empty if there is no such key, or no longer (the client gets 401)
   * @throws Exception if that cannot be found out now; see {@link TokenVerifier#verify} for what the client gets
   */
  Optional<ApiKey> validate(String key) throws Exception;
}
