package dev.evalops.runtime.identity;

import static dev.evalops.runtime.identity.Failures.failure;
import static dev.evalops.runtime.identity.Failures.reason;
import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.identity.IdentityException.Reason;
import dev.evalops.runtime.identity.IdentityServer.Answer;
import java.io.IOException;
import java.net.http.HttpClient;
import java.time.Duration;
import java.time.Instant;
import java.time.InstantSource;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ServiceTokenTest {
  private static final Instant START = Instant.parse("2026-01-01T00:00:00Z");
  private static final Duration TTL = Duration.ofMinutes(5);
  private static final Duration WAIT = Duration.ofSeconds(20);

  private final AtomicReference<Instant> now = new AtomicReference<>(START);
  private final AtomicInteger issued = new AtomicInteger();
  private IdentityServer server;
  private IdentityClient client;

  @BeforeEach
  void start() throws IOException {
    server = new IdentityServer();
    client = client(now::get);
  }

  @AfterEach
  void stop() {
    client.close();
    server.close();
  }

  private IdentityClient client(InstantSource clock) {
    return IdentityClient.builder("")
        .serviceTokens(server.url("/v1/tokens"))
        .bootstrapKey(" boot-key\n")
        .clock(clock)
        .open();
  }

  private static String token(String token, Instant expiresAt) {
    return "{\"token\":\"" + token + "\",\"token_type\":\"Bearer\",\"expires_at\":\"" + expiresAt
        + "\"}";
  }

  /** Each token is another, and lives as long from now. */
  private void issueFor(Duration life, InstantSource clock) {
    server.then(request ->
        Answer.of(201, token("st-" + issued.incrementAndGet(), clock.instant().plus(life))));
  }

  private String serviceToken() {
    return client.serviceToken("org-1", "billing", Set.of("invoices:read"), TTL);
  }

  @Test
  void asksForAToken() {
    issueFor(TTL, now::get);
    Set<String> scopes = new LinkedHashSet<>(List.of("b", " a", "b ", " "));
    assertThat(client.serviceToken(" org-1 ", "billing\n", scopes, Duration.ofMillis(300_999)))
        .isEqualTo("st-1");
    assertThat(server.request().method()).isEqualTo("POST");
    assertThat(server.request().path()).isEqualTo("/v1/tokens");
    assertThat(server.request().header("Authorization")).isEqualTo("Bearer boot-key");
    assertThat(server.request().header("Content-Type")).isEqualTo("application/json");
    assertThat(server.request().body())
        .isEqualTo(
            "{\"service\":\"billing\",\"organization_id\":\"org-1\",\"scopes\":[\"a\",\"b\"],\"ttl_seconds\":300}");
  }

  @Test
  void leavesOutWhatIsEmpty() {
    issueFor(TTL, now::get);
    client.serviceToken("", "billing", Set.of(), Duration.ofSeconds(1));
    assertThat(server.request().body()).isEqualTo("{\"service\":\"billing\",\"ttl_seconds\":1}");
  }

  @Test
  void sendsNoAuthorization_whenTheClientCertificateAuthenticates() {
    issueFor(TTL, now::get);
    try (IdentityClient byCertificate = IdentityClient.builder("")
        .serviceTokens(server.url("/v1/tokens"))
        .bootstrapKey(" ")
        .httpClient(HttpClient.newHttpClient())
        .open()) {
      byCertificate.serviceToken("org-1", "billing", Set.of(), TTL);
    }
    assertThat(server.request().header("Authorization")).isNull();
  }

  @Test
  void refusesBadArguments() {
    assertThatThrownBy(() -> client.serviceToken("org-1", " ", Set.of(), TTL))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("service must not be blank");
    for (Duration ttl : List.of(
        Duration.ZERO,
        Duration.ofMillis(999),
        Duration.ofSeconds(-5),
        Duration.ofSeconds(1L << 31))) {
      assertThatThrownBy(() -> client.serviceToken("org-1", "billing", Set.of(), ttl))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageStartingWith("ttl must be between 1 and 2147483647 seconds: PT");
    }
    assertThat(server.requests()).isEmpty();
  }

  @Test
  void saysNotConfigured() {
    try (IdentityClient none =
        IdentityClient.builder(server.url()).serviceTokens(" ").open()) {
      assertThat(failure(() -> none.serviceToken("org-1", "billing", Set.of(), TTL)))
          .hasMessage("identity_service_tokens_not_configured")
          .extracting(IdentityException::reason)
          .isEqualTo(Reason.SERVICE_TOKENS_NOT_CONFIGURED);
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {200, 302, 400, 401, 403, 404, 429, 500, 503})
  void refusesEveryStatusButCreated(int status) {
    server.then(status, token("st-1", START.plus(TTL)));
    assertThat(failure(this::serviceToken))
        .hasMessage("issue_service_token: unexpected_status_" + status)
        .extracting(IdentityException::reason)
        .isEqualTo(Reason.ISSUE_SERVICE_TOKEN);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "{}",
        "{\"token\":\"\"}",
        "{\"token\":null}",
        "{\"token\":\" \"}",
        "{\"Token\":\"x\"}"
      })
  void missesTheToken(String body) {
    server.then(201, body);
    assertThat(failure(this::serviceToken)).hasMessage("missing_service_token");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "{\"token\":\"x\"}",
        "{\"token\":\"x\",\"expires_at\":null,\"claims\":null}",
        "{\"token\":\"x\",\"expires_at\":\"0001-01-01T00:00:00Z\",\"claims\":{}}",
        "{\"token\":\"x\",\"expiresAt\":\"2030-01-01T00:00:00Z\"}"
      })
  void missesTheExpiry(String body) {
    server.then(201, body);
    assertThat(failure(this::serviceToken)).hasMessage("missing_service_token_expiry");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "nope",
        "[]",
        "{\"token\":7}",
        "{\"token\":\"x\",\"expires_at\":\"soon\"}",
        "{\"claims\":1}"
      })
  void unavailable_atABodyThatIsNoAnswer(String body) {
    server.then(201, body);
    assertThat(failure(this::serviceToken))
        .hasMessageStartingWith("identity_unavailable: decode_response: ");
  }

  @Test
  void unavailable_whenTheServiceIsGone() {
    server.close();
    assertThat(failure(this::serviceToken))
        .hasMessageStartingWith("identity_unavailable: identity_request: ");
  }

  @Test
  void takesTheExpiryOfTheClaims_whenThereIsNoOther() {
    server.then(
        201,
        "{\"token\":\"st-1\",\"claims\":{\"sub\":{\"x\":[1]},\"expires_at\":\""
            + START.plusSeconds(60) + "\",\"z\":1},\"more\":[]}");
    serviceToken();
    now.set(START.plusSeconds(49));
    serviceToken();
    assertThat(server.requests()).hasSize(1);
    now.set(START.plusSeconds(50));
    serviceToken();
    assertThat(server.requests()).hasSize(2);
  }

  @Test
  void prefersTheOuterExpiry() {
    server.then(
        201,
        "{\"claims\":{\"expires_at\":\"" + START.plusSeconds(9000)
            + "\"},\"token\":\"st-1\",\"expires_at\":\"" + START.plusSeconds(60) + "\"}");
    serviceToken();
    now.set(START.plusSeconds(51));
    serviceToken();
    assertThat(server.requests()).hasSize(2);
  }

  @Test
  void keepsTokens_bySetOfScopes_andByTheRest() {
    issueFor(TTL, now::get);
    String first = client.serviceToken("org-1", "billing", Set.of("a", "b"), TTL);
    Set<String> same = new LinkedHashSet<>(List.of(" b", "a ", "a"));
    assertThat(client.serviceToken("org-1 ", " billing", same, TTL)).isEqualTo(first);
    assertThat(server.requests()).hasSize(1);
    assertThat(Set.of(
            first,
            client.serviceToken("org-1", "billing", Set.of("a"), TTL),
            client.serviceToken("org-1", "billing", Set.of("a b"), TTL),
            client.serviceToken("org-1", "billing", Set.of("a\u0000b"), TTL),
            client.serviceToken("org-2", "billing", Set.of("a", "b"), TTL),
            client.serviceToken("org-1", "ledger", Set.of("a", "b"), TTL),
            client.serviceToken("org-1", "billing", Set.of("a", "b"), Duration.ofHours(1))))
        .hasSize(7);
  }

  @Test
  void renewsTenSecondsBeforeTheEnd() {
    issueFor(TTL, now::get);
    assertThat(serviceToken()).isEqualTo("st-1");
    now.set(START.plusSeconds(289).plusMillis(999));
    assertThat(serviceToken()).isEqualTo("st-1");
    now.set(START.plusSeconds(290));
    assertThat(serviceToken()).isEqualTo("st-2");
    assertThat(server.requests()).hasSize(2);
  }

  @Test
  void doesNotRenewAShortTokenAtEachCall() {
    issueFor(Duration.ofSeconds(8), now::get);
    serviceToken();
    now.set(START.plusMillis(5_999));
    serviceToken();
    assertThat(server.requests()).hasSize(1);
    now.set(START.plusSeconds(6));
    serviceToken();
    assertThat(server.requests()).hasSize(2);
  }

  @Test
  void givesTheOldToken_whenItsRenewalFails_whileItIsValid() {
    issueFor(TTL, now::get);
    serviceToken();
    server.only(503, "");
    now.set(START.plus(TTL).minusSeconds(5));
    assertThat(serviceToken()).isEqualTo("st-1");
    assertThat(serviceToken()).isEqualTo("st-1");
    assertThat(server.requests()).as("a pause after a failure").hasSize(2);
    now.set(START.plus(TTL));
    assertThat(reason(this::serviceToken)).isEqualTo(Reason.ISSUE_SERVICE_TOKEN);
  }

  private static Answer secondTokenAfter(CountDownLatch release) {
    try {
      assertThat(release.await(60, SECONDS)).isTrue();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
    return Answer.of(201, token("st-2", START.plus(TTL.multipliedBy(2))));
  }

  @Test
  void givesTheOldToken_whenItsRenewalHangs_withoutWaitingForTheRequestTimeout() {
    client.close();
    client = IdentityClient.builder("")
        .serviceTokens(server.url("/v1/tokens"))
        .bootstrapKey("boot-key")
        .requestTimeout(Duration.ofMinutes(5))
        .clock(now::get)
        .open();
    CountDownLatch release = new CountDownLatch(1);
    server.then(201, token("st-1", START.plus(TTL))).then(request -> secondTokenAfter(release));
    serviceToken();
    now.set(START.plus(TTL).minusSeconds(5));
    for (int i = 0; i < 100; i++) {
      assertThat(serviceToken()).isEqualTo("st-1");
    }
    assertThat(server.requests()).as("one renewal for all").hasSize(2);
    release.countDown();
    await().atMost(WAIT).until(() -> serviceToken().equals("st-2"));
  }

  @Test
  void givesNoTokenThatEndsWhileItsRenewalHangs() throws Exception {
    CountDownLatch release = new CountDownLatch(1);
    CountDownLatch asked = new CountDownLatch(1);
    server.then(201, token("st-1", START.plus(TTL))).then(request -> {
      asked.countDown();
      return secondTokenAfter(release);
    });
    serviceToken();
    now.set(START.plus(TTL).minusSeconds(1));
    CompletableFuture<String> given = CompletableFuture.supplyAsync(this::serviceToken);
    assertThat(asked.await(60, SECONDS)).isTrue();
    now.set(START.plus(TTL));
    assertThatThrownBy(() -> given.get(3, SECONDS)).isInstanceOf(TimeoutException.class);
    release.countDown();
    assertThat(given.get(60, SECONDS)).isEqualTo("st-2");
  }

  @Test
  void anInterruptedCallerGetsNoOldToken() {
    CountDownLatch release = new CountDownLatch(1);
    server.then(201, token("st-1", START.plus(TTL))).then(request -> secondTokenAfter(release));
    serviceToken();
    now.set(START.plus(TTL).minusSeconds(5));
    Thread.currentThread().interrupt();
    Reason reason = reason(this::serviceToken);
    boolean kept = Thread.interrupted();
    release.countDown();
    assertThat(reason).isEqualTo(Reason.UNAVAILABLE);
    assertThat(kept).isTrue();
  }

  @Test
  void doesNotKeepATokenThatHasExpired() {
    issueFor(Duration.ofSeconds(-1), now::get);
    assertThat(serviceToken()).isEqualTo("st-1");
    assertThat(serviceToken()).isEqualTo("st-2");
  }

  @Test
  void renewsInTheBackground_whatHasBeenAskedForAgain() {
    client.close();
    client = client(InstantSource.system());
    issueFor(Duration.ofSeconds(2), InstantSource.system());
    serviceToken();
    client.serviceToken("org-2", "once", Set.of(), TTL);
    serviceToken();
    await().atMost(WAIT).until(() -> server.requests().size() == 3);
    assertThat(server.request().body()).contains("billing");
    await().atMost(WAIT).until(() -> serviceToken().equals("st-3"));
    assertThat(server.requests()).as("asked for in the background alone").hasSize(3);
  }

  @Test
  void triesAgainInTheBackground_afterAFailure() {
    client.close();
    client = client(InstantSource.system());
    server
        .then(201, token("st-1", Instant.now().plusSeconds(6)))
        .then(503, "")
        .then(201, token("st-2", Instant.now().plusSeconds(600)));
    assertThat(serviceToken()).isEqualTo("st-1");
    serviceToken();
    await().atMost(Duration.ofSeconds(30)).until(() -> server.requests().size() == 3);
    await().atMost(WAIT).until(() -> serviceToken().equals("st-2"));
  }
}
