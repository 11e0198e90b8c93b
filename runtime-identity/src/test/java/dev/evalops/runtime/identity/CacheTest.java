package dev.evalops.runtime.identity;

import static dev.evalops.runtime.identity.Failures.reason;
import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.identity.IdentityException.Reason;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CacheTest {
  private static final Instant START = Instant.parse("2026-01-01T00:00:00Z");

  private final AtomicReference<Instant> now = new AtomicReference<>(START);
  private final AtomicLong nanos = new AtomicLong(Long.MAX_VALUE - 1000); // it may overflow
  private IdentityServer server;

  @BeforeEach
  void start() throws IOException {
    server = new IdentityServer();
  }

  @AfterEach
  void stop() {
    server.close();
  }

  private IdentityClient client(Duration fallbackFor, Duration freshFor) {
    return IdentityClient.builder(server.url())
        .fallbackFor(fallbackFor)
        .freshFor(freshFor)
        .clock(now::get)
        .ticker(nanos::get)
        .open();
  }

  private void pass(Duration time) {
    now.updateAndGet(instant -> instant.plus(time));
    nanos.addAndGet(time.toNanos());
  }

  private static String active(String subject, Instant expiresAt) {
    return "{\"active\":true,\"subject\":\"" + subject + "\",\"expires_at\":\"" + expiresAt + "\"}";
  }

  @Test
  void answersWithoutACall_whileFresh() {
    try (IdentityClient client = client(Duration.ZERO, Duration.ofSeconds(30))) {
      server.then(200, "{\"active\":true,\"subject\":\"one\"}");
      client.introspect("tok-1");
      pass(Duration.ofSeconds(29));
      assertThat(client.introspect(" tok-1 ").subject()).contains("one");
      assertThat(server.requests()).hasSize(1);
      client.introspect("tok-2");
      assertThat(server.requests()).hasSize(2);
      pass(Duration.ofSeconds(1));
      client.introspect("tok-1");
      assertThat(server.requests()).hasSize(3);
    }
  }

  @Test
  void freshIsNoFallback() {
    try (IdentityClient client = client(Duration.ZERO, Duration.ofSeconds(30))) {
      server.then(200, "{\"active\":true}");
      client.introspect("tok-1");
      server.only(503, "");
      pass(Duration.ofSeconds(30));
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.UNAVAILABLE);
    }
  }

  @Test
  void neverServesAnExpiredToken_fresh() {
    try (IdentityClient client = client(Duration.ZERO, Duration.ofHours(1))) {
      server.then(200, active("one", START.plusSeconds(60)));
      client.introspect("tok-1");
      pass(Duration.ofMillis(59_999));
      client.introspect("tok-1");
      assertThat(server.requests()).hasSize(1);
      server.only(401, "");
      pass(Duration.ofMillis(1));
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.INVALID_TOKEN);
    }
  }

  @Test
  void neverServesAnExpiredToken_inAnOutage() {
    try (IdentityClient client = client(Duration.ofHours(1), Duration.ZERO)) {
      server.then(200, active("one", START.plusSeconds(60)));
      client.introspect("tok-1");
      server.only(503, "");
      pass(Duration.ofMillis(59_999));
      assertThat(client.introspect("tok-1").subject()).contains("one");
      pass(Duration.ofMillis(1));
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.UNAVAILABLE);
    }
  }

  @Test
  void aClockThatIsSetBackMakesNoResultFreshAgain() {
    try (IdentityClient client = client(Duration.ZERO, Duration.ofSeconds(30))) {
      server.then(200, "{\"active\":true}");
      client.introspect("tok-1");
      pass(Duration.ofSeconds(31));
      now.set(START.minus(Duration.ofDays(1)));
      client.introspect("tok-1");
      assertThat(server.requests()).hasSize(2);
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {302, 404, 408, 413, 429, 500, 503, 200})
  void fallsBackInAnOutage_forItsTime_andCounts(int status) {
    try (IdentityClient client = client(Duration.ofMinutes(5), Duration.ZERO)) {
      server.then(200, "{\"active\":true,\"subject\":\"one\"}");
      client.introspect("tok-1");
      client.introspect("tok-1");
      assertThat(server.requests()).as("asked each time while it is up").hasSize(2);
      assertThat(client.fallbacks()).isZero();
      server.only(status, "garbage");
      pass(Duration.ofSeconds(299));
      assertThat(client.introspect("tok-1").subject()).contains("one");
      assertThat(client.introspect("tok-1").subject()).contains("one");
      assertThat(client.fallbacks()).isEqualTo(2);
      assertThat(reason(() -> client.introspect("tok-2"))).isEqualTo(Reason.UNAVAILABLE);
      pass(Duration.ofSeconds(1));
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.UNAVAILABLE);
      assertThat(client.fallbacks()).isEqualTo(2);
    }
  }

  @Test
  void fallsBack_whenTheServiceIsGone() {
    try (IdentityClient client = client(Duration.ofMinutes(5), Duration.ZERO)) {
      server.then(200, "{\"active\":true,\"subject\":\"one\"}");
      client.introspect("tok-1");
      server.close();
      assertThat(client.introspect("tok-1").subject()).contains("one");
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {401, 403})
  void forgetsAnInvalidToken(int status) {
    try (IdentityClient client = client(Duration.ofMinutes(5), Duration.ZERO)) {
      server.then(200, "{\"active\":true}");
      client.introspect("tok-1");
      server.only(status, "");
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.INVALID_TOKEN);
      server.only(503, "");
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.UNAVAILABLE);
    }
  }

  @Test
  void forgetsAnInactiveToken() {
    try (IdentityClient client = client(Duration.ofMinutes(5), Duration.ZERO)) {
      server.then(200, "{\"active\":true}");
      client.introspect("tok-1");
      server.only(200, "{\"active\":false}");
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.INACTIVE_TOKEN);
      server.only(503, "");
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.UNAVAILABLE);
    }
  }

  @Test
  void aLateActiveAnswer_isNotKept_afterANewerInactiveOne() throws Exception {
    CountDownLatch release = new CountDownLatch(1);
    CountDownLatch answered = new CountDownLatch(1);
    try (IdentityClient client = IdentityClient.builder(server.url())
        .fallbackFor(Duration.ofHours(1))
        .requestTimeout(Duration.ofSeconds(3))
        .open()) {
      server
          .then(request -> {
            try {
              release.await(30, TimeUnit.SECONDS);
            } catch (InterruptedException e) {
              Thread.currentThread().interrupt();
            }
            answered.countDown();
            return IdentityServer.Answer.of(200, "{\"active\":true}");
          })
          .then(200, "{\"active\":false}");
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.UNAVAILABLE);
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.INACTIVE_TOKEN);
      release.countDown();
      assertThat(answered.await(20, TimeUnit.SECONDS)).isTrue();
      server.only(503, "");
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.UNAVAILABLE);
    }
  }

  @Test
  void anInterruptedCallerGetsNoCachedResult() {
    CountDownLatch release = new CountDownLatch(1);
    try (IdentityClient client = client(Duration.ofMinutes(5), Duration.ZERO)) {
      server.then(200, "{\"active\":true}").then(request -> {
        try {
          release.await(30, TimeUnit.SECONDS); // an answer that is there already is taken
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
        }
        return IdentityServer.Answer.of(503, "");
      });
      client.introspect("tok-1");
      Thread.currentThread().interrupt();
      assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.UNAVAILABLE);
      assertThat(Thread.interrupted()).as("the flag is set again").isTrue();
      assertThat(client.fallbacks()).isZero();
    } finally {
      release.countDown();
    }
  }
}
