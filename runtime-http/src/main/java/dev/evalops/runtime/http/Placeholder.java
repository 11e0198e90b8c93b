package dev.evalops.runtime.http;

/** Placeholder. */
public final class Placeholder {
  private Placeholder() {}
}
