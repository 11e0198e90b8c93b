package dev.evalops.runtime.health;

/** Placeholder. */
public final class Placeholder {
  private Placeholder() {}
}
