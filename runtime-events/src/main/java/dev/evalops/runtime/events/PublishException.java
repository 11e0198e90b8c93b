package dev.evalops.runtime.events;

import java.util.Objects;
import org.jspecify.annotations.Nullable;

/** An event is not known to be stored: the broker may or may not have it. */
public final class PublishException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** Whether the same event may be stored later. */
  public enum Reason {
    /**
     * The broker is away, has no leader, has no stream for the subject, is full, or did not answer in time: the same
     * event may be stored later.
     */
    AWAY,
    /** The broker will never store this event: it is too large, its subject is refused, or it cannot be written. */
    REFUSED
  }

  /** Whether the same event may be stored later. */
  private final Reason reason;

  /**
   * A failure to publish.
   *
   * @param reason whether the same event may be stored later
   * @param message what failed, without secrets
   * @param cause why, or null
   */
  public PublishException(Reason reason, String message, @Nullable Throwable cause) {
    super(message, cause);
    this.reason = Objects.requireNonNull(reason, "reason");
  }

  /**
   * Returns whether the same event may be stored later.
   *
   * @return the reason
   */
  public Reason reason() {
    return reason;
  }
}
