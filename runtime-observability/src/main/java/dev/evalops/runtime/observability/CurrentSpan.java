package dev.evalops.runtime.observability;

import io.opentelemetry.context.Context;

/**
 * Keeps the active span for what runs when a request is complete, so that a registry can take exemplars; without
 * OpenTelemetry, nothing.
 */
final class CurrentSpan {
  private static final boolean THERE = isThere();

  private CurrentSpan() {}

  private static boolean isThere() {
    try {
      Class.forName("io.opentelemetry.context.Context");
      return true;
    } catch (ClassNotFoundException e) {
      return false;
    }
  }

  static Runnable carry(Runnable action) {
    return THERE ? Carrier.carry(action) : action;
  }

  /** Apart, as its loading needs OpenTelemetry. */
  private static final class Carrier {
    static Runnable carry(Runnable action) {
      return Context.current().wrap(action);
    }
  }
}
