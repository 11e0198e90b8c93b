package dev.evalops.runtime.redis;

import dev.evalops.runtime.startup.Credentials;
import javax.net.ssl.SSLSessionContext;
import org.jspecify.annotations.Nullable;

/**
 * What a connection is made with, and what makes it old when it is replaced.
 *
 * @param sessions another object once the certificates were replaced
 */
record Secret(@Nullable Credentials credentials, @Nullable SSLSessionContext sessions) {
  @Override
  public String toString() {
    return "Secret";
  }
}
