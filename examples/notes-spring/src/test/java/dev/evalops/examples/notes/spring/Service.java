package dev.evalops.examples.notes.spring;

import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.PostgresServer.TestSchema;
import dev.evalops.runtime.testutil.RedisServer;
import dev.evalops.runtime.testutil.TestHttp;
import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.awaitility.Awaitility;

/**
 * A notes service in a process of its own, with its own database and NATS, and an identity service that knows two
 * tokens.
 */
final class Service implements AutoCloseable {
  static final String ANN = "token-of-ann";
  static final String READER = "token-of-a-reader";
  private static final Duration SOON = Duration.ofSeconds(60);

  private final HttpClient client =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
  private final TestSchema schema;
  private final NatsServer nats = NatsServer.start();
  private final TestHttp identity;
  private final Path log;
  private final Process process;
  private final URI base;

  Service(Class<?> main, Path folder) throws IOException, SQLException {
    this(main, folder, Map.of());
  }

  Service(Class<?> main, Path folder, Map<String, String> environment)
      throws IOException, SQLException {
    schema = PostgresServer.shared().schema();
    identity = TestHttp.start(exchange -> {
      String token = exchange.getRequestHeaders().getFirst("Authorization");
      byte[] answer =
          ("{\"active\":true,\"token_type\":\"user\",\"subject\":\"ann\",\"organization_id\":\"org-1\","
                  + "\"scopes\":[" + (token.endsWith(READER) ? "" : "\"notes:write\",")
                  + "\"notes:read\"]}")
              .getBytes(StandardCharsets.UTF_8);
      exchange.getResponseHeaders().set("Content-Type", "application/json");
      exchange.sendResponseHeaders(token.contains("token-of-") ? 200 : 401, answer.length);
      exchange.getResponseBody().write(answer);
      exchange.close();
    });
    Path flags = Files.writeString(
        folder.resolve("flags.json"),
        "{\"schema_version\":1,\"flags\":[{\"key\":\"notes.feed\",\"enabled\":true}]}");
    int port = FreePort.next();
    log = folder.resolve(main.getSimpleName() + ".log");
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of(System.getProperty("test.jvm", "").split(" ")));
    command.addAll(
        List.of("-Xmx256m", "-cp", System.getProperty("java.class.path"), main.getName()));
    command.removeIf(String::isEmpty);
    ProcessBuilder builder =
        new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log.toFile());
    builder
        .environment()
        .putAll(Map.of(
            "DATABASE_URL", schema.url(),
            "REDIS_URL", RedisServer.shared().url(),
            "NATS_URL", nats.url(),
            "IDENTITY_URL", identity.uri().resolve("/v1/introspect").toString(),
            "FEATURE_FLAGS_PATH", flags.toString(),
            "PORT", Integer.toString(port)));
    builder.environment().putAll(environment);
    process = builder.start();
    base = URI.create("http://localhost:" + port);
    try {
      Awaitility.await()
          .atMost(SOON)
          .ignoreException(ConnectException.class)
          .failFast("the service has ended", () -> !process.isAlive())
          .until(() -> send(request("/readyz").build()).statusCode() == 200);
    } catch (RuntimeException e) {
      close();
      throw new IllegalStateException(log(), e);
    }
  }

  String log() {
    try {
      return Files.readString(log);
    } catch (IOException e) {
      return e.toString();
    }
  }

  int port() {
    return base.getPort();
  }

  long processId() {
    return process.pid();
  }

  DataSource database() {
    return schema.dataSource();
  }

  HttpRequest.Builder request(String path) {
    return HttpRequest.newBuilder(base.resolve(path)).timeout(SOON);
  }

  HttpResponse<String> send(HttpRequest request) throws IOException, InterruptedException {
    return client.send(request, BodyHandlers.ofString());
  }

  @Override
  public void close() {
    process.destroy();
    if (process
        .onExit()
        .orTimeout(20, TimeUnit.SECONDS)
        .handle((ended, late) -> late != null)
        .join()) {
      process.destroyForcibly();
    }
    identity.close();
    nats.close();
    schema.close();
  }
}
