package dev.evalops.runtime.http;

import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * Bounds how long clients may go on sending a request body that nobody has read, after they were answered. A connection
 * that is closed under such a client is reset, and the client may lose the answer (RFC 9112, section 9.6); so the
 * server of the JDK reads on, up to {@code sun.net.httpserver.drainAmount} bytes and however slowly they arrive.
 */
final class Lingering implements AutoCloseable {
  static final int MAX_ON_VIRTUAL_THREADS = 1000;
  static final int MAX_ON_PLATFORM_THREADS = 64;

  private static final Duration TIMEOUT = Duration.ofSeconds(20);
  // For those beyond the number that may linger: time for the answer to leave.
  private static final Duration SHORT_TIMEOUT = Duration.ofMillis(200);

  /** Sends the end of an answer, then reads what the client still sends, and closes. */
  interface Ending {
    void run() throws IOException;
  }

  private final Duration timeout;
  private final Semaphore places;
  private final AtomicInteger count = new AtomicInteger();
  private final ScheduledThreadPoolExecutor timer;

  Lingering(int max) {
    this(max, TIMEOUT);
  }

  Lingering(int max, Duration timeout) {
    this.timeout = timeout;
    this.places = new Semaphore(max);
    this.timer = new ScheduledThreadPoolExecutor(
        1, Thread.ofPlatform().daemon().name("http-linger-", 0).factory());
    timer.setRemoveOnCancelPolicy(true);
    timer.setKeepAliveTime(1, TimeUnit.SECONDS);
    timer.allowCoreThreadTimeOut(true);
  }

  /** How many connections linger now. */
  int count() {
    return count.get();
  }

  /** Runs the ending, and cuts the connection if it takes too long. */
  void run(Ending ending) throws IOException {
    boolean place = places.tryAcquire();
    count.incrementAndGet();
    Cut cut = new Cut(Thread.currentThread());
    Future<?> scheduled = schedule(cut, place ? timeout : SHORT_TIMEOUT);
    try {
      ending.run();
    } finally {
      if (scheduled != null) {
        scheduled.cancel(false);
      }
      cut.disarm();
      count.decrementAndGet();
      if (place) {
        places.release();
      }
    }
  }

  private @Nullable Future<?> schedule(Cut cut, Duration delay) {
    try {
      return timer.schedule(cut, delay.toNanos(), TimeUnit.NANOSECONDS);
    } catch (RejectedExecutionException e) {
      return null; // The service is closed, and with it every connection.
    }
  }

  @Override
  public void close() {
    timer.shutdownNow();
  }

  /** Interrupts a thread that reads from a connection, which closes the connection. */
  private static final class Cut implements Runnable {
    private final Thread thread;
    private boolean armed = true;
    private boolean fired;

    Cut(Thread thread) {
      this.thread = thread;
    }

    @Override
    public synchronized void run() {
      if (armed) {
        fired = true;
        thread.interrupt();
      }
    }

    synchronized void disarm() {
      armed = false;
      if (fired) {
        Thread.interrupted(); // Not for what the thread does next.
      }
    }
  }
}
