package dev.evalops.benchmarks.peers;

import java.util.Locale;

/** What is measured of a service. */
enum Column {
  CPU("processor time of 10 000 requests", " ms", 0, true),
  BYTES("bytes per request", "", 0, false),
  RATE("requests/s", "", 0, false),
  P99("p99", " ms", 1, true),
  FAILED("failed", "", 0, false),
  READY("ready after", " ms", 0, true),
  START_CPU("processor time of the start", " ms", 0, true),
  RSS("RSS", " MiB", 0, false);

  final String title;
  final String unit;
  final boolean charted;
  private final int decimals;

  Column(String title, String unit, int decimals, boolean charted) {
    this.title = title;
    this.unit = unit;
    this.decimals = decimals;
    this.charted = charted;
  }

  String format(double value) {
    return String.format(Locale.ROOT, "%,." + decimals + "f", value).replace(',', ' ');
  }
}
