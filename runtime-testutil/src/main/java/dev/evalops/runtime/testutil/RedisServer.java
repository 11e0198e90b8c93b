package dev.evalops.runtime.testutil;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/**
 * A Redis server for tests, from the {@code redis-server} on the path, else from the one that embedded-redis carries.
 *
 * <p>It listens on the loopback address alone, keeps nothing on disk (after {@link #kill()} and {@link #restart()} it is
 * empty, as a cache is), and ends with the JVM, however that ends. Safe for use by several threads.
 */
public final class RedisServer extends TestServer {
  private static final Shared<RedisServer> SHARED = new Shared<>(() -> shared(System.getenv()));

  private RedisServer(URI uri, Optional<Backend> own) {
    super(uri, own);
  }

  /**
   * The server of this JVM: the one that {@code TEST_REDIS_URL} names, else one that is started at the first call and lives
   * until the JVM ends.
   *
   * @return the server, always the same
   * @throws IllegalStateException when there is none and none can be started; the message says what to install
   */
  public static RedisServer shared() {
    return SHARED.get();
  }

  static RedisServer shared(Map<String, String> environment) {
    URI uri = Servers.named("TEST_REDIS_URL", environment)
        .orElseGet(() -> Servers.onFreePort(port -> start(port, environment)).uri());
    return new RedisServer(uri, Optional.empty());
  }

  /**
   * Starts an own server on a free port, whatever the environment names.
   *
   * @return the server, ready
   * @throws IllegalStateException when it cannot be started; the message says what to install
   */
  public static RedisServer start() {
    return Servers.onFreePort(RedisServer::start);
  }

  /**
   * Starts an own server on a given port, for a test whose clients are there first.
   *
   * @param port 1 to 65535
   * @return the server, ready
   * @throws IllegalStateException when it cannot be started, or the port is taken
   */
  public static RedisServer start(int port) {
    return start(port, System.getenv());
  }

  static RedisServer start(int port, Map<String, String> environment) {
    Path directory = ServerProcess.newDirectory("redis");
    String program = Servers.onPath("redis-server", environment)
        .or(() -> embedded(directory, System.getProperty("os.name"), System.getProperty("os.arch")))
        .orElseThrow(() -> Servers.missing("Redis", "redis-server", "TEST_REDIS_URL"))
        .toString();
    List<String> line = List.of(
        program,
        "--bind",
        "127.0.0.1",
        "--port",
        Integer.toString(port),
        "--dir",
        directory.toString(),
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no");
    ServerProcess.Command command = new ServerProcess.Command(
        "Redis server", line, "KILL", process -> processId(port) == process.pid());
    return new RedisServer(
        URI.create("redis://127.0.0.1:" + port),
        Optional.of(ServerProcess.start(command, directory)));
  }

  static Optional<Path> embedded(Path directory, String os, String arch) {
    String system =
        os.toLowerCase(Locale.ROOT).startsWith("mac") ? "darwin" : os.toLowerCase(Locale.ROOT);
    String machine = arch.equals("aarch64") ? "arm64" : arch.equals("x86_64") ? "amd64" : arch;
    Path program = directory.resolve("redis-server");
    try (InputStream in =
        RedisServer.class.getResourceAsStream("/redis-server-7.0.15-" + system + "-" + machine)) {
      if (in == null) {
        return Optional.empty();
      }
      Files.copy(in, program);
      Files.setPosixFilePermissions(program, PosixFilePermissions.fromString("r-x------"));
      return Optional.of(program);
    } catch (IOException e) {
      throw new UncheckedIOException("cannot unpack the Redis server: " + e.getMessage(), e);
    }
  }

  private static long processId(int port) throws IOException {
    try (Socket socket = new Socket()) {
      socket.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 1000);
      socket.setSoTimeout(1000);
      socket.getOutputStream().write("INFO server\r\nQUIT\r\n".getBytes(StandardCharsets.US_ASCII));
      return new BufferedReader(
              new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8))
          .lines()
          .filter(line -> line.startsWith("process_id:"))
          .mapToLong(line -> Long.parseLong(line.substring("process_id:".length())))
          .findFirst()
          .orElse(-1);
    } catch (UncheckedIOException e) {
      throw e.getCause();
    }
  }
}
