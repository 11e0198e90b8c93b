package dev.evalops.runtime.natsbus.spool;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.Collections;
import java.util.Map;
import java.util.Set;
import java.util.WeakHashMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.IntSupplier;

/** The meters of a spool that was given a registry. No other class touches that optional library. */
final class SpoolMetrics {
  // The spools of one registry share its gauge, which keeps the first of a name for ever.
  private static final Map<MeterRegistry, Set<IntSupplier>> SIZES =
      Collections.synchronizedMap(new WeakHashMap<>());

  private final Counter spooled;
  private final Counter replayed;
  private final Counter deadLettered;
  private final Set<IntSupplier> sizes;
  private final IntSupplier size;

  SpoolMetrics(MeterRegistry registry, IntSupplier size) {
    this.spooled = Counter.builder("natsbus.spool.spooled")
        .description("Changes that were written to disk")
        .register(registry);
    this.replayed = Counter.builder("natsbus.spool.replayed")
        .description("Changes that were sent from disk")
        .register(registry);
    this.deadLettered = Counter.builder("natsbus.spool.dead.lettered")
        .description("Changes that were given up and lie in quarantine")
        .register(registry);
    this.sizes = SIZES.computeIfAbsent(registry, key -> {
      Set<IntSupplier> all = ConcurrentHashMap.newKeySet();
      Gauge.builder(
              "natsbus.spool.size",
              all,
              each -> each.stream().mapToInt(IntSupplier::getAsInt).sum())
          .description("Changes on disk that are still to be published")
          .strongReference(true)
          .register(registry);
      return all;
    });
    this.size = size;
    sizes.add(size);
  }

  void spooled() {
    spooled.increment();
  }

  void replayed() {
    replayed.increment();
  }

  void deadLettered() {
    deadLettered.increment();
  }

  void close() {
    sizes.remove(size);
  }
}
