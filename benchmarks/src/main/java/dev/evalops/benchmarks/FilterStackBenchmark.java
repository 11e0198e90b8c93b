package dev.evalops.benchmarks;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.http.HttpFilters;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
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
 * What a request costs beside its handler: nothing, the guard, the guard with all filters (the log's writing left out).
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(2)
public class FilterStackBenchmark {
  private static final byte[] BODY =
      "{\"message\":\"hello world\"}\n".getBytes(StandardCharsets.UTF_8);

  private final HttpHandler bare = exchange -> {
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.sendResponseHeaders(200, BODY.length);
    exchange.getResponseBody().write(BODY);
    exchange.close();
  };
  private final HttpHandler guard = HttpFilters.chain(bare);
  private final HttpHandler filters = HttpFilters.chain(
      bare,
      HttpFilters.requestId(),
      HttpFilters.requestLog(NOPLogger.NOP_LOGGER),
      HttpFilters.browserGuards());

  @Benchmark
  public int bareHandler() throws IOException {
    return run(bare);
  }

  @Benchmark
  public int guarded() throws IOException {
    return run(guard);
  }

  @Benchmark
  public int guardedWithAllFilters() throws IOException {
    return run(filters);
  }

  private static int run(HttpHandler handler) throws IOException {
    StubExchange exchange = new StubExchange();
    handler.handle(exchange);
    return exchange.getResponseCode();
  }
}
