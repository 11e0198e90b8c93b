package dev.evalops.benchmarks;

import dev.evalops.runtime.ratelimit.RateLimiter;
import io.github.bucket4j.Bucket;
import io.github.bucket4j.ConsumptionProbe;
import io.github.resilience4j.ratelimiter.RateLimiterConfig;
import java.time.Duration;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Threads;
import org.openjdk.jmh.annotations.Warmup;

/**
 * A decision in memory, allowed, for one of many keys. The peers know no keys: they are kept in a map without a bound,
 * which is the quickest that a user can do. {@link Contended} is the same with two threads.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 4, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(2)
public class RateLimitBenchmark {
  private static final int PER_SECOND = 1_000_000;
  private static final int BURST = 1_000_000_000;

  /** The same with two threads. */
  @Threads(2)
  public static class Contended extends RateLimitBenchmark {}

  /** Goes round the keys. */
  @State(Scope.Thread)
  public static class Cursor {
    private int next;

    String of(String[] keys) {
      next = next + 1 < keys.length ? next + 1 : 0;
      return keys[next];
    }
  }

  @Param({"1", "10000"})
  public int keys;

  private final RateLimiter limiter = RateLimiter.open(PER_SECOND, BURST);
  private final RateLimiter.Policy scoped = limiter.policy().scope("/v1/notes");
  private final ConcurrentHashMap<String, Bucket> bucket4j = new ConcurrentHashMap<>();
  private final ConcurrentHashMap<String, io.github.resilience4j.ratelimiter.RateLimiter>
      resilience4j = new ConcurrentHashMap<>();
  private final RateLimiterConfig resilience4jConfig = RateLimiterConfig.custom()
      .limitForPeriod(BURST)
      .limitRefreshPeriod(Duration.ofSeconds(1))
      .timeoutDuration(Duration.ZERO)
      .build();

  @SuppressWarnings("UnstableApiUsage")
  private final ConcurrentHashMap<String, com.google.common.util.concurrent.RateLimiter> guava =
      new ConcurrentHashMap<>();

  private String[] names = {};

  @Setup
  public void names() {
    names = IntStream.range(0, keys).mapToObj(i -> "tenant-" + i).toArray(String[]::new);
  }

  @Benchmark
  public RateLimiter.Decision ours(Cursor cursor) {
    return limiter.decide(cursor.of(names));
  }

  @Benchmark
  public RateLimiter.Decision oursInAScope(Cursor cursor) {
    return limiter.decide(cursor.of(names), scoped);
  }

  @Benchmark
  public boolean bucket4j(Cursor cursor) {
    return bucket4j(cursor.of(names)).tryConsume(1);
  }

  @Benchmark
  public ConsumptionProbe bucket4jWithRemaining(Cursor cursor) {
    return bucket4j(cursor.of(names)).tryConsumeAndReturnRemaining(1);
  }

  private Bucket bucket4j(String key) {
    Bucket known = bucket4j.get(key);
    return known != null
        ? known
        : bucket4j.computeIfAbsent(
            key,
            k -> Bucket.builder()
                .addLimit(
                    limit -> limit.capacity(BURST).refillGreedy(PER_SECOND, Duration.ofSeconds(1)))
                .build());
  }

  @Benchmark
  public boolean resilience4j(Cursor cursor) {
    String key = cursor.of(names);
    io.github.resilience4j.ratelimiter.RateLimiter known = resilience4j.get(key);
    if (known == null) {
      known = resilience4j.computeIfAbsent(
          key, k -> io.github.resilience4j.ratelimiter.RateLimiter.of(k, resilience4jConfig));
    }
    return known.acquirePermission();
  }

  @Benchmark
  @SuppressWarnings("UnstableApiUsage")
  public boolean guava(Cursor cursor) {
    String key = cursor.of(names);
    com.google.common.util.concurrent.RateLimiter known = guava.get(key);
    if (known == null) {
      known = guava.computeIfAbsent(
          key, k -> com.google.common.util.concurrent.RateLimiter.create(BURST));
    }
    return known.tryAcquire();
  }
}
