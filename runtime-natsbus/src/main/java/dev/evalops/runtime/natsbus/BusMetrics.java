package dev.evalops.runtime.natsbus;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tags;
import java.util.function.BooleanSupplier;
import java.util.function.LongSupplier;

/** The meters of a bus that was given a registry. No other class of it touches that optional library. */
final class BusMetrics {
  private final Counter failures;
  private final SharedGauge.Part connected;

  BusMetrics(MeterRegistry registry, BooleanSupplier isConnected) {
    this.failures = Counter.builder("natsbus.publish.failures")
        .description("Attempts to publish that have failed")
        .register(registry);
    this.connected = SharedGauge.add(
        registry,
        "natsbus.connected",
        "1 while there is a connection to NATS, else 0",
        Tags.empty(),
        values -> values.mapToLong(LongSupplier::getAsLong).reduce(Math::min).orElse(0),
        () -> isConnected.getAsBoolean() ? 1 : 0);
  }

  void publishFailed() {
    failures.increment();
  }

  void close() {
    connected.close();
  }
}
