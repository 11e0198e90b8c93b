package dev.evalops.runtime.testutil;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A NATS server with JetStream for tests, from the {@code nats-server} on the path.
 *
 * <p>It listens on the loopback address alone, keeps its streams in a temporary directory, and ends with the JVM, however
 * that ends. Safe for use by several threads.
 */
public final class NatsServer extends TestServer {
  private static final Shared<NatsServer> SHARED = new Shared<>(() -> shared(System.getenv()));

  private NatsServer(URI uri, Optional<Backend> own) {
    super(uri, own);
  }

  /**
   * The server of this JVM: the one that {@code TEST_NATS_URL} names, else one that is started at the first call and lives
   * until the JVM ends.
   *
   * @return the server, always the same
   * @throws IllegalStateException when there is none and none can be started; the message says what to install
   */
  public static NatsServer shared() {
    return SHARED.get();
  }

  static NatsServer shared(Map<String, String> environment) {
    URI uri = Servers.named("TEST_NATS_URL", environment)
        .orElseGet(() -> Servers.onFreePort(port -> start(port, environment)).uri());
    return new NatsServer(uri, Optional.empty());
  }

  /**
   * Starts an own server on a free port, whatever the environment names.
   *
   * @return the server, ready
   * @throws IllegalStateException when it cannot be started; the message says what to install
   */
  public static NatsServer start() {
    return Servers.onFreePort(NatsServer::start);
  }

  /**
   * Starts an own server on a given port, for a test whose clients are there first.
   *
   * @param port 1 to 65535
   * @return the server, ready
   * @throws IllegalStateException when it cannot be started, or the port is taken
   */
  public static NatsServer start(int port) {
    return start(port, System.getenv());
  }

  static NatsServer start(int port, Map<String, String> environment) {
    Path program = Servers.onPath("nats-server", environment)
        .orElseThrow(() -> Servers.missing("NATS", "nats-server", "TEST_NATS_URL"));
    Path directory = ServerProcess.newDirectory("nats");
    String name = directory.getFileName().toString();
    List<String> line = List.of(
        program.toString(),
        "-a",
        "127.0.0.1",
        "-p",
        Integer.toString(port),
        "-n",
        name,
        "-js",
        "-sd",
        directory + "/store");
    ServerProcess.Command command = new ServerProcess.Command(
        "NATS server", line, "KILL", process -> greeting(port).contains(name));
    return new NatsServer(
        URI.create("nats://127.0.0.1:" + port),
        Optional.of(ServerProcess.start(command, directory)));
  }

  // The server speaks first and gives its name.
  private static String greeting(int port) throws IOException {
    try (Socket socket = new Socket()) {
      socket.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 1000);
      socket.setSoTimeout(1000);
      String line = new BufferedReader(
              new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8))
          .readLine();
      return line == null ? "" : line;
    }
  }
}
