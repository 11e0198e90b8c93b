package dev.evalops.benchmarks;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.github.benmanes.caffeine.cache.Cache;
import com.github.benmanes.caffeine.cache.Caffeine;
import com.sun.net.httpserver.HttpServer;
import dev.evalops.runtime.identity.IdentityClient;
import dev.evalops.runtime.identity.Introspection;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Threads;
import org.openjdk.jmh.annotations.Warmup;

/** An introspection that the cache answers, beside a look-up in Caffeine by the token itself, which is the floor. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(2)
public class IntrospectionBenchmark {
  private static final byte[] ANSWER = """
      {"active":true,"subject":"user:7","token_type":"user","organization_id":"org-1","scopes":["notes:read"],
       "expires_at":"2100-01-01T00:00:00Z"}""".getBytes(UTF_8);
  /** As long as a small JWT. */
  private static final String TOKEN = "eyJhbGciOiJFUzI1NiJ9." + "x".repeat(300);

  private final HttpServer server;
  private final IdentityClient client;
  private final Cache<String, Introspection> caffeine = Caffeine.newBuilder()
      .maximumSize(10_000)
      .expireAfterWrite(Duration.ofHours(1))
      .build();

  /** Fills both caches with 1 000 tokens. */
  public IntrospectionBenchmark() {
    try {
      server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
    server.createContext("/", exchange -> {
      exchange.sendResponseHeaders(200, ANSWER.length);
      exchange.getResponseBody().write(ANSWER);
      exchange.close();
    });
    server.start();
    client = IdentityClient.builder("http://localhost:" + server.getAddress().getPort() + "/")
        .freshFor(Duration.ofHours(1))
        .open();
    for (int i = 0; i < 1_000; i++) {
      caffeine.put(TOKEN + i, client.introspect(TOKEN + i));
    }
    caffeine.put(TOKEN, client.introspect(TOKEN));
  }

  /** Ends the threads. */
  @TearDown
  public void close() {
    client.close();
    server.stop(0);
  }

  @Benchmark
  public Introspection cached() {
    return client.introspect(TOKEN);
  }

  @Benchmark
  @Threads(2)
  public Introspection cachedTwoThreads() {
    return client.introspect(TOKEN);
  }

  @Benchmark
  public @Nullable Introspection caffeine() {
    return caffeine.getIfPresent(TOKEN);
  }

  @Benchmark
  @Threads(2)
  public @Nullable Introspection caffeineTwoThreads() {
    return caffeine.getIfPresent(TOKEN);
  }
}
