package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.natsbus.opentelemetry.NatsTelemetry;
import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanBuilder;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.Scope;
import io.opentelemetry.context.propagation.TextMapGetter;
import io.opentelemetry.context.propagation.TextMapPropagator;
import io.opentelemetry.context.propagation.TextMapSetter;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** The spans of a bus that was given an OpenTelemetry. No other class of this package touches that optional library. */
final class Telemetry {
  private static final int KNOWN_FLAGS = 3; // sampled, random
  private static final String TRACER = "github.com/evalops/service-runtime/natsbus";
  private static final AttributeKey<String> SYSTEM = AttributeKey.stringKey("messaging.system");
  private static final AttributeKey<String> DESTINATION =
      AttributeKey.stringKey("messaging.destination");
  private static final AttributeKey<String> DESTINATION_NAME =
      AttributeKey.stringKey("messaging.destination.name");
  private static final AttributeKey<String> OPERATION_NAME =
      AttributeKey.stringKey("messaging.operation.name");
  private static final AttributeKey<String> OPERATION_TYPE =
      AttributeKey.stringKey("messaging.operation.type");
  private static final AttributeKey<String> SUBSCRIPTION =
      AttributeKey.stringKey("messaging.destination.subscription.name");
  private static final AttributeKey<String> ERROR_TYPE = AttributeKey.stringKey("error.type");
  private static final TextMapSetter<Map<String, String>> SETTER = (carrier, name, value) -> {
    if (carrier != null && !value.isEmpty()) {
      carrier.put(name, value);
    }
  };

  private static final TextMapGetter<EncodedEvent> HEADERS = new TextMapGetter<>() {
    @Override
    public @Nullable String get(@Nullable EncodedEvent event, String name) {
      List<String> values = event == null ? null : event.headers().get(name);
      return values == null || values.isEmpty() ? null : values.get(0);
    }
  };

  private final Tracer tracer;
  private final TextMapPropagator propagator;

  Telemetry(OpenTelemetry openTelemetry) {
    this.tracer = openTelemetry.getTracer(TRACER);
    this.propagator = openTelemetry.getPropagators().getTextMapPropagator();
  }

  /** A span that is under way, and what of it travels. */
  static final class Running {
    private final Span span;
    private final Context context;
    private final @Nullable Scope scope;

    private Running(Span span, Context context, @Nullable Scope scope) {
      this.span = span;
      this.context = context;
      this.scope = scope;
    }

    /**
     * Ends it, in the thread that began it if it is a handler's. The text of a failure is left out: it may hold
     * secrets.
     */
    void end(@Nullable Throwable failure) {
      if (failure != null) {
        span.setAttribute(ERROR_TYPE, failure.getClass().getName());
        span.setStatus(StatusCode.ERROR);
      }
      if (scope != null) {
        scope.close();
      }
      span.end();
    }
  }

  Running publish(String subject) {
    Context parent = Context.current();
    Span span = builder("nats.publish", SpanKind.PRODUCER, subject, "publish", "send")
        .setParent(parent)
        .startSpan();
    return new Running(span, parent.with(span), null);
  }

  /** The parent is what runs now or, of an event that was encoded before and elsewhere, what it was encoded in. */
  Running publish(EncodedEvent event) {
    Context parent = Context.current();
    if (!Span.fromContext(parent).getSpanContext().isValid()) {
      parent = W3CTraceContextPropagator.getInstance().extract(parent, event, HEADERS);
    }
    Span span = builder("nats.publish", SpanKind.PRODUCER, event.subject(), "publish", "send")
        .setParent(parent)
        .startSpan();
    return new Running(span, parent.with(span), null);
  }

  /** What of the current context travels. */
  Map<String, String> inject() {
    return inject(Context.current());
  }

  Map<String, String> inject(Running publish) {
    return inject(publish.context);
  }

  /** What the publisher's propagators inject; W3C trace context in any case, because the envelope has fields for it. */
  private Map<String, String> inject(Context context) {
    Map<String, String> carrier = new HashMap<>();
    propagator.inject(context, carrier, SETTER);
    if (!carrier.containsKey("traceparent")) {
      W3CTraceContextPropagator.getInstance().inject(withKnownFlags(context), carrier, SETTER);
    }
    return carrier;
  }

  /** Peers write the flags of version 00 and no others. */
  private static Context withKnownFlags(Context context) {
    SpanContext span = Span.fromContext(context).getSpanContext();
    byte known = (byte) (span.getTraceFlags().asByte() & KNOWN_FLAGS);
    return context.with(Span.wrap(SpanContext.create(
        span.getTraceId(), span.getSpanId(), TraceFlags.fromByte(known), span.getTraceState())));
  }

  @SuppressWarnings("MustBeClosedChecker") // closed in Running.end
  Running process(Event event, String subject, String queue) {
    Context parent = NatsTelemetry.extractContext(Context.root(), event);
    SpanBuilder builder = builder("nats.process", SpanKind.CONSUMER, subject, "process", "process")
        .setAttribute(SUBSCRIPTION, queue)
        .setParent(parent);
    SpanContext publisher = Span.fromContext(parent).getSpanContext();
    if (publisher.isValid()) {
      builder.addLink(publisher);
    }
    Span span = builder.startSpan();
    Context context = parent.with(span);
    return new Running(span, context, context.makeCurrent());
  }

  private SpanBuilder builder(
      String name, SpanKind kind, String subject, String operation, String operationType) {
    return tracer
        .spanBuilder(name)
        .setSpanKind(kind)
        .setAttribute(SYSTEM, "nats")
        .setAttribute(DESTINATION, subject)
        .setAttribute(DESTINATION_NAME, subject)
        .setAttribute(OPERATION_NAME, operation)
        .setAttribute(OPERATION_TYPE, operationType);
  }
}
