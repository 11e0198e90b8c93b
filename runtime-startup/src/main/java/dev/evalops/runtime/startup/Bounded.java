package dev.evalops.runtime.startup;

import java.math.BigDecimal;
import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.jspecify.annotations.Nullable;

/** Runs an operation on a thread of its own, so that one that hangs cannot hold the caller. */
final class Bounded {
  private Bounded() {}

  /**
   * Calls the operation. When its time is up, or the caller is interrupted, the operation is interrupted and left
   * behind; should it end well after all, its result is closed if it can be.
   *
   * @throws TimeoutException when the time is up; its stack trace is where the operation was
   * @throws InterruptedException when the caller is interrupted, or the operation says that it was
   * @throws Exception what the operation throws, be it an Error
   */
  static <T extends @Nullable Object> T call(
      String threadName, Callable<? extends T> operation, long nanos) throws Exception {
    CompletableFuture<T> outcome = new CompletableFuture<>();
    Thread thread = Thread.ofPlatform().daemon().name(threadName).start(() -> {
      try {
        T result = operation.call();
        if (!outcome.complete(result) && result instanceof AutoCloseable late) {
          late.close();
        }
      } catch (Throwable e) {
        outcome.completeExceptionally(e);
      }
    });
    Exception stopped;
    try {
      return outcome.get(nanos, TimeUnit.NANOSECONDS);
    } catch (ExecutionException e) {
      throw unwrapped(e);
    } catch (TimeoutException e) {
      stopped = new TimeoutException("not done within " + text(Duration.ofNanos(nanos)));
      stopped.setStackTrace(thread.getStackTrace());
    } catch (InterruptedException e) {
      stopped = e;
    }
    if (outcome.completeExceptionally(stopped)) {
      thread.interrupt();
      throw stopped;
    }
    // It ended at the last moment.
    if (stopped instanceof InterruptedException) {
      Thread.currentThread().interrupt();
    }
    try {
      return outcome.get();
    } catch (ExecutionException e) {
      throw unwrapped(e);
    }
  }

  private static Exception unwrapped(ExecutionException e) {
    if (e.getCause() instanceof Error error) {
      throw error;
    }
    return e.getCause() instanceof Exception cause ? cause : e;
  }

  /** For example {@code 250 ms}, {@code 2 s} or {@code 1.5 s}. */
  static String text(Duration duration) {
    long millis = TimeUnit.MILLISECONDS.convert(duration);
    return millis < 1000
        ? millis + " ms"
        : BigDecimal.valueOf(millis, 3).stripTrailingZeros().toPlainString() + " s";
  }

  /** What a failure says of itself, or else its type. */
  static String text(Throwable failure) {
    String message = failure.getMessage();
    return message == null || message.isBlank() ? failure.getClass().getSimpleName() : message;
  }

  /** As {@link Duration#toNanos}, but the longest there is instead of an overflow. */
  static long nanos(Duration duration) {
    return TimeUnit.NANOSECONDS.convert(duration);
  }
}
