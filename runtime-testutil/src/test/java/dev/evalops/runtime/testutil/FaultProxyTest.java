package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class FaultProxyTest {
  private static final Duration SOON = Duration.ofSeconds(30);

  private Echo server;
  private FaultProxy proxy;

  @BeforeEach
  void start() throws IOException {
    server = new Echo();
    proxy = FaultProxy.start(server.port());
  }

  @AfterEach
  void stop() throws IOException {
    proxy.close();
    server.close();
  }

  private Socket connect() throws IOException {
    Socket client = new Socket();
    client.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), proxy.port()), 30_000);
    client.setSoTimeout((int) SOON.toMillis());
    return client;
  }

  private static void send(Socket client, String text) throws IOException {
    client.getOutputStream().write(text.getBytes(StandardCharsets.US_ASCII));
  }

  private static String receive(Socket client, int bytes) throws IOException {
    return new String(client.getInputStream().readNBytes(bytes), StandardCharsets.US_ASCII);
  }

  @Test
  void handsOnBothWays_andTheEndOfTheClient() throws IOException {
    try (Socket client = connect()) {
      send(client, "hello");
      assertThat(receive(client, 5)).isEqualTo("hello");
      assertThat(proxy.openConnections()).isEqualTo(1);
      client.shutdownOutput();
      assertThat(client.getInputStream().read()).isNegative();
    }
    assertThat(proxy.connections()).isEqualTo(1);
    await().atMost(SOON).until(() -> proxy.openConnections() == 0);
  }

  @Test
  void aBlackHoleKeepsWhatIsSent_andHealedHandsItOn() throws IOException {
    try (Socket before = connect()) {
      send(before, "a");
      assertThat(receive(before, 1)).isEqualTo("a");

      proxy.blackHole();
      send(before, "b");
      try (Socket during = connect()) {
        send(during, "c");
        for (Socket each : new Socket[] {before, during}) {
          each.setSoTimeout(50);
          assertThatThrownBy(() -> receive(each, 1)).isInstanceOf(SocketTimeoutException.class);
          each.setSoTimeout((int) SOON.toMillis());
        }
        assertThat(server.heard).containsExactly("a");

        proxy.heal();
        assertThat(receive(before, 1)).isEqualTo("b");
        assertThat(receive(during, 1)).isEqualTo("c");
      }
    }
  }

  @Test
  void cutResetsBothSides_andTakesNewConnections() throws IOException {
    try (Socket client = connect()) {
      send(client, "a");
      assertThat(receive(client, 1)).isEqualTo("a");

      proxy.cut();
      assertThatThrownBy(() -> receive(client, 1)).isInstanceOf(SocketException.class);
      await().atMost(SOON).until(() -> server.resets.size() == 1);
    }
    try (Socket client = connect()) {
      send(client, "b");
      assertThat(receive(client, 1)).isEqualTo("b");
    }
  }

  @Test
  void halfClosedAClientReadsTheEnd_andIsStillHeard() throws IOException {
    try (Socket client = connect()) {
      send(client, "a");
      assertThat(receive(client, 1)).isEqualTo("a");

      proxy.halfClose();
      assertThat(client.getInputStream().read()).isNegative();
      send(client, "b");
      send(client, "c");
      await().atMost(SOON).until(() -> String.join("", server.heard).equals("abc"));
    }
  }

  @Test
  void delaysWhatIsSent_untilHealed() throws IOException {
    try (Socket client = connect()) {
      proxy.delay(Duration.ofMillis(100));
      long begin = System.nanoTime();
      send(client, "a");
      assertThat(receive(client, 1)).isEqualTo("a");
      assertThat(Duration.ofNanos(System.nanoTime() - begin))
          .isGreaterThanOrEqualTo(Duration.ofMillis(200)); // there and back
    }
  }

  @Test
  void refusesADelayThatIsNone() {
    assertThatThrownBy(() -> proxy.delay(Duration.ofMillis(-1)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("delay must be zero or more: PT-0.001S");
    assertThatThrownBy(() -> proxy.delay(null)).isInstanceOf(NullPointerException.class);
  }

  @Test
  void leadsNewConnectionsToAnotherServer() throws IOException {
    try (Socket there = connect();
        Echo other = new Echo()) {
      send(there, "a");
      assertThat(receive(there, 1)).isEqualTo("a");

      proxy.target(other.port());
      try (Socket client = connect()) {
        send(client, "b");
        assertThat(receive(client, 1)).isEqualTo("b");
        assertThat(other.heard).containsExactly("b");
      }
      send(there, "c");
      assertThat(receive(there, 1)).isEqualTo("c");
    }
  }

  @Test
  void aServerThatIsAway_isAwayBehindIt_too() throws IOException {
    server.close();
    assertThatThrownBy(() -> {
          try (Socket client = connect()) { // which may have been reset already
            if (client.getInputStream().read() < 0) {
              throw new SocketException("ended");
            }
          }
        })
        .isInstanceOf(SocketException.class);
  }

  @Test
  void closedItListensNoMore() throws IOException {
    try (Socket client = connect()) {
      send(client, "a");
      assertThat(receive(client, 1)).isEqualTo("a");
      proxy.blackHole();
      proxy.close();
      proxy.close();
      assertThatThrownBy(() -> receive(client, 1)).isInstanceOf(SocketException.class);
    }
    assertThatThrownBy(() -> {
          try (Socket other = connect()) { // another server may have the port already
            send(other, "a");
            assertThat(receive(other, 1)).isNotEqualTo("a");
            throw new IOException("not the proxy");
          }
        })
        .isInstanceOf(IOException.class);
  }

  @Test
  void namesItsPort_inTheUrlOfTheServer() {
    assertThat(proxy.url("nats://127.0.0.1:" + server.port() + "/x"))
        .isEqualTo("nats://127.0.0.1:" + proxy.port() + "/x");
    assertThatThrownBy(() -> FaultProxy.start(0))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("port");
    assertThatThrownBy(() -> proxy.target(65_536)).isInstanceOf(IllegalArgumentException.class);
  }

  /** Says what it hears. */
  private static final class Echo implements AutoCloseable {
    private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    private final Queue<String> heard = new ConcurrentLinkedQueue<>();
    private final Queue<IOException> resets = new ConcurrentLinkedQueue<>();

    Echo() throws IOException {
      Thread.ofVirtual().start(() -> {
        try {
          while (true) {
            Socket socket = listener.accept();
            Thread.ofVirtual().start(() -> answer(socket));
          }
        } catch (IOException closed) {
          // the end
        }
      });
    }

    private void answer(Socket socket) {
      try (socket;
          InputStream in = socket.getInputStream();
          OutputStream out = socket.getOutputStream()) {
        byte[] buffer = new byte[100];
        for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
          heard.add(new String(buffer, 0, n, StandardCharsets.US_ASCII));
          out.write(buffer, 0, n);
        }
      } catch (IOException e) {
        resets.add(e);
      }
    }

    int port() {
      return listener.getLocalPort();
    }

    @Override
    public void close() throws IOException {
      listener.close();
    }
  }
}
