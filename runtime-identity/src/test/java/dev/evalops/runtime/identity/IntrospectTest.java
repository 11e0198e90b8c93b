package dev.evalops.runtime.identity;

import static dev.evalops.runtime.identity.Failures.failure;
import static dev.evalops.runtime.identity.Failures.reason;
import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.identity.IdentityException.Reason;
import dev.evalops.runtime.identity.IdentityServer.Answer;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class IntrospectTest {
  private static final Introspection FULL = new Introspection(
      true,
      Optional.of("agent:7"),
      Optional.of("agent"),
      Optional.of("billing"),
      Optional.of("org-1"),
      List.of("invoices:read", "invoices:write"),
      Optional.of("coder"),
      List.of("shell"),
      Optional.of("run-3"),
      Optional.of("codex"),
      Optional.of("user:9"),
      Optional.of("ada@example.org"),
      Optional.of("Ada"),
      Optional.of(Instant.parse("2030-01-02T03:04:05.5Z")),
      Optional.of(Instant.parse("2026-01-02T03:04:05Z")));

  private IdentityServer server;
  private IdentityClient client;

  @BeforeEach
  void start() throws IOException {
    server = new IdentityServer();
    client = IdentityClient.builder(server.url()).open();
  }

  @AfterEach
  void stop() {
    client.close();
    server.close();
  }

  @Test
  void postsAnEmptyObjectWithTheToken() {
    server.then(200, "{\"active\":true}");
    client.introspect("tok-1");
    assertThat(server.requests()).hasSize(1);
    assertThat(server.request().method()).isEqualTo("POST");
    assertThat(server.request().path()).isEqualTo("/v1/introspect");
    assertThat(server.request().body()).isEqualTo("{}");
    assertThat(server.request().header("Authorization")).isEqualTo("Bearer tok-1");
    assertThat(server.request().header("Content-Type")).isEqualTo("application/json");
  }

  @Test
  void readsEveryField_inSnakeCase() {
    server.then(200, """
        {"active":true,"subject":"agent:7","token_type":"agent","service":"billing","organization_id":"org-1",
         "scopes":["invoices:read","invoices:write"],"agent_type":"coder","capabilities":["shell"],"run_id":"run-3",
         "surface":"codex","user_subject":"user:9","email":"ada@example.org","name":"Ada",
         "expires_at":"2030-01-02T03:04:05.500Z","issued_at":"2026-01-02T03:04:05Z"}""");
    assertThat(client.introspect("tok-1")).isEqualTo(FULL);
  }

  @Test
  void readsEveryField_inCamelCase() {
    server.then(200, """
        {"active":true,"subject":"agent:7","tokenType":"agent","service":"billing","organizationId":"org-1",
         "scopes":["invoices:read","invoices:write"],"agentType":"coder","capabilities":["shell"],"runId":"run-3",
         "surface":"codex","userSubject":"user:9","email":"ada@example.org","name":"Ada",
         "expiresAt":"2030-01-02T04:04:05.5+01:00","issuedAt":"2026-01-02T03:04:05.000000000Z"}""");
    assertThat(client.introspect("tok-1")).isEqualTo(FULL);
  }

  @Test
  void ignoresUnknownFields_andTakesNullAndAbsentForEmpty() {
    server.then(200, """
        {"unknown":{"active":false,"deep":[[{}]]},"active":true,"subject":null,"scopes":null,"expires_at":null,
         "issued_at":null,"more":[1,2.5,"x"]}""");
    assertThat(client.introspect("tok-1"))
        .isEqualTo(new Introspection(
            true,
            Optional.empty(),
            Optional.empty(),
            Optional.empty(),
            Optional.empty(),
            List.of(),
            Optional.empty(),
            List.of(),
            Optional.empty(),
            Optional.empty(),
            Optional.empty(),
            Optional.empty(),
            Optional.empty(),
            Optional.empty(),
            Optional.empty()));
  }

  @Test
  void takesABlankTextForAbsent() {
    server.then(200, """
        {"active":true,"subject":"ada","agent_type":" ","run_id":"\\t","service":"","name":" Ada "}""");
    Introspection found = client.introspect("tok-1");
    assertThat(found.agentType()).isEmpty();
    assertThat(found.runId()).isEmpty();
    assertThat(found.service()).isEmpty();
    assertThat(found.name()).contains(" Ada ");
  }

  @ParameterizedTest
  @CsvSource({
    "2030-01-02T03:04:05Z, 2030-01-02T03:04:05Z",
    "2030-01-02T03:04:05.123456789Z, 2030-01-02T03:04:05.123456789Z",
    "2030-01-02T03:04:05.1234567899Z, 2030-01-02T03:04:05.123456789Z",
    "2030-01-02T04:04:05.00000000000000000001+01:00, 2030-01-02T03:04:05Z",
    "9999-12-31T23:59:59.999999999999Z, 9999-12-31T23:59:59.999999999Z"
  })
  void readsTimes_andCutsWhatIsBeyondNanoseconds(String text, Instant time) {
    server.then(200, "{\"active\":true,\"expires_at\":\"" + text + "\"}");
    assertThat(client.introspect("tok-1").expiresAt()).contains(time);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "0001-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
        "2026-01-01T01:00:00+01:00",
        "2025-12-31T23:59:59.999999999999Z"
      })
  void saysInactive_onceTheTokenHasExpired_andForgetsIt(String expiresAt) {
    try (IdentityClient caching = IdentityClient.builder(server.url())
        .fallbackFor(Duration.ofHours(1))
        .clock(() -> Instant.parse("2026-01-01T00:00:00Z"))
        .open()) {
      server.only(200, "{\"active\":true,\"expires_at\":\"2026-01-01T00:00:00.000000001Z\"}");
      caching.introspect("tok-1");
      server.only(200, "{\"active\":true,\"expires_at\":\"" + expiresAt + "\"}");
      assertThat(reason(() -> caching.introspect("tok-1"))).isEqualTo(Reason.INACTIVE_TOKEN);
      server.only(503, "");
      assertThat(reason(() -> caching.introspect("tok-1"))).isEqualTo(Reason.UNAVAILABLE);
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "{\"active\":true,\"name\":\"\\ud800\"}",
        "{\"active\":true,\"name\":\"\\udc00\\ud800\"}",
        "{\"active\":true,\"scopes\":[\"\\ud83dx\"]}",
        "{\"active\":true,\"unknown\":[{\"x\":\"\\ude00\"}]}"
      })
  void saysUnavailable_atHalfASurrogatePair(String body) {
    server.then(200, body);
    assertThat(failure(() -> client.introspect("tok-1")))
        .hasMessage("identity_unavailable: decode_response: a text has half a surrogate pair");
  }

  @Test
  void readsAWholeSurrogatePair() {
    server.then(200, "{\"active\":true,\"name\":\"\\ud83d\\ude00\\u0001\\uffff\"}");
    assertThat(client.introspect("tok-1").name()).contains("\ud83d\ude00\u0001\uffff");
  }

  @ParameterizedTest
  @ValueSource(strings = {"tok-1 ", "\ttok-1\r\n", "\u00a0tok-1\u3000"})
  void trimsTheToken(String token) {
    server.then(200, "{\"active\":true}");
    client.introspect(token);
    assertThat(server.request().header("Authorization")).isEqualTo("Bearer tok-1");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"", "  ", "a b", "a\r\nX-Admin: 1", "t\u00f6ken", "a\u0000b", "\ufefftok"})
  void refusesWhatCannotBeAToken_withoutACall(String token) {
    server.then(200, "{\"active\":true}");
    assertThat(reason(() -> client.introspect(token))).isEqualTo(Reason.INVALID_TOKEN);
    assertThat(server.requests()).isEmpty();
  }

  @ParameterizedTest
  @ValueSource(strings = {"{}", "{\"active\":false}", "{\"active\":null,\"subject\":\"x\"}"})
  void saysInactive(String body) {
    server.then(200, body);
    assertThat(failure(() -> client.introspect("tok-1")))
        .hasMessage("inactive_token")
        .extracting(IdentityException::reason)
        .isEqualTo(Reason.INACTIVE_TOKEN);
  }

  @ParameterizedTest
  @ValueSource(ints = {401, 403})
  void saysInvalid(int status) {
    server.then(status, "{\"error\":\"who are you\"}");
    assertThat(failure(() -> client.introspect("tok-1")))
        .hasMessage("invalid_token")
        .extracting(IdentityException::reason)
        .isEqualTo(Reason.INVALID_TOKEN);
  }

  @ParameterizedTest
  @ValueSource(ints = {201, 204, 400, 404, 405, 408, 413, 429, 500, 502, 503})
  void saysUnavailable_atEveryOtherStatus(int status) {
    server.then(status, status == 204 ? "" : "{\"active\":true}");
    assertThat(failure(() -> client.introspect("tok-1")))
        .hasMessage("identity_unavailable: status_" + status)
        .extracting(IdentityException::reason)
        .isEqualTo(Reason.UNAVAILABLE);
  }

  @ParameterizedTest
  @ValueSource(ints = {301, 302, 303, 307, 308})
  void followsNoRedirect(int status) throws IOException {
    try (IdentityServer elsewhere = new IdentityServer()) {
      elsewhere.then(200, "{\"active\":true}");
      server.then(request -> new Answer(status, "", Map.of("Location", elsewhere.url())));
      assertThat(failure(() -> client.introspect("tok-1")))
          .hasMessage("identity_unavailable: status_" + status);
      assertThat(elsewhere.requests()).isEmpty();
    }
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', quoteCharacter = '~', textBlock = """
      <html>login</html>                          | not JSON at byte 0
      ~~                                          | not a JSON object
      []                                          | not a JSON object
      true                                        | not a JSON object
      {"active":true                              | not JSON at byte 14
      {"active":true}{"active":false}             | more than one JSON value
      {"active":true} x                           | not JSON at byte 16
      {"active":"true"}                           | active is not true or false
      {"active":1}                                | active is not true or false
      {"active":false,"active":true}              | not JSON at byte 24
      {"active":true,"tokenType":"a","token_type":"b"} | token_type is given twice
      {"active":true,"subject":7}                 | subject is not a string
      {"active":true,"scopes":"a b"}              | scopes is not an array
      {"active":true,"scopes":["a",null]}         | scopes is not a string
      {"active":true,"expires_at":"tomorrow"}     | expires_at is not a time
      {"active":true,"expires_at":true}           | expires_at is not a time
      {"active":true,"expires_at":1893553445}     | expires_at is not a time
      {"active":true,"expires_at":1893553445.5}   | expires_at is not a time
      {"active":true,"expires_at":0}              | expires_at is not a time
      {"active":true,"expires_at":"1893553445"}   | expires_at is not a time
      {"active":true,"expires_at":"2030-01-01T00:00Z"} | expires_at is not a time
      {"active":true,"expires_at":"+12030-01-01T00:00:00Z"} | expires_at is not a time
      {"active":true,"issued_at":0}               | issued_at is not a time
      \ufeff{"active":true}                       | not JSON at byte 2
      """)
  void saysUnavailable_atABodyThatIsNoAnswer(String body, String problem) {
    server.then(200, body);
    assertThat(failure(() -> client.introspect("tok-1")))
        .hasMessage("identity_unavailable: decode_response: " + problem)
        .extracting(IdentityException::reason)
        .isEqualTo(Reason.UNAVAILABLE);
  }

  @Test
  void saysNotConfigured_withoutAUrl() {
    try (IdentityClient none = IdentityClient.builder(null).open();
        IdentityClient blank = IdentityClient.builder(" \n").open()) {
      assertThat(failure(() -> none.introspect("tok-1")))
          .hasMessage("identity_not_configured")
          .extracting(IdentityException::reason)
          .isEqualTo(Reason.NOT_CONFIGURED);
      assertThat(reason(() -> blank.introspect("tok-1"))).isEqualTo(Reason.NOT_CONFIGURED);
    }
  }

  @Test
  void asksEachTime_byDefault() {
    server.then(200, "{\"active\":true}");
    client.introspect("tok-1");
    client.introspect("tok-1");
    assertThat(server.requests()).hasSize(2);
    server.only(503, "");
    assertThat(reason(() -> client.introspect("tok-1"))).isEqualTo(Reason.UNAVAILABLE);
  }

  @Test
  void isUnavailable_onceClosed() {
    server.then(200, "{\"active\":true}");
    client.introspect("tok-1");
    client.close();
    client.close();
    assertThat(failure(() -> client.introspect("tok-1")))
        .hasMessage("identity_unavailable: identity_request: the client is closed")
        .extracting(IdentityException::reason)
        .isEqualTo(Reason.UNAVAILABLE);
    assertThat(server.requests()).hasSize(1);
  }

  @Test
  void codesAreThoseOfAllServices() {
    assertThat(Reason.values())
        .extracting(Reason::code)
        .containsExactly(
            "identity_not_configured",
            "identity_unavailable",
            "invalid_token",
            "inactive_token",
            "identity_service_tokens_not_configured",
            "issue_service_token",
            "missing_service_token",
            "missing_service_token_expiry");
  }
}
