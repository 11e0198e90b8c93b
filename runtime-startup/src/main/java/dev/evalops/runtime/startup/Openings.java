package dev.evalops.runtime.startup;

import dev.evalops.runtime.errors.StartupException;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The openings of one lifecycle, with their one lock, and how long each step of starting took. */
final class Openings {
  static final Logger LOG = LoggerFactory.getLogger(Lifecycle.class);

  private record Step(String name, Duration took) {}

  private final Thread owner = Thread.currentThread();
  private final List<Step> steps = new ArrayList<>(); // those of the owner
  private long stepBegan = System.nanoTime();
  private boolean started;
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private final List<Opening<?>> openings = new ArrayList<>();

  <T extends AutoCloseable> Opening<T> of(String name, Callable<? extends T> resource) {
    Opening<T> opening = new Opening<>(this, name, Objects.requireNonNull(resource, "resource"));
    change(() -> openings.add(opening));
    return opening;
  }

  void change(Runnable change) {
    lock.lock();
    try {
      change.run();
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  <T extends AutoCloseable> T await(Opening<T> opening) {
    lock.lock();
    try {
      while (true) {
        throwIfFailed();
        T opened = opening.opened();
        if (opening.isCancelled()) {
          throw new StartupException(opening.name() + ": the service is closing");
        }
        if (opened != null) {
          if (Thread.currentThread().equals(owner)) {
            stepBegan = System.nanoTime(); // the opening counts, not the waiting for it
          }
          return opened;
        }
        changed.await();
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new StartupException("startup interrupted", e);
    } finally {
      lock.unlock();
    }
  }

  private void throwIfFailed() {
    List<Opening<?>> failed =
        openings.stream().filter(opening -> opening.failure() != null).toList();
    if (failed.isEmpty() || failed.stream().anyMatch(Opening::isCancelled)) {
      return; // what fails because it is cancelled is no news
    }
    Throwable first = Objects.requireNonNull(failed.getFirst().failure());
    for (Opening<?> other : failed) {
      Throwable failure = Objects.requireNonNull(other.failure());
      if (!failure.equals(first) && !List.of(first.getSuppressed()).contains(failure)) {
        first.addSuppressed(failure);
      }
    }
    if (first instanceof Error error) {
      throw error;
    }
    throw first instanceof RuntimeException known
        ? known
        : new StartupException(failed.getFirst().name() + ": " + Bounded.text(first), first);
  }

  /**
   * Takes the result of an opening.
   *
   * @return whether nobody will close it any more
   */
  <T extends AutoCloseable> boolean end(
      Opening<T> opening, @Nullable T result, @Nullable Throwable thrown) {
    lock.lock();
    try {
      opening.end(result, thrown);
      changed.signalAll();
      if (openings.stream().allMatch(one -> one.opened() != null)) {
        LOG.info("all dependencies are up; slowest: {}", slowest(took()));
      }
      return opening.isAbandoned();
    } finally {
      lock.unlock();
    }
  }

  /** Says that the owner has got a resource; what it did since its last step was for that. */
  void step(String name) {
    lock.lock();
    try {
      if (!started && Thread.currentThread().equals(owner)) {
        long now = System.nanoTime();
        steps.add(new Step(name, Duration.ofNanos(now - stepBegan)));
        stepBegan = now;
      }
    } finally {
      lock.unlock();
    }
  }

  /** Logs once what took longest. */
  void started() {
    lock.lock();
    try {
      if (started) {
        return;
      }
      started = true;
      List<Step> all = Stream.concat(steps.stream(), took()).toList();
      if (!all.isEmpty()) {
        Instant now = Instant.now();
        Instant began = ProcessHandle.current().info().startInstant().orElse(now);
        LOG.atInfo()
            .addKeyValue("since_process_start_ms", began.until(now, ChronoUnit.MILLIS))
            .addKeyValue("slowest", slowest(all.stream()))
            .log("startup finished");
      }
      steps.clear();
    } finally {
      lock.unlock();
    }
  }

  private Stream<Step> took() {
    return openings.stream()
        .filter(opening -> opening.opened() != null)
        .map(opening -> new Step(opening.name(), opening.took()));
  }

  private static String slowest(Stream<Step> of) {
    return of.sorted(Comparator.comparing(Step::took).reversed())
        .limit(3)
        .map(step -> step.name + " in " + Bounded.text(step.took))
        .collect(Collectors.joining(", "));
  }

  List<Opening.Pending> pending() {
    lock.lock();
    try {
      return openings.stream()
          .filter(opening -> opening.opened() == null)
          .map(Opening::pending)
          .toList();
    } finally {
      lock.unlock();
    }
  }

  /** Returns what is to be closed, or null; waits for the end of an opening. */
  <T extends AutoCloseable> @Nullable T cancel(Opening<T> opening) throws InterruptedException {
    lock.lock();
    try {
      opening.cancel();
      changed.signalAll();
      while (!opening.hasEnded()) {
        changed.await();
      }
      return opening.opened();
    } catch (InterruptedException e) {
      if (opening.hasEnded()) {
        Thread.currentThread().interrupt();
        return opening.opened();
      }
      opening.abandon();
      throw e;
    } finally {
      lock.unlock();
    }
  }
}
