package dev.evalops.runtime.health;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.sun.net.httpserver.Filter;
import dev.evalops.runtime.http.HttpService;
import java.io.IOException;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class HealthHandlerTest {
  private final HttpClient client = HttpClient.newHttpClient();
  private HealthChecker health;
  private HttpService service;

  private void serve(HealthChecker.Builder checks) throws IOException {
    health = checks.checkEvery(Duration.ofMillis(20)).open();
    service = HttpService.builder(0)
        .readinessDelay(Duration.ofMinutes(5))
        .drainTimeout(Duration.ZERO)
        .handle("/readyz", health.handler())
        .handle("/notes", exchange -> exchange.sendResponseHeaders(204, -1), requires())
        .start();
  }

  private Filter[] requires() {
    return health.report().checks().stream()
        .map(check -> health.require(check.name()))
        .toArray(Filter[]::new);
  }

  @AfterEach
  void stop() {
    Thread.currentThread().interrupt();
    service.close();
    assertThat(Thread.interrupted()).isTrue();
    health.close();
    client.shutdownNow();
  }

  private static HealthCheck away() {
    return () -> {
      throw new IOException("user \"admin\" at db-7.internal refused");
    };
  }

  @Test
  void answers200WithTheReport_whenHealthy() throws Exception {
    serve(HealthChecker.builder().required("db", () -> {}));

    HttpResponse<String> response = send("GET");

    assertThat(response.statusCode()).isEqualTo(200);
    assertThat(response.headers().firstValue("Content-Type")).contains("application/json");
    assertThat(response.headers().firstValue("Cache-Control")).contains("no-store");
    assertThat(response.body())
        .matches(
            "\\{\"healthy\":true,\"checks\":\\[\\{\"name\":\"db\",\"healthy\":true,\"latency_ms\":\\d+,"
                + "\"age_ms\":\\d+}],\"duration_ms\":\\d+}\\s*");
  }

  @Test
  void answers503WithTheReport_whenARequiredDependencyIsUnhealthy() throws Exception {
    serve(HealthChecker.builder().required("db", away()));

    HttpResponse<String> response = send("GET");

    assertThat(response.statusCode()).isEqualTo(503);
    assertThat(response.headers().firstValue("Cache-Control")).contains("no-store");
    assertThat(response.body())
        .matches(
            "\\{\"healthy\":false,\"checks\":\\[\\{\"name\":\"db\",\"healthy\":false,\"latency_ms\":\\d+,"
                + "\"error\":\"check failed\",\"age_ms\":\\d+}],\"duration_ms\":\\d+}\\s*");
  }

  @Test
  void staysReadyButRefusesWhatNeedsIt_whenASharedDependencyIsAway() throws Exception {
    AtomicBoolean away = new AtomicBoolean(true);
    serve(HealthChecker.builder().shared("db", () -> {
      if (away.get()) {
        throw new IOException();
      }
    }));

    HttpResponse<String> ready = send("GET");
    HttpResponse<String> refused = send("GET", "/notes");

    assertThat(ready.statusCode()).isEqualTo(200);
    assertThat(ready.body()).contains("\"healthy\":false", "\"shared\":true");
    assertThat(refused.statusCode()).isEqualTo(503);
    assertThat(refused.headers().firstValue("Retry-After")).contains("1");
    assertThat(refused.body()).contains("\"unavailable\"").doesNotContain("db");

    away.set(false);
    await().until(() -> send("GET", "/notes").statusCode() == 204);
  }

  @Test
  void refusesToRequireWhatIsNotChecked() throws Exception {
    serve(HealthChecker.builder().shared("db", () -> {}));

    assertThatThrownBy(() -> health.require("database"))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("name must be that of a check: database");
  }

  @Test
  void answers200_whenThereIsNothingToCheck() throws Exception {
    serve(HealthChecker.builder());

    HttpResponse<String> response = send("GET");

    assertThat(response.statusCode()).isEqualTo(200);
    assertThat(response.body()).startsWith("{\"healthy\":true,\"checks\":[],\"duration_ms\":");
  }

  @Test
  void answersHeadWithTheStatusAlone() throws Exception {
    serve(HealthChecker.builder().required("db", away()));

    HttpResponse<String> response = send("HEAD");

    assertThat(response.statusCode()).isEqualTo(503);
    assertThat(response.headers().firstValue("Cache-Control")).contains("no-store");
    assertThat(response.body()).isEmpty();
  }

  @Test
  void refusesOtherMethods() throws Exception {
    serve(HealthChecker.builder().required("db", () -> {}));

    HttpResponse<String> response = send("POST");

    assertThat(response.statusCode()).isEqualTo(405);
    assertThat(response.headers().firstValue("Allow")).contains("GET, HEAD");
  }

  @Test
  void answers503_whileTheServerDrains() throws Exception {
    serve(HealthChecker.builder().required("db", () -> {}));
    Thread closing = Thread.ofPlatform().start(service::close);
    try {
      await().until(() -> send("GET").statusCode() == 503);

      assertThat(send("GET").body())
          .startsWith(
              "{\"healthy\":false,\"checks\":[{\"name\":\"server\",\"healthy\":false,\"latency_ms\":0,"
                  + "\"error\":\"draining\",\"age_ms\":0}],\"duration_ms\":0}");
    } finally {
      closing.interrupt();
      closing.join();
    }
  }

  @Test
  void answers_whenTheServiceHasAsManyRequestsAsItTakes() throws Exception {
    serve(HealthChecker.builder());
    CountDownLatch leave = new CountDownLatch(1);
    HttpService.Handler busy = exchange -> {
      leave.await();
      exchange.sendResponseHeaders(204, -1);
    };
    try (HttpService full = HttpService.builder(0)
        .maxInFlight(1)
        .handle("/busy", busy)
        .handle("/readyz", health.handler())
        .start()) {
      HttpRequest work = HttpRequest.newBuilder(full.uri().resolve("/busy")).build();
      HttpRequest probe = HttpRequest.newBuilder(full.uri().resolve("/readyz")).build();
      CompletableFuture<HttpResponse<String>> one = client.sendAsync(work, BodyHandlers.ofString());
      CompletableFuture<HttpResponse<String>> two = client.sendAsync(work, BodyHandlers.ofString());
      assertThat(one.applyToEither(two, HttpResponse::statusCode).get()).isEqualTo(503);

      assertThat(client.send(probe, BodyHandlers.ofString()).statusCode()).isEqualTo(200);
      leave.countDown();
    }
  }

  @Test
  void answersProbesWhileACheckHangs() throws Exception {
    CountDownLatch never = new CountDownLatch(1);
    CountDownLatch hung = new CountDownLatch(1);
    AtomicBoolean hangs = new AtomicBoolean();
    serve(HealthChecker.builder().checkTimeout(Duration.ofMinutes(1)).required("db", () -> {
      if (hangs.get()) {
        hung.countDown();
        never.await();
      }
    }));
    hangs.set(true);
    hung.await();

    List<CompletableFuture<HttpResponse<String>>> probes = new ArrayList<>();
    for (int i = 0; i < 64; i++) {
      probes.add(client.sendAsync(request("GET", "/readyz"), BodyHandlers.ofString()));
    }

    for (CompletableFuture<HttpResponse<String>> probe : probes) {
      assertThat(probe.get().statusCode()).isEqualTo(200);
    }
    never.countDown();
  }

  private HttpResponse<String> send(String method) throws IOException, InterruptedException {
    return send(method, "/readyz");
  }

  private HttpResponse<String> send(String method, String path)
      throws IOException, InterruptedException {
    return client.send(request(method, path), BodyHandlers.ofString());
  }

  private HttpRequest request(String method, String path) {
    return HttpRequest.newBuilder(service.uri().resolve(path))
        .method(method, BodyPublishers.noBody())
        .build();
  }
}
