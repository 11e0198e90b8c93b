package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.RedisServer;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** A service whose dependencies are not up yet answers its probes, and waits for all of them at the same time. */
class StartupTest {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final Pattern LISTENS = Pattern.compile("uri=\"?(http://[^\"\\s]+)");

  private final HttpClient client = HttpClient.newHttpClient();

  @Test
  void saysWhatItWaitsFor_andComesUpWithTheLastOfThem() throws Exception {
    try (PostgresServer postgres = PostgresServer.start();
        RedisServer redis = RedisServer.start();
        NatsServer nats = NatsServer.start()) {
      postgres.kill();
      redis.kill();
      nats.kill();
      try (ServiceProcess service = ServiceProcess.start(
          Map.of(
              "DATABASE_URL", postgres.url(),
              "REDIS_URL", redis.url(),
              "NATS_URL", nats.url(),
              "IDENTITY_URL", "http://localhost:1/v1/introspect",
              "PORT", "0"),
          line -> {})) {
        Matcher uri =
            LISTENS.matcher(service.awaitLine(line -> LISTENS.matcher(line).find(), SOON));
        assertThat(uri.find()).isTrue();
        URI base = URI.create(uri.group(1));

        assertThat(get(base, "/healthz").statusCode()).isEqualTo(200);
        assertThat(get(base, "/readyz").statusCode()).isEqualTo(503);
        assertThat(get(base, "/v1/notes").statusCode()).isEqualTo(503);
        await()
            .atMost(SOON)
            .untilAsserted(() -> assertThat(get(base, "/startupz").body())
                .containsPattern("postgres: for [^\"]*, attempt \\d+ failed: ")
                .containsPattern("redis: for [^\"]*, attempt \\d+ failed: ")
                .containsPattern("nats: for [^\"]*, attempt \\d+ failed: "));

        nats.restart();
        redis.restart();
        await().atMost(SOON).until(() -> !get(base, "/startupz").body().contains("redis"));
        assertThat(get(base, "/startupz").body()).contains("\"starting\"", "postgres");
        postgres.restart();

        await().atMost(SOON).until(() -> get(base, "/readyz").statusCode() == 200);
        assertThat(get(base, "/startupz").statusCode()).isEqualTo(200);
        assertThat(get(base, "/v1/notes").statusCode()).isEqualTo(401);
        service.awaitLine(line -> line.contains("all dependencies are up; slowest: "), SOON);
      }
    }
  }

  private HttpResponse<String> get(URI base, String path) throws IOException, InterruptedException {
    return client.send(
        HttpRequest.newBuilder(base.resolve(path)).timeout(SOON).build(), BodyHandlers.ofString());
  }
}
