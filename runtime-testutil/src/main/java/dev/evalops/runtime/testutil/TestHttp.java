package dev.evalops.runtime.testutil;

import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.jspecify.annotations.Nullable;
import org.opentest4j.AssertionFailedError;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/**
 * A disposable HTTP server around a handler, and what a test of an HTTP API needs beside it: an authenticated request,
 * a token, assertions on JSON answers.
 *
 * <pre>{@code
 * try (TestHttp http = TestHttp.start(handler)) {
 *   HttpResponse<String> response = client.send(
 *       TestHttp.request(http.uri("/v1/notes/7"), "org-1", "notes:read").build(), BodyHandlers.ofString());
 *   TestHttp.assertError(response, 404, "not_found");
 * }
 * }</pre>
 *
 * <p>Safe for use by several threads, as far as the handler is.
 */
public final class TestHttp implements AutoCloseable {
  private static final JsonMapper JSON =
      JsonMapper.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build();
  private static final int SHOWN = 2000;

  private final HttpServer server;
  private final ExecutorService executor;

  private TestHttp(HttpServer server, ExecutorService executor) {
    this.server = server;
    this.executor = executor;
  }

  /**
   * Serves a handler for all paths on a free port of the loopback address. A handler that throws gets what the JDK's
   * server does: the connection is closed without an answer.
   *
   * @param handler called on a thread of its own for each request
   * @return the running server
   */
  public static TestHttp start(HttpHandler handler) {
    try {
      HttpServer server =
          HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
      ExecutorService executor = Executors.newThreadPerTaskExecutor(
          Thread.ofPlatform().daemon().name("test-http-", 0).factory());
      server.setExecutor(executor);
      server.createContext("/", handler);
      server.start();
      return new TestHttp(server, executor);
    } catch (IOException e) {
      throw new UncheckedIOException("cannot start a test HTTP server: " + e.getMessage(), e);
    }
  }

  /**
   * Returns where the server is.
   *
   * @return the URI of its root, such as {@code http://127.0.0.1:40123/}
   */
  public URI uri() {
    return uri("/");
  }

  /**
   * Returns where something on the server is.
   *
   * @param path path and query, encoded, beginning with a slash
   * @return the URI
   */
  public URI uri(String path) {
    URI root = URI.create("http://127.0.0.1:" + server.getAddress().getPort());
    // Resolved, //a would be the root of a host of that name.
    return path.startsWith("//") ? URI.create(root + path) : root.resolve(path);
  }

  /** Stops the server at once, cuts its connections and interrupts handlers that still run. Safe to call twice. */
  @Override
  public void close() {
    server.stop(0);
    executor.shutdownNow();
  }

  /**
   * Begins a request of an authenticated caller: bearer {@link #unsignedToken} with the subject {@code test-subject},
   * content type and accepted type {@code application/json}.
   *
   * @param uri what to ask for
   * @param organizationId the claim {@code organization_id}
   * @param scopes the claim {@code scopes}
   * @return the request; method {@code GET} until another is set
   */
  public static HttpRequest.Builder request(URI uri, String organizationId, String... scopes) {
    String token = unsignedToken(Map.of(
        "sub", "test-subject", "organization_id", organizationId, "scopes", List.of(scopes)));
    return HttpRequest.newBuilder(uri)
        .header("Authorization", "Bearer " + token)
        .header("Content-Type", "application/json")
        .header("Accept", "application/json");
  }

  /**
   * Makes a token that looks like a JWT. <strong>For tests only: it has no signature</strong> (algorithm {@code none},
   * and {@code "test_only":true} in its header), so a verifier that takes it in production takes everything.
   *
   * @param claims the payload, of what JSON can say
   * @return header, payload and the empty signature, each base64url without padding, joined by dots
   */
  public static String unsignedToken(Map<String, ?> claims) {
    return segment("{\"alg\":\"none\",\"typ\":\"JWT\",\"test_only\":true}") + "."
        + segment(JSON.writeValueAsString(claims)) + ".";
  }

  private static String segment(String json) {
    return Base64.getUrlEncoder()
        .withoutPadding()
        .encodeToString(json.getBytes(StandardCharsets.UTF_8));
  }

  /**
   * Asserts that an answer has a status, the type {@code application/json} and a body that is equal to the expected one
   * as JSON: blanks and the order of properties do not matter, everything else does.
   *
   * @param response what came
   * @param status the expected status
   * @param expectedJson the expected body
   * @throws AssertionError when it differs, showing both
   */
  public static void assertJson(HttpResponse<String> response, int status, String expectedJson) {
    JsonNode expected = JSON.readTree(expectedJson);
    JsonNode actual = json(response, status);
    if (!actual.equals(expected)) {
      throw new AssertionFailedError(
          describe(response) + ": expected the body " + expected,
          expected.toPrettyString(),
          actual.toPrettyString());
    }
  }

  /**
   * Asserts that an answer has a status, the type {@code application/json} and a body that can be read as a type.
   *
   * @param <T> the type of the result
   * @param response what came
   * @param status the expected status
   * @param type a record, or {@code Map.class} for anything
   * @return the body
   * @throws AssertionError when it is not so
   */
  public static <T> T readJson(HttpResponse<String> response, int status, Class<T> type) {
    JsonNode actual = json(response, status);
    try {
      @Nullable T value = JSON.treeToValue(actual, type);
      if (value != null) {
        return value;
      }
    } catch (JacksonException e) {
      throw new AssertionFailedError(
          describe(response) + ": is no " + type.getSimpleName() + ": " + e.getOriginalMessage(),
          e);
    }
    throw new AssertionFailedError(
        describe(response) + ": is no " + type.getSimpleName() + ": null");
  }

  /**
   * Asserts that an answer is an error: {@code {"error":{"code":"...","message":"..."}}} with the status and the code,
   * and with a message that is not blank.
   *
   * @param response what came
   * @param status the expected status
   * @param code the expected code, such as {@code not_found}
   * @throws AssertionError when it is not so
   */
  public static void assertError(HttpResponse<String> response, int status, String code) {
    JsonNode error = json(response, status).path("error");
    if (!error.path("code").isString() || error.path("message").stringValue("").isBlank()) {
      throw new AssertionFailedError(describe(response) + ": expected {\"error\":{\"code\":\""
          + code + "\",\"message\":\"...\"}}");
    }
    String actual = error.path("code").stringValue();
    if (!code.equals(actual)) {
      throw new AssertionFailedError(
          describe(response) + ": expected the error code " + code, code, actual);
    }
  }

  private static JsonNode json(HttpResponse<String> response, int status) {
    if (response.statusCode() != status) {
      throw new AssertionFailedError(
          describe(response) + ": expected the status " + status, status, response.statusCode());
    }
    String type = response.headers().firstValue("Content-Type").orElse("");
    if (!type.toLowerCase(Locale.ROOT).matches("application/json\\s*(;.*)?")) {
      throw new AssertionFailedError(
          describe(response) + ": expected the type application/json", "application/json", type);
    }
    if (response.body().isBlank()) {
      throw new AssertionFailedError(describe(response) + ": the body is no JSON: it is empty");
    }
    try {
      return JSON.readTree(response.body());
    } catch (JacksonException e) {
      throw new AssertionFailedError(
          describe(response) + ": the body is no JSON: " + e.getOriginalMessage(), e);
    }
  }

  private static String describe(HttpResponse<String> response) {
    String body = response.body();
    return response.request().method() + " " + response.uri().getPath() + " answered "
        + response.statusCode() + " "
        + (body.length() <= SHOWN ? body : body.substring(0, SHOWN) + "...");
  }
}
