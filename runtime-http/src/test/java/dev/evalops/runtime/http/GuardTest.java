package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpPrincipal;
import com.sun.net.httpserver.HttpServer;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.io.EOFException;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.function.Consumer;
import java.util.stream.Stream;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class GuardTest {
  private static final String INTERNAL =
      "{\"error\":{\"code\":\"internal_error\",\"message\":\"internal error\"}}\n";
  private static final RequestContext.Key<String> ACTOR = RequestContext.Key.of("actor");

  private CapturedLog log;

  @BeforeEach
  void capture() {
    log = new CapturedLog(Guard.class);
  }

  @AfterEach
  void release() {
    log.close();
  }

  private static HttpService serve(HttpService.Handler handler, Filter... filters) {
    return HttpService.builder(0)
        .filters(HttpFilters.requestId())
        .handle("/x", handler, filters)
        .start();
  }

  private static RawClient.Response get(HttpService service) throws IOException {
    try (RawClient client = new RawClient(service.port())) {
      return client.get("/x");
    }
  }

  static Stream<Throwable> failures() {
    return Stream.of(
        new SQLException("FATAL: password hunter2 of role admin at db.internal:5432"),
        new IOException("hunter2"),
        new IllegalStateException("hunter2", new SQLException("hunter2")),
        new AssertionError("hunter2"),
        new StackOverflowError("hunter2"),
        new OutOfMemoryError("hunter2"),
        new NoClassDefFoundError("hunter2"),
        new InterruptedException("hunter2"));
  }

  @ParameterizedTest
  @MethodSource("failures")
  void answersInternalErrorWithoutDetails_whateverIsThrown(Throwable failure) throws Exception {
    try (HttpService service = serve(exchange -> {
          exchange.getResponseHeaders().set("X-Tenant", "kept");
          if (failure instanceof Error e) {
            throw e;
          }
          throw (Exception) failure;
        });
        RawClient client = new RawClient(service.port())) {
      for (int i = 0; i < 2; i++) {
        RawClient.Response response = client.get("/x");
        assertThat(response.status()).isEqualTo(500);
        assertThat(response.body()).isEqualTo(INTERNAL);
        assertThat(response.toString())
            .doesNotContain("hunter2", "Exception", "at dev.", "db.internal");
        assertThat(response.header("Content-Type")).contains("application/json");
        assertThat(response.header("X-Request-Id")).isPresent();
        assertThat(response.header("X-Tenant")).contains("kept");
      }
    }
    assertThat(log.messages())
        .containsExactly("ERROR http panic recovered", "ERROR http panic recovered");
    assertThat(CapturedLog.keyValues(log.events().get(0)))
        .containsEntry("method", "GET")
        .containsEntry("path", "/x")
        .containsKey("request_id");
    assertThat(log.events().get(0).getThrowableProxy()).isNotNull();
  }

  @Test
  void answersRealStackOverflow() throws Exception {
    try (HttpService service =
        serve(exchange -> HttpResponses.json(exchange, 200, depth(new int[] {1})))) {
      assertThat(get(service).body()).isEqualTo(INTERNAL);
    }
  }

  private static int depth(int[] level) {
    level[0]++;
    return level[0] == 0 ? 0 : 1 + depth(level);
  }

  static Stream<Arguments> interruptedHandlers() {
    return Stream.of(
        interrupted(503, exchange -> {
          throw ServiceException.of(ErrorCode.UNAVAILABLE);
        }),
        interrupted(500, exchange -> {
          throw new InterruptedException("hunter2");
        }),
        interrupted(200, exchange -> HttpResponses.json(exchange, 200, "x".repeat(100_000))),
        interrupted(204, HttpResponses::noContent));
  }

  private static Arguments interrupted(int status, HttpService.Handler handler) {
    return Arguments.of(status, (HttpService.Handler) exchange -> {
      Thread.currentThread().interrupt();
      handler.serve(exchange);
    });
  }

  @ParameterizedTest
  @MethodSource("interruptedHandlers")
  void answers_thoughTheHandlerLeavesItsThreadInterrupted(int status, HttpService.Handler handler)
      throws Exception {
    try (HttpService service = serve(handler);
        RawClient client = new RawClient(service.port())) {
      for (int i = 0; i < 2; i++) {
        assertThat(client.get("/x").status()).isEqualTo(status);
      }
    }
    assertThat(log.messages()).allMatch(line -> line.startsWith("ERROR "));
  }

  @Test
  void answersServiceExceptionWithItsCode_andDoesNotLogClientErrors() throws Exception {
    try (HttpService service = serve(exchange -> {
      throw ServiceException.of(ErrorCode.NOT_FOUND, "no such note", new SQLException("hunter2"))
          .op("note.read");
    })) {
      RawClient.Response response = get(service);
      assertThat(response.status()).isEqualTo(404);
      assertThat(response.body())
          .isEqualTo("{\"error\":{\"code\":\"not_found\",\"message\":\"no such note\"}}\n");
    }
    assertThat(log.messages()).isEmpty();
  }

  @ParameterizedTest
  @CsvSource({
    "08006, 503",
    "53300, 503",
    "57P01, 503",
    "40001, 503",
    "25006, 503",
    "25P03, 503",
    "23505, 500",
    "42601, 500"
  })
  void answersUnavailable_whenADependencyIsAway(String state, int status) throws Exception {
    try (HttpService service = serve(exchange -> {
      throw new IllegalStateException(new SQLException("hunter2", state));
    })) {
      RawClient.Response response = get(service);
      assertThat(response.status()).isEqualTo(status);
      assertThat(response.header("Retry-After").isPresent()).isEqualTo(status == 503);
      assertThat(response.body())
          .contains(status == 503 ? "\"unavailable\"" : "\"internal_error\"")
          .doesNotContain("hunter2");
    }
    assertThat(log.messages())
        .containsExactly(
            status == 503 ? "ERROR http request failed" : "ERROR http panic recovered");
  }

  @Test
  void logsServiceExceptionFrom500Up() throws Exception {
    try (HttpService service = serve(exchange -> {
      exchange.getResponseHeaders().set("Retry-After", "7");
      throw ServiceException.of(ErrorCode.UNAVAILABLE).op("db");
    })) {
      RawClient.Response response = get(service);
      assertThat(response.status()).isEqualTo(503);
      assertThat(response.header("Retry-After")).contains("7");
    }
    assertThat(log.messages()).containsExactly("ERROR http request failed");
  }

  @Test
  void namesIfMatch_whenAVersionConflictHasNoMessage() throws Exception {
    try (HttpService service = serve(exchange -> {
          throw ServiceException.of(ErrorCode.VERSION_CONFLICT).op("note.update");
        });
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/x").body()).contains("request conflicts with current state");
      assertThat(client.post("/x", "", "If-Match: 3").body())
          .contains("resource version does not match If-Match");
    }
  }

  @Test
  void answersInternalError_whenHandlerSendsNothing() throws Exception {
    try (HttpService service = serve(exchange -> {})) {
      assertThat(get(service).body()).isEqualTo(INTERNAL);
    }
  }

  @Test
  void answersInternalError_whenValueCannotBeSerialised() throws Exception {
    List<Object> endless = new ArrayList<>();
    endless.add(endless);
    try (HttpService service =
        serve(exchange -> HttpResponses.mutation(exchange, 201, endless, 5))) {
      RawClient.Response response = get(service);
      assertThat(response.status()).isEqualTo(500);
      assertThat(response.body()).isEqualTo(INTERNAL);
      assertThat(response.header("X-Change-Seq")).isEmpty();
    }
  }

  @Test
  void dropsHeadersOfTheSuccessThatDidNotHappen() throws Exception {
    List<String> dropped = List.of(
        "ETag", "X-Change-Seq", "Content-Encoding", "Location", "Cache-Control", "Set-Cookie");
    List<String> kept = List.of(
        "Access-Control-Allow-Origin",
        "Vary",
        "X-Frame-Options",
        "WWW-Authenticate",
        "Allow",
        "Retry-After",
        "Content-Security-Policy");
    try (HttpService service = serve(exchange -> {
      dropped.forEach(name -> exchange.getResponseHeaders().set(name, "x"));
      kept.forEach(name -> exchange.getResponseHeaders().set(name, "x"));
      exchange.getResponseHeaders().set("Content-Type", "text/csv");
      throw ServiceException.of(ErrorCode.CONFLICT).op("x");
    })) {
      RawClient.Response response = get(service);
      assertThat(response.header("Content-Type")).contains("application/json");
      assertThat(dropped).allSatisfy(name -> assertThat(response.header(name)).isEmpty());
      assertThat(kept).allSatisfy(name -> assertThat(response.header(name)).contains("x"));
    }
  }

  @ParameterizedTest
  @ValueSource(longs = {0, 100_000})
  void clientNoticesHalfABody_evenIfTheHandlerClosedIt(long length) throws Exception {
    try (HttpService service = serve(exchange -> {
      exchange.sendResponseHeaders(200, length);
      try (OutputStream out = exchange.getResponseBody()) {
        out.write(new byte[50_000]);
        out.flush();
        throw new SQLException("hunter2");
      } finally {
        exchange.close();
      }
    })) {
      assertThatThrownBy(() -> get(service)).isInstanceOf(EOFException.class);
    }
    assertThat(log.messages()).containsExactly("ERROR http panic recovered");
  }

  @Test
  void clientDoesNotHang_whenAnErrorIsThrownAfterTheResponseBegan() throws Exception {
    try (HttpService service = serve(exchange -> {
      exchange.sendResponseHeaders(200, 0);
      exchange.getResponseBody().write(1);
      exchange.getResponseBody().flush();
      throw new AssertionError("bug");
    })) {
      assertThatThrownBy(() -> get(service)).isInstanceOf(EOFException.class);
    }
  }

  @Test
  void clientNoticesABodyThatIsShorterThanAnnounced() throws Exception {
    try (HttpService service = serve(exchange -> {
      exchange.sendResponseHeaders(200, 10);
      exchange.getResponseBody().write(1);
    })) {
      assertThatThrownBy(() -> get(service)).isInstanceOf(EOFException.class);
    }
    assertThat(log.events().get(0).getThrowableProxy().getMessage()).contains("1 of the 10 bytes");
  }

  @Test
  void endsAResponseThatTheHandlerLeftOpen() throws Exception {
    try (HttpService service = serve(exchange -> {
          exchange.sendResponseHeaders(200, 2);
          exchange.getResponseBody().write("ok".getBytes(StandardCharsets.US_ASCII));
        });
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/x").body()).isEqualTo("ok");
      assertThat(client.get("/x").body()).isEqualTo("ok");
    }
  }

  @Test
  void answersHeadAsGetWithoutTheBody() throws Exception {
    try (HttpService service =
            serve(exchange -> HttpResponses.json(exchange, 200, Map.of("a", "b".repeat(20_000))));
        RawClient client = new RawClient(service.port())) {
      RawClient.Response head =
          client.send("HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n").readHead();
      RawClient.Response get = client.get("/x");
      assertThat(get.body()).hasSizeGreaterThan(20_000);
      assertThat(head.status()).isEqualTo(200);
      assertThat(head.header("Content-Length")).isEqualTo(get.header("Content-Length"));
      RawClient.Response missing =
          client.send("HEAD /y HTTP/1.1\r\nHost: x\r\n\r\n").readHead();
      assertThat(missing.status()).isEqualTo(404);
      assertThat(missing.header("Content-Length")).contains("62");
      assertThat(client.get("/x").status()).isEqualTo(200);
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {204, 205, 304})
  void sendsNoBody_whenTheStatusForbidsOne(int status) throws Exception {
    try (HttpService service = serve(exchange -> {
          exchange.getResponseHeaders().set("Content-Length", "5");
          exchange.sendResponseHeaders(status, status == 204 ? -1 : 0);
        });
        RawClient client = new RawClient(service.port())) {
      for (int i = 0; i < 2; i++) {
        RawClient.Response response = client.get("/x");
        assertThat(response.status()).isEqualTo(status);
        assertThat(response.body()).isEmpty();
        assertThat(response.header("Transfer-Encoding")).isEmpty();
      }
    }
  }

  @Test
  void neverSendsBothLengthAndTransferEncoding() throws Exception {
    try (HttpService service = serve(exchange -> {
      exchange.getResponseHeaders().set("Content-Length", "3");
      exchange.sendResponseHeaders(200, 0);
      exchange.getResponseBody().write("chunked".getBytes(StandardCharsets.US_ASCII));
    })) {
      RawClient.Response response = get(service);
      assertThat(response.body()).isEqualTo("chunked");
      assertThat(response.header("Content-Length")).isEmpty();
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {-5, 0, 99, 100, 103, 199, 600, 1000})
  void answersInternalError_whenTheStatusMakesNoSense(int status) throws Exception {
    try (HttpService service = serve(exchange -> exchange.sendResponseHeaders(status, -1))) {
      assertThat(get(service).status()).isEqualTo(500);
    }
  }

  @Test
  void saysWhichLengthMakesNoSense() throws Exception {
    try (HttpService service = serve(exchange -> {
      try {
        exchange.sendResponseHeaders(200, -2);
      } catch (IllegalArgumentException e) {
        HttpResponses.json(exchange, 200, String.valueOf(e.getMessage()));
      }
    })) {
      assertThat(get(service).body()).contains("\"responseLength must be -1 or more: -2\"");
    }
  }

  @Test
  void answersInternalError_whenAResponseHeaderCouldSplitTheResponse() throws Exception {
    List<Consumer<Headers>> attacks = List.of(
        h -> {
          h.put("X-A", new ArrayList<>(List.of("a")));
          h.get("X-A").set(0, "a\r\nX-Injected: 1");
        },
        h -> {
          h.set("X-A", "a\r\n X-Injected: 1");
        },
        h -> {
          h.set("X-A", "a\u0000");
        },
        h -> {
          h.set("X-A", "a");
          h.get("X-A").add(null);
        },
        h -> {
          h.set("X Injected:", "1");
        });
    for (Consumer<Headers> attack : attacks) {
      try (HttpService service = serve(exchange -> {
        attack.accept(exchange.getResponseHeaders());
        HttpResponses.noContent(exchange);
      })) {
        RawClient.Response response = get(service);
        assertThat(response.status()).isEqualTo(500);
        assertThat(response.toString().toLowerCase(java.util.Locale.ROOT))
            .doesNotContain("injected");
      }
    }
  }

  @Test
  void runsFiltersInOrder_serviceFirst() throws Exception {
    List<String> order = Collections.synchronizedList(new ArrayList<>());
    try (HttpService service = HttpService.builder(0)
        .filters(named("a", order), named("b", order))
        .handle(
            "/x",
            HttpFilters.chain(
                exchange -> {
                  order.add("handler");
                  HttpResponses.noContent(exchange);
                },
                named("e", order)),
            named("c", order),
            named("d", order))
        .start()) {
      assertThat(get(service).status()).isEqualTo(204);
    }
    assertThat(order)
        .containsExactly("a", "b", "c", "d", "e", "handler", "/e", "/d", "/c", "/b", "/a");
  }

  private static Filter named(String name, List<String> order) {
    return filter((exchange, chain) -> {
      order.add(name);
      chain.doFilter(exchange);
      order.add("/" + name);
    });
  }

  interface Body {
    void doFilter(HttpExchange exchange, Filter.Chain chain) throws IOException;
  }

  static Filter filter(Body body) {
    return new Filter() {
      @Override
      public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
        body.doFilter(exchange, chain);
      }

      @Override
      public String description() {
        return "test";
      }
    };
  }

  @Test
  void setsLateHeaders_onErrorsToo_outermostLast() throws Exception {
    Filter outer = filter((exchange, chain) -> {
      RequestContext.of(exchange)
          .beforeResponse(h -> h.set("X-Late", "outer after " + h.getFirst("X-Late")));
      chain.doFilter(exchange);
    });
    Filter inner = filter((exchange, chain) -> {
      RequestContext.of(exchange).beforeResponse(h -> h.set("X-Late", "inner"));
      chain.doFilter(exchange);
    });
    try (HttpService service = serve(
            exchange -> {
              if (exchange.getRequestMethod().equals("POST")) {
                throw new IOException("x");
              }
              HttpResponses.json(exchange, 200, "x");
            },
            outer,
            inner);
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/x").header("X-Late")).contains("outer after inner");
      assertThat(client.post("/x", "").header("X-Late")).contains("outer after inner");
    }
  }

  @Test
  void answersInternalError_whenALateHeaderActionFails() throws Exception {
    try (HttpService service = serve(exchange -> {
      for (int i = 0; i < 3; i++) {
        RequestContext.of(exchange).beforeResponse(h -> {
          throw new IllegalStateException("hunter2");
        });
      }
      HttpResponses.json(exchange, 200, "x");
    })) {
      assertThat(get(service).body()).isEqualTo(INTERNAL);
    }
  }

  @Test
  void completesEveryRequestOnce_withTheStatusThatWasSent() throws Exception {
    List<String> outcomes = Collections.synchronizedList(new ArrayList<>());
    Filter observer = filter((exchange, chain) -> {
      RequestContext context = RequestContext.of(exchange);
      context.onComplete(() -> outcomes.add(context.status()
          + " "
          + context.failure().map(t -> t.getClass().getSimpleName()).orElse("-")));
      context.onComplete(() -> {
        throw new IllegalStateException("an observer's bug");
      });
      chain.doFilter(exchange);
    });
    try (HttpService service = HttpService.builder(0)
            .filters(observer)
            .handle("/ok", exchange -> HttpResponses.json(exchange, 201, "x"))
            .handle("/fail", (HttpService.Handler) exchange -> {
              throw new SQLException("x");
            })
            .handle("/half", exchange -> {
              exchange.sendResponseHeaders(200, 0);
              throw new IllegalStateException("x");
            })
            .start();
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/ok").status()).isEqualTo(201);
      assertThat(client.get("/fail").status()).isEqualTo(500);
      assertThat(client.get("/nowhere").status()).isEqualTo(404);
      assertThatThrownBy(() -> client.get("/half")).isInstanceOf(EOFException.class);
    }
    assertThat(outcomes)
        .containsExactly(
            "201 -", "500 SQLException", "404 ServiceException", "-1 IllegalStateException");
  }

  @Test
  void replacesAPreparedEmptyResponse_whenTheHandlerFailsAfterwards() throws Exception {
    try (HttpService service = serve(exchange -> {
      HttpResponses.noContent(exchange);
      exchange.getResponseBody().close();
      throw new SQLException("commit failed");
    })) {
      assertThat(get(service).body()).isEqualTo(INTERNAL);
    }
  }

  @Test
  void refusesASecondResponse() throws Exception {
    try (HttpService service = serve(exchange -> {
      exchange.sendResponseHeaders(200, 2);
      assertThatThrownBy(() -> exchange.sendResponseHeaders(200, 2))
          .isInstanceOf(IOException.class);
      assertThatThrownBy(() -> exchange.getResponseBody().write(new byte[3]))
          .isInstanceOf(IOException.class);
      exchange.getResponseBody().write("ok".getBytes(StandardCharsets.US_ASCII));
    })) {
      assertThat(get(service).body()).isEqualTo("ok");
    }
  }

  @Test
  void composesStreamsOfFilters() throws Exception {
    Filter gzip = filter((exchange, chain) -> {
      RequestContext.of(exchange).beforeResponse(h -> h.set("Content-Encoding", "gzip"));
      exchange.setStreams(null, new LazyGzip(exchange.getResponseBody()));
      chain.doFilter(exchange);
    });
    try (HttpService service = serve(
        exchange -> {
          exchange.sendResponseHeaders(200, 0);
          exchange.getResponseBody().write("zipped".getBytes(StandardCharsets.US_ASCII));
        },
        gzip)) {
      HttpURLConnectionClient client = new HttpURLConnectionClient(service);
      assertThat(client.gunzipped("/x")).isEqualTo("zipped");
    }
    try (HttpService service = serve(
        exchange -> {
          throw new IOException("x");
        },
        gzip)) {
      assertThat(get(service).body()).isEqualTo(INTERNAL);
    }
  }

  private record HttpURLConnectionClient(HttpService service) {
    String gunzipped(String path) throws IOException {
      var connection = service.uri().resolve(path).toURL().openConnection();
      return new String(
          new java.util.zip.GZIPInputStream(connection.getInputStream()).readAllBytes(),
          StandardCharsets.US_ASCII);
    }
  }

  private static final class LazyGzip extends OutputStream {
    private final OutputStream target;
    private GZIPOutputStream gzip;

    LazyGzip(OutputStream target) {
      this.target = target;
    }

    @Override
    public void write(int b) throws IOException {
      if (gzip == null) {
        gzip = new GZIPOutputStream(target);
      }
      gzip.write(b);
    }

    @Override
    public void close() throws IOException {
      if (gzip != null) {
        gzip.close();
      }
    }
  }

  @Test
  void findsTheContextThroughWrappers() throws Exception {
    Filter wrapping = Filter.adaptRequest("adds a header", r -> r.with("X-Extra", List.of("1")));
    try (HttpService service = serve(
        exchange -> {
          RequestContext.of(exchange).put(ACTOR, "me");
          assertThat(exchange.getRequestHeaders().getFirst("X-Extra")).isEqualTo("1");
          HttpResponses.json(
              exchange, 200, RequestContext.of(exchange).get(ACTOR).orElse("-"));
        },
        wrapping)) {
      assertThat(get(service).body()).isEqualTo("\"me\"\n");
    }
  }

  @Test
  void keepsAttributesAndPrincipalToOneRequest() throws Exception {
    HttpPrincipal alice = new HttpPrincipal("alice", "notes");
    try (HttpService service = serve(exchange -> {
          String before = exchange.getAttribute("a") + " " + exchange.getPrincipal();
          exchange.setAttribute("a", 1);
          exchange.setAttribute("b", 2);
          exchange.setAttribute("b", null);
          RequestContext.of(exchange).principal(alice);
          HttpResponses.json(
              exchange,
              200,
              before + " " + exchange.getAttribute("a") + " " + exchange.getAttribute("b") + " "
                  + exchange.getPrincipal().getUsername());
        });
        RawClient client = new RawClient(service.port())) {
      for (int i = 0; i < 3; i++) {
        assertThat(client.get("/x").body()).isEqualTo("\"null null 1 null alice\"\n");
      }
    }
  }

  @Test
  void guardsAHandlerOfAnyServer() throws Exception {
    HttpServer server =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    HttpHandler handler = exchange -> {
      assertThat(RequestContext.of(exchange).route()).isEqualTo("/x");
      assertThat(RequestContext.of(exchange).path()).isEqualTo("/x/a b");
      assertThat(RequestContext.of(exchange).draining()).isFalse();
      throw new AssertionError("bug");
    };
    server.createContext("/x", HttpFilters.chain(handler, HttpFilters.requestId()));
    server.createContext("/raw", exchange -> {
      assertThatThrownBy(() -> RequestContext.of(exchange))
          .isInstanceOf(IllegalStateException.class)
          .hasMessageContaining("HttpFilters.chain");
      exchange.sendResponseHeaders(204, -1);
    });
    server.start();
    try (RawClient client = new RawClient(
        new Socket(server.getAddress().getAddress(), server.getAddress().getPort()))) {
      RawClient.Response response = client.get("/x/a%20b");
      assertThat(response.body()).isEqualTo(INTERNAL);
      assertThat(response.header("X-Request-Id")).isPresent();
      assertThat(client.get("/x/../y").status()).isEqualTo(400);
      assertThat(client.get("/raw").status()).isEqualTo(204);
    } finally {
      server.stop(0);
    }
  }

  @Test
  void saysNothingLoud_whenTheClientWentAway() throws Exception {
    try (HttpService service = serve(exchange -> {
      exchange.sendResponseHeaders(200, 0);
      while (true) {
        exchange.getResponseBody().write(new byte[8192]);
      }
    })) {
      try (RawClient client = new RawClient(service.port())) {
        client.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
        assertThat(client.socket().getInputStream().read()).isEqualTo('H');
        client.socket().setSoLinger(true, 0);
      }
      org.awaitility.Awaitility.await()
          .untilAsserted(
              () -> assertThat(log.messages()).containsExactly("DEBUG http client went away"));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"GET", "HEAD"})
  void saysNothingLoud_whenTheClientWentAwayBeforeAResponseWithoutABody(String method)
      throws Exception {
    CountDownLatch arrived = new CountDownLatch(1);
    CountDownLatch gone = new CountDownLatch(1);
    try (HttpService service = serve(exchange -> {
      arrived.countDown();
      gone.await();
      HttpResponses.noContent(exchange);
    })) {
      try (RawClient client = new RawClient(service.port())) {
        client.send(method + " /x HTTP/1.1\r\nHost: x\r\n\r\n");
        arrived.await();
        client.socket().setSoLinger(true, 0);
      }
      gone.countDown();
      org.awaitility.Awaitility.await()
          .untilAsserted(
              () -> assertThat(log.messages()).containsExactly("DEBUG http client went away"));
    }
  }
}
