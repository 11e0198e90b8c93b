package dev.evalops.runtime.testutil;

import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/** What several servers that know each other have in common: they are waited for, and closed together. */
final class Members implements AutoCloseable {
  private static final Duration READY_TIMEOUT = Duration.ofSeconds(60);
  private static final long POLL_MILLIS = 20;

  private final List<AutoCloseable> all = new ArrayList<>();

  /** Tells whether something has come about. */
  interface Condition {
    /** An {@link IOException} means not yet. */
    boolean holds() throws IOException;
  }

  synchronized <T extends AutoCloseable> T add(T member) {
    all.add(member);
    return member;
  }

  synchronized void remove(AutoCloseable member) {
    all.remove(member);
  }

  static void await(String what, Condition condition) {
    long deadline = System.nanoTime() + READY_TIMEOUT.toNanos();
    String last = "";
    while (System.nanoTime() - deadline < 0) {
      try {
        if (condition.holds()) {
          return;
        }
      } catch (IOException e) {
        last = ": " + e.getMessage();
      }
      if (Thread.currentThread().isInterrupted()) {
        throw new IllegalStateException("interrupted while waiting: " + what);
      }
      LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(POLL_MILLIS));
    }
    throw new IllegalStateException(
        what + " did not come about within " + READY_TIMEOUT.toSeconds() + " s" + last);
  }

  /** In the reverse order. */
  @Override
  public synchronized void close() {
    for (AutoCloseable member : all.reversed()) {
      try {
        member.close();
      } catch (RuntimeException e) {
        throw e;
      } catch (Exception e) {
        throw new IllegalStateException(e);
      }
    }
    all.clear();
  }
}
