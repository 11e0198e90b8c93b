package dev.evalops.benchmarks;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.VerifiedToken;
import dev.evalops.runtime.http.HttpFilters;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Threads;
import org.openjdk.jmh.annotations.Warmup;

/** What auth costs beside its handler and the guard, with a verifier that has the answer at hand. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(2)
public class AuthFilterBenchmark {
  private static final byte[] BODY =
      "{\"message\":\"hello world\"}\n".getBytes(StandardCharsets.UTF_8);
  private static final VerifiedToken ANN = VerifiedToken.of(
      new Actor("user", "ann", "org-1", Map.of("workspace_id", "ws-1")),
      Set.of("notes:read", "notes:write", "invoices:read"));

  private final HttpHandler bare = exchange -> {
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.sendResponseHeaders(200, BODY.length);
    exchange.getResponseBody().write(BODY);
    exchange.close();
  };
  private final HttpHandler guard = HttpFilters.chain(bare);
  private final HttpHandler auth =
      HttpFilters.chain(bare, Auth.of((token, scopes) -> Optional.of(ANN)).require("notes:write"));

  @Benchmark
  public int bareHandler() throws IOException {
    return run(bare);
  }

  @Benchmark
  public int guarded() throws IOException {
    return run(guard);
  }

  @Benchmark
  public int guardedWithAuth() throws IOException {
    return run(auth);
  }

  @Benchmark
  @Threads(2)
  public int guardedOnTwoThreads() throws IOException {
    return run(guard);
  }

  @Benchmark
  @Threads(2)
  public int guardedWithAuthOnTwoThreads() throws IOException {
    return run(auth);
  }

  private static int run(HttpHandler handler) throws IOException {
    StubExchange exchange = new StubExchange();
    exchange
        .getRequestHeaders()
        .set("Authorization", "Bearer 0194f3a0-0000-7000-8000-000000000000");
    handler.handle(exchange);
    if (exchange.getResponseCode() != 200) {
      throw new IllegalStateException("status " + exchange.getResponseCode());
    }
    return exchange.getResponseCode();
  }
}
