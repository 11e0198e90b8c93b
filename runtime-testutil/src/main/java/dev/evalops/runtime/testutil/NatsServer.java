package dev.evalops.runtime.testutil;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * A NATS server with JetStream for tests, from the {@code nats-server} on the path.
 *
 * <p>It listens on the loopback address alone, keeps its streams in a temporary directory, and ends with the JVM,
 * however that ends. Safe for use by several threads.
 */
public final class NatsServer extends TestServer {
  private static final Shared<NatsServer> SHARED = new Shared<>(() -> shared(Host.current()));

  private NatsServer(URI uri, Optional<Backend> own) {
    super(uri, own);
  }

  /**
   * The server of this JVM: the one that {@code TEST_NATS_URL} names, else one that is started at the first call and
   * lives until the JVM ends.
   *
   * @return the server, always the same
   * @throws IllegalStateException when there is none and none can be started; the message says what to install
   */
  public static NatsServer shared() {
    return SHARED.get();
  }

  static NatsServer shared(Host host) {
    URI uri = host.named("TEST_NATS_URL")
        .orElseGet(() -> ServerProcess.onFreePort(port -> start(port, host)).uri());
    return new NatsServer(uri, Optional.empty());
  }

  /**
   * Starts an own server on a free port, whatever the environment names.
   *
   * @return the server, ready
   * @throws IllegalStateException when it cannot be started; the message says what to install
   */
  public static NatsServer start() {
    return ServerProcess.onFreePort(NatsServer::start);
  }

  /**
   * Starts an own server on a given port, for a test whose clients are there first.
   *
   * @param port 1 to 65535
   * @return the server, ready
   * @throws IllegalStateException when it cannot be started, or the port is taken
   */
  public static NatsServer start(int port) {
    return start(port, Host.current());
  }

  static NatsServer start(int port, Host host) {
    checkPort(port);
    Backend backend = host.program("nats-server")
        .<Backend>map(program -> run(program, port))
        .orElseGet(
            () -> host.container("nats-server", "TEST_NATS_URL", () -> DockerServer.nats(port)));
    return new NatsServer(URI.create("nats://127.0.0.1:" + port), Optional.of(backend));
  }

  private static Backend run(Path program, int port) {
    Path directory = ServerProcess.newDirectory("nats");
    String name = directory.getFileName().toString();
    return run(
        program, port, directory, "-a 127.0.0.1 -p " + port + " -n " + name + " -js -sd store");
  }

  /** Starts one of several, as the configuration in its directory says; its name is that of the directory. */
  static NatsServer start(int port, Path directory, Host host, String configuration) {
    Path program = host.required("nats-server");
    try {
      Files.writeString(directory.resolve("nats.conf"), configuration);
    } catch (IOException e) {
      throw new UncheckedIOException("cannot prepare the NATS server: " + e.getMessage(), e);
    }
    Backend backend = run(program, port, directory, "-c nats.conf");
    return new NatsServer(URI.create("nats://127.0.0.1:" + port), Optional.of(backend));
  }

  private static Backend run(Path program, int port, Path directory, String arguments) {
    List<String> line = new ArrayList<>(List.of(program.toString()));
    line.addAll(List.of(arguments.split(" ")));
    String name = directory.getFileName().toString();
    return ServerProcess.start(
        new ServerProcess.Command(
            "NATS server", List.of(), line, "KILL", process -> greeting(port).contains(name)),
        directory);
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
