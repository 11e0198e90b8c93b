package dev.evalops.runtime.health;

import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** One check by its name, with its execution in progress: there is never more than one. */
final class NamedCheck {
  private static final Logger LOG = LoggerFactory.getLogger(HealthChecker.class);
  private static final String TIMED_OUT = "timed out";
  private static final String FAILED = "check failed";

  private final String name;
  private final HealthCheck check;
  private final boolean optional;
  private final LongSupplier nanoTime;
  private final AtomicReference<@Nullable Execution> execution = new AtomicReference<>();
  private final AtomicReference<Optional<String>> lastError =
      new AtomicReference<>(Optional.empty());

  NamedCheck(String name, HealthCheck check, boolean optional, LongSupplier nanoTime) {
    this.name = name;
    this.check = check;
    this.optional = optional;
    this.nanoTime = nanoTime;
  }

  String name() {
    return name;
  }

  /** Starts an execution, or joins the one in progress: that of a concurrent run, or one that hangs. */
  Execution begin() {
    Execution previous = execution.get();
    if (previous != null && !previous.end.isDone()) {
      return previous;
    }
    Execution next = new Execution();
    Execution winner = execution.compareAndExchange(previous, next);
    if (winner != previous && winner != null) {
      return winner;
    }
    next.start();
    return next;
  }

  /**
   * What one execution came to.
   *
   * @param result for the report
   * @param changed whether the state differs from that of the execution before
   * @param detail for the log
   */
  record Outcome(
      HealthReport.Check result, boolean changed, @Nullable Throwable detail) {}

  private Outcome outcome(Duration latency, Optional<String> error, @Nullable Throwable detail) {
    boolean changed = !lastError.getAndSet(error).equals(error);
    return new Outcome(
        new HealthReport.Check(name, error.isEmpty(), optional, latency, error), changed, detail);
  }

  /** Logs what is wrong once, until it changes. */
  void log(Outcome outcome) {
    if (!outcome.changed()) {
      return;
    }
    if (outcome.result().healthy()) {
      LOG.atInfo().addKeyValue("check", name).log("health check recovered");
    } else {
      LOG.atWarn()
          .addKeyValue("check", name)
          .addKeyValue("error", outcome.result().error().orElse(FAILED))
          .setCause(
              outcome.detail() instanceof UnhealthyException chosen
                  ? chosen.getCause()
                  : outcome.detail())
          .log("health check failed");
    }
  }

  private static String shownText(Throwable failure) {
    if (failure instanceof UnhealthyException chosen && chosen.getMessage() != null) {
      return chosen.getMessage();
    }
    return failure instanceof TimeoutException ? TIMED_OUT : FAILED;
  }

  private record End(Duration latency, @Nullable Throwable failure) {}

  /** One call of the check on a thread of its own. */
  final class Execution {
    private final long startedAt = nanoTime.getAsLong();
    private final CompletableFuture<End> end = new CompletableFuture<>();
    private final Thread thread =
        Thread.ofPlatform().daemon().name("health-check-" + name).unstarted(this::run);

    private void start() {
      try {
        thread.start();
      } catch (Throwable noThread) {
        end(noThread);
      }
    }

    private void run() {
      try {
        check.check();
        end(null);
      } catch (Throwable failure) {
        end(failure);
      }
    }

    private void end(@Nullable Throwable failure) {
      end.complete(new End(elapsed(), failure));
    }

    private Duration elapsed() {
      return Duration.ofNanos(nanoTime.getAsLong() - startedAt);
    }

    /** Waits until the timeout after the start of this execution, which for one that hangs is in the past. */
    Outcome await(Duration timeout) throws InterruptedException, ExecutionException {
      try {
        End ended = end.get(timeout.minus(elapsed()).toNanos(), TimeUnit.NANOSECONDS);
        Throwable failure = ended.failure();
        return outcome(
            ended.latency(), Optional.ofNullable(failure).map(NamedCheck::shownText), failure);
      } catch (TimeoutException e) {
        TimeoutException where = new TimeoutException("still running here");
        where.setStackTrace(thread.getStackTrace());
        thread.interrupt();
        return outcome(elapsed(), Optional.of(TIMED_OUT), where);
      }
    }
  }
}
