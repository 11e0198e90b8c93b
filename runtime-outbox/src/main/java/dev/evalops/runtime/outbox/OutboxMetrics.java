package dev.evalops.runtime.outbox;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.List;
import java.util.Optional;

/** What is counted. A class of its own, because Micrometer is optional. */
final class OutboxMetrics {
  private volatile Rows.Depth depth = new Rows.Depth(0, Optional.empty(), 0);
  private final MeterRegistry registry;
  private final List<Gauge> gauges;
  private final Counter published;

  OutboxMetrics(MeterRegistry registry) {
    this.registry = registry;
    gauges = List.of(
        Gauge.builder("outbox.pending", this, metrics -> metrics.depth.pending())
            .description("Changes that wait to be published")
            .strongReference(true)
            .register(registry),
        Gauge.builder("outbox.oldest", this, OutboxMetrics::oldestSeconds)
            .description("How long the oldest of them has waited")
            .baseUnit("seconds")
            .strongReference(true)
            .register(registry),
        Gauge.builder("outbox.parked", this, metrics -> metrics.depth.parked())
            .description("Changes that the broker has refused")
            .strongReference(true)
            .register(registry));
    published = Counter.builder("outbox.published")
        .description("Changes that the broker has stored")
        .register(registry);
  }

  /** Leaves no gauge of a relay that has ended. */
  void close() {
    gauges.forEach(registry::remove);
  }

  void depth(Rows.Depth depth) {
    this.depth = depth;
  }

  void published(int count) {
    published.increment(count);
  }

  private double oldestSeconds() {
    return depth
        .oldest()
        .map(at -> Math.max(0, (System.currentTimeMillis() - at.toEpochMilli()) / 1000.0))
        .orElse(0.0);
  }
}
