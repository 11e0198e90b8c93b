package dev.evalops.runtime.idempotency;

import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * Frees keys that could not be freed at once, as while the database is away or its pool is exhausted, on a thread that
 * ends with the work. After the lease they are free without it.
 */
final class LateReleases {
  private static final int MAX_PENDING = 10_000;
  private static final long PAUSE_NANOS = Duration.ofMillis(250).toNanos();

  private final IdempotencyStore store;
  private final long leaseNanos;
  private final ReentrantLock lock = new ReentrantLock();
  private final Deque<Pending> pending = new ArrayDeque<>();
  private boolean running;

  private record Pending(IdempotencyStore.Claim claim, long deadline) {}

  LateReleases(IdempotencyStore store, Duration lease) {
    this.store = store;
    this.leaseNanos = lease.toNanos();
  }

  void add(IdempotencyStore.Claim claim) {
    lock.lock();
    try {
      if (pending.size() >= MAX_PENDING) {
        return;
      }
      pending.add(new Pending(claim, System.nanoTime() + leaseNanos));
      if (!running) {
        Thread.ofPlatform().daemon().name("idempotency-release").start(this::run);
        running = true;
      }
    } finally {
      lock.unlock();
    }
  }

  private void run() {
    for (Pending next = next(null); next != null; ) {
      try {
        store.release(next.claim());
        next = next(next);
      } catch (SQLException | RuntimeException | Error e) { // of any store
        LockSupport.parkNanos(PAUSE_NANOS);
        next = next(System.nanoTime() - next.deadline() < 0 ? null : next);
      }
    }
  }

  /** The first one, after this one has been removed; null ends the thread. */
  private @Nullable Pending next(@Nullable Pending done) {
    lock.lock();
    try {
      if (done != null) {
        pending.remove();
      }
      Pending next = pending.peek();
      running = next != null;
      return next;
    } finally {
      lock.unlock();
    }
  }
}
