package dev.evalops.runtime.natsbus;

import org.jspecify.annotations.Nullable;

/**
 * NATS could not be reached, refused, or did not answer in time. The message says at what ({@code nats_connect: }, {@code
 * create_stream: }, {@code queue_subscribe: }, {@code publish <subject>: }) and why, and never holds the user-info of a URL.
 */
public final class NatsBusException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** What a failure says about other messages. */
  enum Reason {
    /** Those will fail, too, for now. */
    UNAVAILABLE,
    /** Nobody takes this subject for now, which says nothing about other subjects. */
    NOT_TAKEN,
    /** The server has judged this very message, so that asking again soon is no use. */
    REFUSED
  }

  private final Reason reason;

  NatsBusException(String message, @Nullable Throwable cause) {
    this(message, cause, Reason.UNAVAILABLE);
  }

  NatsBusException(String message, @Nullable Throwable cause, Reason reason) {
    super(message, cause);
    this.reason = reason;
  }

  Reason reason() {
    return reason;
  }
}
