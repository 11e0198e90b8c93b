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

  /** Closes one that another will take the place of, or that has not become what it should. */
  synchronized void close(AutoCloseable member) {
    if (all.remove(member)) {
      closeEach(List.of(member));
    }
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

  /** In the reverse order; all of them, whatever becomes of one. */
  @Override
  public synchronized void close() {
    List<AutoCloseable> closing = new ArrayList<>(all).reversed();
    all.clear();
    closeEach(closing);
  }

  private static void closeEach(List<AutoCloseable> members) {
    List<Exception> failures = new ArrayList<>();
    boolean interrupted = false;
    for (AutoCloseable member : members) {
      try {
        member.close();
      } catch (InterruptedException e) {
        interrupted = true;
        failures.add(e);
      } catch (Exception e) {
        failures.add(e);
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
    if (!failures.isEmpty()) {
      IllegalStateException failure = new IllegalStateException(
          "not closed without a failure: " + failures.getFirst().getMessage(), failures.getFirst());
      failures.stream().skip(1).forEach(failure::addSuppressed);
      throw failure;
    }
  }
}
