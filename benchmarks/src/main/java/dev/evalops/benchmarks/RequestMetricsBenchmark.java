package dev.evalops.benchmarks;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.RequestContext;
import dev.evalops.runtime.observability.ServiceMetrics;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tags;
import io.micrometer.core.instrument.Timer;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;
import org.slf4j.helpers.NOPLogger;

/**
 * What counting and timing a request costs: the guard alone, our filter, and Micrometer looked up by tags for each
 * request.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(2)
public class RequestMetricsBenchmark {
  private final MeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  private final HttpHandler bare = exchange -> exchange.sendResponseHeaders(204, -1);
  private final HttpHandler guard = HttpFilters.chain(bare);
  private final HttpHandler metrics =
      HttpFilters.chain(bare, ServiceMetrics.of("notes", registry).requests(NOPLogger.NOP_LOGGER));
  private final HttpHandler lookedUp = HttpFilters.chain(bare, new LookedUp(registry));

  @Benchmark
  public int guarded() throws IOException {
    return run(guard);
  }

  @Benchmark
  public int withServiceMetrics() throws IOException {
    return run(metrics);
  }

  @Benchmark
  public int withMicrometerByTags() throws IOException {
    return run(lookedUp);
  }

  private static int run(HttpHandler handler) throws IOException {
    StubExchange exchange = new StubExchange();
    handler.handle(exchange);
    return exchange.getResponseCode();
  }

  private static final class LookedUp extends Filter {
    private final MeterRegistry registry;

    LookedUp(MeterRegistry registry) {
      this.registry = registry;
    }

    @Override
    public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
      RequestContext context = RequestContext.of(exchange);
      long start = System.nanoTime();
      context.onComplete(() -> {
        Tags tags = Tags.of(
            "method", exchange.getRequestMethod(),
            "route", context.route(),
            "status", Integer.toString(context.status()));
        registry.counter("requests", tags).increment();
        Timer.builder("duration")
            .serviceLevelObjectives(
                Duration.ofMillis(5), Duration.ofMillis(50), Duration.ofSeconds(1))
            .tags(tags)
            .register(registry)
            .record(System.nanoTime() - start, TimeUnit.NANOSECONDS);
      });
      chain.doFilter(exchange);
    }

    @Override
    public String description() {
      return "metrics";
    }
  }
}
