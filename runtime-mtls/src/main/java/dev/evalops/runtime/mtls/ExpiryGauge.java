package dev.evalops.runtime.mtls;

import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.time.Duration;
import java.time.Instant;
import java.util.function.Supplier;

/** The gauge of one certificate. No other class touches that optional library. */
final class ExpiryGauge {
  private static final double MILLIS = 1000;

  private ExpiryGauge() {}

  /** Returns what removes it. */
  static Runnable register(
      MeterRegistry registry, String side, String certificate, Supplier<Instant> notAfter) {
    Gauge gauge = Gauge.builder(
            "tls.certificate.expiry",
            () -> Duration.between(Instant.now(), notAfter.get()).toMillis() / MILLIS)
        .baseUnit("seconds")
        .description("Time until our certificate expires; negative when it has")
        .tag("side", side)
        .tag("certificate", certificate)
        .register(registry);
    return () -> registry.remove(gauge);
  }
}
