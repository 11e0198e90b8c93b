package dev.evalops.runtime.testutil;

/** Placeholder. */
public final class Placeholder {
  private Placeholder() {}
}
