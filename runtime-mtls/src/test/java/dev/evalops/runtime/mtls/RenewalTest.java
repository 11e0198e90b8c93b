package dev.evalops.runtime.mtls;

import static java.nio.charset.StandardCharsets.US_ASCII;
import static java.nio.file.Files.createDirectory;
import static java.nio.file.Files.writeString;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpsConfigurator;
import dev.evalops.runtime.mtls.TestCa.Issued;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledForJreRange;
import org.junit.jupiter.api.condition.JRE;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What becomes of open connections, and what is told of a certificate, when the files change. */
@Timeout(120)
class RenewalTest {
  private final TestCa authority = TestCa.create();

  @TempDir
  Path dir;

  private Path files(String name, Issued issued) throws IOException {
    Path files = dir.resolve(name);
    if (!files.toFile().exists()) {
      createDirectory(files);
    }
    writeString(files.resolve("ca"), authority.pem());
    writeString(files.resolve("cert"), issued.chainPem());
    writeString(files.resolve("key"), issued.keyPem());
    return files;
  }

  private static ClientTls.Builder client(Path files) {
    return ClientTls.builder()
        .ca(files.resolve("ca"))
        .certificate(files.resolve("cert"), files.resolve("key"))
        .reloadEvery(Duration.ZERO);
  }

  private static ServerTls.Builder server(Path files) {
    return ServerTls.builder()
        .certificate(files.resolve("cert"), files.resolve("key"))
        .requireClients(files.resolve("ca"))
        .reloadEvery(Duration.ZERO);
  }

  /** Says from which port the request comes. */
  private static void sayPort(HttpExchange exchange) throws IOException {
    byte[] port = Integer.toString(exchange.getRemoteAddress().getPort()).getBytes(US_ASCII);
    exchange.getRequestBody().readAllBytes();
    exchange.sendResponseHeaders(200, port.length);
    exchange.getResponseBody().write(port);
    exchange.close();
  }

  private static HttpResponse<String> get(HttpClient client, URI uri) throws Exception {
    return client.send(
        HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(60)).build(),
        BodyHandlers.ofString());
  }

  @Test
  void theHttpClientMakesNewConnections_andClosesTheOldOnes_withoutCuttingARequest()
      throws Exception {
    CountDownLatch begun = new CountDownLatch(1);
    CountDownLatch end = new CountDownLatch(1);
    Path files = files("client", authority.issue("client"));
    try (ServerTls server = server(files("server", authority.issue("server"))).open();
        ClientTls tls = client(files).open();
        TestServer http = new TestServer(new HttpsConfigurator(server.sslContext()), exchange -> {
          if (exchange.getRequestURI().getPath().equals("/slow")) {
            begun.countDown();
            awaitQuietly(end);
          }
          sayPort(exchange);
        });
        Relay relay = new Relay(http.port())) {
      HttpClient client = tls.httpClient();
      URI uri = URI.create("https://localhost:" + relay.port() + "/");
      get(client, uri);
      get(client, uri);
      assertThat(relay.accepted.availablePermits()).isEqualTo(1);
      CompletableFuture<HttpResponse<String>> slow = client.sendAsync(
          HttpRequest.newBuilder(uri.resolve("/slow")).build(), BodyHandlers.ofString());
      begun.await();

      files("client", authority.issue("client renewed"));
      assertThat(tls.reload()).isTrue();
      get(client, uri);
      assertThat(relay.accepted.availablePermits()).isEqualTo(2);
      assertThat(slow).isNotDone();
      end.countDown();
      assertThat(slow.get(60, TimeUnit.SECONDS).statusCode()).isEqualTo(200);

      assertThat(relay.ended.tryAcquire(60, TimeUnit.SECONDS)).isTrue();
      get(client, uri);
      assertThat(relay.accepted.availablePermits()).isEqualTo(2);
      assertThat(relay.ended.availablePermits()).isZero();
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"close", "shutdown", "shutdownNow"})
  @EnabledForJreRange(min = JRE.JAVA_21)
  void theHttpClientMakesNoOther_onceItIsEnded(String method) throws Exception {
    Path files = files("client", authority.issue("client"));
    try (ServerTls server = server(files("server", authority.issue("server"))).open();
        ClientTls tls = client(files).open();
        TestServer http =
            new TestServer(new HttpsConfigurator(server.sslContext()), RenewalTest::sayPort)) {
      HttpClient client = tls.httpClient();
      get(client, http.uri());
      HttpClient.class.getMethod(method).invoke(client);
      files("client", authority.issue("client renewed"));
      assertThat(tls.reload()).isTrue();
      assertThatThrownBy(() -> get(client, http.uri())).isInstanceOf(IOException.class);
      assertThat(HttpClient.class
              .getMethod("awaitTermination", Duration.class)
              .invoke(client, Duration.ofSeconds(30)))
          .isEqualTo(true);
      assertThat(HttpClient.class.getMethod("isTerminated").invoke(client)).isEqualTo(true);
    }
  }

  @Test
  void theServersFilterEndsAConnection_afterItsNextResponse() throws Exception {
    Path files = files("server", authority.issue("server"));
    try (ServerTls server = server(files).open();
        ClientTls tls = client(files("client", authority.issue("client"))).open();
        TestServer http = new TestServer(
            new HttpsConfigurator(server.sslContext()), RenewalTest::sayPort, server.filter())) {
      HttpClient client = HttpClient.newBuilder()
          .sslContext(tls.sslContext())
          .sslParameters(tls.sslParameters())
          .build();
      String first = get(client, http.uri()).body();
      assertThat(get(client, http.uri()).body()).isEqualTo(first);

      files("server", authority.issue("server renewed"));
      assertThat(server.reload()).isTrue();
      HttpResponse<String> last = get(client, http.uri());
      assertThat(last.body()).isEqualTo(first);
      assertThat(last.headers().firstValue("Connection")).contains("close");
      String second = get(client, http.uri()).body();
      assertThat(second).isNotEqualTo(first);
      assertThat(get(client, http.uri()).body()).isEqualTo(second);
    }
  }

  @Test
  void theGaugeTellsTheTimeUntilTheCertificateExpires_untilItIsClosed() throws Exception {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    Instant now = Instant.now();
    Path files = files(
        "client",
        authority
            .request("CN=client", Keys.ec())
            .valid(now.minusSeconds(7200), now.minusSeconds(3600))
            .issue());
    try (ClientTls tls = client(files).metrics(registry).open();
        ServerTls server = server(files).metrics(registry).open();
        ClientTls without = ClientTls.builder()
            .ca(files.resolve("ca"))
            .reloadEvery(Duration.ZERO)
            .metrics(registry)
            .open()) {
      assertThat(without.notAfter()).isEmpty();
      assertThat(registry.getMeters()).hasSize(2);
      Gauge gauge = registry
          .get("tls.certificate.expiry")
          .tags("side", "client", "certificate", files.resolve("cert").toString())
          .gauge();
      assertThat(gauge.value()).isLessThanOrEqualTo(-3600);
      files(
          "client",
          authority
              .request("CN=client", Keys.ec())
              .valid(now.minusSeconds(3600), now.plusSeconds(360_000))
              .issue());
      assertThat(tls.reload()).isTrue();
      assertThat(gauge.value()).isBetween(300_000.0, 360_001.0);
      assertThat(server.reload()).isTrue();
    }
    assertThat(registry.getMeters()).isEmpty();
  }

  @Test
  void closingTwiceLeavesTheGaugeOfTheNext() throws Exception {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    Path files = files("client", authority.request("CN=client", Keys.ec()).issue());
    ClientTls first = client(files).metrics(registry).open();
    first.close();
    try (ClientTls next = client(files).metrics(registry).open()) {
      first.close();
      assertThat(next.notAfter()).isPresent();
      assertThat(registry.getMeters()).hasSize(1);
    }
  }

  private static void awaitQuietly(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /** Counts the connections that go through it, and those that the client has closed. */
  private static final class Relay implements AutoCloseable {
    final Semaphore accepted = new Semaphore(0);
    final Semaphore ended = new Semaphore(0);
    private final ServerSocket socket = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());

    Relay(int target) throws IOException {
      start(() -> {
        while (true) {
          Socket client = socket.accept();
          accepted.release();
          Socket server = new Socket(InetAddress.getLoopbackAddress(), target);
          start(() -> {
            client.getInputStream().transferTo(server.getOutputStream());
            server.close();
            ended.release();
          });
          start(() -> {
            server.getInputStream().transferTo(client.getOutputStream());
            client.close();
          });
        }
      });
    }

    private interface Work {
      void run() throws IOException;
    }

    private static void start(Work work) {
      Thread thread = new Thread(() -> {
        try {
          work.run();
        } catch (IOException closed) {
          // the end
        }
      });
      thread.setDaemon(true);
      thread.start();
    }

    int port() {
      return socket.getLocalPort();
    }

    @Override
    public void close() throws IOException {
      socket.close();
    }
  }
}
