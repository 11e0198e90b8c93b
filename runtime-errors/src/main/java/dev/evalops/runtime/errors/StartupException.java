package dev.evalops.runtime.errors;

/**
 * The world is not as a service needs it to start: a dependency does not come up or refuses, a table is missing, a port
 * is taken. The message says what failed. (A wrong setting is an {@link IllegalArgumentException}.) A service's main
 * catches these two.
 */
public final class StartupException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /**
   * A failure to start.
   *
   * @param message what failed, without secrets
   */
  public StartupException(String message) {
    super(message);
  }

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
