package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.ratelimit.RateLimiter.Decision;
import dev.evalops.runtime.ratelimit.RateLimiter.Policy;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.testutil.RedisServer;
import dev.evalops.runtime.testutil.TestRedis;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.api.sync.RedisCommands;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;

@Timeout(120)
@ExtendWith(TestRedis.class)
class RedisBucketsTest {
  private static final Duration PATIENT = Duration.ofSeconds(30);

  private Redis redis;
  private RedisCommands<String, String> commands;

  @BeforeEach
  void open(RedisServer server) {
    redis = Redis.open(server.url());
    commands = redis.connection().sync();
  }

  @AfterEach
  void close() {
    redis.close();
  }

  private RateLimiter.Builder limiter(double perSecond, int burst) {
    return RateLimiter.builder()
        .perSecond(perSecond)
        .burst(burst)
        .redis(redis.connection())
        .redisTimeout(PATIENT)
        .onRedisChange(change -> {
          throw new AssertionError(change.toString());
        });
  }

  private static String key(String service, String scope, String key) {
    return RedisBuckets.bucketKey("ratelimit:" + service + ":", scope, key);
  }

  static List<JsonNode> keyVectors() {
    return Vectors.cases("redis_bucket_key.json");
  }

  @ParameterizedTest
  @MethodSource("keyVectors")
  void namesKeysAsTheVectorsSay(JsonNode vector) {
    JsonNode input = vector.get("input");
    String service = input.get("service").stringValue();
    String prefix = service.isBlank() ? "shared" : ServiceName.prefix(service);

    assertThat(key(prefix, input.get("scope").stringValue(), input.get("key").stringValue()))
        .isEqualTo(vector.get("expected").stringValue());
  }

  @Test
  void namesKeysByTheService() {
    limiter(1, 1).open().decide("10.0.0.1");
    limiter(1, 1).metrics("LLM-Gateway", new SimpleMeterRegistry()).open().decide("10.0.0.1");
    limiter(1, 1)
        .service("gate")
        .metrics("ignored", new SimpleMeterRegistry())
        .open()
        .decide("10.0.0.1");

    assertThat(commands.keys("*"))
        .containsExactlyInAnyOrder(
            "ratelimit:shared:8f57b2a497de7d505de2953e1f3ff45c9ad19235d7f606b85bb05a8e8ce32a75",
            key("llm_gateway", "global", "10.0.0.1"),
            key("gate", "global", "10.0.0.1"));
  }

  @Test
  void twoLimitersShareABucket() {
    RateLimiter one = limiter(0.001, 3).open();
    RateLimiter other = limiter(0.001, 3).open();

    assertThat(one.decide("a").remaining()).isEqualTo(2);
    assertThat(other.decide("a").remaining()).isEqualTo(1);
    assertThat(one.decide("a").remaining()).isZero();
    Decision refused = other.decide("a");
    assertThat(refused.allowed()).isFalse();
    assertThat(refused.retryAfter()).isBetween(Duration.ofSeconds(900), Duration.ofSeconds(1000));
    assertThat(refused.fullAfter()).isBetween(Duration.ofSeconds(2900), Duration.ofSeconds(3000));
    assertThat(one.decide("b").allowed()).isTrue();
    assertThat(one.decide("a", one.policy().scope("other")).allowed()).isTrue();
  }

  @Test
  void refills() {
    RateLimiter limiter = limiter(1, 1).open();
    limiter.decide("a");
    Decision refused = limiter.decide("a");

    assertThat(refused.retryAfter()).isLessThanOrEqualTo(Duration.ofSeconds(1));
    await().atMost(PATIENT).until(() -> limiter.decide("a").allowed());
  }

  @Test
  void allowsNoMoreThanTheBurst_whenManyThreadsAskAtOnce() throws Exception {
    RateLimiter limiter = limiter(0.0001, 50).open();
    CyclicBarrier start = new CyclicBarrier(4);
    int allowed = 0;
    try (ExecutorService executor = Executors.newFixedThreadPool(4)) {
      List<Future<Integer>> threads = new ArrayList<>();
      for (int thread = 0; thread < 4; thread++) {
        threads.add(executor.submit(() -> {
          start.await();
          int own = 0;
          for (int i = 0; i < 100; i++) {
            own += limiter.decide("a").allowed() ? 1 : 0;
          }
          return own;
        }));
      }
      for (Future<Integer> thread : threads) {
        allowed += thread.get(60, TimeUnit.SECONDS);
      }
    }
    assertThat(allowed).isEqualTo(50);
  }

  @Test
  void asksOncePerDecision() {
    RateLimiter limiter = limiter(100, 200).open();
    limiter.decide("a"); // loads the script
    commands.configResetstat();
    for (int i = 0; i < 100; i++) {
      limiter.decide("a");
    }

    String stats = commands.info("commandstats");
    assertThat(stats).contains("cmdstat_evalsha:calls=100,");
    assertThat(stats).doesNotContain("cmdstat_eval:", "cmdstat_script");
  }

  @Test
  void loadsTheScriptAgain_whenRedisHasForgottenIt() {
    RateLimiter limiter = limiter(0.001, 3).open();
    limiter.decide("a");
    commands.scriptFlush();

    assertThat(limiter.decide("a").remaining()).isEqualTo(1);
    assertThat(limiter.decide("a").remaining()).isZero();
  }

  @Test
  void storesWhatThePeersRead() {
    limiter(0.5, 10).open().decide("a");
    String key = key("shared", "global", "a");

    assertThat(commands.hget(key, "tokens")).isEqualTo("9");
    assertThat(commands.hget(key, "updated_at_ms")).matches("\\d{13}");
    assertThat(Long.parseLong(commands.hget(key, "updated_at_ms")))
        .isBetween(serverMillis() - 60_000, serverMillis());
  }

  @Test
  void keepsABucketForFiveMinutes_andUntilItIsFull() {
    RateLimiter limiter = limiter(100, 200).open();
    limiter.decide("a");
    limiter.decide("slow", limiter.policy().limit(10 / 3600.0, 10));

    assertThat(commands.pttl(key("shared", "global", "a"))).isBetween(240_000L, 300_000L);
    assertThat(commands.pttl(key("shared", "global", "slow"))).isBetween(3_540_000L, 3_600_000L);
  }

  @Test
  void changingThePolicyKeepsTheDepletion() {
    RateLimiter limiter = limiter(0.001, 2).open();
    limiter.decide("a");
    limiter.decide("a");

    assertThat(limiter.decide("a", limiter.policy().limit(0.002, 100)).allowed())
        .isFalse();
    assertThat(limiter.decide("a").allowed()).isFalse();
  }

  @Test
  void aBucketThatShrinksIsCappedAtItsNewSize() {
    RateLimiter limiter = limiter(0.001, 10).open();
    limiter.decide("a");

    assertThat(limiter.decide("a", limiter.policy().limit(0.001, 2)).remaining())
        .isEqualTo(1);
  }

  @Test
  void theOldRateCountsForTheTimeBeforeAChange() {
    RateLimiter limiter = limiter(0.001, 10).open();
    String key = key("shared", "global", "a");
    limiter.decide("a");
    long anHourAgo = serverMillis() - 3_600_000;
    commands.hset(key, "tokens", "0");
    commands.hset(key, "updated_at_ms", Long.toString(anHourAgo));

    // 3.6 tokens have come back, and not 3 600 000.
    assertThat(limiter.decide("a", limiter.policy().limit(1000, 1_000_000)).remaining())
        .isEqualTo(2);
  }

  @Test
  void aCallerWhoseClockIsAnHourOffChangesNothing() {
    long start = System.nanoTime();
    RateLimiter ahead = limiter(0.01, 2)
        .nanoTime(() -> System.nanoTime() + TimeUnit.HOURS.toNanos(1))
        .open();
    RateLimiter right = limiter(0.01, 2).open();

    assertThat(ahead.decide("a").remaining()).isEqualTo(1);
    assertThat(right.decide("a").remaining()).isZero();
    assertThat(ahead.decide("a").allowed()).isFalse();
    assertThat(right.decide("a").allowed()).isFalse();
    assertThat(Math.abs(Long.parseLong(commands.hget(key("shared", "global", "a"), "updated_at_ms"))
            - serverMillis()))
        .isLessThanOrEqualTo(TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start) + 1);
  }

  @Test
  void aPeerWhoseClockIsAnHourAheadDoesNotStarveUs() {
    RateLimiter limiter = limiter(20, 1).open();
    String key = key("shared", "global", "a");
    new OldPeer(commands).take(key, serverMillis() + 3_600_000, "20", 1);

    assertThat(limiter.decide("a").allowed()).isFalse();
    await().atMost(PATIENT).until(() -> limiter.decide("a").allowed());
  }

  @Test
  void sharesBucketsWithPeersThatRunTheOlderScript() {
    RateLimiter limiter = limiter(0.001, 4).open();
    OldPeer peer = new OldPeer(commands);
    String key = key("shared", "global", "a");

    assertThat(limiter.decide("a").remaining()).isEqualTo(3);
    assertThat(peer.take(key, serverMillis(), "0.001", 4)).containsExactly(1L, 0L);
    assertThat(limiter.decide("a").remaining()).isEqualTo(1);
    assertThat(peer.take(key, serverMillis(), "0.001", 4)).containsExactly(1L, 0L);
    assertThat(limiter.decide("a").allowed()).isFalse();
    assertThat(peer.take(key, serverMillis(), "0.001", 4).getFirst()).isZero();
    assertThat(commands.pttl(key)).isLessThanOrEqualTo(300_000);
    assertThat(limiter.decide("a").allowed()).isFalse();
    assertThat(commands.pttl(key)).isGreaterThan(3_900_000); // burst / rate
  }

  static List<JsonNode> bucketVectors() {
    return Vectors.cases("token_bucket_redis.json");
  }

  @ParameterizedTest
  @MethodSource("bucketVectors")
  void theOlderScriptOfTheseTestsIsThatOfTheVectors(JsonNode vector) {
    OldPeer peer = new OldPeer(commands);
    for (JsonNode step : vector.get("expected").values()) {
      String rate = Double.toString(step.get("rate").doubleValue());
      assertThat(peer.take(
              "k", step.get("now_ms").longValue(), rate, step.get("burst").intValue()))
          .as("%s", step)
          .containsExactly(
              step.get("allowed").longValue(), step.get("retry_after_ms").longValue());
      assertStored(step);
    }
  }

  /** The first case; the others are those in which the clock of the server and the stored rate make it better. */
  @Test
  void decidesAsTheVectorsSay() {
    for (JsonNode step : bucketVectors().getFirst().get("expected").values()) {
      assertThat(takeAt(
              step.get("now_ms").longValue(),
              Double.toString(step.get("rate").doubleValue()),
              step.get("burst").intValue()))
          .as("%s", step)
          .startsWith(
              step.get("allowed").longValue(),
              (long) step.get("tokens").doubleValue(),
              step.get("retry_after_ms").longValue());
      assertStored(step);
      assertThat(commands.pttl("k")).isBetween(240_000L, 300_000L);
    }
  }

  private void assertStored(JsonNode step) {
    assertThat(Double.parseDouble(commands.hget("k", "tokens")))
        .as("%s", step)
        .isEqualTo(step.get("tokens").doubleValue());
    assertThat(Long.parseLong(commands.hget("k", "updated_at_ms")))
        .as("%s", step)
        .isEqualTo(step.get("updated_at_ms").longValue());
  }

  @Test
  void aTimeInTheFutureCountsAsNow() {
    commands.hset("k", "tokens", "0");
    commands.hset("k", "updated_at_ms", "61000");

    assertThat(takeAt(2000, "1.0", 1)).startsWith(0L, 0L, 1000L);
    assertThat(takeAt(2500, "1.0", 1)).startsWith(0L, 0L, 500L);
    assertThat(takeAt(3000, "1.0", 1)).startsWith(1L, 0L, 0L);
  }

  @Test
  void aBucketThatIsNoneIsFull() {
    commands.hset("k", "tokens", "many");

    assertThat(takeAt(1000, "1.0", 5)).startsWith(1L, 4L);
  }

  /** The script as it is, but for the clock. */
  private List<Long> takeAt(long nowMillis, String rate, int burst) {
    String script = RedisBuckets.SCRIPT.replace(
        "redis.call('TIME')", "{'" + nowMillis / 1000 + "', '" + nowMillis % 1000 * 1000 + "'}");
    assertThat(script).isNotEqualTo(RedisBuckets.SCRIPT);
    return commands.eval(
        script,
        ScriptOutputType.MULTI,
        new String[] {"k"},
        rate,
        Integer.toString(burst),
        "300000");
  }

  private long serverMillis() {
    List<String> time = commands.time();
    return Long.parseLong(time.get(0)) * 1000 + Long.parseLong(time.get(1)) / 1000;
  }

  @Test
  void asksRedisNoMore_afterClose() {
    RateLimiter limiter = limiter(1, 1).open();
    limiter.close();
    limiter.close();
    limiter.decide("a");

    assertThat(commands.keys("*")).isEmpty();
    assertThat(redis.connection().isOpen()).isTrue();
  }

  @Test
  void decidesLocally_whenInterrupted_andKeepsTheInterrupt() {
    RateLimiter limiter = limiter(1, 5).open();
    commands.clientPause(500); // an answer that is there already counts
    Thread.currentThread().interrupt();

    Decision decision = limiter.decide("a");

    assertThat(Thread.interrupted()).isTrue();
    assertThat(decision.remaining()).isEqualTo(4);
    assertThat(limiter.localBuckets()).isEqualTo(1);
  }

  @Test
  void oneBadKeyDoesNotCostTheOthersRedis() {
    RateLimiter limiter = limiter(0.001, 5).open();
    commands.set(key("shared", "global", "bad"), "no hash");

    for (int i = 0; i < 20; i++) {
      limiter.decide("bad");
      limiter.decide("good");
    }

    assertThat(Double.parseDouble(commands.hget(key("shared", "global", "good"), "tokens")))
        .isLessThan(1);
  }

  @Test
  void keysThatAreNoAscii_areTheSameAsThePeers() {
    RateLimiter limiter = limiter(1, 1).service("café").open();
    limiter.decide("ユーザー", new Policy(1, 1, "日本", false));

    assertThat(commands.keys("*"))
        .containsExactly(
            "ratelimit:café:b0e64e35036ea83ffe8964a065ec0ea39a1ee31d6270f1a179945cb952b1d455");
  }
}
