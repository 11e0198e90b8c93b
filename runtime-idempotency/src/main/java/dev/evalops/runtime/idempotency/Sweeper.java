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

  /** SQLSTATE of a statement_timeout, which fewer rows may keep: each can have an answer of a megabyte. */
  private static final String CANCELED = "57014";

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
      int batch = BATCH;
      boolean more = true;
      while (more) {
        try {
          more = store.sweep(batch) >= batch;
        } catch (SQLException e) {
          if (batch == 1 || !CANCELED.equals(e.getSQLState())) {
            throw e;
          }
          batch /= 10;
        }
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
