package dev.evalops.hook.install;

/** A file of a host that is not what we know: it stays as it is. */
final class NotUnderstoodException extends Exception {
  private static final long serialVersionUID = 1L;

  NotUnderstoodException(String message) {
    super(message);
  }
}
