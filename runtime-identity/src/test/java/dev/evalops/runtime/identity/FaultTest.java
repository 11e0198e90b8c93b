package dev.evalops.runtime.identity;

import static dev.evalops.runtime.identity.Failures.failure;
import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.identity.IdentityException.Reason;
import dev.evalops.runtime.identity.RawServer.Behaviour;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * An identity service that misbehaves on the wire. The server goes on for as long as it is let; the client does not.
 */
@Timeout(60)
class FaultTest {
  private static final Duration TIMEOUT = Duration.ofSeconds(3);
  private static final String OK = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
  private static final String CHUNKED = OK + "Transfer-Encoding: chunked\r\n\r\n";

  private static final byte[] CHUNK_HEAD = "4000\r\n".getBytes(ISO_8859_1);
  private static final byte[] CHUNK_END = "\r\n".getBytes(ISO_8859_1);

  private static IdentityException introspect(Behaviour behaviour) throws IOException {
    try (RawServer server = new RawServer(behaviour)) {
      return introspect(server.url(), TIMEOUT);
    }
  }

  private static IdentityException introspect(String url, Duration timeout) {
    try (IdentityClient client =
        IdentityClient.builder(url).requestTimeout(timeout).open()) {
      return failure(() -> client.introspect("tok-1"));
    }
  }

  private static void assertUnavailable(IdentityException failure, String detail) {
    assertThat(failure.reason()).isEqualTo(Reason.UNAVAILABLE);
    assertThat(failure).hasMessageStartingWith("identity_unavailable: " + detail);
  }

  @Test
  void unavailable_whenNobodyListens() throws IOException {
    int port = FreePort.next();
    assertUnavailable(
        introspect("http://localhost:" + port + "/", TIMEOUT), "identity_request: Connect");
  }

  @Test
  void unavailable_withinTheTimeout_whenNobodyAcceptsTheConnection() throws IOException {
    try (ServerSocket full = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        Socket first = new Socket(full.getInetAddress(), full.getLocalPort());
        Socket second = new Socket(full.getInetAddress(), full.getLocalPort())) {
      assertUnavailable(
          introspect("http://127.0.0.1:" + full.getLocalPort() + "/", TIMEOUT),
          "identity_request: no complete answer within 3000 ms");
    }
  }

  @Test
  void unavailable_whenTheHostHasNoAddress() {
    assertUnavailable(
        introspect("http://identity.invalid/", Duration.ofSeconds(10)), "identity_request: ");
  }

  @Test
  void unavailable_whenTheConnectionIsReset() throws IOException {
    assertUnavailable(
        introspect((socket, request) -> socket.setSoLinger(true, 0)), "identity_request: ");
  }

  @Test
  void unavailable_whenTheConnectionIsResetWithinTheBody() throws IOException {
    assertUnavailable(
        introspect((socket, request) -> {
          RawServer.write(socket, OK + "Content-Length: 15\r\n\r\n{\"active\":");
          socket.setSoLinger(true, 0);
        }),
        "read_response: ");
  }

  @Test
  void unavailable_whenTheBodyIsCutShort() throws IOException {
    assertUnavailable(
        introspect((socket, request) ->
            RawServer.write(socket, OK + "Content-Length: 1000\r\n\r\n{\"active\":true}")),
        "read_response: ");
  }

  @Test
  void unavailable_whenTheServerSpeaksNoHttp() throws IOException {
    assertUnavailable(
        introspect((socket, request) -> RawServer.write(socket, "SSH-2.0-OpenSSH_9.6\r\n\r\n")),
        "identity_request: ");
  }

  @Test
  void unavailable_withinTheTimeout_whenNothingIsAnswered() throws Exception {
    CountDownLatch gone = new CountDownLatch(1);
    IdentityException failure = introspect((socket, request) -> {
      RawServer.awaitEnd(socket);
      gone.countDown();
    });
    assertUnavailable(failure, "identity_request: no complete answer within 3000 ms");
    assertThat(gone.await(20, TimeUnit.SECONDS)).as("the connection was closed").isTrue();
  }

  @Test
  void unavailable_withinTheTimeout_whenTheHeadersDrip() throws IOException {
    assertUnavailable(
        introspect((socket, request) -> drip(() -> RawServer.write(socket, "H"))),
        "identity_request: no complete answer within 3000 ms");
  }

  @Test
  void unavailable_withinTheTimeout_whenTheBodyDrips() throws Exception {
    CountDownLatch gone = new CountDownLatch(1);
    try (RawServer server = new RawServer((socket, request) -> {
          RawServer.write(socket, CHUNKED);
          try {
            drip(() -> RawServer.write(socket, "1\r\n \r\n"));
          } catch (IOException e) {
            gone.countDown();
          }
        });
        IdentityClient client =
            IdentityClient.builder(server.url()).requestTimeout(TIMEOUT).open()) {
      assertUnavailable(
          failure(() -> client.introspect("tok-1")),
          "read_response: no complete answer within 3000 ms");
      assertThat(gone.await(20, TimeUnit.SECONDS))
          .as("the connection was closed")
          .isTrue();
    }
  }

  @Test
  void invalid_whenTheBodyOfTheRefusalNeverEnds() throws IOException {
    IdentityException failure = introspect((socket, request) -> {
      RawServer.write(socket, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 10\r\n\r\nno");
      RawServer.awaitEnd(socket);
    });
    assertThat(failure.reason()).isEqualTo(Reason.INVALID_TOKEN);
  }

  @Test
  void unavailable_withTheStatus_whenTheBodyOfAnErrorIsTooLong() throws IOException {
    IdentityException failure = introspect((socket, request) -> {
      RawServer.write(socket, "HTTP/1.1 502 Bad\r\nTransfer-Encoding: chunked\r\n\r\n");
      pour(socket.getOutputStream(), Long.MAX_VALUE, new AtomicLong());
    });
    assertThat(failure).hasMessage("identity_unavailable: status_502");
  }

  @Test
  void unavailable_whenTheBodyIsTooLong() throws Exception {
    long read = readOf(Long.MAX_VALUE);
    assertThat(read).isLessThan(64L << 20); // 1 MiB, and what the sockets' buffers hold
  }

  @Test
  @Tag("soak")
  void unavailable_whenTheBodyIsAGibibyte() throws Exception {
    long read = readOf(1L << 30);
    System.out.println("of a body of 1 GiB the server could send " + read + " bytes");
    assertThat(read).isLessThan(64L << 20);
  }

  private static long readOf(long length) throws Exception {
    AtomicLong poured = new AtomicLong();
    CountDownLatch gone = new CountDownLatch(1);
    try (RawServer server = new RawServer((socket, request) -> {
          RawServer.write(
              socket,
              length == Long.MAX_VALUE ? CHUNKED : OK + "Content-Length: " + length + "\r\n\r\n");
          try {
            pour(socket.getOutputStream(), length, poured);
          } catch (IOException e) {
            gone.countDown();
          }
        });
        IdentityClient client = IdentityClient.builder(server.url())
            .requestTimeout(Duration.ofSeconds(30))
            .open()) {
      assertThat(failure(() -> client.introspect("tok-1")))
          .hasMessageContaining(
              "identity_unavailable: read_response: IOException: longer than 1048576 bytes");
      assertThat(gone.await(20, TimeUnit.SECONDS))
          .as("the connection was closed")
          .isTrue();
    }
    return poured.get();
  }

  /** Chunked if it has no end. */
  private static void pour(OutputStream out, long length, AtomicLong poured) throws IOException {
    byte[] block = new byte[16 * 1024];
    while (poured.get() < length) {
      if (length == Long.MAX_VALUE) {
        out.write(CHUNK_HEAD);
        out.write(block);
        out.write(CHUNK_END);
      } else {
        out.write(block);
      }
      poured.addAndGet(block.length);
    }
  }

  private interface Drop {
    void fall() throws IOException;
  }

  private static void drip(Drop drop) throws IOException {
    CountDownLatch never = new CountDownLatch(1);
    try {
      do {
        drop.fall();
      } while (!never.await(20, TimeUnit.MILLISECONDS));
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt(); // the test is over
    }
  }

  @Test
  void worksAgain_afterEveryFault() throws Exception {
    AtomicLong connections = new AtomicLong();
    try (RawServer server = new RawServer((socket, request) -> {
          if (connections.incrementAndGet() < 4) {
            socket.setSoLinger(true, 0);
          } else {
            RawServer.write(socket, OK + "Content-Length: 15\r\n\r\n{\"active\":true}");
          }
        });
        IdentityClient client = IdentityClient.builder(server.url()).open()) {
      await()
          .atMost(Duration.ofSeconds(30))
          .ignoreExceptionsInstanceOf(IdentityException.class)
          .until(() -> client.introspect("tok-1").active());
    }
  }

  @Test
  void asksOnceMore_whenAKeptConnectionEndsUnderTheRequest() throws Exception {
    AtomicLong connections = new AtomicLong();
    try (RawServer server = new RawServer((socket, request) -> {
          connections.incrementAndGet();
          RawServer.write(socket, OK + "Content-Length: 15\r\n\r\n{\"active\":true}");
          var unused = socket.getInputStream().read(); // the next request has begun
        });
        IdentityClient client = IdentityClient.builder(server.url()).open()) {
      assertThat(client.introspect("tok-1").active()).isTrue();
      assertThat(client.introspect("tok-1").active()).isTrue();
      assertThat(connections).hasValue(2);
    }
  }

  @Test
  void asksNoMoreThanTwice_whenEveryConnectionEnds() throws Exception {
    AtomicLong requests = new AtomicLong();
    try (RawServer server = new RawServer((socket, request) -> {
          if (requests.incrementAndGet() == 1) {
            RawServer.write(
                socket, OK + "Content-Length: 15\r\nConnection: close\r\n\r\n{\"active\":true}");
          }
        });
        IdentityClient client = IdentityClient.builder(server.url()).open()) {
      assertThat(client.introspect("tok-1").active()).isTrue();
      assertUnavailable(failure(() -> client.introspect("tok-2")), "identity_request: ");
      assertThat(requests).hasValue(3);
    }
  }

  @Test
  void closeEndsACallThatIsUnderWay() throws Exception {
    CountDownLatch asked = new CountDownLatch(1);
    try (RawServer server = new RawServer((socket, request) -> {
      asked.countDown();
      RawServer.awaitEnd(socket);
    })) {
      IdentityClient client = IdentityClient.builder(server.url())
          .requestTimeout(Duration.ofSeconds(50))
          .open();
      Thread closer = new Thread(() -> {
        try {
          asked.await();
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
        }
        client.close();
      });
      closer.start();
      assertUnavailable(
          failure(() -> client.introspect("tok-1")), "identity_request: the client is closed");
      closer.join(TimeUnit.SECONDS.toMillis(10));
      assertThat(closer.isAlive()).isFalse();
    }
  }

  @Test
  void ownThreadsEnd_whenClosed() throws Exception {
    try (IdentityServer server = new IdentityServer()) {
      server.then(200, "{\"active\":true}");
      IdentityClient client = IdentityClient.builder(server.url()).open();
      client.introspect("tok-1");
      assertThat(threads("identity-timer")).isPositive();
      client.close();
      await().atMost(Duration.ofSeconds(20)).until(() -> threads("identity-timer") == 0);
      await().atMost(Duration.ofSeconds(20)).until(() -> threads("identity-close") == 0);
    }
  }

  private static long threads(String name) {
    return Thread.getAllStackTraces().keySet().stream()
        .filter(thread -> thread.getName().equals(name))
        .count();
  }
}
