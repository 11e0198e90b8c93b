package dev.evalops.runtime.identity;

import org.jspecify.annotations.Nullable;

/**
 * The identity service did not give what was asked for; {@link #reason()} says why. The message begins with the
 * reason's code and is meant for the log of the operator, not for a client: it can name hosts. No token or key is in
 * it, nor in its causes.
 */
public final class IdentityException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** What went wrong. */
  public enum Reason {
    /** There is no URL to introspect at. */
    NOT_CONFIGURED("identity_not_configured"),
    /** The identity service cannot be reached, or does not answer as it should. The token may well be good. */
    UNAVAILABLE("identity_unavailable"),
    /** The identity service does not know the token (401, 403). */
    INVALID_TOKEN("invalid_token"),
    /** The token has been valid and is no longer, or not yet. */
    INACTIVE_TOKEN("inactive_token"),
    /** There is no URL that issues service tokens. */
    SERVICE_TOKENS_NOT_CONFIGURED("identity_service_tokens_not_configured"),
    /** The identity service refuses to issue a service token: any status but 201, which the message has. */
    ISSUE_SERVICE_TOKEN("issue_service_token"),
    /** The answer has no service token. */
    MISSING_SERVICE_TOKEN("missing_service_token"),
    /** The answer has a service token and not the end of its life. */
    MISSING_SERVICE_TOKEN_EXPIRY("missing_service_token_expiry");

    private final String code;

    Reason(String code) {
      this.code = code;
    }

    /**
     * The reason as it is written in logs, equal in all services.
     *
     * @return such as {@code identity_unavailable}
     */
    public String code() {
      return code;
    }
  }

  /** What went wrong. */
  private final Reason reason;

  /** Whether the connection, which may have been an old one, ended before the head of an answer. */
  private final boolean lost;

  IdentityException(Reason reason) {
    super(reason.code);
    this.reason = reason;
    lost = false;
  }

  private IdentityException(
      Reason reason, @Nullable String message, @Nullable Throwable cause, boolean lost) {
    super(message, cause);
    this.reason = reason;
    this.lost = lost;
  }

  static IdentityException unavailable(String detail, @Nullable Throwable cause) {
    return new IdentityException(
        Reason.UNAVAILABLE, Reason.UNAVAILABLE.code + ": " + detail, cause, false);
  }

  static IdentityException lost(String detail, @Nullable Throwable cause) {
    return new IdentityException(
        Reason.UNAVAILABLE, Reason.UNAVAILABLE.code + ": " + detail, cause, true);
  }

  static IdentityException notIssued(int status) {
    return new IdentityException(
        Reason.ISSUE_SERVICE_TOKEN,
        Reason.ISSUE_SERVICE_TOKEN.code + ": unexpected_status_" + status,
        null,
        false);
  }

  /** The same for one of several callers that shared a call, with a stack trace of its own. */
  static IdentityException of(@Nullable Throwable failure) {
    return failure instanceof IdentityException known
        ? new IdentityException(known.reason, known.getMessage(), known.getCause(), known.lost)
        : unavailable("identity_request: " + failure, failure);
  }

  boolean isLost() {
    return lost;
  }

  /**
   * Returns why it failed.
   *
   * @return the reason, for a decision of the program
   */
  public Reason reason() {
    return reason;
  }
}
