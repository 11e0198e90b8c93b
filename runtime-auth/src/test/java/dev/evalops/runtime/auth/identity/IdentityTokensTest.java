package dev.evalops.runtime.auth.identity;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.Principal;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.identity.IdentityClient;
import java.io.IOException;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.json.JsonMapper;

/** A service that asks an identity service, both on real sockets. */
class IdentityTokensTest {
  private record Answer(int status, String body) {}

  private final Map<String, Answer> answers = new ConcurrentHashMap<>();
  private final CountDownLatch stopping = new CountDownLatch(1);
  private final HttpClient client = HttpClient.newHttpClient();
  private HttpService identityService;
  private IdentityClient identity;
  private HttpService service;

  @BeforeEach
  void start() throws IOException {
    identityService = HttpService.builder(0)
        .handle("/introspect", (HttpService.Handler) exchange -> {
          String header = exchange.getRequestHeaders().getFirst("Authorization");
          if (header.equals("Bearer hangs")) {
            stopping.await(30, TimeUnit.SECONDS);
          }
          Answer answer = answers.getOrDefault(header, new Answer(401, "{}"));
          HttpResponses.bytes(
              exchange,
              answer.status(),
              "application/json",
              answer.body().getBytes(StandardCharsets.UTF_8));
        })
        .start();
    identity = IdentityClient.builder(
            identityService.uri().resolve("/introspect").toString())
        .requestTimeout(Duration.ofSeconds(10))
        .open();
    Auth auth = Auth.of(IdentityTokens.of(identity));
    service = HttpService.builder(0)
        .handle(
            "/who",
            (HttpService.Handler) exchange -> HttpResponses.json(
                exchange, 200, List.of(Actor.of(exchange), Principal.of(exchange))),
            auth.require("notes:read"))
        .start();
  }

  @AfterEach
  void stop() {
    stopping.countDown();
    service.close();
    identity.close();
    identityService.close();
    client.close();
  }

  private HttpResponse<String> get(String token) throws Exception {
    HttpRequest request = HttpRequest.newBuilder(service.uri().resolve("/who"))
        .header("Authorization", "Bearer " + token)
        .build();
    return client.send(request, HttpResponse.BodyHandlers.ofString());
  }

  private void answers(String token, int status, String body) {
    answers.put("Bearer " + token, new Answer(status, body));
  }

  private void assertRefused(String token, int status, String code, String message)
      throws Exception {
    HttpResponse<String> response = get(token);
    assertThat(response.statusCode()).isEqualTo(status);
    assertThat(response.body())
        .isEqualTo("{\"error\":{\"code\":\"" + code + "\",\"message\":\"" + message + "\"}}\n");
    assertThat(response.headers().firstValue("WWW-Authenticate").isPresent())
        .isEqualTo(status == 401 || message.startsWith("missing_required_scopes"));
  }

  private void assertCaller(String token, Actor actor, Principal principal) throws Exception {
    HttpResponse<String> response = get(token);
    assertThat(response.statusCode()).isEqualTo(200);
    JsonMapper json = JsonMapper.shared();
    assertThat(json.readTree(response.body()))
        .isEqualTo(json.readTree(json.writeValueAsString(List.of(actor, principal))));
  }

  @Test
  void aUsersTokenIsHuman() throws Exception {
    answers("ann", 200, """
        {"active":true,"subject":"ann","token_type":"user","organization_id":"org-1",
         "scopes":["notes:read","notes:read"],"email":"ann@example.com","name":"Ann",
         "expires_at":"2999-01-01T00:00:00Z"}""");
    assertCaller(
        "ann",
        new Actor("user", "ann", "org-1"),
        new Principal(
            "org-1",
            Optional.empty(),
            "ann",
            Optional.empty(),
            Optional.empty(),
            Optional.of("user"),
            Set.of("notes:read"),
            Optional.empty(),
            true));
  }

  @Test
  void aBlankAgentTypeIsNone() throws Exception {
    answers("blank", 200, """
        {"active":true,"subject":"ann","token_type":"user","organization_id":"org-1",
         "scopes":["notes:read"],"agent_type":" ","run_id":" ","surface":" "}""");
    assertCaller(
        "blank",
        new Actor("user", "ann", "org-1"),
        new Principal(
            "org-1",
            Optional.empty(),
            "ann",
            Optional.empty(),
            Optional.empty(),
            Optional.of("user"),
            Set.of("notes:read"),
            Optional.empty(),
            true));
  }

  @Test
  void aServiceIsNamedByItsToken() throws Exception {
    answers("billing", 200, """
        {"active":true,"subject":"svc-7","tokenType":"service","service":"billing",
         "organizationId":"org-1","scopes":["notes:read"]}""");
    assertCaller(
        "billing",
        new Actor("service", "svc-7", "org-1"),
        new Principal(
            "org-1",
            Optional.empty(),
            "svc-7",
            Optional.empty(),
            Optional.of("billing"),
            Optional.of("service"),
            Set.of("notes:read"),
            Optional.empty(),
            false));
  }

  @Test
  void anAgentActsForItsUser_andIsNotHuman() throws Exception {
    answers("agent", 200, """
        {"active":true,"subject":"a-7","token_type":"agent","organization_id":"org-1",
         "scopes":["notes:read"],"agent_type":"coder","run_id":"run-1","surface":"cli",
         "user_subject":"ann","capabilities":["x"]}""");
    assertCaller(
        "agent",
        new Actor(
            "agent",
            "a-7",
            "org-1",
            Map.of("agent_type", "coder", "run_id", "run-1", "surface", "cli", "agent_id", "a-7")),
        new Principal(
            "org-1",
            Optional.empty(),
            "a-7",
            Optional.of("ann"),
            Optional.empty(),
            Optional.of("agent"),
            Set.of("notes:read"),
            Optional.of("a-7"),
            false));
  }

  @Test
  void anAgentWithAUsersTokenIsNotHuman() throws Exception {
    answers("borrowed", 200, """
        {"active":true,"subject":"ann","token_type":"user","organization_id":"org-1",
         "scopes":["notes:read"],"agent_type":"coder"}""");
    assertCaller(
        "borrowed",
        new Actor("agent", "ann", "org-1", Map.of("agent_type", "coder")),
        new Principal(
            "org-1",
            Optional.empty(),
            "ann",
            Optional.empty(),
            Optional.empty(),
            Optional.of("user"),
            Set.of("notes:read"),
            Optional.empty(),
            false));
  }

  @Test
  void aTokenOfNoTypeIsNotHuman() throws Exception {
    answers("plain", 200, """
        {"active":true,"subject":"x","organization_id":"org-1","scopes":["notes:read"]}""");
    assertCaller(
        "plain",
        new Actor("unknown", "x", "org-1"),
        new Principal(
            "org-1",
            Optional.empty(),
            "x",
            Optional.empty(),
            Optional.empty(),
            Optional.empty(),
            Set.of("notes:read"),
            Optional.empty(),
            false));
  }

  @Test
  void anInvalidOrInactiveTokenIs401() throws Exception {
    answers("forbidden", 403, "{}");
    answers("retired", 200, "{\"active\":false}");
    assertRefused("unheard-of", 401, "authorization_failed", "invalid_token");
    assertRefused("forbidden", 401, "authorization_failed", "invalid_token");
    assertRefused("retired", 401, "authorization_failed", "inactive_token");
  }

  @Test
  void aTokenWithoutTheScopeIs403() throws Exception {
    answers("ann", 200, """
        {"active":true,"subject":"ann","token_type":"user","organization_id":"org-1"}""");
    assertRefused("ann", 403, "authorization_failed", "missing_required_scopes: notes:read");
  }

  @Test
  void aTokenOfNobodyIs403() throws Exception {
    answers("no-organization", 200, """
        {"active":true,"subject":"ann","token_type":"user","scopes":["notes:read"]}""");
    answers("no-subject", 200, """
        {"active":true,"organization_id":"org-1","token_type":"user","scopes":["notes:read"]}""");
    assertRefused("no-organization", 403, "authorization_failed", "missing_organization");
    assertRefused("no-subject", 403, "authorization_failed", "missing_subject");
  }

  @Test
  void anOutageIs503_andDoesNotSayWhere() throws Exception {
    answers("error", 503, "{\"error\":\"database at 10.0.0.7 is down\"}");
    answers("lost", 404, "not found");
    answers("garbage", 200, "<html>");
    for (String token : List.of("error", "lost", "garbage", "hangs")) {
      assertRefused(token, 503, "unavailable", "service unavailable");
    }
    stopping.countDown();
    identityService.close();
    assertRefused("ann", 503, "unavailable", "service unavailable");
  }

  @Test
  void aClientThatIsNotConfiguredIs503() throws Exception {
    try (IdentityClient nowhere = IdentityClient.builder(null).open()) {
      Auth auth = Auth.of(IdentityTokens.of(nowhere));
      assertThatThrownBy(() -> auth.authenticate("Bearer ann", Set.of()))
          .isInstanceOfSatisfying(
              ServiceException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.UNAVAILABLE))
          .hasRootCauseMessage("identity_not_configured");
    }
  }
}
