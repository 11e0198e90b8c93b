package dev.evalops.examples.notes;

import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.startup.Lifecycle;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.PostgresServer.TestSchema;
import dev.evalops.runtime.testutil.RedisServer;
import io.opentelemetry.api.OpenTelemetry;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.UUID;

/** The service in this process, with a database, a Redis and a NATS of its own, and the feed switched on. */
final class RunningService implements AutoCloseable {
  static final String TOKEN = "token-of-ann";
  static final String ORGANIZATION = "organization-4711";
  private static final Duration SOON = Duration.ofSeconds(30);

  private final Lifecycle life = Lifecycle.open();
  private final HttpClient client =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
  private final TestSchema schema;
  private final NatsServer nats;
  private final IdentityServer identity;
  private final URI base;

  /** Starts everything; these settings are added to those of a test. */
  RunningService(Path folder, OpenTelemetry otel, Map<String, String> settings) throws Exception {
    try {
      schema = life.add("schema", PostgresServer.shared().schema());
      RedisServer redis = life.add("redis server", RedisServer.start());
      nats = life.add("nats server", NatsServer.start());
      identity = life.add("identity server", IdentityServer.start());
      identity.person(TOKEN, "ann", ORGANIZATION, "notes:read", "notes:write");
      Path flags = Files.writeString(
          folder.resolve("flags.json"),
          "{\"schema_version\":1,\"flags\":[{\"key\":\"notes.feed\",\"enabled\":true}]}");
      Map<String, String> environment = new HashMap<>(Map.of(
          "DATABASE_URL", schema.url(),
          "REDIS_URL", redis.url(),
          "NATS_URL", nats.url(),
          "IDENTITY_URL", identity.url().toString(),
          "FEATURE_FLAGS_PATH", flags.toString(),
          "PORT", "0"));
      environment.putAll(settings);
      HttpService http = NotesService.start(life, Settings.from(environment), otel);
      base = URI.create("http://localhost:" + http.port());
    } catch (Throwable e) {
      life.close();
      throw e;
    }
  }

  TestSchema schema() {
    return schema;
  }

  NatsServer nats() {
    return nats;
  }

  IdentityServer identity() {
    return identity;
  }

  URI base() {
    return base;
  }

  /** A request of somebody with a token. */
  HttpRequest.Builder request(String path) {
    return HttpRequest.newBuilder(base.resolve(path))
        .timeout(SOON)
        .header("Authorization", "Bearer " + TOKEN);
  }

  HttpRequest.Builder write(String method, String path, String body) {
    return request(path)
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", UUID.randomUUID().toString())
        .method(method, BodyPublishers.ofString(body));
  }

  HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
    return client.send(request.build(), BodyHandlers.ofString());
  }

  String scrape() throws Exception {
    return send(HttpRequest.newBuilder(base.resolve("/metrics")).timeout(SOON)).body();
  }

  @Override
  public void close() {
    life.close();
  }
}
