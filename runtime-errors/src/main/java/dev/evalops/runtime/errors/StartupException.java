package dev.evalops.runtime.errors;

/**
 * A dependency did not come up, and waiting longer is no use. The message says what failed; the cause is the last failure.
 */
public final class StartupException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /**
   * A failure to start.
   *
   * @param message what failed, without secrets
   * @param cause the last failure
   */
  public StartupException(String message, Throwable cause) {
    super(message, cause);
  }
}
