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
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.Optional;

/**
 * A Redis server for tests, from the {@code redis-server} on the path, else from the one that embedded-redis carries.
 *
 * <p>It listens on the loopback address alone, keeps nothing on disk (after {@link #kill()} and {@link #restart()} it is
 * empty, as a cache is), and ends with the JVM, however that ends. Safe for use by several threads.
 */
public final class RedisServer extends TestServer {
  private static final Shared<RedisServer> SHARED = new Shared<>(() -> shared(Host.current()));

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

  static RedisServer shared(Host host) {
    URI uri = host.named("TEST_REDIS_URL")
        .orElseGet(() -> ServerProcess.onFreePort(port -> start(port, host)).uri());
    return new RedisServer(uri, Optional.empty());
  }

  /**
   * Starts an own server on a free port, whatever the environment names.
   *
   * @return the server, ready
   * @throws IllegalStateException when it cannot be started; the message says what to install
   */
  public static RedisServer start() {
    return ServerProcess.onFreePort(RedisServer::start);
  }

  /**
   * Starts an own server on a given port, for a test whose clients are there first.
   *
   * @param port 1 to 65535
   * @return the server, ready
   * @throws IllegalStateException when it cannot be started, or the port is taken
   */
  public static RedisServer start(int port) {
    return start(port, Host.current());
  }

  static RedisServer start(int port, Host host) {
    checkPort(port);
    Optional<Path> installed = host.program("redis-server");
    URL embedded = RedisServer.class.getResource("/redis-server-7.0.15-" + host.platform());
    Backend backend;
    if (installed.isPresent() || embedded != null) {
      Path directory = ServerProcess.newDirectory("redis");
      backend = run(
          installed.isPresent() ? installed.get() : unpack(embedded, directory), port, directory);
    } else {
      backend = host.container("redis-server", "TEST_REDIS_URL", () -> DockerServer.redis(port));
    }
    return new RedisServer(URI.create("redis://127.0.0.1:" + port), Optional.of(backend));
  }

  private static Path unpack(URL embedded, Path directory) {
    Path program = directory.resolve("redis-server");
    try (InputStream in = embedded.openStream()) {
      Files.copy(in, program);
      Files.setPosixFilePermissions(program, PosixFilePermissions.fromString("r-x------"));
      return program;
    } catch (IOException e) {
      throw new UncheckedIOException("cannot unpack the Redis server: " + e.getMessage(), e);
    }
  }

  private static Backend run(Path program, int port, Path directory) {
    List<String> line = List.of(
        program.toString(), "--bind", "127.0.0.1", "--port", Integer.toString(port), "--save", "");
    return ServerProcess.start(
        new ServerProcess.Command(
            "Redis server", List.of(), line, "KILL", process -> processId(port) == process.pid()),
        directory);
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
