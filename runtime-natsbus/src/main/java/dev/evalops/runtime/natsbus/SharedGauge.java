package dev.evalops.runtime.natsbus;

import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tags;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.WeakHashMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.LongSupplier;
import java.util.function.ToLongFunction;
import java.util.stream.Stream;

/**
 * Gauges of several objects with one registry, which keeps the first gauge of a name and tags for ever. Thread-safe.
 */
final class SharedGauge {
  private static final Map<MeterRegistry, Map<String, Set<LongSupplier>>> ALL = new WeakHashMap<>();

  private SharedGauge() {}

  /** What one object adds. */
  record Part(Set<LongSupplier> all, LongSupplier value) {
    void close() {
      all.remove(value);
    }
  }

  static Part add(
      MeterRegistry registry,
      String name,
      String description,
      Tags tags,
      ToLongFunction<Stream<LongSupplier>> of,
      LongSupplier value) {
    Set<LongSupplier> all;
    synchronized (ALL) {
      all = ALL.computeIfAbsent(registry, key -> new HashMap<>())
          .computeIfAbsent(name + tags, key -> {
            Set<LongSupplier> parts = ConcurrentHashMap.newKeySet();
            Gauge.builder(name, parts, each -> of.applyAsLong(each.stream()))
                .description(description)
                .tags(tags)
                .strongReference(true)
                .register(registry);
            return parts;
          });
      all.add(value);
    }
    return new Part(all, value);
  }
}
