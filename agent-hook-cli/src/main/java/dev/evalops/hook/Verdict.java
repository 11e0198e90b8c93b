package dev.evalops.hook;

/** Whether the tool runs. There is one value for "yes", and only the code that has read the service's "allow" gives it. */
final class Verdict {
  static final Verdict ALLOW = new Verdict("allowed");

  private final String reason;

  private Verdict(String reason) {
    this.reason = reason;
  }

  static Verdict deny(String reason) {
    return new Verdict(reason);
  }

  String reason() {
    return reason;
  }
}
