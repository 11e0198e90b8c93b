package dev.evalops.runtime.health;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.health.HealthReport.Dependency;
import dev.evalops.runtime.health.HealthReport.Status;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.RequestContext;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;

/**
 * Checks a service's dependencies in the background and reports whether this instance is ready.
 *
 * <pre>{@code
 * HealthChecker health = HealthChecker.builder()
 *     .shared("postgres", HealthChecks.postgres(db))
 *     .required("cache", HealthChecks.tcp("127.0.0.1", 6380))
 *     .optional("nats", NatsHealth.of(bus.connection()))
 *     .open();
 * … .handle("/readyz", health.handler())
 * }</pre>
 *
 * <p>A dependency is {@link Builder#required required} when it is this instance's own (a sidecar, a local disk):
 * without it the instance takes no requests and others do. It is {@link Builder#shared shared} when every instance has
 * the same one: taking all of them out of service would turn one failure into a complete one, so the instance stays
 * ready, and {@link #require} answers 503 at once where the dependency is needed.
 *
 * <p>Each check runs every 5 seconds, a tenth more or less; all run at the same time. A report is read from the last
 * results and waits for nothing. One result does not change a state: a check becomes unhealthy, or healthy again, by
 * two results in a row, the second a second after the first. A check that throws is unhealthy. One that does not end in
 * time is interrupted and {@code timed out}; until it ends its status is {@link Status#UNKNOWN}, which counts as
 * unhealthy, and it is not started a second time. What is wrong with a check is logged, in full, each time that it
 * changes.
 *
 * <p>Thread-safe. Owns a daemon thread, and another for each check while it runs, until it is closed.
 *
 * @implNote Checks run on platform threads. Interrupting a virtual thread closes the socket that it reads from, so that
 *     one slow answer would cost a connection pool its idle connections; and before Java 24 a check that hangs in a
 *     driver's synchronized block would hold a carrier thread.
 */
public final class HealthChecker implements AutoCloseable {
  private static final HealthReport DRAINING = new HealthReport(
      false,
      List.of(new HealthReport.Check(
          "server",
          Dependency.REQUIRED,
          Status.UNHEALTHY,
          Duration.ZERO,
          Duration.ZERO,
          Optional.of("draining"))),
      Duration.ZERO);

  private static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(1);

  private final List<NamedCheck> checks;
  private final ScheduledThreadPoolExecutor timer;

  private HealthChecker(Builder builder) {
    timer = new ScheduledThreadPoolExecutor(
        1, Thread.ofPlatform().daemon().name("health").factory());
    timer.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
    checks = builder.checks.stream()
        .map(declared -> new NamedCheck(declared, builder, timer))
        .toList();
  }

  /**
   * Returns a builder.
   *
   * @return a builder without checks
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Returns the last result of each check, with its age. Waits for nothing.
   *
   * @return the report, healthy when no check is required
   */
  public HealthReport report() {
    List<HealthReport.Check> results = checks.stream().map(NamedCheck::result).toList();
    boolean healthy = true;
    Duration slowest = Duration.ZERO;
    for (HealthReport.Check result : results) {
      healthy &= result.healthy() || result.dependency() != Dependency.REQUIRED;
      slowest = result.latency().compareTo(slowest) > 0 ? result.latency() : slowest;
    }
    return new HealthReport(healthy, results, slowest);
  }

  /**
   * Answers GET and HEAD with the report as JSON, with status 200 when healthy, else 503. While the server drains the
   * answer is 503 with the one check {@code server}, {@code draining}. To be served by {@link
   * dev.evalops.runtime.http.HttpService}, also when that refuses other requests because it has too many.
   *
   * @return the handler, for {@code /readyz}
   */
  public HttpHandler handler() {
    return HttpEndpoints.exempt(this::answer);
  }

  private void answer(HttpExchange exchange) throws IOException {
    HttpRequests.requireMethod(exchange, "GET");
    HealthReport report = RequestContext.of(exchange).draining() ? DRAINING : report();
    exchange.getResponseHeaders().set("Cache-Control", "no-store");
    HttpResponses.json(exchange, report.healthy() ? 200 : 503, report);
  }

  /**
   * Returns a filter that answers 503 {@code unavailable} with {@code Retry-After} at once while one of these
   * dependencies is unhealthy, so that requests do not wait for a dependency that is known to be away.
   *
   * @param names names of declared checks
   * @return the filter
   * @throws IllegalArgumentException if a name is not that of a check
   */
  public Filter require(String... names) {
    List<NamedCheck> required = new ArrayList<>();
    for (String name : names) {
      required.add(checks.stream()
          .filter(check -> check.name().equals(name))
          .findFirst()
          .orElseThrow(
              () -> new IllegalArgumentException("name must be that of a check: " + name)));
    }
    return Filter.beforeHandler("health", exchange -> {
      for (NamedCheck check : required) {
        if (!check.healthy()) {
          throw ServiceException.of(ErrorCode.UNAVAILABLE).op("health.require " + check.name());
        }
      }
    });
  }

  /**
   * Stops checking and interrupts a running check; waits at most a second for it. {@link #report} keeps the last
   * results.
   */
  @Override
  public void close() {
    timer.shutdownNow();
    long deadline = System.nanoTime() + CLOSE_TIMEOUT.toNanos();
    try {
      if (!timer.awaitTermination(CLOSE_TIMEOUT.toNanos(), TimeUnit.NANOSECONDS)) {
        return; // a machine too busy to start a thread
      }
      for (NamedCheck check : checks) {
        check.close(deadline);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private void start(Duration checkTimeout) {
    for (NamedCheck check : checks) {
      timer.execute(check::begin);
    }
    long deadline = System.nanoTime() + checkTimeout.toNanos() + TimeUnit.SECONDS.toNanos(1);
    try {
      for (NamedCheck check : checks) {
        if (!check.awaitFirst(deadline - System.nanoTime())) {
          break; // the machine is too busy; the first report says so
        }
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  record Declared(String name, Dependency dependency, HealthCheck check) {}

  /** Describes a {@link HealthChecker}. Not thread-safe. */
  public static final class Builder {
    private static final Duration MAX = Duration.ofDays(1);

    private final List<Declared> checks = new ArrayList<>();
    Duration checkEvery = Duration.ofSeconds(5);
    Duration checkTimeout = Duration.ofSeconds(2);
    LongSupplier nanoTime = System::nanoTime;

    private Builder() {}

    /**
     * Declares a dependency of this instance alone: the instance is not ready without it.
     *
     * @param name what the report and the log call it; not blank, and declared once
     * @param check the check
     * @return this
     */
    public Builder required(String name, HealthCheck check) {
      return add(name, Dependency.REQUIRED, check);
    }

    /**
     * Declares a dependency that every instance shares: its failure is reported, and the instance stays ready.
     *
     * @param name what the report and the log call it; not blank, and declared once
     * @param check the check
     * @return this
     */
    public Builder shared(String name, HealthCheck check) {
      return add(name, Dependency.SHARED, check);
    }

    /**
     * Declares a dependency without which the service works: its failure is reported, and the instance stays ready.
     *
     * @param name what the report and the log call it; not blank, and declared once
     * @param check the check
     * @return this
     */
    public Builder optional(String name, HealthCheck check) {
      return add(name, Dependency.OPTIONAL, check);
    }

    private Builder add(String name, Dependency dependency, HealthCheck check) {
      checks.add(new Declared(
          Objects.requireNonNull(name, "name"),
          dependency,
          Objects.requireNonNull(check, "check")));
      return this;
    }

    /**
     * Sets the time between two runs of a check (5 s), a tenth more or less.
     *
     * @param checkEvery more than zero, at most a day
     * @return this
     */
    public Builder checkEvery(Duration checkEvery) {
      this.checkEvery = Objects.requireNonNull(checkEvery, "checkEvery");
      return this;
    }

    /**
     * Sets how long a check may take (2 s).
     *
     * @param checkTimeout more than zero, at most a day
     * @return this
     */
    public Builder checkTimeout(Duration checkTimeout) {
      this.checkTimeout = Objects.requireNonNull(checkTimeout, "checkTimeout");
      return this;
    }

    Builder nanoTime(LongSupplier nanoTime) {
      this.nanoTime = nanoTime;
      return this;
    }

    /**
     * Runs every check once, all at the same time, and then continues in the background. A check that fails does not
     * make this fail.
     *
     * @return a checker that has a result for each check; the caller closes it
     * @throws IllegalArgumentException if a setting is wrong; names each of them
     */
    public HealthChecker open() {
      List<String> problems = new ArrayList<>();
      Set<String> names = new HashSet<>();
      for (Declared declared : checks) {
        if (declared.name().isBlank()) {
          problems.add("name must not be blank");
        } else if (!names.add(declared.name())) {
          problems.add("name must be declared once: " + declared.name());
        }
      }
      for (Setting setting : List.of(
          new Setting("checkEvery", checkEvery), new Setting("checkTimeout", checkTimeout))) {
        if (!setting.value().isPositive() || setting.value().compareTo(MAX) > 0) {
          problems.add(
              setting.name() + " must be more than zero and at most a day: " + setting.value());
        }
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      HealthChecker checker = new HealthChecker(this);
      checker.start(checkTimeout);
      return checker;
    }

    private record Setting(String name, Duration value) {}
  }
}
