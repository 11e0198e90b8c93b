package dev.evalops.runtime.observability.opentelemetry;

import static io.opentelemetry.api.common.AttributeKey.longKey;
import static io.opentelemetry.api.common.AttributeKey.stringKey;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.tuple;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.opentelemetry.HttpTelemetry;
import dev.evalops.runtime.observability.ServiceMetrics;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.testutil.RedisServer;
import io.lettuce.core.RedisFuture;
import io.micrometer.core.instrument.Clock;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.propagation.ContextPropagators;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.testing.exporter.InMemorySpanExporter;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.SimpleSpanProcessor;
import io.prometheus.metrics.model.registry.PrometheusRegistry;
import io.prometheus.metrics.tracer.otel.OpenTelemetrySpanContext;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.slf4j.helpers.NOPLogger;

/** A request and what it does on Redis are one trace, and its duration has an exemplar of it. */
class OneTraceTest {
  private static final Duration SOON = Duration.ofSeconds(30);
  private static final String TRACE = "0af7651916cd43dd8448eb211c80319c";

  private final InMemorySpanExporter spans = InMemorySpanExporter.create();
  private final OpenTelemetrySdk openTelemetry = OpenTelemetrySdk.builder()
      .setTracerProvider(SdkTracerProvider.builder()
          .addSpanProcessor(SimpleSpanProcessor.create(spans))
          .build())
      .setPropagators(ContextPropagators.create(W3CTraceContextPropagator.getInstance()))
      .build();
  private final PrometheusMeterRegistry registry = new PrometheusMeterRegistry(
      PrometheusConfig.DEFAULT,
      new PrometheusRegistry(),
      Clock.SYSTEM,
      new OpenTelemetrySpanContext());

  @Test
  void requestAndRedisAreOneTrace_withAnExemplar() throws Exception {
    try (RedisServer server = RedisServer.start();
        Redis redis = Redis.builder(server.url())
            .configureResources(resources -> resources.tracing(RedisTracing.of(openTelemetry)))
            .open();
        HttpService http = HttpService.builder(0)
            .filters(
                HttpTelemetry.filter(openTelemetry),
                HttpFilters.requestId(),
                ServiceMetrics.of("notes", registry).requests(NOPLogger.NOP_LOGGER))
            .handle("/v1/notes", (HttpService.Handler) exchange -> {
              redis.connection().sync().set("a", "hunter2");
              RedisFuture<Long> wrongType = redis.connection().async().llen("a");
              wrongType.toCompletableFuture().exceptionally(failure -> 0L).join();
              exchange.sendResponseHeaders(204, -1);
            })
            .start()) {
      HttpRequest request = HttpRequest.newBuilder(http.uri().resolve("/v1/notes"))
          .header("traceparent", "00-" + TRACE + "-b7ad6b7169203331-01")
          .build();
      HttpClient.newHttpClient().send(request, BodyHandlers.discarding());

      await().atMost(SOON).until(() -> inTheTrace().size() == 3);
      assertThat(inTheTrace())
          .extracting(SpanData::getName, SpanData::getKind)
          .containsExactlyInAnyOrder(
              tuple("GET /v1/notes", SpanKind.SERVER),
              tuple("SET", SpanKind.CLIENT),
              tuple("LLEN", SpanKind.CLIENT));
      SpanData set = named("SET");
      assertThat(set.getParentSpanId()).isEqualTo(named("GET /v1/notes").getSpanId());
      assertThat(set.getAttributes().asMap())
          .containsEntry(stringKey("db.system.name"), "redis")
          .containsEntry(stringKey("db.operation.name"), "SET")
          .containsKeys(stringKey("server.address"), longKey("server.port"));
      assertThat(set.toString()).doesNotContain("hunter2");
      assertThat(named("LLEN").getStatus().getStatusCode()).isEqualTo(StatusCode.ERROR);
      assertThat(named("LLEN").getAttributes().get(stringKey("error.type"))).isEqualTo("WRONGTYPE");
      assertThat(registry.scrape("application/openmetrics-text; version=1.0.0"))
          .containsPattern("notes_http_request_duration_seconds_bucket\\{.*trace_id=\"" + TRACE);
    }
  }

  private List<SpanData> inTheTrace() {
    return spans.getFinishedSpanItems().stream()
        .filter(span -> span.getTraceId().equals(TRACE))
        .toList();
  }

  private SpanData named(String name) {
    return inTheTrace().stream()
        .filter(span -> span.getName().equals(name))
        .findAny()
        .orElseThrow();
  }
}
