package dev.evalops.runtime.natsbus;

import org.jspecify.annotations.Nullable;

/**
 * NATS could not be reached, refused, or did not answer in time. The message says at what ({@code nats_connect: }, {@code
 * create_stream: }, {@code queue_subscribe: }, {@code publish <subject>: }) and why, and never holds the user-info of a URL.
 */
public final class NatsBusException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** Whether trying again is no use. */
  private final boolean refused;

  NatsBusException(String message, @Nullable Throwable cause) {
    this(message, cause, false);
  }

  NatsBusException(String message, @Nullable Throwable cause, boolean refused) {
    super(message, cause);
    this.refused = refused;
  }

  /** Whether the server has judged this very message, so that asking again soon is no use. */
  boolean refused() {
    return refused;
  }
}
