package dev.evalops.runtime.http;

import java.time.Duration;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What bounds the requests of one service. */
final class Limits {
  static final long DEFAULT_MAX_BODY = 1024 * 1024;
  static final Limits NO_SERVICE = new Limits(
      DEFAULT_MAX_BODY, Integer.MAX_VALUE, new Lingering(Lingering.MAX_ON_PLATFORM_THREADS));

  private static final Logger LOG = LoggerFactory.getLogger(HttpService.class);
  private static final Duration REPORT_EVERY = Duration.ofSeconds(5);

  private final long maxBody;
  // Fair, so that a request that has sent its body is not overtaken by new ones for ever.
  private final Semaphore places;
  private final AtomicLong refused = new AtomicLong();
  private final AtomicBoolean reporting = new AtomicBoolean();
  private final Lingering lingering;
  private final AtomicInteger suspended = new AtomicInteger();
  private volatile boolean draining;

  Limits(long maxBody, int maxInFlight, Lingering lingering) {
    this.maxBody = maxBody;
    this.places = new Semaphore(maxInFlight, true);
    this.lingering = lingering;
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

  /** Counts requests whose handlers have returned, or may return, before the response has ended. */
  void suspended(int change) {
    suspended.addAndGet(change);
  }

  int suspended() {
    return suspended.get();
  }

  Lingering lingering() {
    return lingering;
  }

  /** Takes a place if one becomes free in time; give it back with {@link #leave()}. */
  boolean enter(Duration patience) {
    try {
      if (places.tryAcquire(patience.toNanos(), TimeUnit.NANOSECONDS)) {
        return true;
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    refused();
    return false;
  }

  /** Counts and logs a refusal. */
  void refused() {
    refused.incrementAndGet();
    if (reporting.compareAndSet(false, true)) {
      reportRefused();
      Thread.ofVirtual().name("http-refused").start(this::reportUntilQuiet);
    }
  }

  /** The first refusal is logged at once, those after it in one line each {@link #REPORT_EVERY}. */
  private void reportUntilQuiet() {
    do {
      try {
        Thread.sleep(REPORT_EVERY);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        return;
      }
    } while (reportRefused());
    reporting.set(false);
    if (refused.get() > 0 && reporting.compareAndSet(false, true)) {
      reportUntilQuiet();
    }
  }

  /** Logs how many requests were refused since the last time; false if none were. */
  boolean reportRefused() {
    long count = refused.getAndSet(0);
    if (count > 0) {
      LOG.atWarn().addKeyValue("refused", count).log("http requests refused, too many in flight");
    }
    return count > 0;
  }

  void leave() {
    places.release();
  }
}
