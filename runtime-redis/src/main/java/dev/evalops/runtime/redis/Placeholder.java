package dev.evalops.runtime.redis;

/** Placeholder. */
public final class Placeholder {
  private Placeholder() {}
}
