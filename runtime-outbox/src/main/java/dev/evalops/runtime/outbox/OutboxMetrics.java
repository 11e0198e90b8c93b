package dev.evalops.runtime.outbox;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;

/** What is counted. A class of its own, because Micrometer is optional. */
final class OutboxMetrics {
  private volatile Reading reading = new Reading(new RelayRows.Depth(0, 0, 0), 0);
  private final MeterRegistry registry;
  private final List<Gauge> gauges;
  private final Counter published;
  private final AtomicBoolean closed = new AtomicBoolean();

  private record Reading(RelayRows.Depth depth, long at) {}

  OutboxMetrics(MeterRegistry registry) {
    this.registry = registry;
    gauges = List.of(
        Gauge.builder("outbox.pending", this, metrics -> metrics.reading.depth().pending())
            .description("Changes that wait to be published")
            .strongReference(true)
            .register(registry),
        Gauge.builder("outbox.oldest", this, OutboxMetrics::oldestSeconds)
            .description("How long the oldest of them has waited")
            .baseUnit("seconds")
            .strongReference(true)
            .register(registry),
        Gauge.builder("outbox.parked", this, metrics -> metrics.reading.depth().parked())
            .description("Changes that the broker has refused")
            .strongReference(true)
            .register(registry));
    published = Counter.builder("outbox.published")
        .description("Changes that the broker has stored")
        .register(registry);
  }

  /** Leaves no gauge of a relay that has ended. A second time they would be those of the next one. */
  void close() {
    if (closed.compareAndSet(false, true)) {
      gauges.forEach(registry::remove);
    }
  }

  void depth(RelayRows.Depth depth) {
    reading = new Reading(depth, System.nanoTime());
  }

  void published(int count) {
    published.increment(count);
  }

  private double oldestSeconds() {
    Reading last = reading;
    return last.depth().pending() == 0
        ? 0
        : last.depth().oldestMillis() / 1e3 + (System.nanoTime() - last.at()) / 1e9;
  }
}
