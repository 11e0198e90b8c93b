package dev.evalops.runtime.errors;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

@Timeout(60)
class RecoveryFilterTest {
  private static final String INTERNAL =
      "{\"error\":{\"code\":\"internal_error\",\"message\":\"internal error\"}}\n";

  private final ConcurrentLinkedQueue<Throwable> reported = new ConcurrentLinkedQueue<>();
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private HttpServer server;

  @BeforeEach
  void start() throws IOException {
    server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.setExecutor(threads);
    server.start();
  }

  @AfterEach
  void stop() {
    server.stop(0);
    threads.shutdownNow();
  }

  private interface Failing {
    void run(HttpExchange exchange) throws Throwable;
  }

  /** A handler may throw what it does not declare, as one in another language does. */
  private static HttpHandler handler(Failing body) {
    return exchange -> {
      try {
        body.run(exchange);
      } catch (Throwable e) {
        RecoveryFilterTest.<RuntimeException>sneak(e);
      }
    };
  }

  @SuppressWarnings("unchecked")
  private static <E extends Throwable> void sneak(Throwable failure) throws E {
    throw (E) failure;
  }

  private void serve(Failing body, Filter... inner) {
    serve(new RecoveryFilter((failure, exchange) -> reported.add(failure)), body, inner);
  }

  private void serve(RecoveryFilter filter, Failing body, Filter... inner) {
    List<Filter> filters = server.createContext("/", handler(body)).getFilters();
    filters.add(filter);
    filters.addAll(List.of(inner));
  }

  /** Sends raw bytes and reads until the server closes the connection. */
  private String exchange(String request) throws IOException {
    try (Socket socket =
        new Socket(server.getAddress().getAddress(), server.getAddress().getPort())) {
      socket.setSoTimeout(10_000); // a connection left open fails the test
      socket.getOutputStream().write(request.getBytes(ISO_8859_1));
      return new String(socket.getInputStream().readAllBytes(), UTF_8);
    }
  }

  private String get(String path) throws IOException {
    return exchange("GET " + path + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
  }

  private static String body(String response) {
    return response.substring(response.indexOf("\r\n\r\n") + 4);
  }

  static List<Throwable> failures() {
    return List.of(
        new IllegalStateException("db-7 says no"),
        new IOException("db-7 says no"),
        new StackOverflowError(),
        new AssertionError("db-7"),
        new InterruptedException("db-7"),
        new Throwable("db-7"));
  }

  @ParameterizedTest
  @MethodSource("failures")
  void answersAnyFailureWithInternalError_andReportsIt(Throwable failure) throws IOException {
    serve(exchange -> {
      throw failure;
    });
    String response = get("/");
    assertThat(response)
        .startsWith("HTTP/1.1 500 ")
        .containsIgnoringCase("content-type: application/json");
    assertThat(body(response)).isEqualTo(INTERNAL);
    assertThat(reported).containsExactly(failure);
  }

  @Test
  void answersAServiceExceptionWithItsOwnCode_andReportsItOnlyFrom500Up() throws IOException {
    serve(exchange -> {
      throw new ServiceException(
          exchange.getRequestURI().getPath().equals("/down")
              ? ErrorCode.UNAVAILABLE
              : ErrorCode.NOT_FOUND,
          "note.read",
          "no note <7>");
    });
    String notFound = get("/");
    assertThat(notFound).startsWith("HTTP/1.1 404 ");
    assertThat(body(notFound))
        .isEqualTo(
            "{\"error\":{\"code\":\"not_found\",\"message\":\"no note \\u003c7\\u003e\"}}\n");
    assertThat(reported).isEmpty();
    assertThat(get("/down")).startsWith("HTTP/1.1 503 ");
    assertThat(reported).hasSize(1);
  }

  @Test
  void answersAHeadRequestWithTheHeadersAlone() throws IOException {
    serve(exchange -> {
      throw new ServiceException(ErrorCode.NOT_FOUND, "note.read");
    });
    String response = exchange("HEAD / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assertThat(response).startsWith("HTTP/1.1 404 ").containsIgnoringCase("content-length: 62\r\n");
    assertThat(body(response)).isEmpty();
  }

  @Test
  void keepsTheConnectionAliveAfterAnAnswer() throws IOException {
    serve(exchange -> {
      throw new IllegalStateException();
    });
    String first = "GET /1 HTTP/1.1\r\nHost: test\r\n\r\n";
    String last = "GET /2 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    String twice = exchange(first + last);
    assertThat(twice.split("HTTP/1.1 500 ", -1)).hasSize(3);
  }

  @Test
  void answersAlthoughTheRequestBodyIsUnread() throws IOException {
    serve(exchange -> {
      throw new IllegalStateException();
    });
    String response = exchange(
        "POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 50000\r\n\r\n"
            + "x".repeat(50_000));
    assertThat(body(response)).isEqualTo(INTERNAL);
  }

  @Test
  void dropsTheHeadersOfTheBodyThatWasNotSent_andKeepsTheOthers() throws IOException {
    serve(exchange -> {
      exchange.getResponseHeaders().set("ETag", "\"7\"");
      exchange.getResponseHeaders().set("Content-Length", "7");
      exchange.getResponseHeaders().set("Content-Type", "text/csv");
      exchange.getResponseHeaders().set("Cache-Control", "public, max-age=60");
      exchange.getResponseHeaders().set("X-Request-Id", "abc");
      throw new IllegalStateException();
    });
    String response = get("/").toLowerCase(Locale.ROOT);
    assertThat(response)
        .contains(
            "x-request-id: abc",
            "content-type: application/json",
            "content-length: " + INTERNAL.length())
        .doesNotContain("etag", "text/csv", "cache-control", "content-length: 7\r");
  }

  @Test
  void answersInPlainText_whenAnInnerFilterHadBegunToCompress() throws IOException {
    Filter gzip = Filter.beforeHandler("gzip", exchange -> {
      OutputStream raw = exchange.getResponseBody();
      exchange.getResponseHeaders().set("Content-Encoding", "gzip");
      exchange.setStreams(null, new LazyGzip(raw));
    });
    serve(
        exchange -> {
          throw new IllegalStateException();
        },
        gzip);
    String response = get("/");
    assertThat(response).doesNotContainIgnoringCase("content-encoding");
    assertThat(body(response)).isEqualTo(INTERNAL);
  }

  private static final class LazyGzip extends OutputStream {
    private final OutputStream raw;
    private GZIPOutputStream gzip;

    private LazyGzip(OutputStream raw) {
      this.raw = raw;
    }

    @Override
    public void write(int b) throws IOException {
      if (gzip == null) {
        gzip = new GZIPOutputStream(raw);
      }
      gzip.write(b);
    }

    @Override
    public void close() throws IOException {
      if (gzip != null) {
        gzip.close();
      }
      raw.close();
    }
  }

  @ParameterizedTest
  @MethodSource("failures")
  void cutsTheConnection_whenHalfOfAChunkedBodyIsOut(Throwable failure) throws IOException {
    serve(exchange -> {
      exchange.sendResponseHeaders(200, 0);
      exchange.getResponseBody().write("half".getBytes(UTF_8));
      exchange.getResponseBody().flush();
      throw failure;
    });
    String response = exchange("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assertThat(response)
        .startsWith("HTTP/1.1 200 ")
        .endsWith("4\r\nhalf\r\n"); // and no final "0" chunk
    assertThat(reported).containsExactly(failure);
  }

  @Test
  void cutsTheConnection_whenHalfOfASizedBodyIsOut() throws IOException {
    serve(exchange -> {
      exchange.sendResponseHeaders(200, 100_000);
      exchange.getResponseBody().write(new byte[50_000]);
      exchange.getResponseBody().flush();
      throw new ServiceException(ErrorCode.NOT_FOUND, "note.read");
    });
    String response = exchange("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assertThat(body(response)).hasSize(50_000);
    assertThat(reported).hasSize(1);
  }

  @Test
  void leavesAGoodResponseAlone() throws IOException {
    serve(exchange -> {
      exchange.sendResponseHeaders(200, 2);
      exchange.getResponseBody().write("ok".getBytes(UTF_8));
      exchange.close();
    });
    assertThat(body(get("/"))).isEqualTo("ok");
    assertThat(reported).isEmpty();
  }

  @Test
  void answersAlthoughTheReporterFails() throws IOException {
    serve(
        new RecoveryFilter(
            (failure, exchange) -> RecoveryFilterTest.<RuntimeException>sneak(failure)),
        exchange -> {
          throw new AssertionError("both");
        });
    Records records = new Records();
    try (records) {
      assertThat(body(get("/"))).isEqualTo(INTERNAL);
    }
    assertThat(records.all)
        .singleElement()
        .satisfies(record -> assertThat(record.getThrown()).hasRootCauseMessage("both"));
  }

  @Test
  void logsMethodPathAndStack_butNeverTheQuery() throws IOException {
    serve(new RecoveryFilter(), exchange -> {
      throw new IllegalStateException("boom");
    });
    Records records = new Records();
    try (records) {
      get("/notes/7%0Aforged?token=s3cr3t");
    }
    assertThat(records.all).singleElement().satisfies(record -> {
      assertThat(record.getMessage())
          .isEqualTo("http panic recovered method=GET path=/notes/7%0Aforged");
      assertThat(record.getThrown()).hasMessage("boom");
    });
  }

  /** What System.Logger hands to java.util.logging while this is open. */
  private static final class Records extends Handler implements AutoCloseable {
    private final ConcurrentLinkedQueue<LogRecord> all = new ConcurrentLinkedQueue<>();
    private final Logger logger = Logger.getLogger(RecoveryFilter.class.getName());

    private Records() {
      logger.addHandler(this);
      logger.setUseParentHandlers(false);
    }

    @Override
    public void publish(LogRecord record) {
      all.add(record);
    }

    @Override
    public void flush() {}

    @Override
    public void close() {
      logger.removeHandler(this);
      logger.setUseParentHandlers(true);
    }
  }
}
