package dev.evalops.runtime.postgres;

/** Placeholder. */
public final class Placeholder {
  private Placeholder() {}
}
