package dev.evalops.runtime.natsbus;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.Collections;
import java.util.Map;
import java.util.Set;
import java.util.WeakHashMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.BooleanSupplier;
import java.util.function.IntSupplier;

/** The meters of a bus that was given a registry. No other class touches that optional library. */
final class BusMetrics {
  /** Publishers of one registry share the gauge, which is their sum. */
  private static final Map<MeterRegistry, Set<IntSupplier>> DEAD_LETTERS =
      Collections.synchronizedMap(new WeakHashMap<>());

  private final MeterRegistry registry;
  private final Counter failures;

  BusMetrics(MeterRegistry registry) {
    this.registry = registry;
    this.failures = Counter.builder("natsbus.publish.failures")
        .description("Changes that could not be published")
        .register(registry);
  }

  void publishFailed() {
    failures.increment();
  }

  void connected(BooleanSupplier connected) {
    Gauge.builder("natsbus.connected", connected, is -> is.getAsBoolean() ? 1 : 0)
        .description("1 while there is a connection to NATS, else 0")
        .strongReference(true)
        .register(registry);
  }

  void addDeadLetters(IntSupplier count) {
    Set<IntSupplier> counts = DEAD_LETTERS.computeIfAbsent(registry, key -> {
      Set<IntSupplier> all = ConcurrentHashMap.newKeySet();
      Gauge.builder(
              "natsbus.dead.letter.size",
              all,
              each -> each.stream().mapToInt(IntSupplier::getAsInt).sum())
          .description("Changes on disk that are still to be published")
          .strongReference(true)
          .register(registry);
      return all;
    });
    counts.add(count);
  }

  void removeDeadLetters(IntSupplier count) {
    Set<IntSupplier> counts = DEAD_LETTERS.get(registry);
    if (counts != null) {
      counts.remove(count);
    }
  }
}
