package dev.evalops.hook;

import java.time.Duration;
import java.time.Instant;
import java.util.Optional;
import java.util.concurrent.locks.LockSupport;
import org.jspecify.annotations.Nullable;

/**
 * The time that a call has from the start of its process on. When that was is asked for only by calls that take long:
 * the question takes longer than an ordinary call may.
 */
final class Deadline {
  private static final long ORDINARY_CALL = Duration.ofSeconds(5).toNanos();

  private final long begin = System.nanoTime();
  private volatile long total = Settings.MAX_DEADLINE.toNanos();
  private volatile @Nullable Thread watcher;

  void watchedBy(Thread thread) {
    watcher = thread;
  }

  void shorten(Duration duration) {
    long nanos = duration.toNanos();
    if (nanos < total) {
      total = nanos;
      LockSupport.unpark(watcher);
    }
  }

  /** Returns when the time is up, with the seconds that it was. */
  long await() {
    while (left(begin) > 0 && System.nanoTime() - begin < ORDINARY_CALL) {
      LockSupport.parkNanos(Math.min(left(begin), ORDINARY_CALL));
    }
    long start = begin - beforeUs();
    while (left(start) > 0) {
      LockSupport.parkNanos(left(start));
    }
    return Duration.ofNanos(total).toSeconds();
  }

  private long left(long start) {
    return start + total - System.nanoTime();
  }

  /** How long the process had run when this object was made, in nanoseconds. */
  private long beforeUs() {
    Optional<Instant> start = ProcessHandle.current().info().startInstant();
    if (start.isEmpty()) {
      return 0;
    }
    Duration age = Duration.between(start.get(), Instant.now());
    long nanos =
        age.compareTo(Settings.MAX_DEADLINE) > 0 ? Settings.MAX_DEADLINE.toNanos() : age.toNanos();
    return Math.max(0, nanos - (System.nanoTime() - begin));
  }
}
