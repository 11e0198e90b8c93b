package dev.evalops.runtime.postgres;

import dev.evalops.fixtures.FreePort;
import java.io.IOException;
import java.net.InetAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * A PgBouncer in transaction mode in front of a database {@code postgres}; the user is {@code test}, its password too.
 */
final class PgBouncer implements AutoCloseable {
  private final Process process;
  private final Path directory;
  private final int port;

  private PgBouncer(Process process, Path directory, int port) {
    this.process = process;
    this.directory = directory;
    this.port = port;
  }

  static PgBouncer start(int serverPort, String... settings)
      throws IOException, InterruptedException {
    Path directory = Files.createTempDirectory("pgbouncer");
    // It gives up the rights of root, and reads its files after that too.
    Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxr-xr-x"));
    int port = FreePort.next();
    Path users = Files.writeString(directory.resolve("users.txt"), "\"test\" \"test\"\n");
    Path ini = Files.writeString(directory.resolve("pgbouncer.ini"), """
        [databases]
        postgres = host=127.0.0.1 port=%d
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = %d
        unix_socket_dir =
        auth_type = plain
        auth_file = %s
        pool_mode = transaction
        default_pool_size = 8
        max_client_conn = 200
        %s
        """.formatted(
            serverPort, port, users, String.join("\n", settings)));
    boolean root = "root".equals(System.getProperty("user.name"));
    List<String> command = Stream.of(
            Stream.of(binary()),
            root ? Stream.of("-u", "nobody") : Stream.<String>empty(),
            Stream.of(ini.toString()))
        .flatMap(each -> each)
        .toList();
    Process process = new ProcessBuilder(command)
        .redirectErrorStream(true)
        .redirectOutput(directory.resolve("log").toFile())
        .start();
    PgBouncer bouncer = new PgBouncer(process, directory, port);
    for (int i = 0; i < 3000; i++) {
      try {
        new java.net.Socket(InetAddress.getLoopbackAddress(), port).close();
        return bouncer;
      } catch (IOException notYet) {
        if (!process.isAlive() || i == 2999) {
          String log = Files.readString(directory.resolve("log"));
          bouncer.close();
          throw new IllegalStateException("pgbouncer did not start: " + log, notYet);
        }
        process.waitFor(20, TimeUnit.MILLISECONDS);
      }
    }
    throw new IllegalStateException();
  }

  private static String binary() {
    String path = System.getenv("PATH") + ":/usr/sbin:/usr/local/sbin";
    for (String directory : path.split(":", -1)) {
      Path file = Path.of(directory, "pgbouncer");
      if (Files.isExecutable(file)) {
        return file.toString();
      }
    }
    throw new IllegalStateException(
        "pgbouncer is not on the path; run scripts/install-test-servers");
  }

  int port() {
    return port;
  }

  String url() {
    return "postgres://test:test@127.0.0.1:" + port + "/postgres";
  }

  @Override
  public void close() throws IOException {
    process.destroyForcibly().onExit().join();
    try (Stream<Path> files = Files.list(directory)) {
      for (Path file : files.toList()) {
        Files.delete(file);
      }
    }
    Files.delete(directory);
  }
}
