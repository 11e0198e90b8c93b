package dev.evalops.runtime.testutil;

import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
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
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * A Redis server for tests, from the {@code redis-server} on the path, else from the one that embedded-redis carries.
 *
 * <p>It listens on the loopback address alone, keeps nothing on disk (after {@link #kill()} and {@link #restart()} it
 * is empty, as a cache is), and ends with the JVM, however that ends. Safe for use by several threads.
 */
public final class RedisServer extends TestServer {
  static final String SENTINEL = "--sentinel";
  private static final Shared<RedisServer> SHARED = new Shared<>(() -> shared(Host.current()));

  private RedisServer(URI uri, Optional<Backend> own) {
    super(uri, own);
  }

  /**
   * The server of this JVM: the one that {@code TEST_REDIS_URL} names, else one that is started at the first call and
   * lives until the JVM ends.
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
    Backend backend = hasProgram(host)
        ? run(port, host, List.of())
        : host.container("redis-server", "TEST_REDIS_URL", () -> DockerServer.redis(port));
    return of(port, backend);
  }

  /** Starts one of several, with further arguments. */
  static RedisServer start(int port, Host host, List<String> arguments) {
    if (!hasProgram(host)) {
      throw new IllegalStateException(Host.missing("redis-server"));
    }
    return of(port, run(port, host, arguments));
  }

  private static RedisServer of(int port, Backend backend) {
    return new RedisServer(URI.create("redis://127.0.0.1:" + port), Optional.of(backend));
  }

  private static boolean hasProgram(Host host) {
    return host.program("redis-server").isPresent() || embedded(host) != null;
  }

  private static @Nullable URL embedded(Host host) {
    return RedisServer.class.getResource("/redis-server-7.0.15-" + host.platform());
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

  private static Backend run(int port, Host host, List<String> arguments) {
    Path directory = ServerProcess.newDirectory("redis");
    Path program = host.program("redis-server")
        .orElseGet(() -> unpack(Objects.requireNonNull(embedded(host)), directory));
    List<String> line = new ArrayList<>(List.of(program.toString()));
    if (arguments.contains(SENTINEL)) {
      line.add(configuration(directory));
    }
    line.addAll(List.of("--bind", "127.0.0.1", "--port", Integer.toString(port)));
    line.addAll(arguments.contains(SENTINEL) ? List.of() : List.of("--save", ""));
    line.addAll(arguments);
    return ServerProcess.start(
        new ServerProcess.Command(
            "Redis server", List.of(), line, "KILL", process -> processId(port) == process.pid()),
        directory);
  }

  // A sentinel keeps what it knows in its configuration, and does not start without.
  private static String configuration(Path directory) {
    try {
      return Files.writeString(directory.resolve("sentinel.conf"), "").toString();
    } catch (IOException e) {
      throw new UncheckedIOException("cannot prepare the Redis server: " + e.getMessage(), e);
    }
  }

  private static long processId(int port) throws IOException {
    return field(call(port, "INFO server"), "process_id").map(Long::parseLong).orElse(-1L);
  }

  /** What this server says of itself; empty when it does not answer. */
  Optional<String> info(String section, String name) {
    try {
      return field(call(port(), "INFO " + section), name);
    } catch (IOException e) {
      return Optional.empty();
    }
  }

  /** The value of a line {@code name:value}. */
  static Optional<String> field(String answer, String name) {
    return answer
        .lines()
        .filter(line -> line.startsWith(name + ":"))
        .map(line -> line.substring(name.length() + 1))
        .findFirst();
  }

  /**
   * Sends one command of words without blanks.
   *
   * @return the answer, a string or a number
   * @throws IOException if the server is away, does not answer, or answers with an error
   */
  static String call(int port, String command) throws IOException {
    return call(port, command, 1000);
  }

  static String call(int port, String command, int timeoutMillis) throws IOException {
    try (Socket socket = new Socket()) {
      socket.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), timeoutMillis);
      socket.setSoTimeout(timeoutMillis);
      socket.getOutputStream().write((command + "\r\n").getBytes(StandardCharsets.US_ASCII));
      InputStream in = new BufferedInputStream(socket.getInputStream());
      String line = line(in);
      return switch (line.charAt(0)) {
        case '$' ->
          new String(in.readNBytes(Integer.parseInt(line.substring(1))), StandardCharsets.UTF_8);
        case '+', ':' -> line.substring(1);
        default -> throw new IOException(command + ": " + line);
      };
    }
  }

  private static String line(InputStream in) throws IOException {
    StringBuilder line = new StringBuilder();
    for (int next = in.read(); next != '\n'; next = in.read()) {
      if (next < 0) {
        throw new EOFException("the Redis server closed the connection");
      }
      line.append((char) next);
    }
    return line.toString().stripTrailing();
  }
}
