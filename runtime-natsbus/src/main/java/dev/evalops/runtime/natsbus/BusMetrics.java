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
  // Buses and publishers of one registry share its gauges.
  private static final Map<MeterRegistry, Set<BooleanSupplier>> CONNECTED =
      Collections.synchronizedMap(new WeakHashMap<>());
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

  void addConnected(BooleanSupplier connected) {
    Set<BooleanSupplier> all = CONNECTED.computeIfAbsent(registry, key -> {
      Set<BooleanSupplier> none = ConcurrentHashMap.newKeySet();
      Gauge.builder("natsbus.connected", none, BusMetrics::allConnected)
          .description("1 while there is a connection to NATS, else 0")
          .strongReference(true)
          .register(registry);
      return none;
    });
    all.add(connected);
  }

  private static int allConnected(Set<BooleanSupplier> all) {
    return !all.isEmpty() && all.stream().allMatch(BooleanSupplier::getAsBoolean) ? 1 : 0;
  }

  void removeConnected(BooleanSupplier connected) {
    Set<BooleanSupplier> all = CONNECTED.get(registry);
    if (all != null) {
      all.remove(connected);
    }
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
