package dev.evalops.benchmarks;

import dev.evalops.runtime.ratelimit.RateLimiter;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.testutil.RedisServer;
import io.github.bucket4j.BucketConfiguration;
import io.github.bucket4j.ConsumptionProbe;
import io.github.bucket4j.distributed.ExpirationAfterWriteStrategy;
import io.github.bucket4j.distributed.proxy.ProxyManager;
import io.github.bucket4j.redis.lettuce.Bucket4jLettuce;
import io.lettuce.core.RedisClient;
import io.lettuce.core.codec.ByteArrayCodec;
import io.lettuce.core.codec.RedisCodec;
import io.lettuce.core.codec.StringCodec;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.LongAdder;
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
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Threads;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Decisions in Redis per second, asked for by four threads over one connection, beside Bucket4j on Lettuce; and the
 * commands sent for each.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Warmup(iterations = 4, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(2)
@Threads(4)
public class RedisRateLimitBenchmark {
  private static final int PER_SECOND = 1_000_000;
  private static final int BURST = 1_000_000_000;

  /** Goes round the keys. */
  @State(Scope.Thread)
  public static class Cursor {
    private int next = (int) (Thread.currentThread().threadId() * 37);

    String of(String[] keys) {
      next = next + 1 < keys.length ? next + 1 : 0;
      return keys[next];
    }
  }

  @Param({"1", "1000"})
  public int keys;

  private final RedisServer server = RedisServer.start();
  private final Redis redis = Redis.open(server.url());
  private final RedisClient bytesClient = RedisClient.create(server.url());
  private final AtomicBoolean fellBack = new AtomicBoolean();
  private final LongAdder decisions = new LongAdder();
  private final RateLimiter limiter = RateLimiter.builder()
      .perSecond(PER_SECOND)
      .burst(BURST)
      .redis(redis.connection())
      .redisTimeout(Duration.ofSeconds(10))
      .onRedisChange(change -> fellBack.set(true))
      .open();
  private final ProxyManager<String> bucket4j = Bucket4jLettuce.casBasedBuilder(
          bytesClient.connect(RedisCodec.of(StringCodec.UTF8, ByteArrayCodec.INSTANCE)))
      .expirationAfterWrite(
          ExpirationAfterWriteStrategy.basedOnTimeForRefillingBucketUpToMax(Duration.ofMinutes(5)))
      .build();
  private final BucketConfiguration bucket4jConfiguration = BucketConfiguration.builder()
      .addLimit(limit -> limit.capacity(BURST).refillGreedy(PER_SECOND, Duration.ofSeconds(1)))
      .build();

  private String[] names = {};

  @Setup
  public void names() {
    names = IntStream.range(0, keys).mapToObj(i -> "tenant-" + i).toArray(String[]::new);
    redis.connection().sync().configResetstat();
  }

  @Benchmark
  public RateLimiter.Decision ours(Cursor cursor) {
    decisions.increment();
    return limiter.decide(cursor.of(names));
  }

  @Benchmark
  public ConsumptionProbe bucket4j(Cursor cursor) {
    decisions.increment();
    return bucket4j
        .getProxy(cursor.of(names), () -> bucket4jConfiguration)
        .tryConsumeAndReturnRemaining(1);
  }

  @TearDown
  public void close() {
    // Only what a client sends, and not what a script does.
    long sent = redis
        .connection()
        .sync()
        .info("commandstats")
        .lines()
        .filter(line -> line.matches("cmdstat_(evalsha|eval|get):.*"))
        .mapToLong(line ->
            Long.parseLong(line.substring(line.indexOf("calls=") + 6, line.indexOf(",usec"))))
        .sum();
    System.out.printf("%n%.2f commands for a decision%n", (double) sent / decisions.sum());
    redis.close();
    bytesClient.shutdown(Duration.ZERO, Duration.ofSeconds(2));
    server.close();
    if (fellBack.get()) {
      throw new IllegalStateException("Redis was given up: this measured something else");
    }
  }
}
