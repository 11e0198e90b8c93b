package dev.evalops.runtime.health;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.RequestContext;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;

/**
 * Runs the checks of a service's dependencies and reports whether the service is ready.
 *
 * <pre>{@code
 * HealthChecker health = HealthChecker.create()
 *     .add("postgres", HealthChecks.postgres(db))
 *     .addOptional("nats", NatsHealth.of(bus.connection()));
 * … .handle("/readyz", health.handler())
 * }</pre>
 *
 * <p>All checks run at the same time and within one timeout. A report is shared by concurrent callers and by those who
 * come within the cache time. A check that throws is unhealthy; one that does not end in time is interrupted and {@code
 * timed out}, and until it ends it stays {@code timed out} at once and is not started a second time. What is wrong with
 * a check is logged, in full, each time that it changes.
 *
 * <p>Thread-safe. It owns no threads between runs and needs no closing; a check that hangs holds one daemon thread.
 *
 * @implNote Checks run on platform threads. Interrupting a virtual thread closes the socket that it reads from, so that
 *     one slow answer would cost a connection pool its idle connections; and before Java 24 a check that hangs in a
 *     driver's synchronized block would hold a carrier thread.
 */
public final class HealthChecker {
  private static final HealthReport DRAINING = new HealthReport(
      false,
      List.of(
          new HealthReport.Check("server", false, false, Duration.ZERO, Optional.of("draining"))),
      Duration.ZERO);

  private final Duration timeout;
  private final Duration cacheFor;
  private final LongSupplier nanoTime;

  /** Guards the two fields below; never held while a check runs. */
  private final ReentrantLock lock = new ReentrantLock();

  private List<NamedCheck> checks = List.of();
  private @Nullable Run lastRun;

  private HealthChecker(Builder builder) {
    timeout = builder.checkTimeout;
    cacheFor = builder.cacheFor;
    nanoTime = builder.nanoTime;
  }

  /**
   * Returns a checker without checks, with a timeout of 2 seconds, that keeps a report for 5 seconds.
   *
   * @return the checker
   */
  public static HealthChecker create() {
    return builder().build();
  }

  /**
   * Returns a builder, to set other times than those of {@link #create()}.
   *
   * @return a builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Adds a check that must be healthy for the service to be ready. The report kept so far is forgotten.
   *
   * @param name what the report and the log call it
   * @param check the check
   * @return this checker
   * @throws IllegalArgumentException if the name is blank or taken
   */
  public HealthChecker add(String name, HealthCheck check) {
    return add(name, check, false);
  }

  /**
   * Adds a check that is reported but whose failure leaves the service ready. The report kept so far is forgotten.
   *
   * @param name what the report and the log call it
   * @param check the check
   * @return this checker
   * @throws IllegalArgumentException if the name is blank or taken
   */
  public HealthChecker addOptional(String name, HealthCheck check) {
    return add(name, check, true);
  }

  private HealthChecker add(String name, HealthCheck check, boolean optional) {
    Objects.requireNonNull(check, "check");
    if (name.isBlank()) {
      throw new IllegalArgumentException("name must not be blank");
    }
    lock.lock();
    try {
      if (checks.stream().anyMatch(known -> known.name().equals(name))) {
        throw new IllegalArgumentException("name is taken by another check: " + name);
      }
      List<NamedCheck> more = new ArrayList<>(checks);
      more.add(new NamedCheck(name, check, optional, nanoTime));
      checks = List.copyOf(more);
      lastRun = null;
    } finally {
      lock.unlock();
    }
    return this;
  }

  /**
   * The kept report if it is fresh, else that of the run in progress, else of a new run. Waits no longer than the
   * timeout, whatever the checks do. Interrupting one caller leaves the run to the others.
   *
   * @return the report, healthy when there are no checks
   * @throws InterruptedException if the calling thread is interrupted while it waits
   */
  public HealthReport report() throws InterruptedException {
    try {
      return currentRun().report.get();
    } catch (ExecutionException e) {
      throw new IllegalStateException("the health checks could not be run", e.getCause());
    }
  }

  /**
   * Answers GET and HEAD with the report as JSON, with status 200 when healthy, else 503. While the server drains the
   * answer is 503 with the one check {@code server}, {@code draining}, and nothing is checked. To be served by {@link
   * dev.evalops.runtime.http.HttpService}, also when that refuses other requests because it has too many.
   *
   * @return the handler, for {@code /readyz}
   */
  public HttpHandler handler() {
    return HttpEndpoints.exempt(this::answer);
  }

  private void answer(HttpExchange exchange) throws IOException {
    HttpRequests.requireMethod(exchange, "GET");
    HealthReport report = RequestContext.of(exchange).draining() ? DRAINING : reportForRequest();
    exchange.getResponseHeaders().set("Cache-Control", "no-store");
    HttpResponses.json(exchange, report.healthy() ? 200 : 503, report);
  }

  private HealthReport reportForRequest() throws InterruptedIOException {
    try {
      return report();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new InterruptedIOException("interrupted while waiting for the health checks");
    }
  }

  private Run currentRun() {
    lock.lock();
    try {
      Run run = lastRun;
      if (run == null || run.isStale()) {
        run = new Run(checks);
        Thread.ofPlatform().daemon().name("health-report").start(run);
        lastRun = run;
      }
      return run;
    } finally {
      lock.unlock();
    }
  }

  /** One run of all checks, on a thread of its own, so that it belongs to none of the callers who wait for it. */
  private final class Run implements Runnable {
    private final List<NamedCheck> checks;
    private final CompletableFuture<HealthReport> report = new CompletableFuture<>();
    private volatile long endedAt;

    Run(List<NamedCheck> checks) {
      this.checks = checks;
    }

    boolean isStale() {
      return report.isCompletedExceptionally()
          || (report.isDone() && nanoTime.getAsLong() - endedAt >= cacheFor.toNanos());
    }

    @Override
    public void run() {
      try {
        long startedAt = nanoTime.getAsLong();
        List<NamedCheck.Execution> executions =
            checks.stream().map(NamedCheck::begin).toList();
        List<NamedCheck.Outcome> outcomes = new ArrayList<>();
        for (NamedCheck.Execution execution : executions) {
          outcomes.add(execution.await(timeout));
        }
        List<HealthReport.Check> results =
            outcomes.stream().map(NamedCheck.Outcome::result).toList();
        boolean healthy = results.stream().allMatch(check -> check.healthy() || check.optional());
        endedAt = nanoTime.getAsLong();
        report.complete(new HealthReport(healthy, results, Duration.ofNanos(endedAt - startedAt)));
        // Last, so that a log that blocks holds up nobody.
        for (int i = 0; i < outcomes.size(); i++) {
          checks.get(i).log(outcomes.get(i));
        }
      } catch (Throwable t) {
        report.completeExceptionally(t);
      }
    }
  }

  /** Builds a {@link HealthChecker}. Not thread-safe. */
  public static final class Builder {
    private static final Duration MAX = Duration.ofDays(1);

    private Duration checkTimeout = Duration.ofSeconds(2);
    private Duration cacheFor = Duration.ofSeconds(5);
    private LongSupplier nanoTime = System::nanoTime;

    private Builder() {}

    /**
     * Sets how long a check may take, and with it a report (2 s).
     *
     * @param checkTimeout more than zero, at most a day. To be shorter than that of the probe which calls the service
     * @return this
     */
    public Builder checkTimeout(Duration checkTimeout) {
      this.checkTimeout = Objects.requireNonNull(checkTimeout, "checkTimeout");
      return this;
    }

    /**
     * Sets how long a report is kept (5 s).
     *
     * @param cacheFor zero to a day; with zero only concurrent callers share a report
     * @return this
     */
    public Builder cacheFor(Duration cacheFor) {
      this.cacheFor = Objects.requireNonNull(cacheFor, "cacheFor");
      return this;
    }

    Builder nanoTime(LongSupplier nanoTime) {
      this.nanoTime = nanoTime;
      return this;
    }

    /**
     * Checks the settings and builds; no thread starts before the first report.
     *
     * @return a checker without checks
     * @throws IllegalArgumentException if a setting is out of its range; names each of them
     */
    public HealthChecker build() {
      List<String> problems = new ArrayList<>();
      if (!checkTimeout.isPositive() || checkTimeout.compareTo(MAX) > 0) {
        problems.add("checkTimeout must be more than zero and at most a day: " + checkTimeout);
      }
      if (cacheFor.isNegative() || cacheFor.compareTo(MAX) > 0) {
        problems.add("cacheFor must be from zero to a day: " + cacheFor);
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      return new HealthChecker(this);
    }
  }
}
