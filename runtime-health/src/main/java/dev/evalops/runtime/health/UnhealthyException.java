package dev.evalops.runtime.health;

/**
 * Thrown by a {@link HealthCheck} whose message is fit to be shown to anybody who can call the readiness
 * endpoint. Its cause is only logged.
 */
public final class UnhealthyException extends Exception {
  private static final long serialVersionUID = 1L;

  /**
   * Makes an exception without a cause.
   *
   * @param publicText what the report shows; no hosts, users or secrets
   */
  public UnhealthyException(String publicText) {
    super(requireText(publicText));
  }

  /**
   * Makes an exception with a cause.
   *
   * @param publicText what the report shows; no hosts, users or secrets
   * @param cause what the log shows
   */
  public UnhealthyException(String publicText, Throwable cause) {
    super(requireText(publicText), cause);
  }

  private static String requireText(String publicText) {
    if (publicText.isBlank()) {
      throw new IllegalArgumentException("publicText must not be blank");
    }
    return publicText;
  }
}
