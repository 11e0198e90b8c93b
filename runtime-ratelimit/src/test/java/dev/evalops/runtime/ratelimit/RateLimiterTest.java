package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.runtime.ratelimit.RateLimiter.Decision;
import dev.evalops.runtime.ratelimit.RateLimiter.Policy;
import dev.evalops.runtime.ratelimit.RateLimiter.RedisChange;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.Metrics;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class RateLimiterTest {
  @Test
  void refusesByTheTimeNow_notByThatOfAThreadThatWasStopped() {
    AtomicLong nanos = new AtomicLong();
    Deque<Long> late = new ArrayDeque<>();
    RateLimiter limiter = RateLimiter.builder()
        .perSecond(10)
        .burst(10)
        .nanoTime(() -> late.isEmpty() ? nanos.get() : late.remove())
        .open();
    nanos.addAndGet(TimeUnit.SECONDS.toNanos(5));
    for (int i = 0; i < 8; i++) {
      assertThat(limiter.decide("tenant-7").allowed()).isTrue();
    }
    // Read before the others decided, and stopped since.
    late.add(TimeUnit.SECONDS.toNanos(3));
    Decision decision = limiter.decide("tenant-7");
    assertThat(decision.allowed()).isTrue();
    assertThat(decision.remaining()).isOne();

    // The token that is gone is gone for all of them.
    assertThat(limiter.decide("tenant-7").allowed()).isTrue();
    late.add(TimeUnit.SECONDS.toNanos(3));
    decision = limiter.decide("tenant-7");
    assertThat(decision.allowed()).isFalse();
    assertThat(decision.retryAfter()).isEqualTo(Duration.ofMillis(100));
  }

  @Test
  void allowsABurstAndThenTheRate() {
    AtomicLong nanos = new AtomicLong(-5);
    RateLimiter limiter =
        RateLimiter.builder().perSecond(10).burst(2).nanoTime(nanos::get).open();

    assertThat(limiter.decide("tenant-7").allowed()).isTrue();
    Decision last = limiter.decide("tenant-7");
    assertThat(last.allowed()).isTrue();
    assertThat(last.remaining()).isZero();
    assertThat(last.retryAfter()).isZero();
    assertThat(last.retryAfterSeconds()).isZero();
    assertThat(last.fullAfter()).isEqualTo(Duration.ofMillis(200));

    Decision refused = limiter.decide("tenant-7");
    assertThat(refused.allowed()).isFalse();
    assertThat(refused.retryAfter()).isEqualTo(Duration.ofMillis(100));
    assertThat(refused.retryAfterSeconds()).isEqualTo(1);

    nanos.addAndGet(refused.retryAfterNanos());
    assertThat(limiter.decide("tenant-7").allowed()).isTrue();
    assertThat(limiter.decide("tenant-7").allowed()).isFalse();
  }

  @Test
  void hasTheDefaultsOfTheContract() {
    assertThat(RateLimiter.builder().open().policy())
        .isEqualTo(new Policy(100, 200, "global", false));
  }

  @Test
  void keepsKeysAndScopesApart() {
    RateLimiter limiter = RateLimiter.open(0.001, 1);
    Policy uploads = limiter.policy().scope("uploads");

    assertThat(limiter.decide("a").allowed()).isTrue();
    assertThat(limiter.decide("a").allowed()).isFalse();
    assertThat(limiter.decide("b").allowed()).isTrue();
    assertThat(limiter.decide("a", uploads).allowed()).isTrue();
    assertThat(limiter.decide("a", uploads).allowed()).isFalse();
    assertThat(limiter.decide("a", limiter.policy().scope("global")).allowed()).isFalse();
    // Neither delimiter nor order makes two buckets one.
    assertThat(limiter.decide("uploads", limiter.policy().scope("a")).allowed()).isTrue();
  }

  @Test
  void everybodyWithoutAKeySharesOneBucket() {
    RateLimiter limiter = RateLimiter.open(0.001, 2);

    assertThat(limiter.decide("").allowed()).isTrue();
    assertThat(limiter.decide(" ").allowed()).isTrue();
    assertThat(limiter.decide("anonymous").allowed()).isFalse();
  }

  /** Or services in Go and Java would hash the key of one caller to two buckets in Redis. */
  @Test
  void aKeyIsBlankByTheRuleOfOurServices() {
    RateLimiter limiter = RateLimiter.open(0.001, 1);

    assertThat(limiter.decide("").allowed()).isTrue();
    assertThat(limiter.decide("\u00a0\u0085").allowed()).isFalse();
    assertThat(limiter.decide("\u001c").allowed()).isTrue();
  }

  @Test
  void holdsLongKeysApart_withoutKeepingThem() {
    RateLimiter limiter = RateLimiter.open(0.001, 1);
    String key = "k".repeat(10_000);

    assertThat(limiter.decide(key + "1").allowed()).isTrue();
    assertThat(limiter.decide(key + "2").allowed()).isTrue();
    assertThat(limiter.decide(key + "1").allowed()).isFalse();
  }

  @Test
  void boundsItsKeys() {
    RateLimiter limiter = RateLimiter.builder().maxKeys(100).open();
    for (int i = 0; i < 10_000; i++) {
      limiter.decide("key-" + i, limiter.policy().scope("/v1/users/" + i));
    }

    assertThat(limiter.localBuckets()).isLessThanOrEqualTo(100);
  }

  @Test
  void anExemptPolicyTakesNothing() {
    RateLimiter limiter = RateLimiter.open(0.001, 1);

    for (int i = 0; i < 3; i++) {
      assertThat(limiter.decide("a", limiter.policy().exempted())).isEqualTo(new Decision(1, 0, 0));
    }
    assertThat(limiter.decide("a").allowed()).isTrue();
  }

  @Test
  void reportsEveryProblemAtOnce() {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    assertThatThrownBy(() -> RateLimiter.builder()
            .perSecond(0)
            .burst(0)
            .maxKeys(0)
            .redisTimeout(Duration.ZERO)
            .exemptPaths("healthz")
            .service(" ")
            .metrics("", registry)
            .open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(
            "perSecond must be more than 0 and at most 1000000: 0.0; burst must be 1 or more: 0;"
                + " maxKeys must be 1 or more: 0; redisTimeout must be more than zero and at most"
                + " a minute: PT0S; exemptPaths must begin with /: healthz;"
                + " service must not be blank; metrics: service must not be blank");
  }

  @Test
  void refusesARateThatMakesNoSense() {
    assertThatThrownBy(() -> RateLimiter.open(Double.NaN, 1)).hasMessageContaining("perSecond");
    assertThatThrownBy(() -> RateLimiter.open(-1, 1)).hasMessageContaining("perSecond");
    assertThatThrownBy(() -> RateLimiter.open(Double.POSITIVE_INFINITY, 1))
        .hasMessageContaining("perSecond");
    assertThatThrownBy(() -> RateLimiter.open(1e-9, 1)).hasMessageContaining("365 days");
    assertThatThrownBy(() -> RateLimiter.open(1, 1).policy().scope(" "))
        .hasMessageContaining("scope");
    assertThatThrownBy(() -> RateLimiter.open(1, 1).policy().limit(0, 1))
        .hasMessageContaining("perSecond");
  }

  @Test
  void countsToTheLastToken_atTheBoundsOfWhatIsAllowed() {
    assertThat(RateLimiter.open(1e6, Integer.MAX_VALUE).decide("a").remaining())
        .isEqualTo(Integer.MAX_VALUE - 1);
    RateLimiter slowest = RateLimiter.open(1 / 31_536_000.0, 1);
    assertThat(slowest.decide("a").allowed()).isTrue();
    assertThat(slowest.decide("a").retryAfter())
        .isBetween(Duration.ofDays(364), Duration.ofDays(365));
  }

  @Test
  void tellsClientsWhereTheyStand() {
    Policy policy = new Policy(100, 200, "/v1/notes/{id}", false);

    assertThat(policy.headers(new Decision(199, 0, 10_000_000)))
        .isEqualTo(Map.of(
            "RateLimit-Policy", "\"/v1/notes/{id}\";q=200;w=2",
            "RateLimit", "\"/v1/notes/{id}\";r=199;t=1"));
    assertThat(policy
            .scope("a\"b\\c")
            .limit(10 / 3600.0, 10)
            .headers(new Decision(0, 90_000_000_000L, 3_600_000_000_000L)))
        .isEqualTo(Map.of(
            "RateLimit-Policy", "\"a\\\"b\\\\c\";q=10;w=3600",
            "RateLimit", "\"a\\\"b\\\\c\";r=0;t=90"));
    assertThat(policy.scope("größe").headers(new Decision(5, 0, 0)))
        .containsEntry("RateLimit", "\"default\";r=5;t=0");
  }

  @Test
  void countsDecisions() {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    RateLimiter limiter = RateLimiter.builder()
        .perSecond(0.001)
        .burst(1)
        .metrics("3-notes", registry)
        .open();
    limiter.decide("a");
    limiter.decide("a");
    limiter.decide("a");
    limiter.decide("b", limiter.policy().scope("uploads").exempted());

    assertThat(registry.scrape())
        .contains("service_3_notes_rate_limit_hits_total{action=\"allowed\",route=\"global\"} 1.0")
        .contains("service_3_notes_rate_limit_hits_total{action=\"limited\",route=\"global\"} 2.0")
        .contains("service_3_notes_rate_limit_hits_total{action=\"exempt\",route=\"uploads\"} 1.0")
        .contains("service_3_notes_rate_limit_fallbacks_total 0.0");
  }

  @Test
  void boundsTheLabels_whateverScopesAreUsed() {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    RateLimiter limiter = RateLimiter.builder().metrics("notes", registry).open();
    for (int i = 0; i < 3000; i++) {
      limiter.decide("a", limiter.policy().scope("/v1/users/" + i));
    }

    assertThat(registry
            .find("notes_rate_limit_hits_total")
            .tag("action", "allowed")
            .counters())
        .hasSize(1001);
    assertThat(registry
            .find("notes_rate_limit_hits_total")
            .tags("route", "other", "action", "allowed")
            .counter()
            .count())
        .isEqualTo(2000);
  }

  @Test
  void twoLimitersOfAServiceShareTheCounters() {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    RateLimiter.builder().metrics("notes", registry).open().decide("a");
    RateLimiter.builder().metrics("notes", registry).open().decide("a");

    assertThat(registry
            .find("notes_rate_limit_hits_total")
            .tag("action", "allowed")
            .counter()
            .count())
        .isEqualTo(2);
  }

  @Test
  void refusesARegistryInWhichItsCountersWouldBeLost() {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    Gauge.builder("notes_rate_limit_hits_total", () -> 1).tag("other", "x").register(registry);

    assertThatThrownBy(() -> RateLimiter.builder().metrics("notes", registry).open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(
            "metrics: the registry has another meter of the name notes_rate_limit_hits_total,"
                + " a GAUGE with the labels [other]");
  }

  @Test
  void touchesNoGlobalRegistry() {
    RateLimiter.builder().metrics("notes", new SimpleMeterRegistry()).open().decide("a");

    assertThat(Metrics.globalRegistry.getMeters()).isEmpty();
  }

  @Test
  void decidesOnAfterClose_andClosesTwice() {
    RateLimiter limiter = RateLimiter.open(1, 1);
    limiter.close();
    limiter.close();

    assertThat(limiter.decide("a").allowed()).isTrue();
  }

  @Test
  void saysAChangeInOneLine() {
    assertThat(new RedisChange(false, Optional.of(new IllegalStateException("gone\n"))))
        .hasToString("limits are kept by each process, without Redis (redis_ratelimit: gone)");
    assertThat(new RedisChange(false, Optional.of(new IllegalStateException())))
        .hasToString(
            "limits are kept by each process, without Redis (redis_ratelimit: IllegalStateException)");
    assertThat(new RedisChange(true, Optional.empty()))
        .hasToString("limits are shared in Redis again");
  }
}
