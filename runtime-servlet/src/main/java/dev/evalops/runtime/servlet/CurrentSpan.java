package dev.evalops.runtime.servlet;

import io.opentelemetry.context.Context;
import java.util.function.UnaryOperator;

/** Keeps the active span for threads that continue an asynchronous request; without OpenTelemetry, nothing. */
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

  /** Returns what makes the span that is active now the active one of an action. */
  static UnaryOperator<Runnable> carrier() {
    return THERE ? Carrier.ofCurrent() : UnaryOperator.identity();
  }

  /** Apart, as its loading needs OpenTelemetry. */
  private static final class Carrier {
    static UnaryOperator<Runnable> ofCurrent() {
      return Context.current()::wrap;
    }
  }
}
