package dev.evalops.runtime.errors;

/** Placeholder. */
public final class Placeholder {
  private Placeholder() {}
}
