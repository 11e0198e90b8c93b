package dev.evalops.runtime.idempotency;

import java.sql.SQLException;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Removes expired keys now and then, in batches with pauses between them, on a thread that ends with the work. */
final class Sweeper {
  private static final Logger LOG = LoggerFactory.getLogger(Idempotency.class);
  private static final int BATCH = 1000;
  private static final long PAUSE_NANOS = 5_000_000;

  private final IdempotencyStore store;
  private final long intervalNanos;

  /** {@link System#nanoTime} of the next sweep; while one runs, as late as can be. */
  private final AtomicLong dueAt = new AtomicLong(System.nanoTime());

  Sweeper(IdempotencyStore store, Duration interval) {
    this.store = store;
    this.intervalNanos = interval.toNanos();
  }

  /** Starts a sweep if the last one ended long enough ago, and returns at once. */
  void sweepIfDue() {
    long due = dueAt.get();
    long now = System.nanoTime();
    if (now - due >= 0 && dueAt.compareAndSet(due, now + Long.MAX_VALUE)) {
      try {
        Thread.ofPlatform().daemon().name("idempotency-sweep").start(this::sweep);
      } catch (Throwable t) {
        dueAt.set(now + intervalNanos);
        failed(t);
      }
    }
  }

  private void sweep() {
    try {
      while (store.sweep(BATCH) >= BATCH) {
        LockSupport.parkNanos(PAUSE_NANOS);
      }
    } catch (SQLException | RuntimeException e) {
      failed(e);
    } finally {
      dueAt.set(System.nanoTime() + intervalNanos);
    }
  }

  private static void failed(Throwable failure) {
    LOG.atWarn()
        .addKeyValue("error", failure.toString())
        .setCause(failure)
        .log("idempotency cleanup failed");
  }
}
