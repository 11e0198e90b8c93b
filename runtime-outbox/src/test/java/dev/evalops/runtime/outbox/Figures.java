package dev.evalops.runtime.outbox;

import java.util.Collection;
import java.util.List;
import java.util.Locale;

/** Measured times, sorted. */
record Figures(List<Double> millis) {
  static Figures ofMicros(Collection<Long> micros) {
    return new Figures(micros.stream().map(each -> each / 1000.0).sorted().toList());
  }

  private double at(double quantile) {
    return millis.isEmpty()
        ? Double.NaN
        : millis.get((int) Math.min(millis.size() - 1, quantile * millis.size()));
  }

  @Override
  public String toString() {
    return String.format(
        Locale.ROOT,
        "p50 %.1f ms, p99 %.1f ms, max %.1f ms (%d)",
        at(0.5),
        at(0.99),
        at(1),
        millis.size());
  }
}
