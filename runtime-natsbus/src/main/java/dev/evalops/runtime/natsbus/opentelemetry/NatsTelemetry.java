package dev.evalops.runtime.natsbus.opentelemetry;

import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.natsbus.NatsBus;
import io.opentelemetry.api.baggage.propagation.W3CBaggagePropagator;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.propagation.TextMapGetter;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/** The traces that events were published in. */
public final class NatsTelemetry {
  private static final TextMapGetter<Event> GETTER = new TextMapGetter<>() {
    @Override
    public @Nullable String get(@Nullable Event event, String name) {
      if (event == null) {
        return null;
      }
      Optional<String> value = switch (name) {
        case "traceparent" -> event.traceparent();
        case "tracestate" -> event.tracestate();
        case "baggage" -> event.baggage();
        default -> Optional.empty();
      };
      return value.orElse(null);
    }
  };

  private NatsTelemetry() {}

  /**
   * Returns the trace that an event was published in (W3C trace context and baggage), for code that reads events
   * itself. Handlers of a bus with an {@link NatsBus.Builder#openTelemetry OpenTelemetry} already run in a span of that
   * trace.
   *
   * @param context the context to add to, such as {@code Context.root()}
   * @param event the event
   * @return the context with the span and baggage of the publisher; the given context if the event has none
   */
  public static Context extractContext(Context context, Event event) {
    Context traced = W3CTraceContextPropagator.getInstance().extract(context, event, GETTER);
    return W3CBaggagePropagator.getInstance().extract(traced, event, GETTER);
  }
}
