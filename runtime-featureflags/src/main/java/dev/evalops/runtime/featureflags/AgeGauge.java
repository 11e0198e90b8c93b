package dev.evalops.runtime.featureflags;

import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;

/** Apart, so that nobody else needs Micrometer's classes. */
final class AgeGauge {
  private static final double NANOS = 1e9;

  private AgeGauge() {}

  /**
   * Returns what takes it away again: a gauge that stays would be the one of the next flags with this registry, too.
   */
  static Runnable register(MeterRegistry registry, FeatureFlags flags) {
    Gauge gauge = Gauge.builder("feature.flags.age", flags, of -> of.age().toNanos() / NANOS)
        .baseUnit("seconds")
        .description("Time since the feature flags were last read and found good")
        .register(registry);
    return () -> registry.remove(gauge);
  }
}
