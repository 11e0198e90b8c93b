package dev.evalops.runtime.natsbus;

import static org.awaitility.Awaitility.await;

import dev.evalops.fixtures.FreePort;
import java.io.IOException;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/** A {@code nats-server} with a configuration of the test's own, which can change while it runs. Ends with the test. */
public final class ConfiguredNats implements AutoCloseable {
  private static final Duration AWHILE = Duration.ofSeconds(30);

  private final Path directory;
  private final int port;
  private Process process;

  /** In a directory of its own. */
  public ConfiguredNats(Path directory, String configuration) throws Exception {
    this(directory, FreePort.next(), configuration);
  }

  public ConfiguredNats(Path directory, int port, String configuration) throws Exception {
    this.directory = directory;
    this.port = port;
    start(configuration);
  }

  public int port() {
    return port;
  }

  public String address() {
    return "127.0.0.1:" + port;
  }

  /** Starts it; with the store that it had before. */
  public void start(String configuration) throws Exception {
    write(configuration);
    process = new ProcessBuilder(
            "nats-server", "-c", file().toString(), "-l", log().toString())
        .redirectErrorStream(true)
        .redirectOutput(ProcessBuilder.Redirect.DISCARD)
        .start();
    try {
      await().atMost(AWHILE).ignoreExceptions().until(() -> {
        try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), port)) {
          return socket.getInputStream().read() == 'I';
        }
      });
    } catch (RuntimeException e) {
      process.destroyForcibly();
      throw e;
    }
  }

  private Path file() {
    return directory.resolve("nats.conf");
  }

  private Path log() {
    return directory.resolve("nats.log");
  }

  private void write(String configuration) throws IOException {
    String store = "jetstream { store_dir: \"" + directory.resolve("store") + "\" }\n";
    Files.writeString(
        file(),
        "listen: " + address() + "\n" + (configuration.contains("jetstream") ? "" : store)
            + configuration + "\n");
  }

  /** Changes the configuration while it runs. */
  public void reload(String configuration) throws Exception {
    long before = logged("Reloaded server configuration");
    write(configuration);
    signal("HUP");
    await().atMost(AWHILE).until(() -> logged("Reloaded server configuration") > before);
  }

  /** How many lines of its log have this. */
  public long logged(String part) throws IOException {
    try (var lines = Files.lines(log())) {
      return lines.filter(line -> line.contains(part)).count();
    }
  }

  public void signal(String name) throws Exception {
    new ProcessBuilder("kill", "-" + name, Long.toString(process.pid())).start().waitFor();
  }

  public void stop() throws Exception {
    signal("CONT");
    process.destroy();
    if (!process.waitFor(10, TimeUnit.SECONDS)) {
      process.destroyForcibly().waitFor();
    }
  }

  @Override
  public void close() throws Exception {
    stop();
  }
}
