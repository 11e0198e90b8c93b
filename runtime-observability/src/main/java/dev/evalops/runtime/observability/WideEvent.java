package dev.evalops.runtime.observability;

import static java.util.Objects.requireNonNull;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.http.RequestContext;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * What a request was about, in one place: it is the key-value {@code wide_event} of the request's log line, also when
 * the handler fails or the client goes away.
 *
 * <pre>{@code
 * WideEvent.of(exchange).name("note.created").category("notes").resourceType("note")
 *     .action("create").attribute("words", 12);
 * }</pre>
 *
 * <p>Values are copied when they are given. Thread-safe, once the thread of the request has called {@link #of}.
 */
public final class WideEvent {
  private static final RequestContext.Key<WideEvent> KEY = RequestContext.Key.of("wide event");

  private final ReentrantLock lock = new ReentrantLock();
  private final Map<String, Object> fields = new LinkedHashMap<>();
  private final Map<String, Object> attributes = new LinkedHashMap<>();

  private WideEvent() {
    for (String field : List.of("name", "category", "resource_type", "action")) {
      fields.put(field, "");
    }
  }

  /**
   * The event of a request; the first call adds it to the log line.
   *
   * @param exchange of the request
   * @return the event
   * @throws IllegalStateException if the exchange has no {@link RequestContext}
   */
  public static WideEvent of(HttpExchange exchange) {
    RequestContext context = RequestContext.of(exchange);
    return context.get(KEY).orElseGet(() -> {
      WideEvent event = new WideEvent();
      context.put(KEY, event);
      context.logged("wide_event", event::snapshot);
      return event;
    });
  }

  /**
   * Sets what happened.
   *
   * @param name for example {@code note.created}
   * @return this
   */
  public WideEvent name(String name) {
    return field("name", name);
  }

  /**
   * Sets what it belongs to.
   *
   * @param category for example {@code notes}
   * @return this
   */
  public WideEvent category(String category) {
    return field("category", category);
  }

  /**
   * Sets the kind of thing that it happened to.
   *
   * @param resourceType for example {@code note}
   * @return this
   */
  public WideEvent resourceType(String resourceType) {
    return field("resource_type", resourceType);
  }

  /**
   * Sets what was done.
   *
   * @param action for example {@code create}
   * @return this
   */
  public WideEvent action(String action) {
    return field("action", action);
  }

  private WideEvent field(String field, String value) {
    requireNonNull(value, field);
    lock.lock();
    try {
      fields.put(field, value);
      return this;
    } finally {
      lock.unlock();
    }
  }

  /**
   * Adds an attribute, in place of an earlier one of this key.
   *
   * @param key its name
   * @param value a number, a boolean, a text, or a map or collection of those, or null; anything else is kept as its
   *     {@code toString()}
   * @return this
   */
  public WideEvent attribute(String key, @Nullable Object value) {
    @Nullable Object copy = copy(value);
    lock.lock();
    try {
      attributes.put(requireNonNull(key, "key"), copy);
      return this;
    } finally {
      lock.unlock();
    }
  }

  private static @Nullable Object copy(@Nullable Object value) {
    if (value == null || value instanceof Boolean || value instanceof String || isFixed(value)) {
      return value;
    }
    if (value instanceof Map<?, ?> map) {
      Map<String, Object> copy = new LinkedHashMap<>();
      map.forEach((key, item) -> copy.put(String.valueOf(key), copy(item)));
      return Collections.unmodifiableMap(copy);
    }
    if (value instanceof Collection<?> items) {
      List<Object> copy = new ArrayList<>(items.size());
      items.forEach(item -> copy.add(copy(item)));
      return Collections.unmodifiableList(copy);
    }
    return String.valueOf(value);
  }

  /** Not a counter that goes on counting. */
  private static boolean isFixed(Object number) {
    return number instanceof Integer
        || number instanceof Long
        || number instanceof Double
        || number instanceof Float
        || number instanceof Short
        || number instanceof Byte
        || number instanceof BigInteger
        || number instanceof BigDecimal;
  }

  private Map<String, Object> snapshot() {
    lock.lock();
    try {
      Map<String, Object> event = new LinkedHashMap<>(fields);
      event.put("attributes", Collections.unmodifiableMap(new LinkedHashMap<>(attributes)));
      return Collections.unmodifiableMap(event);
    } finally {
      lock.unlock();
    }
  }
}
