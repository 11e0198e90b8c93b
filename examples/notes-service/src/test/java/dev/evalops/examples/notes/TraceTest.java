package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpServer;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.PostgresServer.TestSchema;
import dev.evalops.runtime.testutil.RedisServer;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.propagation.ContextPropagators;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.testing.exporter.InMemorySpanExporter;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.SimpleSpanProcessor;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.UUID;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * A request and all that follows from it are one trace, from the caller to the feed, and no span is lost at the end.
 */
class TraceTest {
  private static final Duration SOON = Duration.ofSeconds(30);
  private static final String TRACE = "0af7651916cd43dd8448eb211c80319c";
  private static final String PARENT = "00-" + TRACE + "-b7ad6b7169203331-01";
  private static final String NOTE = "{\"title\":\"milk\"}";

  @TempDir
  private Path folder;

  private final InMemorySpanExporter spans = InMemorySpanExporter.create();

  @Test
  void requestRedisAndNatsAreOneTrace() throws Exception {
    OpenTelemetrySdk otel = OpenTelemetrySdk.builder()
        .setTracerProvider(SdkTracerProvider.builder()
            .addSpanProcessor(SimpleSpanProcessor.create(spans))
            .build())
        .setPropagators(ContextPropagators.create(W3CTraceContextPropagator.getInstance()))
        .build();
    try (RunningService service = new RunningService(folder, otel, Map.of())) {
      // A first decision that takes too long is made without Redis.
      Awaitility.await().atMost(SOON).until(() -> {
        service.send(service.request("/v1/notes"));
        return !limits().isEmpty();
      });
      spans.reset();
      assertThat(service
              .send(service.write("POST", "/v1/notes", NOTE).header("traceparent", PARENT))
              .statusCode())
          .isEqualTo(201);

      Awaitility.await().atMost(SOON).untilAsserted(() -> {
        assertThat(named("nats.process")).hasSize(1);
        assertThat(named("SET")).hasSize(1);
        assertThat(named("POST /v1/notes")).hasSize(1);
      });
    }
    SpanData request = only("POST /v1/notes", SpanKind.SERVER);
    SpanData publish = only("nats.publish", SpanKind.PRODUCER);
    SpanData process = only("nats.process", SpanKind.CONSUMER);
    SpanData cache = only("SET", SpanKind.CLIENT);
    SpanData identity = only("POST", SpanKind.CLIENT);

    assertThat(List.of(request, publish, process, cache, identity))
        .extracting(SpanData::getTraceId)
        .containsOnly(TRACE);
    assertThat(request.getParentSpanId()).isEqualTo("b7ad6b7169203331");
    // The event was made in the request; the relay sends it as it is.
    assertThat(List.of(publish, process, cache, identity))
        .extracting(SpanData::getParentSpanId)
        .containsOnly(request.getSpanId());
    assertThat(limits()).isNotEmpty().allMatch(span -> span.getTraceId().equals(TRACE));
    assertThat(spans.getFinishedSpanItems().toString())
        .doesNotContain(RunningService.TOKEN, RunningService.ORGANIZATION, "milk");
  }

  private List<SpanData> limits() {
    return spans.getFinishedSpanItems().stream()
        .filter(span -> span.getName().startsWith("EVAL"))
        .toList();
  }

  private List<SpanData> named(String name) {
    return spans.getFinishedSpanItems().stream()
        .filter(span -> span.getName().equals(name))
        .toList();
  }

  private SpanData only(String name, SpanKind kind) {
    assertThat(named(name)).singleElement().extracting(SpanData::getKind).isEqualTo(kind);
    return named(name).getFirst();
  }

  /** Batches wait for ten minutes here: what arrives was sent at the end. */
  @Test
  void exportsWhatIsLeft_whenTerminated() throws Exception {
    Queue<String> exported = new ConcurrentLinkedQueue<>();
    HttpServer collector =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    collector.createContext("/v1/traces", exchange -> {
      exported.add(
          new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.ISO_8859_1));
      exchange.sendResponseHeaders(200, -1);
      exchange.close();
    });
    collector.start();
    try (TestSchema schema = PostgresServer.shared().schema();
        NatsServer nats = NatsServer.start();
        IdentityServer identity =
            IdentityServer.start().person("token", "ann", "org-1", "notes:read", "notes:write");
        ServiceProcess service = ServiceProcess.start(
            Map.of(
                "DATABASE_URL", schema.url(),
                "REDIS_URL", RedisServer.shared().url(),
                "NATS_URL", nats.url(),
                "IDENTITY_URL", identity.url().toString(),
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                    "http://localhost:" + collector.getAddress().getPort(),
                "OTEL_BSP_SCHEDULE_DELAY", "600000",
                "PORT", "0"),
            line -> {})) {
      HttpRequest create = HttpRequest.newBuilder(
              URI.create("http://localhost:" + service.awaitPort(SOON) + "/v1/notes"))
          .header("Authorization", "Bearer token")
          .header("Idempotency-Key", UUID.randomUUID().toString())
          .header("Content-Type", "application/json")
          .header("traceparent", PARENT)
          .POST(BodyPublishers.ofString(NOTE))
          .build();
      assertThat(
              HttpClient.newHttpClient().send(create, BodyHandlers.ofString()).statusCode())
          .isEqualTo(201);
      assertThat(exported).isEmpty();

      service.terminate();

      assertThat(service.awaitExit(SOON)).as(service.log()).contains(143);
      assertThat(String.join("", exported))
          .contains("POST /v1/notes", "nats.publish", "notes")
          .contains(new String(HexFormat.of().parseHex(TRACE), StandardCharsets.ISO_8859_1));
    } finally {
      collector.stop(0);
    }
  }
}
