package dev.evalops.runtime.testutil;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.HttpHandler;
import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.json.JsonMapper;

class TestHttpTest {
  record Note(String id, long version) {}

  @Test
  void servesTheHandler_andClosesTwice() throws Exception {
    TestHttp http = TestHttp.start(answer(200, "application/json", "{\"id\":\"7\",\"version\":2}"));
    HttpResponse<String> response = send(HttpRequest.newBuilder(http.uri("/v1/notes/7?full=true")));
    TestHttp.assertJson(response, 200, "{ \"version\": 2, \"id\": \"7\" }");
    assertThat(TestHttp.readJson(response, 200, Note.class)).isEqualTo(new Note("7", 2));
    assertThat(response.headers().firstValue("X-Path")).contains("/v1/notes/7?full=true");
    assertThat(http.uri().getPath()).isEqualTo("/");
    assertThat(http.uri("//v1/notes")).hasToString(http.uri() + "/v1/notes");
    http.close();
    http.close();
    assertThatThrownBy(() -> send(HttpRequest.newBuilder(http.uri())))
        .isInstanceOf(ConnectException.class);
  }

  @Test
  void requestIsThatOfAnAuthenticatedCaller() {
    HttpRequest request = TestHttp.request(
            URI.create("http://127.0.0.1/v1/notes"), "org-1", "notes:read", "notes:write")
        .POST(HttpRequest.BodyPublishers.ofString("{}"))
        .build();
    assertThat(request.headers().firstValue("Content-Type")).contains("application/json");
    String[] authorization =
        request.headers().firstValue("Authorization").orElseThrow().split(" ", 2);
    assertThat(authorization[0]).isEqualTo("Bearer");
    assertThat(payload(authorization[1]))
        .isEqualTo(Map.of(
            "sub",
            "test-subject",
            "organization_id",
            "org-1",
            "scopes",
            List.of("notes:read", "notes:write")));
  }

  @Test
  void tokenHasThreeSegments_andSaysThatItIsNotSigned() {
    String token = TestHttp.unsignedToken(Map.of("sub", "sübject", "exp", 4102444800L));
    assertThat(token).matches("[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.");
    assertThat(new String(Base64.getUrlDecoder().decode(token.split("\\.", -1)[0]), UTF_8))
        .isEqualTo("{\"alg\":\"none\",\"typ\":\"JWT\",\"test_only\":true}");
    assertThat(payload(token)).isEqualTo(Map.of("sub", "sübject", "exp", 4102444800L));
  }

  @Test
  void errorAssertionChecksStatusCodeAndShape() throws Exception {
    HttpResponse<String> response = response(
        404,
        "application/json; charset=utf-8",
        "{\"error\":{\"code\":\"not_found\",\"message\":\"no note\"}}");
    TestHttp.assertError(response, 404, "not_found");
    assertThatThrownBy(() -> TestHttp.assertError(response, 400, "not_found"))
        .isInstanceOf(AssertionError.class)
        .hasMessageContaining("GET / answered 404")
        .hasMessageContaining("expected the status 400");
    assertThatThrownBy(() -> TestHttp.assertError(response, 404, "conflict"))
        .isInstanceOf(AssertionError.class)
        .hasMessageContaining("expected the error code conflict");
    for (String other : List.of(
        "{\"error\":\"not_found\"}",
        "{\"error\":{\"code\":\"not_found\"}}",
        "{\"error\":{\"code\":\"not_found\",\"message\":\" \"}}",
        "{\"error\":{\"code\":\"not_found\",\"message\":5}}",
        "[]")) {
      HttpResponse<String> wrong = response(404, "application/json", other);
      assertThatThrownBy(() -> TestHttp.assertError(wrong, 404, "not_found"))
          .as(other)
          .isInstanceOf(AssertionError.class);
    }
  }

  @Test
  void jsonAssertionChecksTypeAndBody() throws Exception {
    HttpResponse<String> text = response(200, "text/plain", "{}");
    assertThatThrownBy(() -> TestHttp.assertJson(text, 200, "{}"))
        .hasMessageContaining("the type application/json");
    HttpResponse<String> jsonp = response(200, "application/json-seq", "{}");
    assertThatThrownBy(() -> TestHttp.assertJson(jsonp, 200, "{}"))
        .isInstanceOf(AssertionError.class);
    HttpResponse<String> one = response(200, "application/json", "{\"a\":1}");
    assertThatThrownBy(() -> TestHttp.assertJson(one, 200, "{\"a\":2}"))
        .hasMessageContaining("{\"a\":2}");
    assertThatThrownBy(() -> TestHttp.readJson(one, 200, Note[].class))
        .isInstanceOf(AssertionError.class);
    for (String none : List.of("", " ", "null")) {
      HttpResponse<String> response = response(200, "application/json", none);
      for (Class<?> type : List.of(Note.class, Map.class)) {
        assertThatThrownBy(() -> TestHttp.readJson(response, 200, type))
            .as(none)
            .isInstanceOf(AssertionError.class)
            .hasMessageContaining("GET / answered 200 " + none);
      }
    }
    HttpResponse<String> empty = response(200, "application/json", "");
    assertThatThrownBy(() -> TestHttp.assertJson(empty, 200, ""))
        .isInstanceOf(AssertionError.class)
        .hasMessageContaining("the body is no JSON");
    for (String broken : List.of("", "{\"a\":1", "{\"a\":1}{}", "{\"a\":1,\"a\":1}")) {
      HttpResponse<String> response = response(200, "application/json", broken);
      assertThatThrownBy(() -> TestHttp.assertJson(response, 200, "{\"a\":1}"))
          .as(broken)
          .isInstanceOf(AssertionError.class);
    }
  }

  private static HttpResponse<String> response(int status, String type, String body)
      throws Exception {
    try (TestHttp http = TestHttp.start(answer(status, type, body))) {
      return send(HttpRequest.newBuilder(http.uri()));
    }
  }

  private static HttpHandler answer(int status, String type, String body) {
    return exchange -> {
      try (exchange) {
        byte[] bytes = body.getBytes(UTF_8);
        exchange.getResponseHeaders().set("Content-Type", type);
        exchange.getResponseHeaders().set("X-Path", exchange.getRequestURI().toString());
        exchange.sendResponseHeaders(status, bytes.length == 0 ? -1 : bytes.length);
        exchange.getResponseBody().write(bytes);
      }
    };
  }

  private static HttpResponse<String> send(HttpRequest.Builder request)
      throws IOException, InterruptedException {
    try (HttpClient client = HttpClient.newHttpClient()) {
      return client.send(request.build(), BodyHandlers.ofString());
    }
  }

  private static Map<?, ?> payload(String token) {
    return JsonMapper.shared()
        .readValue(Base64.getUrlDecoder().decode(token.split("\\.", -1)[1]), Map.class);
  }
}
