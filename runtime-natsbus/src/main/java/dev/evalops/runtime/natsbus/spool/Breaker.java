package dev.evalops.runtime.natsbus.spool;

import java.time.Duration;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;

/**
 * A circuit breaker: after some failures in a row nothing is let through for a while, then one at a time for a probe. A
 * result counts only in the period in which its call began, so that a late one neither closes nor opens what has
 * changed since; a probe whose result never comes gives way to another. Thread-safe.
 */
final class Breaker {
  private enum State {
    CLOSED,
    OPEN,
    PROBING
  }

  private final int threshold;
  private final long openNanos;
  private final LongSupplier nanoTime;

  private final ReentrantLock lock = new ReentrantLock();
  private State state = State.CLOSED;
  private int failures;
  private long period;
  private long since;

  Breaker(int threshold, Duration open, LongSupplier nanoTime) {
    this.threshold = threshold;
    this.openNanos = open.toNanos();
    this.nanoTime = nanoTime;
  }

  /** Lets a call through, which then says how it ended; null while the circuit is open. */
  @Nullable
  Call enter() {
    lock.lock();
    try {
      if (state != State.CLOSED) {
        if (nanoTime.getAsLong() - since < openNanos) {
          return null;
        }
        begin(State.PROBING);
      }
      return new Call(period);
    } finally {
      lock.unlock();
    }
  }

  private void begin(State next) {
    state = next;
    period++;
    failures = 0;
    since = nanoTime.getAsLong();
  }

  /** One call. Closing it without a result is neither success nor failure. */
  final class Call implements AutoCloseable {
    private final long begun;
    private boolean ended;

    private Call(long begun) {
      this.begun = begun;
    }

    void succeeded() {
      end(() -> {
        if (state == State.PROBING) {
          begin(State.CLOSED);
        }
        failures = 0;
      });
    }

    void failed() {
      end(() -> {
        if (state == State.PROBING || ++failures >= threshold) {
          begin(State.OPEN);
        }
      });
    }

    @Override
    public void close() {
      end(() -> {
        if (state == State.PROBING) {
          since -= openNanos; // the next call is a probe
        }
      });
    }

    private void end(Runnable result) {
      lock.lock();
      try {
        if (!ended && begun == period) {
          result.run();
        }
        ended = true;
      } finally {
        lock.unlock();
      }
    }
  }
}
