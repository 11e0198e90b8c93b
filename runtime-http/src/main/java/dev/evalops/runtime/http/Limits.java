package dev.evalops.runtime.http;

import dev.evalops.runtime.errors.ConnectCode;
import dev.evalops.runtime.errors.ErrorCode;
import java.time.Duration;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What bounds the requests of one service. */
final class Limits {
  static final long DEFAULT_MAX_BODY = 1024 * 1024;
  static final Limits NO_SERVICE = new Limits(DEFAULT_MAX_BODY, Integer.MAX_VALUE);

  static final ErrorCode FULL = ErrorCode.of(
      ErrorCode.UNAVAILABLE.code(), 503, ConnectCode.UNAVAILABLE, "service is at its limit");

  private static final Logger LOG = LoggerFactory.getLogger(HttpService.class);
  private static final long LOG_EVERY_NANOS = TimeUnit.SECONDS.toNanos(5);

  private final long maxBody;
  // Fair, so that a request that has sent its body is not overtaken by new ones for ever.
  private final Semaphore places;
  private final AtomicLong refused = new AtomicLong();
  private final AtomicLong loggedAt = new AtomicLong(System.nanoTime() - LOG_EVERY_NANOS);
  private volatile boolean draining;

  Limits(long maxBody, int maxInFlight) {
    this.maxBody = maxBody;
    this.places = new Semaphore(maxInFlight, true);
  }

  long maxBody() {
    return maxBody;
  }

  boolean draining() {
    return draining;
  }

  void drain() {
    draining = true;
  }

  /** Takes a place if one becomes free in time; give it back with {@link #leave()}. */
  boolean enter(Duration patience) {
    try {
      if (places.tryAcquire(patience.toNanos(), TimeUnit.NANOSECONDS)) {
        return true;
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      return false;
    }
    refused.incrementAndGet();
    long now = System.nanoTime();
    long last = loggedAt.get();
    if (now - last >= LOG_EVERY_NANOS && loggedAt.compareAndSet(last, now)) {
      LOG.atWarn()
          .addKeyValue("refused", refused.getAndSet(0))
          .log("http requests refused, too many in flight");
    }
    return false;
  }

  void leave() {
    places.release();
  }
}
