package dev.evalops.runtime.idempotency;

import static dev.evalops.runtime.idempotency.PostgresStoreTest.execute;
import static dev.evalops.runtime.idempotency.PostgresStoreTest.query;
import static dev.evalops.runtime.idempotency.Services.isReplay;
import static dev.evalops.runtime.idempotency.Services.post;
import static dev.evalops.runtime.idempotency.Services.request;
import static dev.evalops.runtime.idempotency.Services.send;
import static dev.evalops.runtime.idempotency.Services.serve;
import static dev.evalops.runtime.testutil.TestHttp.assertError;
import static dev.evalops.runtime.testutil.TestHttp.assertJson;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.spi.ILoggingEvent;
import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@ExtendWith(TestPostgres.class)
@Schema({"dev/evalops/runtime/idempotency/idempotency.sql", "effects.sql"})
class IdempotencyFilterTest {
  private final AtomicInteger runs = new AtomicInteger();
  private HikariDataSource db;
  private HttpService service;

  @BeforeEach
  void setUp(HikariDataSource db) {
    this.db = db;
  }

  @AfterEach
  void tearDown() {
    if (service != null) {
      service.close();
    }
  }

  private void start(HttpService.Handler handler) {
    start(Idempotency.of(db), handler);
  }

  private void start(Idempotency idempotency, HttpService.Handler handler) {
    service = serve(idempotency, exchange -> {
      runs.incrementAndGet();
      handler.serve(exchange);
    });
  }

  private static HttpService.Handler answering(int status, String body) {
    return exchange ->
        HttpResponses.bytes(exchange, status, "text/plain", body.getBytes(StandardCharsets.UTF_8));
  }

  private List<String> rows() throws SQLException {
    return query(
        db, "SELECT scope, idempotency_key, response_code, content_type FROM api_idempotency_keys");
  }

  @Test
  void replaysStoredResponse_whenSameKeyAndHash() throws Exception {
    start(Services.effects(db));

    HttpResponse<String> first = post(service, "/v1/plain", "k-1", "{}");
    HttpResponse<String> second = post(service, "/v1/plain", "k-1", "{}");

    assertThat(first.statusCode()).isEqualTo(201);
    assertThat(isReplay(first)).isFalse();
    assertThat(second.statusCode()).isEqualTo(201);
    assertThat(isReplay(second)).isTrue();
    assertThat(second.body()).isEqualTo(first.body());
    for (String header : List.of("Content-Type", "ETag", "Location", "X-Change-Seq")) {
      assertThat(second.headers().allValues(header))
          .as(header)
          .hasSize(1)
          .isEqualTo(first.headers().allValues(header));
    }
    assertThat(runs).hasValue(1);
    assertThat(rows()).containsExactly("org:user:alice:POST:/v1/plain|k-1|201|application/json");
  }

  @Test
  @Schema({"go-table.sql", "effects.sql"})
  void replaysStatusTypeAndBody_whenTheTableKeepsNoHeaders() throws Exception {
    start(
        Idempotency.builder(db).scope(Idempotency.Scope.ORGANIZATION).build(),
        Services.effects(db));

    HttpResponse<String> first = post(service, "/v1/plain", "k-1", "{}");
    HttpResponse<String> second = post(service, "/v1/plain", "k-1", "{}");

    assertThat(isReplay(second)).isTrue();
    assertThat(second.body()).isEqualTo(first.body());
    assertThat(second.headers().firstValue("Content-Type")).contains("application/json");
    assertThat(second.headers().firstValue("ETag")).isEmpty();
    assertThat(rows()).containsExactly("org:POST:/v1/plain|k-1|201|application/json");
  }

  @Test
  void replaysAnAnswerWithoutBodyAndType() throws Exception {
    start(exchange -> HttpResponses.noContent(exchange));

    for (int i = 0; i < 2; i++) {
      HttpResponse<String> response = post(service, "/v1/x", "k", "");
      assertThat(response.statusCode()).isEqualTo(204);
      assertThat(response.headers().firstValue("Content-Type")).isEmpty();
      assertThat(isReplay(response)).isEqualTo(i == 1);
    }
    assertThat(runs).hasValue(1);
  }

  @ParameterizedTest
  @ValueSource(ints = {204, 205, 304})
  @Schema({"go-table.sql", "effects.sql"})
  void replaysNoBody_whereTheStatusHasNone_whateverAServiceInGoHasKept(int status)
      throws Exception {
    start(
        Idempotency.builder(db).scope(Idempotency.Scope.ORGANIZATION).build(),
        answering(200, "ran"));
    execute(
        db,
        "INSERT INTO api_idempotency_keys (scope, idempotency_key, request_hash, response_code,"
            + " response_body, content_type, created_at, expires_at, completed_at) VALUES ("
            + "'org:POST:/v1/x', 'k', '"
            + Idempotency.requestHash("POST", "/v1/x", null, new byte[] {'a'}) + "', " + status
            + ", 'null', 'application/json', now(), now() + interval '1 day', now())");

    HttpResponse<String> response = post(service, "/v1/x", "k", "a");

    assertThat(response.statusCode()).isEqualTo(status);
    assertThat(isReplay(response)).isTrue();
    assertThat(response.body()).isEmpty();
    assertThat(runs).hasValue(0);
  }

  private List<String> hashes() throws Exception {
    return query(db, "SELECT request_hash FROM api_idempotency_keys");
  }

  @Test
  void theQueryEndsWhereTheBodyBegins() throws Exception {
    start(answering(200, "ok"));
    post(service, "/v1/x?a=1:x", "k", "y");

    assertError(post(service, "/v1/x?a=1", "k", "x:y"), 409, "idempotency_conflict");
    assertThat(isReplay(post(service, "/v1/x?a=1:x", "k", "y"))).isTrue();
    assertThat(runs).hasValue(1);
  }

  @Test
  void theHashStaysTheOldOne_withoutAQuery_andInTheScopeOfTheServicesInGo() throws Exception {
    start(answering(200, "ok"));
    post(service, "/v1/x", "k", "y");
    assertThat(hashes())
        .containsExactly(Idempotency.requestHash("POST", "/v1/x", null, new byte[] {'y'}));
    service.close();
    execute(db, "DELETE FROM api_idempotency_keys");

    start(
        Idempotency.builder(db).scope(Idempotency.Scope.ORGANIZATION).build(),
        answering(200, "ok"));
    post(service, "/v1/x?a=1", "k", "y");
    assertThat(hashes())
        .containsExactly(Idempotency.requestHash("POST", "/v1/x", "a=1", new byte[] {'y'}));
  }

  @Test
  void findsWhatAnEarlierVersionHasKept() throws Exception {
    start(answering(200, "ok"));
    String old = Idempotency.requestHash("POST", "/v1/x", "a=1", new byte[] {'y'});
    post(service, "/v1/x?a=1", "k", "y");
    assertThat(hashes()).doesNotContain(old).hasSize(1);
    execute(db, "UPDATE api_idempotency_keys SET request_hash = '" + old + "'");

    assertThat(isReplay(post(service, "/v1/x?a=1", "k", "y"))).isTrue();
    assertError(post(service, "/v1/x?a=2", "k", "y"), 409, "idempotency_conflict");

    execute(db, "UPDATE api_idempotency_keys SET response_code = NULL, completed_at = NULL");
    assertError(post(service, "/v1/x?a=1", "k", "y"), 409, "idempotency_in_progress");
    assertThat(runs).hasValue(1);
    execute(db, "UPDATE api_idempotency_keys SET created_at = created_at - interval '1 hour'");
    assertThat(isReplay(post(service, "/v1/x?a=1", "k", "y"))).isFalse();
    assertThat(isReplay(post(service, "/v1/x?a=1", "k", "y"))).isTrue();
    assertThat(runs).hasValue(2);
  }

  @Test
  void quotesArePartOfTheKey() throws Exception {
    start(answering(200, "ok"));
    post(service, "/v1/x", "abc", "a");

    assertThat(isReplay(post(service, "/v1/x", "\"abc\"", "a"))).isFalse();
    assertThat(isReplay(post(service, "/v1/x", "\"abc\"", "a"))).isTrue();
    assertThat(runs).hasValue(2);
  }

  @Test
  void refusesTheKeyOfADifferentRequest() throws Exception {
    start(answering(200, "ok"));
    post(service, "/v1/x", "k", "a");

    assertJson(
        post(service, "/v1/x", "k", "b"),
        409,
        "{\"error\":{\"code\":\"idempotency_conflict\","
            + "\"message\":\"Idempotency key already exists for a different request\"}}");
    assertError(post(service, "/v1/x?dry_run=true", "k", "a"), 409, "idempotency_conflict");
    assertThat(post(service, "/v1/y", "k", "a").statusCode()).isEqualTo(200);
    assertThat(runs).hasValue(2);
  }

  @Test
  void refusesASecondRequestWhileTheFirstRuns() throws Exception {
    CountDownLatch running = new CountDownLatch(1);
    CountDownLatch go = new CountDownLatch(1);
    start(exchange -> {
      running.countDown();
      go.await(30, TimeUnit.SECONDS);
      HttpResponses.noContent(exchange);
    });
    CompletableFuture<HttpResponse<String>> first = Services.CLIENT.sendAsync(
        post(service.port(), "/v1/x", "k", "a"), HttpResponse.BodyHandlers.ofString());
    assertThat(running.await(20, TimeUnit.SECONDS)).isTrue();

    assertJson(
        post(service, "/v1/x", "k", "a"),
        409,
        "{\"error\":{\"code\":\"idempotency_in_progress\","
            + "\"message\":\"A matching request is still in progress\"}}");

    go.countDown();
    assertThat(first.get(20, TimeUnit.SECONDS).statusCode()).isEqualTo(204);
    assertThat(isReplay(post(service, "/v1/x", "k", "a"))).isTrue();
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "   ", "\t"})
  void wantsAKey(String blank) throws Exception {
    start(answering(200, "ok"));

    assertJson(
        post(service, "/v1/x", blank, "a"),
        400,
        "{\"error\":{\"code\":\"missing_idempotency_key\","
            + "\"message\":\"Idempotency-Key header is required\"}}");
    for (String method : List.of("POST", "PUT", "PATCH", "DELETE")) {
      HttpRequest without = request(service, "/v1/x")
          .method(method, HttpRequest.BodyPublishers.noBody())
          .build();
      assertError(send(without), 400, "missing_idempotency_key");
    }
    assertThat(runs).hasValue(0);
  }

  @Test
  void letsMethodsPassThatChangeNothing() throws Exception {
    start(exchange -> HttpResponses.json(exchange, 200, Map.of("n", runs.get())));

    for (String method : List.of("GET", "HEAD", "OPTIONS")) {
      for (int i = 0; i < 2; i++) {
        HttpRequest get = request(service, "/v1/x")
            .header("Idempotency-Key", "k")
            .method(method, HttpRequest.BodyPublishers.noBody())
            .build();
        assertThat(send(get).statusCode()).isEqualTo(200);
      }
    }
    assertThat(runs).hasValue(6);
    assertThat(rows()).isEmpty();
  }

  @Test
  void trimsTheKey() throws Exception {
    start(answering(200, "ok"));

    post(service, "/v1/x", "  k  ", "a");
    assertThat(isReplay(post(service, "/v1/x", "k", "a"))).isTrue();
  }

  @Test
  void takesAKeyOf255Characters_andRefusesLongerOnes() throws Exception {
    start(answering(200, "ok"));

    assertThat(post(service, "/v1/x", "k".repeat(255), "a").statusCode()).isEqualTo(200);
    for (int length : List.of(256, 300, 5000)) {
      assertError(post(service, "/v1/x", "k".repeat(length), "a"), 400, "invalid_idempotency_key");
    }
    assertThat(runs).hasValue(1);
  }

  @ParameterizedTest
  @ValueSource(strings = {"a\u0001b", "a\u0000b", "a\u007fb", "a\u001b[31m", "k\u00e9y"})
  void refusesAKeyThatIsNotPrintableAscii(String key) throws Exception {
    start(answering(200, "ok"));

    String response = raw("Idempotency-Key: " + key + "\r\n");

    assertThat(response).startsWith("HTTP/1.1 400 ");
    assertThat(rows()).isEmpty();
    assertThat(runs).hasValue(0);
  }

  @Test
  void refusesTwoKeys() throws Exception {
    start(answering(200, "ok"));

    assertThat(raw("Idempotency-Key: a\r\nIdempotency-Key: b\r\n"))
        .startsWith("HTTP/1.1 400 ")
        .contains("invalid_idempotency_key", "must be sent once");
    assertThat(runs).hasValue(0);
  }

  @Test
  void refusesAPathThatNoIndexCouldHold() throws Exception {
    start(answering(200, "ok"));

    assertThat(post(service, "/v1/" + "p".repeat(1900), "k".repeat(255), "a").statusCode())
        .isEqualTo(200);
    assertError(post(service, "/v1/" + "p".repeat(4000), "k", "a"), 400, "invalid_idempotency_key");
  }

  private String raw(String headers) throws IOException {
    try (Socket socket = new Socket("localhost", service.port())) {
      socket.setSoTimeout(20_000);
      sendRaw(socket, headers + "Connection: close\r\nContent-Length: 1", "a");
      return new String(socket.getInputStream().readAllBytes(), StandardCharsets.ISO_8859_1);
    }
  }

  private static void sendRaw(Socket socket, String headers, String body) throws IOException {
    String start = "POST /v1/x HTTP/1.1";
    String request =
        String.join("\r\n", start, "Host: x", "Authorization: Bearer alice@org", headers, "", body);
    socket.getOutputStream().write(request.getBytes(StandardCharsets.ISO_8859_1));
  }

  @Test
  void answersWithAServerError_whenNobodyIsAuthenticated() throws Exception {
    service = HttpService.builder(0)
        .host("localhost")
        .handle("/v1", answering(200, "ok"), Idempotency.of(db).filter())
        .start();

    assertJson(
        post(service, "/v1/x", "k", "a"),
        500,
        "{\"error\":{\"code\":\"idempotency_scope_failed\","
            + "\"message\":\"idempotency_scope_unavailable\"}}");
  }

  @Test
  void neverReplaysOneUsersAnswerToAnother() throws Exception {
    start(exchange ->
        HttpResponses.json(exchange, 200, Map.of("for", Actor.of(exchange).id())));

    Set<String> bodies = new HashSet<>();
    for (String who :
        List.of("alice@org", "bob@org", "alice@other", "alice:POST@org", "ali@ce@org")) {
      HttpRequest request = HttpRequest.newBuilder(service.uri().resolve("/v1/x"))
          .header("Authorization", "Bearer " + who)
          .header("Idempotency-Key", "k")
          .POST(HttpRequest.BodyPublishers.ofString("same"))
          .build();
      HttpResponse<String> response = send(request);
      assertThat(isReplay(response)).isFalse();
      bodies.add(response.body());
    }
    assertThat(bodies).hasSize(4);
    assertThat(runs).hasValue(5);
  }

  @Test
  void givesTheHandlerTheBodyUnread() throws Exception {
    start(exchange -> HttpResponses.bytes(
        exchange, 200, "text/plain", exchange.getRequestBody().readAllBytes()));
    String body = "ä€".repeat(20_000);

    assertThat(post(service, "/v1/x", "k", body).body()).isEqualTo(body);
    assertThat(post(service, "/v1/x", "k", body).body()).isEqualTo(body);
    assertThat(runs).hasValue(1);
  }

  @Test
  void refusesABodyOverTheLimit_announcedOrNot() throws Exception {
    start(answering(200, "ok"));
    byte[] tooLarge = new byte[10 << 20];

    HttpRequest announced = request(service, "/v1/x")
        .header("Idempotency-Key", "k")
        .expectContinue(false)
        .POST(HttpRequest.BodyPublishers.ofByteArray(tooLarge, 0, (1 << 20) + 1))
        .build();
    assertError(send(announced), 413, "body_too_large");
    try (Socket socket = new Socket("localhost", service.port())) {
      socket.setSoTimeout(20_000);
      sendRaw(socket, "Idempotency-Key: k\r\nContent-Length: 10485760", "");
      assertThat(readHead(socket)).startsWith("HTTP/1.1 413 "); // before a byte of it is sent
    }
    HttpRequest chunked = request(service, "/v1/x")
        .header("Idempotency-Key", "k")
        .POST(HttpRequest.BodyPublishers.fromPublisher(
            HttpRequest.BodyPublishers.ofByteArray(tooLarge, 0, (1 << 20) + 1)))
        .build();
    assertError(send(chunked), 413, "body_too_large");
    assertThat(rows()).isEmpty();
    assertThat(runs).hasValue(0);

    HttpRequest largest = request(service, "/v1/x")
        .header("Idempotency-Key", "k")
        .POST(HttpRequest.BodyPublishers.ofByteArray(tooLarge, 0, 1 << 20))
        .build();
    assertThat(send(largest).statusCode()).isEqualTo(200);
  }

  private static String readHead(Socket socket) throws IOException {
    StringBuilder head = new StringBuilder();
    InputStream in = socket.getInputStream();
    for (int c = in.read(); c >= 0 && !head.toString().endsWith("\r\n\r\n"); c = in.read()) {
      head.append((char) c);
    }
    return head.toString();
  }

  @ParameterizedTest
  @ValueSource(ints = {401, 403, 408, 413, 425, 429, 500, 502, 503, 504})
  void freesTheKey_whenTheAnswerIsNotFinal(int status) throws Exception {
    start(
        exchange -> answering(runs.get() == 1 ? status : 200, "n" + runs.get()).serve(exchange));

    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(status);
    assertThat(rows()).isEmpty();
    assertThat(post(service, "/v1/x", "k", "a").body()).isEqualTo("n2");
    assertThat(isReplay(post(service, "/v1/x", "k", "a"))).isTrue();
  }

  @ParameterizedTest
  @ValueSource(ints = {200, 202, 302, 400, 404, 409, 412, 422})
  void keepsFinalAnswers(int status) throws Exception {
    start(answering(status, "answer"));

    post(service, "/v1/x", "k", "a");
    HttpResponse<String> second = post(service, "/v1/x", "k", "a");

    assertThat(second.statusCode()).isEqualTo(status);
    assertThat(isReplay(second)).isTrue();
    assertThat(runs).hasValue(1);
  }

  @Test
  void freesTheKey_whenTheHandlerFailsInAnyWay() throws Exception {
    List<Consumer<HttpExchange>> failures = List.of(
        exchange -> {
          throw ServiceException.of(ErrorCode.NOT_FOUND).op("test");
        },
        exchange -> {
          throw new IllegalStateException("secret of the driver");
        },
        exchange -> {
          throw new AssertionError("an error");
        },
        exchange -> {
          try {
            exchange.sendResponseHeaders(200, 10);
            exchange.getResponseBody().write(1);
          } catch (IOException e) {
            throw new AssertionError(e);
          }
          throw new IllegalStateException("half-way");
        },
        exchange -> {
          try {
            exchange.sendResponseHeaders(200, 10);
            exchange.getResponseBody().write(1); // of 10
          } catch (IOException e) {
            throw new AssertionError(e);
          }
        },
        exchange -> {} // no response at all
        );
    for (int i = 0; i < failures.size(); i++) {
      Consumer<HttpExchange> failure = failures.get(i);
      runs.set(0);
      start(exchange -> {
        if (runs.get() == 1) {
          failure.accept(exchange);
        } else {
          answering(200, "fine").serve(exchange);
        }
      });

      HttpResponse<String> first = post(service, "/v1/x", "k" + i, "a");

      assertThat(first.statusCode()).as("failure %d", i).isEqualTo(i == 0 ? 404 : 500);
      assertThat(first.body()).doesNotContain("secret");
      assertThat(post(service, "/v1/x", "k" + i, "a").body()).isEqualTo("fine");
      service.close();
    }
  }

  @Test
  void keepsTheAnswer_whenTheClientHasGoneAway() throws Exception {
    CountDownLatch running = new CountDownLatch(1);
    CountDownLatch gone = new CountDownLatch(1);
    start(exchange -> {
      running.countDown();
      gone.await(30, TimeUnit.SECONDS);
      answering(201, "answer".repeat(50_000)).serve(exchange);
    });
    Socket socket = new Socket("localhost", service.port());
    sendRaw(socket, "Idempotency-Key: k\r\nContent-Length: 1", "a");
    assertThat(running.await(20, TimeUnit.SECONDS)).isTrue();
    socket.setSoLinger(true, 0);
    socket.close();
    gone.countDown();

    await().atMost(Duration.ofSeconds(20)).until(() -> rows().getFirst().contains("|201|"));
    HttpResponse<String> retry = post(service, "/v1/x", "k", "a");
    assertThat(isReplay(retry)).isTrue();
    assertThat(retry.body()).isEqualTo("answer".repeat(50_000));
    assertThat(runs).hasValue(1);
  }

  @Test
  void sendsAnAnswerThatIsTooLargeToKeep_andNeverRunsTheRequestAgain() throws Exception {
    byte[] large = new byte[2 << 20];
    start(exchange -> {
      exchange.getResponseHeaders().set("Content-Type", "application/octet-stream");
      exchange.getResponseHeaders().set("Location", "/v1/large/7");
      exchange.getResponseHeaders().set("Content-Encoding", "none");
      exchange.sendResponseHeaders(200, 0);
      for (int at = 0; at < large.length; at += 64 << 10) {
        exchange.getResponseBody().write(large, at, 64 << 10);
      }
    });

    HttpResponse<byte[]> first = Services.CLIENT.send(
        post(service.port(), "/v1/x", "k", "a"), HttpResponse.BodyHandlers.ofByteArray());
    assertThat(first.statusCode()).isEqualTo(200);
    assertThat(first.body()).isEqualTo(large);

    HttpResponse<String> second = post(service, "/v1/x", "k", "a");
    assertError(second, 409, "idempotency_response_too_large");
    assertThat(second.headers().firstValue("Location")).contains("/v1/large/7");
    assertThat(second.headers().firstValue("Content-Encoding")).isEmpty();
    assertThat(isReplay(second)).isTrue();
    assertThat(runs).hasValue(1);
  }

  @Test
  void keepsAnAnswerOfExactlyTheLimit() throws Exception {
    byte[] largest = new byte[1 << 20];
    start(exchange -> HttpResponses.bytes(exchange, 200, "application/octet-stream", largest));

    post(service, "/v1/x", "k", "a");
    HttpResponse<byte[]> second = Services.CLIENT.send(
        post(service.port(), "/v1/x", "k", "a"), HttpResponse.BodyHandlers.ofByteArray());
    assertThat(second.statusCode()).isEqualTo(200);
    assertThat(isReplay(second)).isTrue();
    assertThat(second.body()).isEqualTo(largest);
  }

  @Test
  void cutsALargeAnswerThatFailsHalfWay_andDoesNotRunTheRequestAgain() throws Exception {
    start(exchange -> {
      exchange.sendResponseHeaders(200, 0);
      exchange.getResponseBody().write(new byte[2 << 20]);
      throw new IllegalStateException("half-way");
    });

    assertThatThrownBy(() -> post(service, "/v1/x", "k", "a")).isInstanceOf(IOException.class);
    assertError(post(service, "/v1/x", "k", "a"), 409, "idempotency_response_too_large");
    assertThat(runs).hasValue(1);
  }

  @Test
  void freesTheKey_whenALargeAnswerIsNotFinal() throws Exception {
    start(exchange -> HttpResponses.bytes(
        exchange, runs.get() == 1 ? 503 : 200, "text/plain", new byte[2 << 20]));

    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(503);
    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(200);
  }

  @Test
  void replaysWhatAnInnerFilterHasMadeOfTheBody() throws Exception {
    Filter compressing = new Filter() {
      @Override
      public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
        exchange.getResponseHeaders().set("Content-Encoding", "gzip");
        OutputStream plain = exchange.getResponseBody();
        exchange.setStreams(null, new OutputStream() {
          private GZIPOutputStream target;

          @Override
          public void write(int b) throws IOException {
            if (target == null) {
              target = new GZIPOutputStream(plain);
            }
            target.write(b);
          }

          @Override
          public void close() throws IOException {
            if (target != null) {
              target.close();
            }
          }
        });
        chain.doFilter(exchange);
      }

      @Override
      public String description() {
        return "gzip";
      }
    };
    service = HttpService.builder(0)
        .host("localhost")
        .handle(
            "/v1",
            (HttpService.Handler) exchange -> {
              exchange.sendResponseHeaders(200, 0);
              exchange.getResponseBody().write("zipped".getBytes(StandardCharsets.UTF_8));
            },
            Services.auth().require(),
            Idempotency.of(db).filter(),
            compressing)
        .start();

    for (int i = 0; i < 2; i++) {
      HttpResponse<InputStream> response = Services.CLIENT.send(
          post(service.port(), "/v1/x", "k", "a"), HttpResponse.BodyHandlers.ofInputStream());
      assertThat(response.headers().firstValue("Content-Encoding")).contains("gzip");
      assertThat(new GZIPInputStream(response.body()).readAllBytes())
          .asString()
          .isEqualTo("zipped");
      assertThat(isReplay(response)).isEqualTo(i == 1);
    }
  }

  @Test
  void doesNotStart_whenAuthenticationComesAfterIt() {
    assertThatThrownBy(() -> HttpService.builder(0)
            .handle(
                "POST /v1/notes",
                answering(200, "ok"),
                Idempotency.of(db).filter(),
                Services.auth().require())
            .start())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("filters must have auth before idempotency: POST /v1/notes");
  }

  @Test
  void takesNoKeyForARequestThatTheServiceRefuses() throws Exception {
    service = HttpService.builder(0)
        .host("localhost")
        .filters(Services.auth().require(), Idempotency.of(db).filter())
        .handle("/v1", answering(200, "ok"))
        .start();

    assertThat(post(service, "/v1//x", "k", "a").statusCode()).isEqualTo(400);
    assertThat(rows()).isEmpty();
    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(200);
    assertThat(rows()).hasSize(1);
  }

  @Test
  void countsOnce_whenMountedTwice() throws Exception {
    Idempotency idempotency = Idempotency.of(db);
    service = HttpService.builder(0)
        .host("localhost")
        .handle(
            "/v1",
            answering(200, "ok"),
            Services.auth().require(),
            idempotency.filter(),
            idempotency.filter())
        .start();

    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(200);
    assertThat(isReplay(post(service, "/v1/x", "k", "a"))).isTrue();
  }

  @Test
  void anExpiredKeyThatIsNotSweptCountsAsAbsent() throws Exception {
    start(exchange -> answering(200, "n" + runs.get()).serve(exchange));
    post(service, "/v1/x", "k", "a");
    execute(db, "UPDATE api_idempotency_keys SET expires_at = now() - interval '1 second'");

    HttpResponse<String> response = post(service, "/v1/x", "k", "other");

    assertThat(response.body()).isEqualTo("n2");
    assertThat(isReplay(response)).isFalse();
  }

  @Test
  void dropsTheAnswerOfALateFirst_andNeverOverwritesTheSecond() throws Exception {
    Idempotency idempotency =
        Idempotency.builder(db).leaseFor(Duration.ofMillis(200)).build();
    CountDownLatch running = new CountDownLatch(1);
    CountDownLatch late = new CountDownLatch(1);
    start(idempotency, exchange -> {
      int run = runs.get();
      if (run == 1) {
        running.countDown();
        late.await(30, TimeUnit.SECONDS);
      }
      answering(200, "n" + run).serve(exchange);
    });
    CompletableFuture<HttpResponse<String>> first = Services.CLIENT.sendAsync(
        post(service.port(), "/v1/x", "k", "a"), HttpResponse.BodyHandlers.ofString());
    assertThat(running.await(20, TimeUnit.SECONDS)).isTrue();

    await()
        .atMost(Duration.ofSeconds(20))
        .until(() -> post(service, "/v1/x", "k", "a").statusCode() == 200);
    try (CapturedLog log = new CapturedLog(Idempotency.class)) {
      late.countDown();

      assertError(first.get(20, TimeUnit.SECONDS), 409, "idempotency_in_progress");
      assertThat(log.messages())
          .contains("WARN idempotent request was overtaken: it took longer than its lease");
    }
    HttpResponse<String> third = post(service, "/v1/x", "k", "a");
    assertThat(third.body()).isEqualTo("n2");
    assertThat(isReplay(third)).isTrue();
  }

  @Test
  void answersAFailingStoreWithAFixedText_andTellsTheLogWhy() throws Exception {
    start(answering(200, "ok"));
    execute(db, "ALTER TABLE api_idempotency_keys RENAME TO gone");

    HttpResponse<String> response = post(service, "/v1/x", "k", "a");

    assertJson(
        response,
        500,
        "{\"error\":{\"code\":\"idempotency_failed\","
            + "\"message\":\"unable to check the Idempotency-Key\"}}");
    assertThat(runs).hasValue(0);
  }

  @Test
  void sendsTheAnswerThatCannotBeKept_andTellsTheLog() throws Exception {
    start(exchange -> {
      execute(db, "ALTER TABLE api_idempotency_keys RENAME TO gone");
      answering(200, "done").serve(exchange);
    });
    try (CapturedLog log = new CapturedLog(Idempotency.class)) {
      assertThat(post(service, "/v1/x", "k", "a").body()).isEqualTo("done");

      ILoggingEvent event = log.events().stream()
          .filter(e -> e.getMessage().equals("failed to persist idempotent response"))
          .findFirst()
          .orElseThrow();
      assertThat(CapturedLog.keyValues(event))
          .containsEntry("scope", "org:user:alice:POST:/v1/x")
          .containsKey("error");
    }
  }

  @Test
  void keepsTheAnswer_whenTheStoreFailsForAMoment() throws Exception {
    IdempotencyStore real = PostgresStore.open(db);
    AtomicInteger completions = new AtomicInteger();
    IdempotencyStore flaky = new IdempotencyStore() {
      @Override
      public Decision begin(Attempt attempt) throws SQLException {
        return real.begin(attempt);
      }

      @Override
      public boolean complete(Claim claim, StoredResponse response) throws SQLException {
        boolean kept = real.complete(claim, response);
        if (completions.incrementAndGet() < 3) {
          throw new SQLException("connection lost after the statement");
        }
        return kept;
      }

      @Override
      public void release(Claim claim) throws SQLException {
        real.release(claim);
      }

      @Override
      public int sweep(int limit) throws SQLException {
        return real.sweep(limit);
      }
    };
    start(Idempotency.builder(flaky).build(), answering(200, "done"));

    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(200);
    assertThat(isReplay(post(service, "/v1/x", "k", "a"))).isTrue();
    assertThat(completions).hasValue(3);
  }

  @Test
  void keepsTheAnswer_whenTheHandlersThreadIsInterrupted() throws Exception {
    start(exchange -> {
      Thread.currentThread().interrupt();
      answering(200, "done").serve(exchange);
      Thread.currentThread().interrupt();
    });

    CompletableFuture<HttpResponse<String>> first = Services.CLIENT.sendAsync(
        post(service.port(), "/v1/x", "k", "a"), HttpResponse.BodyHandlers.ofString());
    await().atMost(Duration.ofSeconds(20)).until(() -> rows().toString().contains("|200|"));
    first.cancel(true);
    assertThat(isReplay(post(service, "/v1/x", "k", "a"))).isTrue();
    assertThat(runs).hasValue(1);
  }
}
