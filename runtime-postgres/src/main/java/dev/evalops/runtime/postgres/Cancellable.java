package dev.evalops.runtime.postgres;

import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Blocking socket work with a limit. It runs on a virtual thread, because interrupting one of those closes its socket.
 */
final class Cancellable {
  private Cancellable() {}

  /**
   * Does the work, which ends with this call: when the limit has passed or the caller is interrupted, so is the work.
   *
   * @throws TimeoutException when the limit has passed
   */
  static <T extends AutoCloseable> T call(Duration limit, Callable<? extends T> work)
      throws Exception {
    return call(limit, work, new CompletableFuture<>());
  }

  /**
   * As above.
   *
   * @param result gets the result; the work ends, too, if another thread makes this fail
   */
  static <T extends AutoCloseable> T call(
      Duration limit, Callable<? extends T> work, CompletableFuture<T> result) throws Exception {
    Thread worker = Thread.ofVirtual().name("postgres-connect").start(() -> {
      try {
        T value = work.call();
        if (!result.complete(value)) {
          value.close();
        }
      } catch (Throwable failure) {
        result.completeExceptionally(failure);
      }
    });
    try {
      return result.get(limit.toNanos(), TimeUnit.NANOSECONDS);
    } catch (ExecutionException failure) {
      worker.interrupt(); // the failure may come from another thread
      if (failure.getCause() instanceof Exception exception) {
        throw exception;
      }
      if (failure.getCause() instanceof Error error) {
        throw error;
      }
      throw failure;
    } catch (TimeoutException | InterruptedException end) {
      result.completeExceptionally(end);
      if (result.isCompletedExceptionally()) {
        worker.interrupt();
      } else {
        result.join().close();
      }
      throw end;
    }
  }
}
