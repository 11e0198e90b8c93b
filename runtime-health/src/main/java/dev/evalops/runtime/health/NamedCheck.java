package dev.evalops.runtime.health;

import dev.evalops.runtime.health.HealthReport.Dependency;
import dev.evalops.runtime.health.HealthReport.Status;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Runs one check again and again and keeps its last result. Every method but {@link #result} and {@link #close} runs on
 * the timer's one thread, the check itself on a thread of its own.
 */
final class NamedCheck {
  private static final Logger LOG = LoggerFactory.getLogger(HealthChecker.class);
  private static final String TIMED_OUT = "timed out";
  private static final String FAILED = "check failed";

  /** How many results in a row change the state, once there is one. */
  private static final int RESULTS_TO_CHANGE = 2;

  /** The pause before a result that contradicts the state is confirmed, unless checks are more frequent. */
  private static final Duration MAX_CONFIRM = Duration.ofSeconds(1);

  private final String name;
  private final Dependency dependency;
  private final HealthCheck check;
  private final Duration checkEvery;
  private final Duration checkTimeout;
  private final LongSupplier nanoTime;
  private final ScheduledExecutorService timer;
  private final CountDownLatch firstResult = new CountDownLatch(1);

  private volatile @Nullable Execution running;
  private volatile State state;
  private int contradictions;

  /** What the results so far say. */
  private record State(Status status, Optional<String> error, Duration latency, long endedAt) {}

  NamedCheck(
      HealthChecker.Declared declared,
      HealthChecker.Builder builder,
      ScheduledExecutorService timer) {
    this.name = declared.name();
    this.dependency = declared.dependency();
    this.check = declared.check();
    this.checkEvery = builder.checkEvery;
    this.checkTimeout = builder.checkTimeout;
    this.nanoTime = builder.nanoTime;
    this.timer = timer;
    this.state = new State(
        Status.UNKNOWN, Optional.of("not checked yet"), Duration.ZERO, nanoTime.getAsLong());
  }

  String name() {
    return name;
  }

  HealthReport.Check result() {
    State last = state;
    Execution execution = running;
    Duration age = Duration.ofNanos(nanoTime.getAsLong() - last.endedAt());
    Duration latency =
        last.status() == Status.UNKNOWN && execution != null ? execution.elapsed() : last.latency();
    return new HealthReport.Check(name, dependency, last.status(), latency, age, last.error());
  }

  boolean healthy() {
    return state.status() == Status.HEALTHY;
  }

  boolean awaitFirst(long nanos) throws InterruptedException {
    return firstResult.await(nanos, TimeUnit.NANOSECONDS);
  }

  /** Runs the check once, and then every so often. */
  void begin() {
    Execution execution = new Execution();
    running = execution;
    try {
      execution.thread.start();
    } catch (Throwable noThread) {
      ended(execution, noThread, Duration.ZERO);
      return;
    }
    later(checkTimeout, () -> overdue(execution));
  }

  private void ended(Execution execution, @Nullable Throwable failure, Duration latency) {
    running = null;
    if (execution.overdue) { // counted when its time was up
      state = new State(
          state.status() == Status.UNKNOWN ? Status.UNHEALTHY : state.status(),
          state.error(),
          latency,
          nanoTime.getAsLong());
    } else {
      Status status = failure == null ? Status.HEALTHY : Status.UNHEALTHY;
      Optional<String> error = Optional.ofNullable(failure).map(NamedCheck::shownText);
      accept(new State(status, error, latency, nanoTime.getAsLong()), failure);
    }
    Duration pause = contradictions > 0 ? confirmAfter() : checkEvery;
    later(jittered(pause), this::begin);
  }

  private void overdue(Execution execution) {
    if (running != execution) {
      return;
    }
    TimeoutException where = new TimeoutException("still running here");
    where.setStackTrace(execution.thread.getStackTrace());
    if (!execution.overdue) {
      execution.overdue = true;
      execution.thread.interrupt();
    }
    long endedAt = state.endedAt();
    accept(new State(Status.UNKNOWN, Optional.of(TIMED_OUT), execution.elapsed(), endedAt), where);
    later(confirmAfter(), () -> overdue(execution));
  }

  /** Takes a result; one that contradicts the state has to be confirmed by the next. */
  private void accept(State next, @Nullable Throwable detail) {
    State last = state;
    boolean first = firstResult.getCount() > 0;
    boolean same = (last.status() == Status.HEALTHY) == (next.status() == Status.HEALTHY);
    if (first || same || ++contradictions >= RESULTS_TO_CHANGE) {
      contradictions = 0;
      state = next;
      firstResult.countDown();
      boolean wasHealthy = first || last.status() == Status.HEALTHY;
      boolean healthy = next.status() == Status.HEALTHY;
      if (wasHealthy != healthy || !(first || last.error().equals(next.error()))) {
        // Not on the timer's thread: a log that blocks holds up nobody.
        Thread.ofVirtual().name("health-log").start(() -> log(next, detail));
      }
    } else {
      state = new State(last.status(), last.error(), next.latency(), next.endedAt());
    }
  }

  private void log(State state, @Nullable Throwable detail) {
    if (state.status() == Status.HEALTHY) {
      LOG.atInfo().addKeyValue("check", name).log("health check recovered");
    } else {
      LOG.atWarn()
          .addKeyValue("check", name)
          .addKeyValue("error", state.error().orElse(FAILED))
          .setCause(detail instanceof UnhealthyException chosen ? chosen.getCause() : detail)
          .log("health check failed");
    }
  }

  private static String shownText(Throwable failure) {
    if (failure instanceof UnhealthyException chosen && chosen.getMessage() != null) {
      return chosen.getMessage();
    }
    return failure instanceof TimeoutException ? TIMED_OUT : FAILED;
  }

  private Duration confirmAfter() {
    return checkEvery.compareTo(MAX_CONFIRM) < 0 ? checkEvery : MAX_CONFIRM;
  }

  /** A tenth more or less, so that the instances of a service do not check in step. */
  private static Duration jittered(Duration pause) {
    long tenth = pause.toNanos() / 10;
    return pause.plusNanos(ThreadLocalRandom.current().nextLong(-tenth, tenth + 1));
  }

  private void later(Duration delay, Runnable task) {
    try {
      Future<?> unused = timer.schedule(task, delay.toNanos(), TimeUnit.NANOSECONDS);
    } catch (RejectedExecutionException closed) {
      // Nothing is checked any more.
    }
  }

  /** Interrupts the check and waits for its end until then. */
  void close(long deadlineNanos) throws InterruptedException {
    Execution execution = running;
    if (execution != null) {
      execution.thread.interrupt();
      long left = deadlineNanos - System.nanoTime();
      if (left > 0) {
        execution.thread.join(Duration.ofNanos(left));
      }
    }
  }

  /** One call of the check. */
  private final class Execution {
    private final long startedAt = nanoTime.getAsLong();
    private final Thread thread =
        Thread.ofPlatform().daemon().name("health-check-" + name).unstarted(this::run);
    private boolean overdue;

    private void run() {
      Throwable failure = null;
      try {
        check.check();
      } catch (Throwable thrown) {
        failure = thrown;
      }
      Duration latency = elapsed();
      Throwable result = failure;
      later(Duration.ZERO, () -> ended(this, result, latency));
    }

    private Duration elapsed() {
      return Duration.ofNanos(nanoTime.getAsLong() - startedAt);
    }
  }
}
