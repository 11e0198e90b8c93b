package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import dev.evalops.runtime.ratelimit.RateLimiter.Decision;
import dev.evalops.runtime.ratelimit.RateLimiter.Policy;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.DoubleRange;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.constraints.LongRange;
import net.jqwik.api.constraints.Size;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

@Timeout(120)
class LocalBucketsTest {
  private static final long SECOND = TimeUnit.SECONDS.toNanos(1);

  private static Policy policy(double perSecond, int burst) {
    return new Policy(perSecond, burst, "test", false);
  }

  static List<JsonNode> bucketVectors() {
    return Vectors.cases("token_bucket_local.json");
  }

  @ParameterizedTest
  @MethodSource("bucketVectors")
  void decidesAsTheVectorsSay(JsonNode vector) {
    LocalBuckets buckets = new LocalBuckets(10);
    for (JsonNode step : vector.get("expected").values()) {
      Policy policy = policy(step.get("rate").doubleValue(), step.get("burst").intValue());
      long now = TimeUnit.MILLISECONDS.toNanos(step.get("at_ms").longValue());

      Decision decision = buckets.take("key", policy, now);

      assertThat(decision.allowed())
          .as("%s", step)
          .isEqualTo(step.get("allowed").booleanValue());
      assertThat(decision.retryAfterNanos())
          .as("%s", step)
          .isEqualTo(step.get("retry_after_ns").longValue());
      if (!step.get("retry_after_header").isNull()) {
        assertThat(decision.retryAfterSeconds())
            .as("%s", step)
            .isEqualTo(step.get("retry_after_header").longValue());
      }
      double tokens = policy.burst() - decision.fullAfterNanos() / 1e9 * policy.perSecond();
      assertThat(tokens)
          .as("%s", step)
          .isCloseTo(step.get("tokens_after").doubleValue(), within(1e-6));
    }
  }

  /** The same in floating point, as one would write it down. */
  @Property
  void agreesWithASimpleModel(
      @ForAll @DoubleRange(min = 0.01, max = 100_000) double perSecond,
      @ForAll @IntRange(min = 1, max = 50) int burst,
      @ForAll @Size(min = 1, max = 100) List<@LongRange(min = 0, max = 50) Long> pauses) {
    LocalBuckets buckets = new LocalBuckets(10);
    Policy policy = policy(perSecond, burst);
    double tokens = burst;
    long now = 0;
    for (long pause : pauses) {
      long elapsed = (long) (pause / 10.0 / perSecond * 1e9); // up to five tokens' time
      now += elapsed;
      tokens = Math.min(burst, tokens + elapsed / 1e9 * perSecond);

      Decision decision = buckets.take("key", policy, now);

      if (Math.abs(tokens - 1) > 1e-2) { // else rounding decides
        assertThat(decision.allowed()).isEqualTo(tokens >= 1);
      }
      tokens -= decision.allowed() ? 1 : 0;
      assertThat(burst - decision.fullAfterNanos() / 1e9 * perSecond)
          .isCloseTo(tokens, within(0.05));
    }
  }

  @Test
  void saysWhatIsLeftAndWhenThereIsMore() {
    LocalBuckets buckets = new LocalBuckets(10);

    assertThat(buckets.take("key", policy(10, 3), 0)).isEqualTo(new Decision(2, 0, SECOND / 10));
    buckets.take("key", policy(10, 3), 0);
    buckets.take("key", policy(10, 3), 0);
    assertThat(buckets.take("key", policy(10, 3), SECOND / 20))
        .isEqualTo(new Decision(0, SECOND / 20, SECOND / 4));
  }

  @ParameterizedTest
  @ValueSource(ints = {3, 7, 11, 60, 70, 600, 999})
  void isFullAgainAfterASecond_whenTheBurstIsTheRate(int perSecond) {
    LocalBuckets buckets = new LocalBuckets(10);
    Policy policy = policy(perSecond, perSecond);

    for (int second = 0; second < 3; second++) {
      for (int i = 0; i < perSecond; i++) {
        assertThat(buckets.take("key", policy, second * SECOND).allowed()).isTrue();
      }
      assertThat(buckets.take("key", policy, second * SECOND).allowed()).isFalse();
    }
  }

  @Test
  void retriesAfterAMillisecondAtLeast() {
    LocalBuckets buckets = new LocalBuckets(10);
    buckets.take("key", policy(1_000_000, 1), 0);

    assertThat(buckets.take("key", policy(1_000_000, 1), 0).retryAfter())
        .isEqualTo(Duration.ofMillis(1));
  }

  @Test
  void allowsNoMoreThanTheBurst_whenManyThreadsAskAtOnce() throws Exception {
    LocalBuckets buckets = new LocalBuckets(10);
    Policy policy = policy(1, 1000);

    assertThat(allowedByThreads(
            4, 5000, (thread, i) -> buckets.take("key", policy, 0).allowed()))
        .isEqualTo(1000);
  }

  @Test
  void neverRefills_whenThreadsDisagreeAboutThePolicy() throws Exception {
    LocalBuckets buckets = new LocalBuckets(10);
    Policy[] policies = {policy(1, 100), policy(5, 300), policy(1, 100), policy(2, 200)};

    long allowed = allowedByThreads(
        4,
        5000,
        (thread, i) -> buckets.take("key", policies[(thread + i) % 4], 0).allowed());

    // The first to come fills the bucket to the burst of its policy.
    assertThat(allowed).isBetween(100L, 300L);
    assertThat(buckets.size()).isEqualTo(1);
  }

  @Test
  void losesNoTokenCount_whileBucketsAreEvictedAllAround() throws Exception {
    LocalBuckets buckets = new LocalBuckets(64);
    Policy slow = policy(0.001, 500);
    Policy quick = policy(1000, 1);

    long allowed = allowedByThreads(4, 20_000, (thread, i) -> {
      buckets.take("flood-" + thread + "-" + i, quick, 0);
      return buckets.take("key", slow, 0).allowed();
    });

    assertThat(allowed).isEqualTo(500);
    assertThat(buckets.size()).isLessThanOrEqualTo(64 + 4);
  }

  private interface Attempt {
    boolean allowed(int thread, int i);
  }

  private static long allowedByThreads(int threads, int attempts, Attempt attempt)
      throws Exception {
    CyclicBarrier start = new CyclicBarrier(threads);
    AtomicLong allowed = new AtomicLong();
    try (ExecutorService executor = Executors.newFixedThreadPool(threads)) {
      List<Future<?>> running = new ArrayList<>();
      for (int t = 0; t < threads; t++) {
        int thread = t;
        running.add(executor.submit(() -> {
          start.await();
          for (int i = 0; i < attempts; i++) {
            if (attempt.allowed(thread, i)) {
              allowed.incrementAndGet();
            }
          }
          return null;
        }));
      }
      for (Future<?> each : running) {
        each.get(60, TimeUnit.SECONDS);
      }
    }
    return allowed.get();
  }

  @Test
  void changingThePolicyKeepsTheDepletion() {
    LocalBuckets buckets = new LocalBuckets(10);
    for (int i = 0; i < 10; i++) {
      assertThat(buckets.take("key", policy(1, 10), 0).allowed()).isTrue();
    }

    assertThat(buckets.take("key", policy(1000, 1000), 0).allowed()).isFalse();
    assertThat(buckets.take("key", policy(1, 10), 0).allowed()).isFalse();
  }

  @Test
  void aBucketThatShrinksIsCappedAtItsNewSize() {
    LocalBuckets buckets = new LocalBuckets(10);
    buckets.take("key", policy(1, 10), 0);

    assertThat(buckets.take("key", policy(1, 2), 0).remaining()).isEqualTo(1);
    assertThat(buckets.take("key", policy(1, 10), 0).remaining()).isZero();
  }

  @Test
  void theOldRateCountsForTheTimeBeforeAChange() {
    LocalBuckets buckets = new LocalBuckets(10);
    for (int i = 0; i < 10; i++) {
      buckets.take("key", policy(1, 10), 0);
    }

    assertThat(buckets.take("key", policy(1000, 10), 2 * SECOND).remaining()).isEqualTo(1);
  }

  @Test
  void aBudgetThatComesBackSlowlyOutlivesIdleTime() {
    LocalBuckets buckets = new LocalBuckets(10);
    Policy tenPerHour = policy(10 / 3600.0, 10);
    for (int i = 0; i < 10; i++) {
      buckets.take("key", tenPerHour, 0);
    }
    long later = TimeUnit.MINUTES.toNanos(20);
    buckets.take("somebody else", tenPerHour, later); // the sweep is due

    assertThat(buckets.take("key", tenPerHour, later).remaining()).isEqualTo(2);
  }

  @Test
  void forgetsFullBuckets_onceAMinute() {
    LocalBuckets buckets = new LocalBuckets(1000);
    for (int i = 0; i < 100; i++) {
      buckets.take("key-" + i, policy(100, 200), 0);
    }
    buckets.take("slow", policy(0.001, 1), 0);

    buckets.take("new", policy(100, 200), 61 * SECOND);

    assertThat(buckets.size()).isEqualTo(2);
    assertThat(buckets.take("slow", policy(0.001, 1), 61 * SECOND).allowed()).isFalse();
  }

  @Test
  void forgetsFullBucketsFirst_whenThereIsNoRoom() {
    LocalBuckets buckets = new LocalBuckets(8);
    for (int i = 0; i < 4; i++) {
      buckets.take("slow-" + i, policy(0.001, 1), 0);
    }
    for (int i = 0; i < 4; i++) {
      buckets.take("quick-" + i, policy(1000, 1), SECOND);
    }

    buckets.take("new", policy(0.001, 1), 2 * SECOND);

    assertThat(buckets.size()).isEqualTo(5);
    for (int i = 0; i < 4; i++) {
      assertThat(buckets.take("slow-" + i, policy(0.001, 1), 2 * SECOND).allowed())
          .isFalse();
    }
  }

  @Test
  void forgetsTheOldestIdle_whenNoneIsFull() {
    LocalBuckets buckets = new LocalBuckets(8);
    Policy policy = policy(0.001, 1);
    for (int i = 0; i < 8; i++) {
      buckets.take("key-" + i, policy, i);
    }

    buckets.take("new", policy, 8);

    assertThat(buckets.size()).isEqualTo(8);
    assertThat(buckets.take("key-1", policy, 9).allowed()).isFalse();
    assertThat(buckets.take("key-7", policy, 9).allowed()).isFalse();
    assertThat(buckets.take("key-0", policy, 9).allowed()).isTrue();
  }

  @Test
  void aFloodOfKeysDoesNotEvictADepletedBucketInUse() {
    floodWithKeys(50_000, 5_000);
  }

  @Test
  @Tag("soak")
  void aMillionKeysDoNotEvictADepletedBucketInUse() {
    floodWithKeys(1_000_000, 100_000);
  }

  /** The flood comes a hundred times as fast as the victim asks, over more keys than there is room for in between. */
  private static void floodWithKeys(int keys, int room) {
    LocalBuckets buckets = new LocalBuckets(room);
    Policy policy = policy(1, 200);
    long heapBefore = usedHeap();
    long now = 0;
    for (int i = 0; i < 200; i++) {
      buckets.take("victim", policy, now);
    }
    long allowed = 0;
    int largest = 0;
    for (int i = 0; i < keys; i++) {
      now += TimeUnit.MICROSECONDS.toNanos(1);
      buckets.take("2001:db8:" + Integer.toHexString(i) + "::/64", policy, now);
      if (i % (2 * room) == 2 * room - 1 && buckets.take("victim", policy, now).allowed()) {
        allowed++;
      }
      largest = Math.max(largest, buckets.size());
    }
    long heap = usedHeap() - heapBefore;

    assertThat(largest).isLessThanOrEqualTo(room);
    assertThat(allowed).isLessThanOrEqualTo(now / SECOND + 1);
    assertThat(buckets.take("victim", policy, now).remaining()).isZero();
    // The youngest are those that are kept.
    assertThat(buckets
            .take("2001:db8:" + Integer.toHexString(keys - 1) + "::/64", policy, now)
            .remaining())
        .isEqualTo(198);
    System.out.printf(
        "%d keys, room for %d: at most %d buckets, %.1f MB of heap, victim allowed %d of its empty"
            + " bucket%n",
        keys, room, largest, heap / 1e6, allowed);
    assertThat(heap).isLessThan(room * 400L + 10_000_000);
  }

  private static long usedHeap() {
    System.gc();
    return ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed();
  }
}
