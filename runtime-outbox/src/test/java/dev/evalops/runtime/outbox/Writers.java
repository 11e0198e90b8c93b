package dev.evalops.runtime.outbox;

import static org.awaitility.Awaitility.await;

import java.sql.SQLException;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Edits notes at a steady rate, from several threads. */
final class Writers implements AutoCloseable {
  private static final int THREADS = 4;

  private final Notes notes;
  private final boolean throughFailures;
  private final ScheduledExecutorService threads = Executors.newScheduledThreadPool(THREADS);
  private final Queue<SQLException> failures = new ConcurrentLinkedQueue<>();
  private final AtomicInteger written = new AtomicInteger();
  private volatile Queue<Long> micros = new ConcurrentLinkedQueue<>();

  private Writers(Notes notes, boolean throughFailures) {
    this.notes = notes;
    this.throughFailures = throughFailures;
  }

  static Writers start(Notes notes, int perSecond) {
    return new Writers(notes, false).start(perSecond);
  }

  /** An edit that fails may have been committed, or not: the notes themselves tell. */
  static Writers throughFailures(Notes notes, int perSecond) {
    return new Writers(notes, true).start(perSecond);
  }

  private Writers start(int perSecond) {
    long period = TimeUnit.SECONDS.toNanos(1) * THREADS / perSecond;
    for (int i = 0; i < THREADS; i++) {
      var unused = threads.scheduleAtFixedRate(
          this::edit, i * period / THREADS, period, TimeUnit.NANOSECONDS);
    }
    return this;
  }

  private void edit() {
    long begin = System.nanoTime();
    try {
      notes.edit(notes.anyNote());
    } catch (SQLException e) {
      if (!throughFailures) {
        failures.add(e);
      }
    }
    micros.add((System.nanoTime() - begin) / 1000);
    written.incrementAndGet();
  }

  /** Waits until so many more edits are written. */
  void awaitMore(int edits) {
    int wanted = written.get() + edits;
    await()
        .atMost(Notes.PATIENT.plusMillis(edits * 20L))
        .until(() -> written.get() >= wanted || !failures.isEmpty());
  }

  /** How long the edits since the last call took, sorted. */
  Figures edits() {
    Queue<Long> measured = micros;
    micros = new ConcurrentLinkedQueue<>();
    return Figures.ofMicros(measured);
  }

  /** Ends them, and throws what has failed. */
  @Override
  public void close() throws SQLException {
    threads.shutdown();
    try {
      threads.awaitTermination(60, TimeUnit.SECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    if (!failures.isEmpty()) {
      throw failures.peek();
    }
  }
}
