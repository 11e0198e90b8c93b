package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.RequestContext;
import dev.evalops.runtime.testutil.TestHttp;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Iterator;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class LimitFilterTest {
  private static final HttpHandler OK = exchange -> exchange.sendResponseHeaders(204, -1);

  private final HttpClient client = HttpClient.newHttpClient();
  private final SimpleMeterRegistry registry = new SimpleMeterRegistry();
  private HttpService http;

  @AfterEach
  void stop() {
    client.close();
    if (http != null) {
      http.close();
    }
  }

  private void serve(RateLimiter limiter) throws Exception {
    http = HttpService.builder(0)
        .host("127.0.0.1")
        .filters(HttpFilters.requestId(), limiter.filter())
        .handle("/v1/notes", exchange -> {
          RequestContext.of(exchange).route("/v1/notes/{id}");
          OK.handle(exchange);
        })
        .handle("/v1/users", OK)
        .handle("/healthz", HttpEndpoints.health("notes"))
        .start();
  }

  private HttpResponse<String> get(String path, String... headers) throws Exception {
    HttpRequest.Builder request =
        HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + http.port() + path));
    for (int i = 0; i < headers.length; i += 2) {
      request.header(headers[i], headers[i + 1]);
    }
    return client.send(request.build(), BodyHandlers.ofString());
  }

  private int status(String path, String... headers) throws Exception {
    return get(path, headers).statusCode();
  }

  private static RateLimiter.Builder once() {
    return RateLimiter.builder().perSecond(0.01).burst(1);
  }

  @Test
  void takesNoToken_forWhatTheServiceRefuses() throws Exception {
    serve(once().open());

    assertThat(status("/v1//notes")).isEqualTo(400);
    assertThat(status("/v1//notes")).isEqualTo(400);
    assertThat(status("/v1/notes")).isEqualTo(204);
    assertThat(status("/v1//notes")).isEqualTo(400);
  }

  @Test
  void refusesInTheOneErrorShape_withRetryAfter() throws Exception {
    serve(once().open());

    assertThat(status("/v1/notes")).isEqualTo(204);
    HttpResponse<String> refused = get("/v1/notes");
    TestHttp.assertJson(
        refused,
        429,
        "{\"error\":{\"code\":\"rate_limited\",\"message\":\"rate limit exceeded\"}}");
    assertThat(Long.parseLong(refused.headers().firstValue("Retry-After").orElseThrow()))
        .isBetween(90L, 100L);
    assertThat(refused.headers().firstValue("X-Request-Id")).isPresent();
    assertThat(refused.headers().map()).doesNotContainKeys("ratelimit", "ratelimit-policy");
  }

  @Test
  void limitsAllWithoutAKeyTogether_alsoWhenTheKeyIsAHeaderThatIsNotThere() throws Exception {
    serve(once()
        .key(exchange -> exchange.getRequestHeaders().getFirst("X-Tenant"))
        .open());

    assertThat(status("/v1/notes")).isEqualTo(204);
    assertThat(status("/v1/notes")).isEqualTo(429);
    assertThat(status("/v1/notes", "X-Tenant", " ")).isEqualTo(429);
    assertThat(status("/v1/notes", "X-Tenant", "t-1")).isEqualTo(204);
  }

  @Test
  void tellsOfEveryLimiter_whenARequestPassesTwo() throws Exception {
    RateLimiter ofAll = RateLimiter.builder()
        .perSecond(0.01)
        .burst(2)
        .policy((exchange, policy) -> policy.scope("all"))
        .rateLimitHeaders()
        .open();
    RateLimiter ofRoute =
        RateLimiter.builder().perSecond(0.1).burst(100).rateLimitHeaders().open();
    http = HttpService.builder(0)
        .host("127.0.0.1")
        .filters(ofAll.filter())
        .handle("/v1/notes", OK, ofRoute.filter())
        .start();

    HttpResponse<String> allowed = get("/v1/notes");
    assertThat(allowed.headers().allValues("RateLimit-Policy"))
        .containsExactly("\"all\";q=2;w=200, \"/v1/notes\";q=100;w=1000");
    assertThat(allowed.headers().allValues("RateLimit"))
        .containsExactly("\"all\";r=1;t=100, \"/v1/notes\";r=99;t=10");
  }

  @Test
  void retriesAfterASecondAtLeast() throws Exception {
    serve(RateLimiter.open(20, 1));
    HttpResponse<String> refused = null;
    for (int i = 0; i < 1000 && (refused == null || refused.statusCode() != 429); i++) {
      refused = get("/v1/notes");
    }

    assertThat(refused.statusCode()).isEqualTo(429);
    assertThat(refused.headers().firstValue("Retry-After")).contains("1");
  }

  @Test
  void limitsByRoute_andNeverByThePathOfTheRequest() throws Exception {
    serve(once().metrics("notes", registry).open());

    assertThat(status("/v1/notes/1")).isEqualTo(204);
    assertThat(status("/v1/notes/2")).isEqualTo(429);
    assertThat(status("/v1/users/1")).isEqualTo(204);
    assertThat(status("/v1/users/2?x=1")).isEqualTo(429);
    assertThat(status("/nowhere/1")).isEqualTo(404);
    assertThat(status("/nowhere/2")).isEqualTo(429);
    assertThat(registry.find("notes_rate_limit_hits_total").counters())
        .extracting(counter -> counter.getId().getTag("route"))
        .containsOnly("/v1/notes", "/v1/users", RequestContext.UNMATCHED);
  }

  @Test
  void trimsAKeyByTheRuleOfOurServices() throws Exception {
    Iterator<String> keys = List.of("a", "\u00a0a\u0085 ", "\u001ca").iterator();
    serve(once().key(exchange -> keys.next()).open());

    assertThat(status("/v1/users")).isEqualTo(204);
    assertThat(status("/v1/users")).isEqualTo(429);
    assertThat(status("/v1/users")).isEqualTo(204);
  }

  @Test
  void letsProbesThrough() throws Exception {
    serve(once().metrics("notes", registry).open());

    for (int i = 0; i < 5; i++) {
      assertThat(status("/healthz")).isEqualTo(200);
    }
    assertThat(registry
            .get("notes_rate_limit_hits_total")
            .tags("route", "/healthz", "action", "exempt")
            .counter()
            .count())
        .isEqualTo(5);
  }

  @Test
  void exemptsWholePathsAlone() throws Exception {
    serve(once().exemptPaths("/v1/notes").open());

    for (int i = 0; i < 3; i++) {
      assertThat(status("/v1/notes")).isEqualTo(204);
    }
    assertThat(status("/v1/notes/1")).isEqualTo(204);
    assertThat(status("/v1/notes/1")).isEqualTo(429);
    assertThat(status("/healthz")).isEqualTo(200);
    assertThat(status("/healthz")).isEqualTo(429);
  }

  @Test
  void aSpoofedAddressChangesNothing_whenThePeerIsNotTrusted() throws Exception {
    serve(once().open());

    assertThat(status("/v1/notes")).isEqualTo(204);
    for (int i = 0; i < 20; i++) {
      assertThat(
              status("/v1/notes", "X-Forwarded-For", "203.0.113." + i, "X-Real-Ip", "1.1.1." + i))
          .isEqualTo(429);
    }
  }

  @Test
  void aTrustedProxyTellsTheClient_andTheClientCannot() throws Exception {
    serve(once().trustedProxies(TrustedProxies.of("127.0.0.1", "10.0.0.0/8")).open());

    assertThat(status("/v1/notes", "X-Forwarded-For", "203.0.113.1")).isEqualTo(204);
    assertThat(status("/v1/notes", "X-Forwarded-For", "203.0.113.2, 10.0.0.1")).isEqualTo(204);
    assertThat(status("/v1/notes", "X-Forwarded-For", "7.7.7.7, 203.0.113.1")).isEqualTo(429);
    assertThat(status("/v1/notes", "X-Forwarded-For", "8.8.8.8", "X-Forwarded-For", "203.0.113.2"))
        .isEqualTo(429);
    assertThat(status("/v1/notes", "X-Forwarded-For", "2001:db8:1:2::1")).isEqualTo(204);
    assertThat(status("/v1/notes", "X-Forwarded-For", "2001:db8:1:2:ffff::1")).isEqualTo(429);
  }

  @Test
  void limitsWhomItIsTold() throws Exception {
    serve(
        once().key(exchange -> exchange.getRequestHeaders().getFirst("Tenant")).open());

    assertThat(status("/v1/notes", "Tenant", "a")).isEqualTo(204);
    assertThat(status("/v1/notes", "Tenant", "b")).isEqualTo(204);
    assertThat(status("/v1/notes", "Tenant", "a")).isEqualTo(429);
  }

  @Test
  void takesAnotherPolicyForSomeRequests() throws Exception {
    serve(once()
        .policy((exchange, policy) -> switch (String.valueOf(
            exchange.getRequestURI().getQuery())) {
          case "free" -> policy.exempted();
          case "search" -> policy.scope("search").limit(0.01, 2);
          default -> policy;
        })
        .open());

    assertThat(status("/v1/notes")).isEqualTo(204);
    assertThat(status("/v1/notes")).isEqualTo(429);
    assertThat(status("/v1/notes?free")).isEqualTo(204);
    assertThat(status("/v1/notes?free")).isEqualTo(204);
    assertThat(status("/v1/notes?search")).isEqualTo(204);
    assertThat(status("/v1/users?search")).isEqualTo(204);
    assertThat(status("/v1/notes?search")).isEqualTo(429);
  }

  @Test
  void tellsClientsWhereTheyStand_whenAskedTo() throws Exception {
    serve(RateLimiter.builder().perSecond(0.01).burst(2).rateLimitHeaders().open());

    HttpResponse<String> allowed = get("/v1/notes");
    get("/v1/notes");
    HttpResponse<String> refused = get("/v1/notes");

    assertThat(allowed.headers().firstValue("RateLimit-Policy"))
        .contains("\"/v1/notes\";q=2;w=200");
    assertThat(allowed.headers().firstValue("RateLimit")).contains("\"/v1/notes\";r=1;t=100");
    assertThat(refused.headers().firstValue("RateLimit").orElseThrow())
        .matches("\"/v1/notes\";r=0;t=(9\\d|100)");
    assertThat(refused.headers().firstValue("RateLimit").orElseThrow())
        .endsWith("t=" + refused.headers().firstValue("Retry-After").orElseThrow());
    assertThat(get("/healthz").headers().map()).doesNotContainKey("ratelimit");
  }

  @Test
  void limitsOneHandler_whenItIsAFilterOfThat() throws Exception {
    RateLimiter limiter = once().open();
    http = HttpService.builder(0)
        .host("127.0.0.1")
        .handle("/v1/notes", OK, limiter.filter())
        .handle("/v1/users", OK)
        .start();

    assertThat(status("/v1/notes")).isEqualTo(204);
    assertThat(status("/v1/notes")).isEqualTo(429);
    assertThat(status("/v1/users")).isEqualTo(204);
    assertThat(status("/v1/users")).isEqualTo(204);
  }

  @Test
  void saysWhatItIs() {
    assertThat(RateLimiter.open(1, 1).filter().description()).isEqualTo("rate limit");
  }
}
