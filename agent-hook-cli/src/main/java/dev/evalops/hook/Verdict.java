package dev.evalops.hook;

/**
 * Whether the tool runs. There is one value for "yes", and only the code that has read the service's "allow" gives it.
 * Immutable.
 */
public final class Verdict {
  static final Verdict ALLOW = new Verdict("allowed");

  private final String reason;

  private Verdict(String reason) {
    this.reason = reason;
  }

  static Verdict deny(String reason) {
    return new Verdict(reason);
  }

  /**
   * Returns whether the tool runs.
   *
   * @return false whatever else happened
   */
  public boolean isAllowed() {
    return this == ALLOW;
  }

  /**
   * Returns why the tool does not run.
   *
   * @return one line without a secret
   */
  public String reason() {
    return reason;
  }

  /**
   * Returns the line of standard output that the hosts take for a "no".
   *
   * @return one line of JSON with its end
   */
  public String hostLine() {
    return Reason.hostLine(reason);
  }
}
