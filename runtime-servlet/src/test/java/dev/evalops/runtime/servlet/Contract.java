package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.io.ByteArrayInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * What a client sees of the same application behind the same filters, whatever carries them. {@link #differences()}
 * names what a carrier answers in another way; anything else is a failure.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
@ExtendWith(TestPostgres.class)
abstract class Contract {
  /** Stands for the body of an answer that the carrier gives by itself, before any filter. */
  static final String ITS_OWN = "its own";

  /**
   * A request and its answer.
   *
   * @param body the exact text; a code of ours after a {@code !}; or {@link #ITS_OWN}
   * @param headers that the answer has, each as {@code name: value}, or must not have, as {@code !name}
   */
  record Scenario(String name, String request, int status, String body, List<String> headers) {
    Scenario(String name, String request, int status, String body, String... headers) {
      this(name, request, status, body, List.of(headers));
    }

    @Override
    public String toString() {
      return name;
    }

    Scenario answered(int other, String otherBody) {
      return new Scenario(name, request, other, otherBody, headers);
    }
  }

  private static final AtomicInteger IDS = new AtomicInteger();

  protected Gateway gateway;
  protected CapturedLog guardLog;

  /** Starts the carrier; its context path is {@link #contextPath()}. */
  abstract int start(Gateway gateway) throws Exception;

  abstract void stop() throws Exception;

  String contextPath() {
    return "";
  }

  /** By the name of a scenario. */
  abstract Map<String, Answer> differences();

  record Answer(int status, String body) {}

  private int port;

  @BeforeAll
  void startCarrier(@Schema("dev/evalops/runtime/idempotency/idempotency.sql") HikariDataSource db)
      throws Exception {
    try (Connection connection = db.getConnection()) {
      connection.createStatement().execute("CREATE TABLE effects (n int)");
    }
    gateway = new Gateway(db);
    port = start(gateway);
  }

  @AfterAll
  void stopCarrier() throws Exception {
    stop();
    gateway.close();
  }

  @BeforeEach
  void capture() {
    guardLog = new CapturedLog("dev.evalops.runtime.http.Guard");
    gateway.trespassers.clear();
  }

  @AfterEach
  void release() {
    guardLog.close();
    assertThat(gateway.trespassers).isEmpty();
  }

  RawClient client() throws IOException {
    return new RawClient(new Socket("localhost", port));
  }

  RawClient.Response send(String request) throws IOException {
    try (RawClient client = client()) {
      client.send(request);
      return request.startsWith("HEAD ") ? client.readHead() : client.read();
    }
  }

  RawClient.Response get(String path, String... headers) throws IOException {
    return send(request("GET", path, "", headers));
  }

  String request(String method, String path, String body, String... headers) {
    StringBuilder text =
        new StringBuilder(method + " " + contextPath() + path + " HTTP/1.1\r\nHost: localhost\r\n");
    for (String header : headers) {
      text.append(header).append("\r\n");
    }
    if (Stream.of(headers).noneMatch(h -> h.startsWith("X-Request-Id"))) {
      text.append("X-Request-Id: ").append(IDS.incrementAndGet()).append("\r\n");
    }
    boolean framed = Stream.of(headers).anyMatch(h -> h.startsWith("Transfer-Encoding"));
    if (!body.isEmpty() && !framed) {
      text.append("Content-Length: ")
          .append(body.getBytes(StandardCharsets.ISO_8859_1).length)
          .append("\r\n");
    }
    return text.append("\r\n").append(body).toString();
  }

  /** What filters learned of a request that {@link #request} made. */
  Collection<String> completed(String request) {
    return gateway.completed.getOrDefault(id(request), List.of());
  }

  void completesOnce(String request, String expected) {
    // Tomcat may see only by its timeout of 20 s that a client has left.
    await()
        .atMost(Duration.ofMinutes(1))
        .untilAsserted(() -> assertThat(completed(request)).isNotEmpty());
    assertThat(completed(request)).singleElement().asString().endsWith(expected);
  }

  static String id(String request) {
    Matcher id = Pattern.compile("X-Request-Id: (\\S+)").matcher(request);
    assertThat(id.find()).isTrue();
    return id.group(1);
  }

  static String chunked(String... parts) {
    StringBuilder body = new StringBuilder();
    for (String part : parts) {
      body.append(Integer.toHexString(part.length()))
          .append("\r\n")
          .append(part)
          .append("\r\n");
    }
    return body.append("0\r\n\r\n").toString();
  }

  static final String JSON = "Content-Type: application/json";
  static final String TEXT = "Content-Type: application/octet-stream";
  static final String GOOD = "Authorization: Bearer good";

  List<Scenario> scenarios() {
    String guarded = "/v1/notes";
    return List.of(
        new Scenario(
            "hello",
            request("GET", "/hello", ""),
            200,
            "hello",
            "Content-Type: text/plain",
            "X-Frame-Options: DENY"),
        new Scenario(
            "request id kept",
            request("GET", "/hello", "", "X-Request-Id: abc-7"),
            200,
            "hello",
            "X-Request-Id: abc-7"),
        new Scenario("HEAD", request("HEAD", "/hello", ""), 200, "", "Content-Length: 5"),
        new Scenario("not found", request("GET", "/nowhere", ""), 404, "!not_found"),
        new Scenario(
            "method not allowed",
            request("DELETE", "/hello", ""),
            405,
            "!method_not_allowed",
            "Allow: GET"),
        new Scenario(
            "route's method not allowed",
            request("DELETE", "/v1/items/7", ""),
            405,
            "!method_not_allowed",
            "Allow: GET, HEAD"),
        new Scenario("template", request("GET", "/v1/items/a%20b", ""), 200, "item a b"),
        new Scenario("handler of ours", request("GET", "/direct/hello", ""), 200, "hello"),
        new Scenario("no content", request("GET", "/none", ""), 204, "", "!Content-Type"),
        new Scenario("not modified", request("GET", "/not-modified", ""), 304, "", "ETag: \"7\""),
        new Scenario(
            "failure",
            request("GET", "/fail", ""),
            500,
            "!internal_error",
            "X-Frame-Options: DENY"),
        new Scenario(
            "refusal", request("GET", "/conflict", ""), 409, "!conflict taken", "X-Tenant: kept"),
        new Scenario("outage", request("GET", "/unavailable", ""), 503, "!unavailable"),
        new Scenario(
            "stream",
            request("GET", "/stream", ""),
            200,
            "one two three",
            "Transfer-Encoding: chunked"),
        new Scenario(
            "big",
            request("GET", "/big", ""),
            200,
            new String(App.BIG, StandardCharsets.US_ASCII),
            "Content-Length: 20000"),
        new Scenario("redirect", request("GET", "/redirect", ""), 302, "", "Location: /hello"),
        new Scenario(
            "bad header", request("GET", "/bad-header", ""), 500, "!internal_error", "!X-Bad"),
        new Scenario("echo", request("POST", "/echo", "body", TEXT), 200, "body"),
        new Scenario(
            "echo chunked",
            request("POST", "/echo", chunked("bo", "dy"), TEXT, "Transfer-Encoding: chunked"),
            200,
            "body"),
        new Scenario(
            "within limit", request("POST", "/small", "0123456789", TEXT), 200, "0123456789"),
        new Scenario(
            "over limit", request("POST", "/small", "0123456789a", TEXT), 413, "!body_too_large"),
        new Scenario(
            "over limit chunked",
            request(
                "POST", "/small", chunked("012345", "6789a"), TEXT, "Transfer-Encoding: chunked"),
            413,
            "!body_too_large"),
        new Scenario(
            "over limit of handler of ours",
            request("POST", "/direct/echo", "", TEXT, "Content-Length: 1048577"),
            413,
            "!body_too_large"),
        new Scenario(
            "malformed chunk",
            request("POST", "/echo", "g\r\nx\r\n0\r\n\r\n", TEXT, "Transfer-Encoding: chunked"),
            400,
            "!invalid_body"),
        new Scenario(
            "malformed chunk to a handler of ours",
            request(
                "POST", "/direct/echo", "g\r\nx\r\n0\r\n\r\n", TEXT, "Transfer-Encoding: chunked"),
            400,
            "!invalid_body"),
        new Scenario(
            "json", request("POST", "/json", "{\"text\":\"x\"}", JSON), 200, "{\"text\":\"x\"}"),
        new Scenario(
            "malformed json",
            request("POST", "/json", "{\"text\":", JSON),
            400,
            "!invalid_json Request body must be valid JSON"),
        new Scenario(
            "unknown field",
            request("POST", "/json", "{\"text\":\"x\",\"z\":1}", JSON),
            400,
            "!invalid_json"),
        new Scenario(
            "refused by a record",
            request("POST", "/json", "{\"text\":\"refused\"}", JSON),
            409,
            "!conflict refused by the record"),
        new Scenario(
            "no content type", request("POST", "/echo", "x"), 415, "!missing_content_type"),
        new Scenario(
            "foreign content type",
            request("POST", "/echo", "x", "Content-Type: text/plain"),
            415,
            "!unsupported_content_type"),
        new Scenario(
            "cross-site",
            request("POST", "/echo", "x", TEXT, "Sec-Fetch-Site: cross-site"),
            403,
            "!cross_site_request"),
        new Scenario(
            "no token",
            request("GET", guarded, ""),
            401,
            "!missing_authorization",
            "WWW-Authenticate: Bearer"),
        new Scenario(
            "bad token",
            request("GET", guarded, "", "Authorization: Bearer bad"),
            401,
            "!authorization_failed"),
        new Scenario(
            "no scope",
            request("GET", guarded, "", "Authorization: Bearer poor"),
            403,
            "!authorization_failed"),
        new Scenario(
            "outage of auth",
            request("GET", guarded, "", "Authorization: Bearer outage"),
            503,
            "!unavailable"),
        new Scenario("token", request("GET", guarded, "", GOOD), 200, "notes of alice"),
        new Scenario(
            "below a path", request("GET", guarded + "/7", "", GOOD), 200, "notes of alice"),
        new Scenario(
            "key missing",
            request("POST", "/v1/created", "{}", GOOD, JSON),
            400,
            "!missing_idempotency_key"),
        new Scenario(
            "health",
            request("GET", "/healthz", ""),
            200,
            "{\"service\":\"contract\",\"status\":\"ok\"}"),
        new Scenario("ready", request("GET", "/readyz", ""), 200, "{\"healthy\":true,"),
        new Scenario("dot segment", request("GET", "/a/../hello", ""), 400, "!invalid_input"),
        new Scenario("double slash", request("GET", "/a//hello", ""), 400, "!invalid_input"),
        new Scenario("encoded slash", request("GET", "/a%2Fhello", ""), 400, "!invalid_input"),
        new Scenario("encoded dots", request("GET", "/a/%2e%2e/hello", ""), 400, "!invalid_input"),
        new Scenario("path parameter", request("GET", "/hello;x=1", ""), 404, "!not_found"),
        new Scenario(
            "no host",
            "GET " + contextPath() + "/hello HTTP/1.1\r\nX-Request-Id: no-host\r\n\r\n",
            400,
            "!invalid_input"),
        new Scenario(
            "two lengths",
            request("POST", "/echo", "body", TEXT, "Content-Length: 4"),
            400,
            "!invalid_input"),
        new Scenario(
            "length and encoding",
            request(
                "POST",
                "/echo",
                chunked("body"),
                TEXT,
                "Content-Length: 4",
                "Transfer-Encoding: chunked"),
            400,
            "!invalid_input"));
  }

  @ParameterizedTest
  @MethodSource("scenarios")
  void answersAsEveryCarrierDoes(Scenario scenario) throws Exception {
    Answer other = differences().get(scenario.name);
    Scenario expected = other == null ? scenario : scenario.answered(other.status, other.body);
    RawClient.Response response = send(scenario.request);
    assertThat(response.status()).isEqualTo(expected.status);
    if (expected.body.equals(ITS_OWN)) {
      assertThat(response.header("X-Request-Id")).isEmpty();
      assertThat(completed(scenario.request)).isEmpty();
      return;
    }
    assertThat(response.header("X-Request-Id")).isPresent();
    assertThat(response.headers().toString()).doesNotContain("secret");
    if (expected.name.equals("ready")) {
      assertThat(response.body()).startsWith(expected.body); // and how long it took
    } else if (expected.body.startsWith("!")) {
      assertThat(response.header("Content-Type")).contains("application/json");
      String[] error = expected.body.substring(1).split(" ", 2);
      assertThat(response.body())
          .startsWith("{\"error\":{\"code\":\"" + error[0] + "\",\"message\":\"");
      if (error.length > 1) {
        assertThat(response.body()).contains("\"message\":\"" + error[1] + "\"");
      }
      assertThat(response.body()).doesNotContain("secret", "10.0.0.7");
    } else {
      assertThat(response.body().strip()).isEqualTo(expected.body);
    }
    for (String header : expected.headers) {
      int colon = header.indexOf(':');
      if (header.startsWith("!")) {
        assertThat(response.header(header.substring(1))).isEmpty();
      } else {
        assertThat(response.header(header.substring(0, colon)).orElse("missing"))
            .startsWith(header.substring(colon + 2));
      }
    }
    completesOnce(scenario.request, " " + expected.status);
  }

  @Test
  void knowsEveryDifference() {
    assertThat(scenarios())
        .extracting(Scenario::name)
        .containsAll(differences().keySet())
        .doesNotHaveDuplicates();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "/v1/notes",
        "/v1/notes/",
        "/v1/notes/7",
        "/v1/notes;x=1",
        "/v1;x=1/notes",
        "/v1/notes;/7",
        "/v1/notes/;x",
        "/;x/v1/notes",
        "/v1/%6Eotes",
        "/v1/notes%3Bx",
        "/v1/notes%2F",
        "/v1%2Fnotes",
        "/v1/./notes",
        "/v1/x/../notes",
        "/v1/%2e/notes",
        "/v1/x/%2e%2e/notes",
        "/x/..;/v1/notes",
        "/v1/x/..;a=b/notes",
        "//v1/notes",
        "/v1//notes",
        "/v1/notes//",
        "/v1\\notes",
        "/v1/%5Cnotes",
        "/v1/notes%00",
        "/v1/notes%20",
        "/v1/notes%09",
        "/v1/notes?x",
        "/v1/notes%3F",
        "/v1/notes#x",
        "/V1/notes",
        "/v1/notes.json",
        "/v1/notes/.",
        "/v1/notes/..;/notes",
        "/v1/%256Eotes",
        "/v1/n%C0%AFotes",
        "/v1/%6eotes;a",
        "/hello/../v1/notes",
        "/hello/%2e%2e/v1/notes",
        "/direct/..;/v1/notes",
        "/healthz/..;/v1/notes",
        "/healthz;/../v1/notes",
        "/v1/notes;jsessionid=1"
      })
  void letsNoSpellingOfAPathPastAuth(String path) throws Exception {
    for (String method : List.of("GET", "POST", "HEAD", "OPTIONS")) {
      RawClient.Response response = send(request(method, path, ""));
      assertThat(response.body()).doesNotContain("notes of");
      assertThat(gateway.trespassers).isEmpty();
      if (method.equals("GET")) {
        assertThat(response.status()).isIn(400, 401, 404);
      }
    }
    // As the target of an absolute URL.
    RawClient.Response response = send(
        "GET http://localhost" + contextPath() + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assertThat(response.status()).isIn(400, 401, 404);
    assertThat(gateway.trespassers).isEmpty();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"/cut", "/cut-fixed", "/short", "/direct/cut", "/direct/cut-fixed", "/direct/short"
      })
  void cutsAResponse_whoseHandlerFailsHalfWay(String path) throws Exception {
    String request = request("GET", path, "");
    try (RawClient client = client()) {
      client.send(request);
      assertThatThrownBy(client::read).isInstanceOf(EOFException.class);
      assertThat(client.received()).doesNotContain("error", "<", "half-way");
    }
    completesOnce(request, " -1");
    assertThat(guardLog.messages()).containsExactly("ERROR http panic recovered");
  }

  @Test
  void compressesWithAFilterThatReplacesTheStream() throws Exception {
    try (RawClient client = client()) {
      client.send(request("GET", "/zipped", ""));
      byte[] zipped = client.readBytes();
      assertThat(new GZIPInputStream(new ByteArrayInputStream(zipped)).readAllBytes())
          .asString()
          .isEqualTo("one two three");
    }
  }

  @ParameterizedTest
  @CsvSource({
    "/later, 200, later",
    "/later?at-once, 200, later",
    "/later-fail, 409, conflict",
    "/later-fail?at-once, 409, conflict",
    "/later-cut, -1, ",
    "/later-cut?at-once, -1, "
  })
  void answersWhatItsHandlerHasSuspended(String path, int status, String body) throws Exception {
    String request = request("GET", "/direct" + path, "");
    try (RawClient client = client()) {
      client.send(request);
      get("/hello"); // the handler has returned by then, in all likelihood
      gateway.mayAnswer.release();
      if (status < 0) {
        assertThatThrownBy(client::read).isInstanceOf(EOFException.class);
        assertThat(client.received()).contains("bbb").doesNotContain("error", "<");
      } else {
        RawClient.Response response = client.read();
        assertThat(response.status()).isEqualTo(status);
        assertThat(response.body()).contains(body);
        client.forget();
        client.send(request("GET", "/hello", ""));
        assertThat(client.read().body()).isEqualTo("hello");
      }
    }
    completesOnce(request, "/direct " + status);
    gateway.mayAnswer.drainPermits();
  }

  @Test
  void limitsWithHeaders() throws Exception {
    get("/v1/limited");
    RawClient.Response limited = get("/v1/limited");
    assertThat(limited.status()).isEqualTo(429);
    assertThat(limited.header("Retry-After")).isPresent();
    assertThat(limited.body()).contains("rate_limited");
  }

  @Test
  void replays_conflicts_andRollsBack() throws Exception {
    String key = "Idempotency-Key: " + getClass().getName();
    int before = effects();
    RawClient.Response first = send(request("POST", "/v1/created", "{}", GOOD, JSON, key));
    assertThat(first.status()).isEqualTo(201);
    RawClient.Response second = send(request("POST", "/v1/created", "{}", GOOD, JSON, key));
    assertThat(second.status()).isEqualTo(201);
    assertThat(second.body()).isEqualTo(first.body());
    assertThat(second.header("X-Idempotent-Replay")).contains("true");
    RawClient.Response other = send(request("POST", "/v1/created", "{ }", GOOD, JSON, key));
    assertThat(other.status()).isEqualTo(409);
    assertThat(effects()).isEqualTo(before + 1);
    RawClient.Response failed =
        send(request("POST", "/v1/created?fail", "{}", GOOD, JSON, key + "f"));
    assertThat(failed.status()).isEqualTo(409);
    assertThat(failed.body()).contains("taken");
    assertThat(effects()).isEqualTo(before + 1);
  }

  @Test
  void hasOneEffect_whenTheSameKeyComesAtOnce() throws Exception {
    String request = request(
        "POST",
        "/v1/created",
        "{}",
        GOOD,
        JSON,
        "Idempotency-Key: once-" + getClass().getName());
    int before = effects();
    List<CompletableFuture<RawClient.Response>> all = Stream.generate(() -> {
          CompletableFuture<RawClient.Response> answer = new CompletableFuture<>();
          Thread.ofVirtual().start(() -> {
            try {
              answer.complete(send(request));
            } catch (Throwable t) {
              answer.completeExceptionally(t);
            }
          });
          return answer;
        })
        .limit(6)
        .toList();
    for (CompletableFuture<RawClient.Response> answer : all) {
      assertThat(answer.get().status()).isIn(201, 409);
    }
    assertThat(effects()).isEqualTo(before + 1);
  }

  private int effects() throws SQLException {
    try (Connection connection = gateway.db.getConnection();
        ResultSet count =
            connection.createStatement().executeQuery("SELECT count(*) FROM effects")) {
      count.next();
      return count.getInt(1);
    }
  }

  @Test
  void keepsTheConnection_behindABodyThatNobodyHasRead() throws Exception {
    try (RawClient client = client()) {
      client.send(request("POST", "/unread", "x".repeat(10_000), TEXT));
      assertThat(client.read().body()).isEqualTo("unread");
      client.send(request("GET", "/hello", ""));
      assertThat(client.read().body()).isEqualTo("hello");
    }
  }

  @Test
  void countsRequestsByRouteAndStatus() throws Exception {
    get("/v1/items/42");
    await()
        .untilAsserted(() -> assertThat(get("/metrics").body())
            .containsPattern("contract_http_requests_total\\{.*route=\"/v1/items/\\{id}\".*\\}"));
  }
}
