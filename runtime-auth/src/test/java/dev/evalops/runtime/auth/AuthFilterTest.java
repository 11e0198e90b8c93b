package dev.evalops.runtime.auth;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What clients see of auth, on real sockets. */
class AuthFilterTest {
  private static final String TOKEN = "s3cr3t-token-of-ann";
  private static final String OUTAGE =
      "identity_request: Post \"https://identity.internal\": dial tcp 10.0.0.7:443: refused";

  private final Auth auth = Auth.builder()
      .tokens((token, scopes) -> switch (token) {
        case TOKEN ->
          Optional.of(VerifiedToken.of(new Actor("user", "ann", "org-1"), Set.of("notes:read")));
        case "outage" -> throw new IOException(OUTAGE);
        case "s3cr3t-echo" -> throw new IOException("cannot verify " + token);
        case "odd" ->
          throw ServiceException.of(ErrorCode.FORBIDDEN, "suspended").op("jwt");
        case "clash" ->
          Optional.of(VerifiedToken.of(
              new Actor("user", "ann", "org-1", Map.of("workspace", "a", "workspace_id", "b")),
              Set.of()));
        default -> Optional.empty();
      })
      .apiKeys(key -> key.equals("pk_s3cr3t-live")
          ? Optional.of(new ApiKey("key-1", "org-2", Set.of("notes:read", "notes:write")))
          : Optional.empty())
      .build();

  private final CapturedLog log = new CapturedLog("dev.evalops");
  private final HttpClient client = HttpClient.newHttpClient();
  private HttpService service;

  @Test
  void asksNobody_aboutWhatTheServiceRefuses() throws Exception {
    Auth careful = Auth.builder()
        .tokens((token, scopes) -> {
          throw new AssertionError("nothing to verify");
        })
        .build();
    try (HttpService guarded = HttpService.builder(0)
        .filters(careful.require())
        .handle("/any", HttpResponses::noContent)
        .start()) {
      HttpRequest request = HttpRequest.newBuilder(guarded.uri().resolve("/any/a%2Fb"))
          .header("Authorization", "Bearer " + TOKEN)
          .build();
      assertThat(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode())
          .isEqualTo(400);
    }
  }

  @BeforeEach
  void start() throws IOException {
    HttpService.Handler who = exchange -> HttpResponses.json(
        exchange,
        200,
        List.of(
            Actor.of(exchange).id(),
            Actor.find(exchange).orElseThrow().organizationId(),
            Principal.of(exchange).tokenType().orElseThrow(),
            exchange.getPrincipal().getUsername(),
            exchange.getPrincipal().getRealm()));
    service = HttpService.builder(0)
        .filters(HttpFilters.requestId())
        .handle("/any", who, auth.require())
        .handle("/read", who, auth.require("notes:read"))
        .handle("/write", who, auth.require("notes:write", "notes:read"))
        .handle(
            "/human",
            (HttpService.Handler) exchange -> {
              Principal.of(exchange).requireHuman();
              who.handle(exchange);
            },
            auth.require())
        .handle("/nested", who, auth.require(), auth.require("notes:write"))
        .handle("/open", (HttpService.Handler)
            exchange -> HttpResponses.json(exchange, 200, Actor.find(exchange).isPresent()))
        .handle("/forgotten", who)
        .start();
  }

  @AfterEach
  void stop() {
    service.close();
    client.close();
    log.close();
    assertThat(log.text()).doesNotContain("s3cr3t");
  }

  private HttpResponse<String> get(String path, String... authorization) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(service.uri().resolve(path));
    for (String value : authorization) {
      request.header("Authorization", value);
    }
    HttpResponse<String> response =
        client.send(request.build(), HttpResponse.BodyHandlers.ofString());
    assertThat(response.body() + response.headers()).doesNotContain("s3cr3t");
    return response;
  }

  private static void assertRefused(
      HttpResponse<String> response, int status, String code, String message, String challenge) {
    assertThat(response.statusCode()).isEqualTo(status);
    assertThat(response.body())
        .isEqualTo("{\"error\":{\"code\":\"" + code + "\",\"message\":\"" + message + "\"}}\n");
    assertThat(response.headers().firstValue("Content-Type")).contains("application/json");
    assertThat(response.headers().allValues("WWW-Authenticate"))
        .isEqualTo(challenge == null ? List.of() : List.of(challenge));
    assertThat(response.headers().firstValue("X-Request-Id")).isPresent();
  }

  @Test
  void lacksAuthorization_401() throws Exception {
    for (String[] headers : new String[][] {{}, {"Basic YTpi"}, {"Bearer"}, {""}}) {
      assertRefused(
          get("/any", headers),
          401,
          "missing_authorization",
          "Authorization bearer token is required",
          "Bearer");
    }
  }

  @Test
  void hasAnInvalidToken_401() throws Exception {
    for (String token : List.of("s3cr3t-wrong", "pk_s3cr3t-wrong")) {
      assertRefused(
          get("/any", "Bearer " + token),
          401,
          "authorization_failed",
          "invalid_token",
          "Bearer error=\"invalid_token\"");
    }
  }

  @Test
  void lacksAScope_403() throws Exception {
    assertRefused(
        get("/write", "Bearer " + TOKEN),
        403,
        "authorization_failed",
        "missing_required_scopes: notes:write",
        "Bearer error=\"insufficient_scope\", scope=\"notes:read notes:write\"");
  }

  @Test
  void isForbidden_403() throws Exception {
    assertRefused(get("/any", "Bearer odd"), 403, "authorization_failed", "suspended", null);
    assertRefused(
        get("/any", "Bearer clash"), 403, "authorization_failed", "conflicting_attributes", null);
  }

  @Test
  void cannotBeVerifiedNow_503WithTheDetailInTheLogAlone() throws Exception {
    assertRefused(get("/any", "Bearer outage"), 503, "unavailable", "service unavailable", null);
    assertThat(log.text()).contains("http request failed").contains(OUTAGE);
    assertRefused(
        get("/any", "Bearer s3cr3t-echo"), 503, "unavailable", "service unavailable", null);
    assertThat(log.text()).contains("java.io.IOException, whose text holds the token");
  }

  @Test
  void sendsTwoTokens_400() throws Exception {
    assertRefused(
        get("/any", "Bearer " + TOKEN, "Bearer pk_s3cr3t-live"),
        400,
        "invalid_input",
        "Authorization must be sent once",
        null);
  }

  @Test
  void passes_andTheHandlerKnowsWhoCalls() throws Exception {
    assertThat(get("/read", "bearer " + TOKEN).body())
        .isEqualTo("[\"ann\",\"org-1\",\"user\",\"ann\",\"org-1\"]\n");
    assertThat(get("/write", "Bearer pk_s3cr3t-live").body())
        .isEqualTo("[\"key-1\",\"org-2\",\"api_key\",\"key-1\",\"org-2\"]\n");
    assertThat(get("/read", "Bearer " + TOKEN).headers().firstValue("WWW-Authenticate"))
        .isEmpty();
  }

  @Test
  void aGuardOfThePrincipalIsAnsweredToo() throws Exception {
    assertThat(get("/human", "Bearer " + TOKEN).statusCode()).isEqualTo(200);
    assertRefused(
        get("/human", "Bearer pk_s3cr3t-live"), 403, "forbidden", "human principal required", null);
  }

  @Test
  void everyFilterOnTheWayHasToLetTheRequestPass() throws Exception {
    assertThat(get("/nested", "Bearer " + TOKEN).statusCode()).isEqualTo(403);
    assertThat(get("/nested", "Bearer pk_s3cr3t-live").statusCode()).isEqualTo(200);
  }

  @Test
  void aRouteWithoutAuthKnowsNobody_whateverTheClientSends() throws Exception {
    assertThat(get("/open", "Bearer " + TOKEN).body()).isEqualTo("false\n");
  }

  @Test
  void aHandlerThatAsksWithoutAuthInFrontOfItIsABug_500() throws Exception {
    HttpResponse<String> response = get("/forgotten", "Bearer " + TOKEN);
    assertRefused(response, 500, "internal_error", "internal error", null);
    assertThat(log.text()).contains("nobody is authenticated: put auth.require(...)");
  }

  @Test
  void worksOnAServerThatIsNotOurs_andOnAnswersToHead() throws Exception {
    HttpServer server =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    HttpHandler handler = exchange -> {
      exchange.getResponseHeaders().set("X-Actor", Actor.of(exchange).id());
      exchange.sendResponseHeaders(204, -1);
    };
    server.createContext("/", HttpFilters.chain(handler, auth.require("notes:read")));
    server.start();
    try {
      URI uri = URI.create("http://localhost:" + server.getAddress().getPort() + "/");
      HttpRequest.Builder head =
          HttpRequest.newBuilder(uri).method("HEAD", HttpRequest.BodyPublishers.noBody());
      HttpResponse<Void> refused =
          client.send(head.build(), HttpResponse.BodyHandlers.discarding());
      assertThat(refused.statusCode()).isEqualTo(401);
      assertThat(refused.headers().firstValue("WWW-Authenticate")).contains("Bearer");
      HttpResponse<Void> passed = client.send(
          head.header("Authorization", "Bearer " + TOKEN).build(),
          HttpResponse.BodyHandlers.discarding());
      assertThat(passed.statusCode()).isEqualTo(204);
      assertThat(passed.headers().firstValue("X-Actor")).contains("ann");
    } finally {
      server.stop(0);
    }
  }

  @Test
  void theHandlerDoesNotRun_forARequestThatMayNotPass() throws Exception {
    boolean[] ran = {false};
    Filter watching = new Filter() {
      @Override
      public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
        ran[0] = true;
        chain.doFilter(exchange);
      }

      @Override
      public String description() {
        return "watching";
      }
    };
    try (HttpService other = HttpService.builder(0)
        .handle(
            "/",
            exchange -> HttpResponses.json(exchange, 200, 1),
            auth.require("notes:write"),
            watching)
        .start()) {
      for (String value : List.of("Bearer", "Bearer x", "Bearer outage", "Bearer " + TOKEN)) {
        HttpRequest request =
            HttpRequest.newBuilder(other.uri()).header("Authorization", value).build();
        assertThat(client.send(request, HttpResponse.BodyHandlers.discarding()).statusCode())
            .isIn(401, 403, 503);
      }
    }
    assertThat(ran[0]).isFalse();
  }
}
