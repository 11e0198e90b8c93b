package dev.evalops.runtime.natsbus.opentelemetry;

import dev.evalops.runtime.natsbus.Event;
import io.opentelemetry.api.baggage.propagation.W3CBaggagePropagator;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.propagation.TextMapGetter;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * Gives the trace that an event was published in, for code that reads events by itself. A {@link
 * dev.evalops.runtime.natsbus.NatsBus} with an OpenTelemetry runs handlers in a span of it already.
 */
public final class EventContext {
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

  private EventContext() {}

  /**
   * Reads the W3C trace context and baggage of an event.
   *
   * @param context what the event's own is added to, such as {@code Context.root()}
   * @param event the event
   * @return the context with the span and baggage of the publisher; the given one where the event has none
   */
  public static Context extract(Context context, Event event) {
    Context traced = W3CTraceContextPropagator.getInstance().extract(context, event, GETTER);
    return W3CBaggagePropagator.getInstance().extract(traced, event, GETTER);
  }
}
