package dev.evalops.runtime.startup;

import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.errors.StartupException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Tries again until a dependency is up.
 *
 * <pre>{@code
 * Thing thing = Retry.standard().call(() -> openThing()); // 30 attempts, 2 s apart
 * }</pre>
 *
 * <p>Any {@link Exception} of the operation is a failed attempt. Permanent failures (such as a wrong password, see
 * {@link FailureKind#PERMANENT}) are not retried. An {@link Error} ends the call at once; so does an interrupt of the
 * calling thread: {@code startup interrupted}, and the flag is set again.
 *
 * <p>Immutable and thread-safe.
 */
public final class Retry {
  private static final Logger LOG = LoggerFactory.getLogger(Retry.class);
  private static final long NEVER = Long.MAX_VALUE;

  private final int maxAttempts;
  private final long delayNanos;
  private final long maxBackoffNanos; // 0: the delay stays the same
  private final long totalNanos;
  private final long attemptNanos;
  private final Predicate<Throwable> stopWhen;
  private final Consumer<? super Attempt> listener;

  private Retry(
      int maxAttempts,
      long delayNanos,
      long maxBackoffNanos,
      long totalNanos,
      long attemptNanos,
      Predicate<Throwable> stopWhen,
      Consumer<? super Attempt> listener) {
    this.maxAttempts = maxAttempts;
    this.delayNanos = delayNanos;
    this.maxBackoffNanos = maxBackoffNanos;
    this.totalNanos = totalNanos;
    this.attemptNanos = attemptNanos;
    this.stopWhen = stopWhen;
    this.listener = listener;
  }

  /**
   * Returns a retry of 30 attempts, 2 s apart.
   *
   * @return the retry
   */
  public static Retry standard() {
    return builder().build();
  }

  /**
   * Returns a builder that starts from {@link #standard()}.
   *
   * @return a builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Returns a copy with one more rule to stop at once.
   *
   * @param permanent whether a failure is permanent
   * @return a copy
   */
  public Retry stopWhen(Predicate<? super Throwable> permanent) {
    return new Retry(
        maxAttempts,
        delayNanos,
        maxBackoffNanos,
        totalNanos,
        attemptNanos,
        stopWhen.or(Objects.requireNonNull(permanent, "permanent")),
        listener);
  }

  /** What {@link Retry#run} runs. */
  @FunctionalInterface
  public interface Operation {
    /**
     * One attempt.
     *
     * @throws Exception if it failed
     */
    void run() throws Exception;
  }

  /**
   * Runs the operation until it ends without an exception.
   *
   * @param operation what to try
   * @throws StartupException {@code startup failed after N attempts: <last failure>}, which is the cause; or {@code
   *     startup interrupted}, with the last failure as suppressed
   */
  public void run(Operation operation) {
    Objects.requireNonNull(operation, "operation");
    call(() -> {
      operation.run();
      return Optional.empty();
    });
  }

  /**
   * Calls the operation until it returns.
   *
   * @param operation what to try
   * @param <T> what it gives
   * @return what it returned
   * @throws StartupException {@code startup failed after N attempts: <last failure>}, which is the cause; or {@code
   *     startup interrupted}, with the last failure as suppressed
   */
  public <T extends @Nullable Object> T call(Callable<? extends T> operation) {
    Objects.requireNonNull(operation, "operation");
    long start = System.nanoTime();
    Exception last = null;
    try {
      for (int number = 1; ; number++) {
        if (Thread.interrupted()) {
          throw new InterruptedException();
        }
        try {
          return attempt(operation, number, start);
        } catch (InterruptedException e) {
          throw e;
        } catch (Exception e) {
          if (last != null && e instanceof TimeoutException && left(start) <= 0) {
            last.addSuppressed(e); // cut off by the total timeout: what failed before says more
          } else {
            last = e;
          }
        }
        if (Thread.interrupted()) { // the operation failed for it, and said so in its own way
          throw new InterruptedException();
        }
        Optional<Duration> next = nextDelay(last, number, start);
        tell(new Attempt(number, maxAttempts, last, next));
        if (next.isEmpty()) {
          throw new StartupException(
              "startup failed after " + number + " attempts: " + Bounded.text(last), last);
        }
        Thread.sleep(next.get());
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      StartupException interrupted = new StartupException("startup interrupted", e);
      if (last != null) {
        interrupted.addSuppressed(last);
      }
      throw interrupted;
    }
  }

  private <T extends @Nullable Object> T attempt(
      Callable<? extends T> operation, int number, long start) throws Exception {
    if (attemptNanos == NEVER && totalNanos == NEVER) {
      return operation.call();
    }
    return Bounded.call(
        "startup-attempt-" + number, operation, Math.min(attemptNanos, left(start)));
  }

  private Optional<Duration> nextDelay(Exception failure, int number, long start) {
    if (number == maxAttempts || isPermanent(failure)) {
      return Optional.empty();
    }
    long next = maxBackoffNanos == 0 ? delayNanos : backoff(number);
    return totalNanos == NEVER || next < left(start)
        ? Optional.of(Duration.ofNanos(next))
        : Optional.empty();
  }

  private boolean isPermanent(Exception failure) {
    try {
      return stopWhen.test(failure);
    } catch (RuntimeException | Error e) {
      if (!e.equals(failure)) {
        e.addSuppressed(failure); // else nobody would learn why the dependency is not up
      }
      throw e;
    }
  }

  /** Full jitter: anything from nothing to the delay doubled with each attempt. */
  private long backoff(int number) {
    int doublings = Math.min(number - 1, Long.SIZE - 2);
    long highest =
        delayNanos > maxBackoffNanos >> doublings ? maxBackoffNanos : delayNanos << doublings;
    return ThreadLocalRandom.current().nextLong(Math.min(highest, Long.MAX_VALUE - 1) + 1);
  }

  private long left(long start) {
    return totalNanos == NEVER ? NEVER : totalNanos - (System.nanoTime() - start);
  }

  private void tell(Attempt attempt) {
    Opening.failed(attempt);
    try {
      listener.accept(attempt);
    } catch (Throwable e) {
      LOG.warn("onFailedAttempt listener failed: {}", attempt, e);
    }
  }

  /**
   * A failed attempt.
   *
   * @param number 1 for the first
   * @param maxAttempts how many there may be
   * @param failure why it failed
   * @param nextDelay how long until the next attempt begins, or empty if this was the last
   */
  public record Attempt(
      int number, int maxAttempts, Throwable failure, Optional<Duration> nextDelay) {

    /**
     * One line for a log.
     *
     * @return for example {@code attempt 3 of 30 failed: connection refused; next in 2 s}
     */
    @Override
    public String toString() {
      String why = Bounded.text(failure).strip().replaceAll("\\R\\s*", " ");
      return "attempt " + number + " of " + maxAttempts + " failed: " + why
          + nextDelay.map(delay -> "; next in " + Bounded.text(delay)).orElse("; giving up");
    }
  }

  /** Sets what differs from {@link Retry#standard()}. Not thread-safe. */
  public static final class Builder {
    private int maxAttempts = 30;
    private Duration delay = Duration.ofSeconds(2);
    private @Nullable Duration maxBackoff;
    private @Nullable Duration totalTimeout;
    private @Nullable Duration attemptTimeout;
    private Predicate<Throwable> stopWhen =
        failure -> FailureKind.of(failure) == FailureKind.PERMANENT;
    private Consumer<? super Attempt> listener = attempt -> {};

    private Builder() {}

    /**
     * Sets how many attempts there may be (30).
     *
     * @param maxAttempts 1 or more
     * @return this
     */
    public Builder maxAttempts(int maxAttempts) {
      this.maxAttempts = maxAttempts;
      return this;
    }

    /**
     * Sets the time from a failed attempt to the next (2 s).
     *
     * @param delay zero or more; zero tries again at once
     * @return this
     */
    public Builder delay(Duration delay) {
      this.delay = Objects.requireNonNull(delay, "delay");
      return this;
    }

    /**
     * Doubles the delay with each attempt and then takes a random time up to that (full jitter), so that many processes
     * do not come back in step. Default: the delay stays the same.
     *
     * @param maxBackoff where the doubling ends; more than zero, and not below the delay
     * @return this
     */
    public Builder exponentialBackoff(Duration maxBackoff) {
      this.maxBackoff = Objects.requireNonNull(maxBackoff, "maxBackoff");
      return this;
    }

    /**
     * Limits the whole call: it gives up when another delay would end after that, and leaves behind an attempt that
     * still runs then, as {@link #attemptTimeout} does; the failure before it is the one that is told. Default: no
     * limit.
     *
     * @param totalTimeout more than zero, from the beginning of the call
     * @return this
     */
    public Builder totalTimeout(Duration totalTimeout) {
      this.totalTimeout = Objects.requireNonNull(totalTimeout, "totalTimeout");
      return this;
    }

    /**
     * Limits each attempt, which then runs on a thread of its own. One that takes longer has failed with a {@link
     * java.util.concurrent.TimeoutException}; it is interrupted and no longer waited for, and if it returns an {@link
     * AutoCloseable} later, that is closed. Default: no limit, and attempts run on the calling thread.
     *
     * @param attemptTimeout more than zero
     * @return this
     */
    public Builder attemptTimeout(Duration attemptTimeout) {
      this.attemptTimeout = Objects.requireNonNull(attemptTimeout, "attemptTimeout");
      return this;
    }

    /**
     * Adds a rule to stop at once, besides {@link FailureKind#PERMANENT}. Default: none.
     *
     * @param permanent whether a failure is permanent
     * @return this
     */
    public Builder stopWhen(Predicate<? super Throwable> permanent) {
      this.stopWhen = stopWhen.or(Objects.requireNonNull(permanent, "permanent"));
      return this;
    }

    /**
     * Sees each failed attempt, the last included, before the delay. What it throws is logged and changes nothing.
     * Default: none.
     *
     * @param listener called on the calling thread
     * @return this
     */
    public Builder onFailedAttempt(Consumer<? super Attempt> listener) {
      this.listener = Objects.requireNonNull(listener, "listener");
      return this;
    }

    /**
     * Checks the settings and builds.
     *
     * @return the retry
     * @throws IllegalArgumentException if a setting is out of its range; names each of them
     */
    public Retry build() {
      List<String> problems = new ArrayList<>();
      if (maxAttempts < 1) {
        problems.add("maxAttempts must be 1 or more: " + maxAttempts);
      }
      if (delay.isNegative()) {
        problems.add("delay must be zero or more: " + delay);
      }
      if (maxBackoff != null && (!maxBackoff.isPositive() || maxBackoff.compareTo(delay) < 0)) {
        problems.add("maxBackoff must be more than zero and not below the delay: " + maxBackoff);
      }
      if (totalTimeout != null && !totalTimeout.isPositive()) {
        problems.add("totalTimeout must be more than zero: " + totalTimeout);
      }
      if (attemptTimeout != null && !attemptTimeout.isPositive()) {
        problems.add("attemptTimeout must be more than zero: " + attemptTimeout);
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      return new Retry(
          maxAttempts,
          Bounded.nanos(delay),
          maxBackoff == null ? 0 : Bounded.nanos(maxBackoff),
          totalTimeout == null ? NEVER : Bounded.nanos(totalTimeout),
          attemptTimeout == null ? NEVER : Bounded.nanos(attemptTimeout),
          stopWhen,
          listener);
    }
  }
}
