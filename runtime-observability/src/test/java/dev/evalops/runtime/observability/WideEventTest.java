package dev.evalops.runtime.observability;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;

class WideEventTest {
  private static final Duration SOON = Duration.ofSeconds(30);

  private final LoggedRequests log = new LoggedRequests();

  private void serve(HttpService.Handler handler) throws Exception {
    try (HttpService http = start(handler)) {
      HttpClient.newHttpClient()
          .send(
              HttpRequest.newBuilder(http.uri().resolve("/x")).build(), BodyHandlers.discarding());
      await().atMost(SOON).until(() -> !log.lines().isEmpty());
    }
    assertThat(log.lines()).hasSize(1);
  }

  private HttpService start(HttpService.Handler handler) {
    ServiceMetrics metrics = ServiceMetrics.of("test", new SimpleMeterRegistry());
    return HttpService.builder(0)
        .filters(HttpFilters.requestId(), metrics.requests(log.logger()))
        .handle("/x", handler)
        .start();
  }

  private Map<?, ?> event() {
    return (Map<?, ?>) log.lines().get(0).get("wide_event");
  }

  @Test
  void isInTheLogLineOfItsRequest() throws Exception {
    UUID id = UUID.randomUUID();
    List<String> tags = new ArrayList<>(List.of("a"));
    serve(exchange -> {
      WideEvent.of(exchange)
          .name("note.created")
          .category("notes")
          .resourceType("note")
          .action("create")
          .attribute("words", 12)
          .attribute("note", id);
      WideEvent.of(exchange).attribute("tags", tags).attribute("words", 13);
      tags.add("b");
      exchange.sendResponseHeaders(204, -1);
    });
    assertThat(event())
        .isEqualTo(Map.of(
            "name", "note.created",
            "category", "notes",
            "resource_type", "note",
            "action", "create",
            "attributes", Map.of("words", 13, "note", id.toString(), "tags", List.of("a"))));
    assertThat(log.lines().get(0))
        .containsKeys("request_id", "method", "path", "route", "status", "duration_ms");
    assertThatThrownBy(() -> event().clear()).isInstanceOf(UnsupportedOperationException.class);
  }

  @Test
  void keepsWhatIsNotThereAsNull_andFailsNoRequestForIt() throws Exception {
    serve(exchange -> {
      List<Object> half = new ArrayList<>(List.of("a"));
      half.add(null);
      WideEvent.of(exchange)
          .attribute("tenant", exchange.getRequestHeaders().getFirst("X-Tenant"))
          .attribute("tags", half);
      exchange.sendResponseHeaders(204, -1);
    });
    Map<String, Object> expected = new HashMap<>();
    expected.put("tenant", null);
    expected.put("tags", Arrays.asList("a", null));
    assertThat(event().get("attributes")).isEqualTo(expected);
    assertThat(log.lines().get(0)).containsEntry("status", 204);
  }

  @Test
  void isNotThere_whenNobodyAskedForIt() throws Exception {
    serve(exchange -> exchange.sendResponseHeaders(204, -1));
    assertThat(log.lines().get(0)).doesNotContainKey("wide_event");
  }

  @Test
  void hasAllThatSeveralThreadsAdd() throws Exception {
    Map<String, Object> expected = new HashMap<>();
    serve(exchange -> {
      WideEvent event = WideEvent.of(exchange);
      CountDownLatch start = new CountDownLatch(1);
      List<Thread> threads = new ArrayList<>();
      for (int t = 0; t < 8; t++) {
        int thread = t;
        for (int i = 0; i < 100; i++) {
          expected.put(thread + "-" + i, i);
        }
        threads.add(Thread.ofPlatform().start(() -> {
          try {
            start.await();
          } catch (InterruptedException e) {
            throw new AssertionError(e);
          }
          for (int i = 0; i < 100; i++) {
            event.attribute(thread + "-" + i, i);
          }
        }));
      }
      start.countDown();
      for (Thread thread : threads) {
        try {
          thread.join();
        } catch (InterruptedException e) {
          throw new AssertionError(e);
        }
      }
      exchange.sendResponseHeaders(204, -1);
    });
    assertThat(event().get("attributes")).isEqualTo(expected);
  }

  @Test
  void isThereWhenTheHandlerThrows() throws Exception {
    serve(exchange -> {
      WideEvent.of(exchange).name("broken");
      throw new IllegalStateException("broken");
    });
    assertThat(event().get("name")).isEqualTo("broken");
    assertThat(log.lines().get(0)).containsEntry("status", 500);
  }

  @Test
  void isThereOnce_whenTheClientGoesAway() throws Exception {
    try (HttpService http = start(exchange -> {
      WideEvent.of(exchange).name("left");
      exchange.sendResponseHeaders(200, 0);
      OutputStream body = exchange.getResponseBody();
      byte[] block = new byte[64 * 1024];
      for (int i = 0; i < 10_000; i++) {
        body.write(block);
      }
    })) {
      try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), http.port())) {
        socket
            .getOutputStream()
            .write("GET /x HTTP/1.1\r\nHost: x\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
        assertThat(socket.getInputStream().read()).isPositive();
        socket.setSoLinger(true, 0);
      }
      await().atMost(SOON).until(() -> !log.lines().isEmpty());
    }
    assertThat(log.lines()).hasSize(1);
    assertThat(event().get("name")).isEqualTo("left");
  }
}
