package dev.evalops.runtime.health.outbox;

import dev.evalops.runtime.health.HealthCheck;
import dev.evalops.runtime.health.UnhealthyException;
import dev.evalops.runtime.outbox.Outbox;
import java.time.Duration;
import org.jspecify.annotations.Nullable;

/** The check of an outbox. Thread-safe. */
public final class OutboxHealth {
  private OutboxHealth() {}

  /**
   * Checks that changes are published, as {@link Outbox#check} does, and reports why they are not: {@code outbox:
   * changes are parked}, or {@code outbox: a change has waited for 75 s}. Declare it as optional: another instance
   * could do no better, and requests work without it.
   *
   * @param outbox the outbox, or null, which is reported as {@code outbox_not_configured}
   * @param maxAge how long a change may wait, more than zero; a minute is more than a takeover or a restart of the
   *     broker takes
   * @return the check
   * @throws IllegalArgumentException if the age is not more than zero
   */
  public static HealthCheck of(@Nullable Outbox outbox, Duration maxAge) {
    if (!maxAge.isPositive()) {
      throw new IllegalArgumentException("maxAge must be more than zero: " + maxAge);
    }
    if (outbox == null) {
      return () -> {
        throw new UnhealthyException("outbox_not_configured");
      };
    }
    return () -> {
      try {
        outbox.check(maxAge);
      } catch (IllegalStateException late) {
        throw new UnhealthyException(String.valueOf(late.getMessage()), late);
      }
    };
  }
}
