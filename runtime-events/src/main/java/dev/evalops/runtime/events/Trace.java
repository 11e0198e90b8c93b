package dev.evalops.runtime.events;

import java.util.List;

/** The names under which a trace context travels, in the envelope and as headers. */
final class Trace {
  static final String PARENT = "traceparent";
  static final String STATE = "tracestate";
  static final String BAGGAGE = "baggage";
  static final List<String> NAMES = List.of(PARENT, STATE, BAGGAGE);

  private Trace() {}
}
