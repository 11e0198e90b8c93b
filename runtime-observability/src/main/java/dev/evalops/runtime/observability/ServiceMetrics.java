package dev.evalops.runtime.observability;

import static java.util.Objects.requireNonNull;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.RequestContext;
import io.lettuce.core.event.command.CommandListener;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tag;
import io.micrometer.core.instrument.Tags;
import io.micrometer.core.instrument.Timer;
import java.io.IOException;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;

/**
 * The metrics that every service has, under its own name, and the request log.
 *
 * <pre>{@code
 * ServiceMetrics metrics = ServiceMetrics.of("notes", registry).bind(db);
 * builder.filters(HttpFilters.requestId(), metrics.requests(log));
 * }</pre>
 *
 * <p>As Prometheus sees them, with {@code notes} as the prefix:
 *
 * <ul>
 *   <li>{@code notes_http_requests_total} and {@code notes_http_request_duration_seconds} by {@code method}, {@code
 *       route} and {@code status};
 *   <li>{@code notes_db_open_connections}, {@code notes_db_in_use_connections}, {@code notes_db_idle_connections};
 *   <li>{@code notes_redis_commands_total} and {@code notes_redis_command_duration_seconds} by {@code command} and
 *       {@code status} ({@code ok}, {@code nil}, {@code error}).
 * </ul>
 *
 * <p>The number of series is bounded: a method or status that is none is {@code other}, the route is a template and
 * never a path, and after 1000 routes the next ones are {@code other}, too. {@link #of} and {@link #bind} may be called
 * twice.
 *
 * <p>Thread-safe.
 */
public final class ServiceMetrics {
  private static final int MAX_ROUTES = 1000;
  private static final String UNKNOWN = "unknown";
  private static final String OTHER = "other";
  private static final int CUT = -1; // RequestContext.status() of a response that was cut short
  private static final BoundedLabel METHOD = BoundedLabel.of(
      "method", "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE");
  private static final Duration[] BUCKETS =
      buckets(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10);

  private final String prefix;
  private final MeterRegistry registry;
  private final Map<Series, Request> requests = new ConcurrentHashMap<>();
  private final Map<String, String> routes = new ConcurrentHashMap<>();

  private record Series(String method, String route, int status) {}

  private record Request(Counter count, Timer duration) {}

  private ServiceMetrics(String service, MeterRegistry registry) {
    this.prefix = MetricPrefix.of(service);
    this.registry = requireNonNull(registry, "registry");
  }

  /**
   * The metrics of a service.
   *
   * @param service its name: in lower case and with {@code _} for all but letters and digits it is what the names begin
   *     with; {@code service} if nothing is left, {@code service_} before a digit. After a digit at the beginning comes
   *     a {@code _} here, and none in the metrics of the rate limiter: {@code 9lives} is {@code service_9_lives_…} and
   *     {@code service_9lives_…}
   * @param registry where they are kept; never closed
   * @return the metrics
   */
  public static ServiceMetrics of(String service, MeterRegistry registry) {
    return new ServiceMetrics(service, registry);
  }

  /**
   * Adds the gauges of a database pool. With several open pools they are the sum; a closed one no longer counts.
   *
   * @param pool the pool; needs HikariCP
   * @return this
   */
  public ServiceMetrics bind(HikariDataSource pool) {
    PoolGauges.of(registry, prefix).add(requireNonNull(pool, "pool"));
    return this;
  }

  /**
   * Counts and times the commands of Redis connections that are made afterwards; needs Lettuce.
   *
   * <pre>{@code
   * Redis.builder(url).commandListener(metrics.redisCommands()).open();   // or client.addListener(...)
   * }</pre>
   *
   * @return the listener to give to the client
   */
  public CommandListener redisCommands() {
    return RedisCommands.listener(registry, prefix); // whose type is not loaded for others
  }

  /**
   * A filter that logs each request as {@link HttpFilters#requestLog} does, with its {@link WideEvent}, and counts and
   * times it; the status of one whose answer was cut short or could not be sent is {@code cut}. One for a service,
   * after {@link HttpFilters#requestId()}.
   *
   * @param logger where to log
   * @return the filter
   */
  public Filter requests(Logger logger) {
    return new RequestFilter(HttpFilters.requestLog(logger));
  }

  private final class RequestFilter extends Filter {
    private final Filter log;

    RequestFilter(Filter log) {
      this.log = log;
    }

    @Override
    public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
      RequestContext context = RequestContext.of(exchange);
      String method = exchange.getRequestMethod();
      long start = System.nanoTime();
      context.onComplete(CurrentSpan.carry(
          () -> record(method, context.route(), context.status(), System.nanoTime() - start)));
      log.doFilter(exchange, chain);
    }

    @Override
    public String description() {
      return "request log and metrics";
    }
  }

  /** What the filter does, for use without an exchange. */
  void record(String method, String route, int status, long nanos) {
    Request request = requests.computeIfAbsent(
        new Series(METHOD.tag(method).getValue(), bounded(route), bounded(status)), this::register);
    request.count.increment();
    request.duration.record(nanos, TimeUnit.NANOSECONDS);
  }

  private String bounded(String route) {
    String known = routes.get(route);
    if (known != null) {
      return known;
    }
    if (route.isBlank()) {
      return UNKNOWN;
    }
    if (routes.size() >= MAX_ROUTES) {
      return OTHER;
    }
    routes.put(route, route);
    return route;
  }

  private static int bounded(int status) {
    return status == CUT || (status >= 100 && status <= 599) ? status : 0;
  }

  private static String label(int status) {
    return switch (status) {
      case CUT -> "cut";
      case 0 -> OTHER;
      default -> Integer.toString(status);
    };
  }

  private Request register(Series series) {
    Tags tags = Tags.of(
        METHOD.tag(series.method),
        Tag.of("route", series.route),
        Tag.of("status", label(series.status)));
    return new Request(
        Counter.builder(prefix + ".http.requests")
            .description("Requests that were answered")
            .tags(tags)
            .register(registry),
        Timer.builder(prefix + ".http.request.duration")
            .description("Time from the request's head to the end of its answer")
            .serviceLevelObjectives(BUCKETS)
            .tags(tags)
            .register(registry));
  }

  static Duration[] buckets(double... seconds) {
    Duration[] buckets = new Duration[seconds.length];
    for (int i = 0; i < seconds.length; i++) {
      buckets[i] = Duration.ofNanos(Math.round(seconds[i] * 1e9));
    }
    return buckets;
  }
}
