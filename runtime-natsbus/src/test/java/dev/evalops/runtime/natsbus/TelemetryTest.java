package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.natsbus.opentelemetry.NatsTelemetry;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.TestNats;
import io.nats.client.api.MessageInfo;
import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.baggage.Baggage;
import io.opentelemetry.api.baggage.propagation.W3CBaggagePropagator;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.Scope;
import io.opentelemetry.context.propagation.ContextPropagators;
import io.opentelemetry.context.propagation.TextMapPropagator;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.testing.exporter.InMemorySpanExporter;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.SimpleSpanProcessor;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

@Timeout(60)
@ExtendWith(TestNats.class)
class TelemetryTest {
  private static final Duration AWHILE = Duration.ofSeconds(20);
  private static final String SUBJECT = "notes.changes.note.create";

  private final InMemorySpanExporter exporter = InMemorySpanExporter.create();
  private final SdkTracerProvider provider = SdkTracerProvider.builder()
      .addSpanProcessor(SimpleSpanProcessor.create(exporter))
      .build();

  private OpenTelemetry telemetry(TextMapPropagator... propagators) {
    return OpenTelemetrySdk.builder()
        .setTracerProvider(provider)
        .setPropagators(ContextPropagators.create(TextMapPropagator.composite(propagators)))
        .build();
  }

  private OpenTelemetry w3c() {
    return telemetry(W3CTraceContextPropagator.getInstance(), W3CBaggagePropagator.getInstance());
  }

  private static Change change() {
    return Change.of("note", "1", "create");
  }

  private SpanData span(String name) {
    await()
        .atMost(AWHILE)
        .until(() -> exporter.getFinishedSpanItems().stream()
            .anyMatch(span -> span.getName().equals(name)));
    return exporter.getFinishedSpanItems().stream()
        .filter(span -> span.getName().equals(name))
        .findFirst()
        .orElseThrow();
  }

  private static String attribute(SpanData span, String name) {
    return span.getAttributes().get(AttributeKey.stringKey(name));
  }

  @ParameterizedTest
  @EnumSource(EventFormat.class)
  void makesASpanOfPublishing_andOneOfHandlingThatIsItsChildAndLinkedToIt(
      EventFormat format, NatsServer server) {
    try (NatsBus bus = Servers.bus(server).format(format).openTelemetry(w3c()).open()) {
      AtomicReference<SpanContext> inHandler = new AtomicReference<>();
      AtomicReference<String> baggage = new AtomicReference<>();
      bus.consumer("notes.changes.>", "indexer").start(event -> {
        baggage.set(Baggage.current().getEntryValue("k"));
        inHandler.set(Span.current().getSpanContext());
      });
      Span outer = provider.get("test").spanBuilder("outer").startSpan();
      try (Scope scope = Context.current()
          .with(outer)
          .with(Baggage.builder().put("k", "v").build())
          .makeCurrent()) {
        bus.publish(change());
      }
      outer.end();

      SpanData publish = span("nats.publish");
      SpanData process = span("nats.process");
      assertThat(publish.getKind()).isEqualTo(SpanKind.PRODUCER);
      assertThat(publish.getParentSpanId()).isEqualTo(outer.getSpanContext().getSpanId());
      assertThat(publish.getInstrumentationScopeInfo().getName())
          .isEqualTo("github.com/evalops/service-runtime/natsbus");
      assertThat(attribute(publish, "messaging.system")).isEqualTo("nats");
      assertThat(attribute(publish, "messaging.destination")).isEqualTo(SUBJECT);
      assertThat(attribute(publish, "messaging.destination.name")).isEqualTo(SUBJECT);
      assertThat(attribute(publish, "messaging.operation.name")).isEqualTo("publish");
      assertThat(attribute(publish, "messaging.operation.type")).isEqualTo("send");
      assertThat(process.getKind()).isEqualTo(SpanKind.CONSUMER);
      assertThat(process.getTraceId()).isEqualTo(publish.getTraceId());
      assertThat(process.getParentSpanId()).isEqualTo(publish.getSpanId());
      assertThat(process.getLinks())
          .singleElement()
          .satisfies(
              link -> assertThat(link.getSpanContext().getSpanId()).isEqualTo(publish.getSpanId()));
      assertThat(attribute(process, "messaging.operation.name")).isEqualTo("process");
      assertThat(attribute(process, "messaging.operation.type")).isEqualTo("process");
      assertThat(attribute(process, "messaging.destination.subscription.name"))
          .isEqualTo("indexer");
      assertThat(inHandler.get().getSpanId()).isEqualTo(process.getSpanId());
      assertThat(baggage).hasValue("v");
    }
  }

  @Test
  void sendsTheTraceInEnvelopeAndHeaders_alsoWithoutAPropagator(NatsServer server)
      throws Exception {
    try (NatsBus bus = Servers.bus(server).openTelemetry(telemetry()).open()) {
      bus.publish(change());
      SpanData publish = span("nats.publish");
      String traceparent = "00-" + publish.getTraceId() + "-" + publish.getSpanId() + "-"
          + publish.getSpanContext().getTraceFlags().asHex();

      MessageInfo stored = Servers.stored(bus.connection(), "NOTES").get(0);
      assertThat(stored.getHeaders().getFirst("traceparent")).isEqualTo(traceparent);
      assertThat(new String(stored.getData(), StandardCharsets.UTF_8))
          .contains("\"traceparent\":\"" + traceparent + "\"");
      Event event = Servers.event(stored);
      assertThat(Span.fromContext(NatsTelemetry.extractContext(Context.root(), event))
              .getSpanContext()
              .getSpanId())
          .isEqualTo(publish.getSpanId());
      assertThat(traceparent).matches(".*-0[13]");
    }
  }

  /** Peers know no others, and a span that is not recorded has those of its caller. */
  @Test
  void sendsTheFlagsOfPeersAlone_withoutAPropagator(NatsServer server) throws Exception {
    SpanContext caller = SpanContext.createFromRemoteParent(
        "0af7651916cd43dd8448eb211c80319c",
        "b7ad6b7169203331",
        TraceFlags.fromByte((byte) 0xff),
        TraceState.builder().put("a", "b").build());
    try (NatsBus bus = Servers.bus(server).openTelemetry(OpenTelemetry.noop()).open()) {
      try (Scope scope = Span.wrap(caller).makeCurrent()) {
        bus.publish(change());
      }
      Event event = Servers.event(Servers.stored(bus.connection(), "NOTES").get(0));
      assertThat(event.traceparent())
          .contains("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03");
      assertThat(event.tracestate()).contains("a=b");
    }
  }

  @Test
  void sendsAndMakesNothing_withoutAnOpenTelemetry(NatsServer server) throws Exception {
    try (NatsBus bus = Servers.bus(server).open()) {
      Span outer = provider.get("test").spanBuilder("outer").startSpan();
      try (Scope scope = outer.makeCurrent()) {
        bus.publish(change());
      }
      MessageInfo stored = Servers.stored(bus.connection(), "NOTES").get(0);
      assertThat(stored.getHeaders().containsKey("traceparent")).isFalse();
      Event event = Servers.event(stored);
      assertThat(NatsTelemetry.extractContext(Context.root(), event)).isSameAs(Context.root());
      assertThat(exporter.getFinishedSpanItems()).isEmpty();
    }
  }

  @Test
  void marksFailures_withoutTheirText(NatsServer server) throws Exception {
    try (NatsBus bus = Servers.bus(server)
        .publishTimeout(Duration.ofSeconds(2))
        .openTelemetry(w3c())
        .open()) {
      CompletableFuture<Void> failed = new CompletableFuture<>();
      bus.consumer("notes.changes.>", "indexer").maxDeliveries(1).start(event -> {
        failed.complete(null);
        throw new IllegalStateException("secret");
      });
      bus.publish(change());
      failed.get(20, TimeUnit.SECONDS);
      SpanData process = span("nats.process");
      assertThat(process.getStatus().getStatusCode()).isEqualTo(StatusCode.ERROR);
      assertThat(attribute(process, "error.type")).isEqualTo("java.lang.IllegalStateException");
      assertThat(process.toString()).doesNotContain("secret");

      exporter.reset();
      server.kill();
      assertThatThrownBy(() -> bus.publish(change())).isInstanceOf(PublishException.class);
      assertThat(span("nats.publish").getStatus().getStatusCode()).isEqualTo(StatusCode.ERROR);
    }
  }
}
