package dev.evalops.runtime.startup;

/**
 * Something did not close as it should. The message has {@code <name>: <failure>} of each that did not, in the order in
 * which they were closed and separated by {@code "; "}; the failures themselves are {@link #getSuppressed()
 * suppressed}.
 */
public final class ShutdownException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  ShutdownException(String message) {
    super(message);
  }
}
