package dev.evalops.runtime.health;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

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
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class HealthHandlerTest {
  private final HealthChecker health = HealthChecker.create();
  private final HttpClient client = HttpClient.newHttpClient();
  private HttpService service;

  @BeforeEach
  void start() throws IOException {
    service = HttpService.builder(0)
        .readinessDelay(Duration.ofMinutes(5))
        .drainTimeout(Duration.ZERO)
        .handle("/readyz", health.handler())
        .start();
  }

  @AfterEach
  void stop() {
    Thread.currentThread().interrupt();
    service.close();
    assertThat(Thread.interrupted()).isTrue();
    client.shutdownNow();
  }

  @Test
  void answers200WithTheReport_whenHealthy() throws Exception {
    health.add("db", () -> {});

    HttpResponse<String> response = send("GET");

    assertThat(response.statusCode()).isEqualTo(200);
    assertThat(response.headers().firstValue("Content-Type")).contains("application/json");
    assertThat(response.headers().firstValue("Cache-Control")).contains("no-store");
    assertThat(response.body())
        .matches(
            "\\{\"healthy\":true,\"checks\":\\[\\{\"name\":\"db\",\"healthy\":true,\"latency_ms\":\\d+}],"
                + "\"duration_ms\":\\d+}\\s*");
  }

  @Test
  void answers503WithTheReport_whenUnhealthy() throws Exception {
    health.add("db", () -> {
      throw new IOException("user \"admin\" at db-7.internal refused");
    });

    HttpResponse<String> response = send("GET");

    assertThat(response.statusCode()).isEqualTo(503);
    assertThat(response.headers().firstValue("Cache-Control")).contains("no-store");
    assertThat(response.body())
        .matches(
            "\\{\"healthy\":false,\"checks\":\\[\\{\"name\":\"db\",\"healthy\":false,\"latency_ms\":\\d+,"
                + "\"error\":\"check failed\"}],\"duration_ms\":\\d+}\\s*");
  }

  @Test
  void answers200_whenThereIsNothingToCheck() throws Exception {
    HttpResponse<String> response = send("GET");

    assertThat(response.statusCode()).isEqualTo(200);
    assertThat(response.body()).startsWith("{\"healthy\":true,\"checks\":[],\"duration_ms\":");
  }

  @Test
  void answersHeadWithTheStatusAlone() throws Exception {
    health.add("db", () -> {
      throw new IOException();
    });

    HttpResponse<String> response = send("HEAD");

    assertThat(response.statusCode()).isEqualTo(503);
    assertThat(response.headers().firstValue("Cache-Control")).contains("no-store");
    assertThat(response.body()).isEmpty();
  }

  @Test
  void refusesOtherMethods_withoutChecking() throws Exception {
    AtomicInteger runs = new AtomicInteger();
    health.add("db", runs::incrementAndGet);

    HttpResponse<String> response = send("POST");

    assertThat(response.statusCode()).isEqualTo(405);
    assertThat(response.headers().firstValue("Allow")).contains("GET, HEAD");
    assertThat(runs).hasValue(0);
  }

  @Test
  void answers503WithoutChecking_whileTheServerDrains() throws Exception {
    AtomicInteger runs = new AtomicInteger();
    health.add("db", runs::incrementAndGet);
    Thread closing = Thread.ofPlatform().start(service::close);
    try {
      await().until(() -> send("GET").statusCode() == 503);
      int before = runs.get();

      assertThat(send("GET").body())
          .startsWith(
              "{\"healthy\":false,\"checks\":[{\"name\":\"server\",\"healthy\":false,\"latency_ms\":0,"
                  + "\"error\":\"draining\"}],\"duration_ms\":0}");
      assertThat(runs).hasValue(before);
    } finally {
      closing.interrupt();
      closing.join();
    }
  }

  @Test
  void answers_whenTheServiceHasAsManyRequestsAsItTakes() throws Exception {
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
  void sharesOneRunAmongConcurrentProbes() throws Exception {
    AtomicInteger runs = new AtomicInteger();
    CountDownLatch open = new CountDownLatch(1);
    health.add("db", () -> {
      runs.incrementAndGet();
      open.await();
    });

    List<CompletableFuture<HttpResponse<String>>> probes = new ArrayList<>();
    for (int i = 0; i < 64; i++) {
      probes.add(client.sendAsync(request("GET"), BodyHandlers.ofString()));
    }
    await().until(() -> runs.get() == 1);
    open.countDown();

    for (CompletableFuture<HttpResponse<String>> probe : probes) {
      assertThat(probe.get().statusCode()).isEqualTo(200);
    }
    assertThat(runs).hasValue(1);
  }

  private HttpResponse<String> send(String method) throws IOException, InterruptedException {
    return client.send(request(method), BodyHandlers.ofString());
  }

  private HttpRequest request(String method) {
    return HttpRequest.newBuilder(service.uri().resolve("/readyz"))
        .method(method, BodyPublishers.noBody())
        .build();
  }
}
