package dev.evalops.runtime.health;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.HttpServer;
import dev.evalops.fixtures.FreePort;
import java.io.IOException;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.SocketTimeoutException;
import java.net.URI;
import java.net.UnknownHostException;
import java.net.http.HttpClient;
import java.nio.channels.SocketChannel;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(60)
class HealthChecksTest {
  private static final InetAddress LOOPBACK = InetAddress.getLoopbackAddress();

  private final HttpClient client = HttpClient.newHttpClient();
  private final ExecutorService handlers = Executors.newCachedThreadPool();
  private HttpServer server;

  @BeforeEach
  void serve() throws IOException {
    server = HttpServer.create(new InetSocketAddress(LOOPBACK, 0), 0);
    server.setExecutor(handlers);
    server.start();
  }

  @AfterEach
  void stop() {
    server.stop(0);
    handlers.shutdownNow();
    client.shutdownNow();
  }

  @ParameterizedTest
  @ValueSource(ints = {200, 204, 299})
  void http_isHealthy_whenTheStatusIs2xx(int status) throws Exception {
    answer("/ready", status);

    HealthChecks.http(client, uri("/ready")).check();
  }

  @ParameterizedTest
  @ValueSource(ints = {302, 304, 400, 401, 404, 500, 503})
  void http_namesAnyOtherStatus(int status) {
    answer("/ready", status);

    assertThatThrownBy(() -> HealthChecks.http(client, uri("/ready")).check())
        .isInstanceOf(UnhealthyException.class)
        .hasMessage("unexpected_status: " + status);
  }

  @Test
  void http_doesNotFollowARedirectToALoginPage() {
    AtomicBoolean visited = new AtomicBoolean();
    server.createContext("/login", exchange -> {
      visited.set(true);
      exchange.sendResponseHeaders(200, -1);
    });
    server.createContext("/ready", exchange -> {
      exchange.getResponseHeaders().set("Location", "/login");
      exchange.sendResponseHeaders(302, -1);
    });

    assertThatThrownBy(() -> HealthChecks.http(client, uri("/ready")).check())
        .hasMessage("unexpected_status: 302");
    assertThat(visited).isFalse();
  }

  @Test
  void http_refusesAClientThatFollowsRedirects() {
    try (HttpClient following =
        HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL).build()) {
      assertThatThrownBy(() -> HealthChecks.http(following, uri("/ready")))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContaining("client follows redirects");
    }
  }

  @Test
  void http_readsNoEndlessBody() throws Exception {
    CompletableFuture<IOException> cut = new CompletableFuture<>();
    server.createContext("/ready", exchange -> {
      exchange.sendResponseHeaders(200, 0);
      try {
        while (true) {
          exchange.getResponseBody().write(new byte[8192]);
        }
      } catch (IOException e) {
        cut.complete(e);
      }
    });

    HealthChecks.http(client, uri("/ready")).check();

    assertThat(cut.get()).isNotNull();
  }

  @Test
  void http_doesNotWaitForABodyThatDoesNotCome() throws Exception {
    CountDownLatch checked = new CountDownLatch(1);
    server.createContext("/ready", exchange -> {
      exchange.sendResponseHeaders(200, 0);
      exchange.getResponseBody().flush();
      awaitQuietly(checked);
      exchange.close();
    });

    HealthChecks.http(client, uri("/ready")).check();
    checked.countDown();
  }

  @Test
  void http_isTimedOutAndEnds_whenTheServerDoesNotAnswer() throws Exception {
    CountDownLatch release = new CountDownLatch(1);
    server.createContext("/ready", exchange -> {
      awaitQuietly(release);
      exchange.close();
    });

    assertTimesOutAndEnds(HealthChecks.http(client, uri("/ready")));
    release.countDown();
  }

  @Test
  void http_showsNoHost_whenTheConnectionIsRefused() throws Exception {
    URI gone = uri("/ready");
    server.stop(0);

    HealthReport report =
        report(HealthChecker.builder().required("peer", HealthChecks.http(client, gone)));

    assertThat(report.checks().getFirst().error()).contains("check failed");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "/relative",
        "example.org",
        "ftp://example.org/",
        "http:opaque",
        "http:///nohost"
      })
  void http_reportsAUrlThatIsNone(String url) {
    assertThatThrownBy(() -> HealthChecks.http(client, URI.create(url)).check())
        .hasMessage("http_url_required");
  }

  @Test
  void reportsWhatIsNotConfigured() throws Exception {
    HealthReport report = report(HealthChecker.builder()
        .required("postgres", HealthChecks.postgres(null))
        .required("http", HealthChecks.http(client, null))
        .required("ping", HealthChecks.ping(null)));

    assertThat(report.healthy()).isFalse();
    assertThat(report.checks())
        .extracting(check -> check.error().orElseThrow())
        .containsExactly(
            "postgres_not_configured", "http_url_required", "dependency_not_configured");
  }

  @Test
  void tcp_isHealthy_whenThePortIsOpen() throws Exception {
    HealthChecks.tcp(LOOPBACK.getHostAddress(), server.getAddress().getPort()).check();
  }

  @Test
  void tcp_fails_whenThePortIsClosed() throws IOException {
    int port = FreePort.next();

    assertThatThrownBy(() -> HealthChecks.tcp(LOOPBACK.getHostAddress(), port).check())
        .isInstanceOf(ConnectException.class);
  }

  @Test
  void tcp_fails_whenTheNameIsUnknown() {
    assertThatThrownBy(() -> HealthChecks.tcp("no-such-host.invalid", 80).check())
        .isInstanceOf(UnknownHostException.class);
  }

  @Test
  void tcp_isTimedOutAndEnds_whenNobodyAnswers() throws Exception {
    // A listener that accepts nothing: once its queue is full, the kernel drops what comes.
    List<SocketChannel> queue = new ArrayList<>();
    try (ServerSocket hole = new ServerSocket(0, 1, LOOPBACK)) {
      fill(hole, queue);

      assertTimesOutAndEnds(HealthChecks.tcp(LOOPBACK.getHostAddress(), hole.getLocalPort()));
    } finally {
      for (SocketChannel channel : queue) {
        channel.close();
      }
    }
  }

  private static void fill(ServerSocket hole, List<SocketChannel> queue) throws IOException {
    while (true) {
      SocketChannel channel = SocketChannel.open();
      queue.add(channel);
      try {
        channel.socket().connect(hole.getLocalSocketAddress(), 100);
      } catch (SocketTimeoutException full) {
        return;
      }
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {-1, 0, 65536})
  void tcp_refusesAPortOutOfRange(int port) {
    assertThatThrownBy(() -> HealthChecks.tcp("localhost", port))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("port must be from 1 to 65535: " + port);
  }

  @Test
  void tcp_refusesABlankHost() {
    assertThatThrownBy(() -> HealthChecks.tcp(" ", 80))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("host must not be blank");
  }

  @Test
  void ping_isHealthyOnlyWhenAnsweredWithTrue() throws Exception {
    HealthReport report = report(HealthChecker.builder()
        .required("true", HealthChecks.ping(() -> true))
        .required("false", HealthChecks.ping(() -> false))
        .required("null", HealthChecks.ping(() -> null))
        .required("throws", HealthChecks.ping(() -> {
          throw new IOException();
        })));

    assertThat(report.checks())
        .extracting(HealthReport.Check::healthy)
        .containsExactly(true, false, false, false);
  }

  private static HealthReport report(HealthChecker.Builder checks) {
    try (HealthChecker health = checks.open()) {
      return health.report();
    }
  }

  private void answer(String path, int status) {
    server.createContext(path, exchange -> exchange.sendResponseHeaders(status, -1));
  }

  private URI uri(String path) {
    return URI.create(
        "http://" + LOOPBACK.getHostAddress() + ":" + server.getAddress().getPort() + path);
  }

  /** The check is reported as timed out, and its interrupt ends it. */
  private static void assertTimesOutAndEnds(HealthCheck check) throws InterruptedException {
    CompletableFuture<Thread> thread = new CompletableFuture<>();
    HealthReport report =
        report(HealthChecker.builder().checkTimeout(Duration.ofMillis(200)).required("hung", () -> {
          thread.complete(Thread.currentThread());
          check.check();
        }));

    assertThat(report.checks().getFirst().error()).contains("timed out");
    thread.join().join();
  }

  private static void awaitQuietly(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
