package dev.evalops.hook;

/** Why the tool does not run. Its message is made of our own texts and the service's, never of the tool's input. */
final class Denial extends Exception {
  private static final long serialVersionUID = 1L;

  /** Begins every reason whose cause is not a decision of the service or of an approver. */
  static final String FAIL_CLOSED = "blocked (fail closed): ";

  private static final String DECIDED = "denied: ";

  private Denial(String message) {
    super(message, null, false, false);
  }

  /** The service, or an approver, has said no. */
  static Denial decided(String reason) {
    return new Denial(DECIDED + reason);
  }

  /** Nobody has said yes: bad input, bad configuration, an unreachable or lying service. */
  static Denial failClosed(String reason) {
    return new Denial(FAIL_CLOSED + reason);
  }

  String reason() {
    return String.valueOf(getMessage());
  }
}
