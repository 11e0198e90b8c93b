package dev.evalops.examples.notes;

import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.RedisServer;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;
import java.util.stream.Stream;

/**
 * How long the example takes until {@code /readyz} says 200, with its servers up: as a process of its own, without and
 * with an ahead-of-time cache, in turn.
 */
public final class ExampleStart {
  private static final int ROUNDS = 7;

  private record Start(double millis, double processorMillis) {}

  private final Map<String, String> environment;
  private final String classPath;

  private ExampleStart(Map<String, String> environment, String classPath) {
    this.environment = environment;
    this.classPath = classPath;
  }

  /**
   * Runs it and prints a table.
   *
   * @param args none
   * @throws Exception if the service does not start
   */
  public static void main(String[] args) throws Exception {
    Path folder = Files.createTempDirectory("example-start");
    try (PostgresServer postgres = PostgresServer.start();
        RedisServer redis = RedisServer.start();
        NatsServer nats = NatsServer.start()) {
      ExampleStart example = new ExampleStart(
          Map.of(
              "DATABASE_URL", postgres.url(),
              "REDIS_URL", redis.url(),
              "NATS_URL", nats.url(),
              "IDENTITY_URL", "http://127.0.0.1:9"),
          jars(folder));
      Path cache = folder.resolve("example.aot");
      example.start("-XX:AOTCacheOutput=" + cache);
      List<Start> without = new ArrayList<>();
      List<Start> with = new ArrayList<>();
      for (int round = 0; round < ROUNDS; round++) {
        without.add(example.start());
        with.add(example.start("-XX:AOTCache=" + cache, "-XX:AOTMode=on"));
      }
      print("without a cache", without);
      print("with a cache", with);
    } finally {
      try (Stream<Path> files = Files.walk(folder)) {
        files.sorted((a, b) -> b.compareTo(a)).map(Path::toFile).forEach(File::delete);
      }
    }
  }

  private Start start(String... options) throws Exception {
    int port = freePort();
    String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
    List<String> command = new ArrayList<>(List.of(java));
    command.addAll(List.of(options));
    command.addAll(List.of("-cp", classPath, "dev.evalops.examples.notes.NotesService"));
    ProcessBuilder builder = new ProcessBuilder(command)
        .redirectErrorStream(true)
        .redirectOutput(ProcessBuilder.Redirect.DISCARD);
    builder.environment().putAll(environment);
    builder.environment().put("PORT", Integer.toString(port));
    long begin = System.nanoTime();
    Process process = builder.start();
    try (HttpClient client = HttpClient.newHttpClient()) {
      HttpRequest ready = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + port + "/readyz"))
          .timeout(Duration.ofSeconds(10))
          .build();
      while (!isReady(client, ready)) {
        if (!process.isAlive() || System.nanoTime() - begin > TimeUnit.MINUTES.toNanos(1)) {
          throw new IllegalStateException("the service has ended, or is not ready after a minute");
        }
        Thread.sleep(25); // asked more often, the service would spend its start on answers
      }
      return new Start(
          (System.nanoTime() - begin) / 1e6,
          process.info().totalCpuDuration().orElseThrow().toNanos() / 1e6);
    } finally {
      process.destroy();
      process.waitFor();
    }
  }

  private static boolean isReady(HttpClient client, HttpRequest request)
      throws InterruptedException {
    try {
      return client.send(request, BodyHandlers.discarding()).statusCode() == 200;
    } catch (IOException notYet) {
      return false;
    }
  }

  private static int freePort() throws IOException {
    try (ServerSocket socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }

  private static void print(String what, List<Start> starts) {
    double[] millis = starts.stream().mapToDouble(Start::millis).sorted().toArray();
    double[] processor =
        starts.stream().mapToDouble(Start::processorMillis).sorted().toArray();
    System.out.printf(
        Locale.ROOT,
        "%-16s ready after %,.0f ms (%,.0f-%,.0f), %,.0f ms of processor time (%,.0f-%,.0f)%n",
        what,
        millis[ROUNDS / 2],
        millis[0],
        millis[ROUNDS - 1],
        processor[ROUNDS / 2],
        processor[0],
        processor[ROUNDS - 1]);
  }

  /** The class path of this process, with a jar for each folder: a cache knows no folders. */
  private static String jars(Path folder) throws IOException {
    List<String> jars = new ArrayList<>();
    for (String each : System.getProperty("java.class.path").split(File.pathSeparator, -1)) {
      Path path = Path.of(each);
      jars.add(Files.isDirectory(path) ? jar(path, folder.resolve(jars.size() + ".jar")) : each);
    }
    return String.join(File.pathSeparator, jars);
  }

  private static String jar(Path classes, Path jar) throws IOException {
    try (OutputStream file = Files.newOutputStream(jar);
        JarOutputStream out = new JarOutputStream(file);
        Stream<Path> files = Files.walk(classes)) {
      for (Path each : files.filter(Files::isRegularFile).toList()) {
        out.putNextEntry(new JarEntry(classes.relativize(each).toString()));
        Files.copy(each, out);
      }
    }
    return jar.toString();
  }
}
