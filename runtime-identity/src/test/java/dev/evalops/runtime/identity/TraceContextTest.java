package dev.evalops.runtime.identity;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.mtls.opentelemetry.TracingHttpClient;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.Scope;
import io.opentelemetry.context.propagation.ContextPropagators;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.trace.ReadWriteSpan;
import io.opentelemetry.sdk.trace.ReadableSpan;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.SpanProcessor;
import java.net.http.HttpClient;
import java.time.Duration;
import java.time.Instant;
import java.util.Set;
import org.junit.jupiter.api.Test;

class TraceContextTest {
  /** Without one the SDK makes no spans. */
  private static final class Spans implements SpanProcessor {
    @Override
    public void onStart(Context parent, ReadWriteSpan span) {}

    @Override
    public boolean isStartRequired() {
      return false;
    }

    @Override
    public void onEnd(ReadableSpan span) {}

    @Override
    public boolean isEndRequired() {
      return false;
    }
  }

  @Test
  void theContextOfTheActiveSpanGoesWithEveryCall() throws Exception {
    try (OpenTelemetrySdk telemetry = OpenTelemetrySdk.builder()
            .setTracerProvider(
                SdkTracerProvider.builder().addSpanProcessor(new Spans()).build())
            .setPropagators(ContextPropagators.create(W3CTraceContextPropagator.getInstance()))
            .build();
        IdentityServer server = new IdentityServer();
        IdentityClient client = IdentityClient.builder(server.url())
            .serviceTokens(server.url("/v1/tokens"))
            .httpClient(TracingHttpClient.of(HttpClient.newHttpClient(), telemetry))
            .build()) {
      server
          .then(200, "{\"active\":true}")
          .then(201, "{\"token\":\"t\",\"expires_at\":\"" + Instant.now().plusSeconds(600) + "\"}");
      Span span = telemetry.getTracer("test").spanBuilder("request").startSpan();
      try (Scope scope = span.makeCurrent()) {
        client.introspect("tok-1");
        client.serviceToken("org-1", "billing", Set.of(), Duration.ofMinutes(5));
      }
      assertThat(server.requests())
          .hasSize(2)
          .allSatisfy(request -> assertThat(request.header("traceparent"))
              .startsWith("00-" + span.getSpanContext().getTraceId() + "-")
              .doesNotContain(span.getSpanContext().getSpanId()));
    }
  }
}
