package dev.evalops.runtime.ratelimit;

import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisURI;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.sync.RedisCommands;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.awaitility.Awaitility;

/** One {@code redis-server} of a cluster, of a master with its replicas, or a sentinel. */
final class RedisNode implements AutoCloseable {
  private static final Duration SOON = Duration.ofSeconds(30);

  final int port;
  private final Process process;

  private RedisNode(int port, Process process) {
    this.port = port;
    this.process = process;
  }

  /** Starts a server with these further arguments in a folder of its own. */
  static RedisNode start(Path parent, String... arguments) throws IOException {
    int port = freePort();
    Path folder = Files.createDirectories(parent.resolve("node-" + port));
    List<String> line = new ArrayList<>(List.of("redis-server"));
    if (arguments.length > 0 && arguments[0].equals("--sentinel")) {
      line.add(Files.writeString(folder.resolve("sentinel.conf"), "").toString());
    }
    line.addAll(List.of(
        "--bind", "127.0.0.1", "--port", Integer.toString(port), "--dir", folder.toString()));
    line.addAll(List.of(arguments));
    if (!line.contains("--sentinel")) {
      line.addAll(List.of("--save", "", "--repl-diskless-sync-delay", "0"));
    }
    Process process = new ProcessBuilder(line)
        .redirectErrorStream(true)
        .redirectOutput(folder.resolve("log").toFile())
        .start();
    RedisNode node = new RedisNode(port, process);
    Awaitility.await()
        .atMost(SOON)
        .ignoreExceptionsInstanceOf(RedisException.class)
        .until(() -> node.call(redis -> redis.ping()).equals("PONG"));
    return node;
  }

  static int freePort() throws IOException {
    try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      return socket.getLocalPort();
    }
  }

  <T> T call(Function<RedisCommands<String, String>, T> command) {
    RedisURI uri = RedisURI.builder()
        .withHost("127.0.0.1")
        .withPort(port)
        .withTimeout(Duration.ofSeconds(5))
        .build();
    try (RedisClient client = RedisClient.create(uri);
        StatefulRedisConnection<String, String> connection = client.connect()) {
      return command.apply(connection.sync());
    }
  }

  void kill() throws InterruptedException {
    process.destroyForcibly().waitFor();
  }

  void pause() throws IOException, InterruptedException {
    signal("STOP");
  }

  void resume() throws IOException, InterruptedException {
    signal("CONT");
  }

  private void signal(String name) throws IOException, InterruptedException {
    new ProcessBuilder("kill", "-" + name, Long.toString(process.pid()))
        .start()
        .waitFor(10, TimeUnit.SECONDS);
  }

  @Override
  public void close() {
    process.destroyForcibly();
  }
}
