package dev.evalops.runtime.errors;

import java.util.Objects;

/**
 * A failure that has an {@link ErrorCode}. The client reads the code and the message given here, or else the code's
 * default message; it never reads the text of a cause, which may hold hosts, users and queries. {@link #getMessage()} is
 * {@code op: message}.
 *
 * <pre>{@code
 * throw new ServiceException(NOT_FOUND, "note.read", "no such note");
 * }</pre>
 */
public final class ServiceException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** What went wrong. */
  private final ErrorCode code;

  /** What was being done. */
  private final String op;

  /** What the client reads. */
  private final String clientMessage;

  /**
   * A failure with the code's default message.
   *
   * @param code what went wrong
   * @param op what was being done, for example {@code note.read}; for the log, not for the client
   */
  public ServiceException(ErrorCode code, String op) {
    this(code, op, code.defaultMessage());
  }

  /**
   * A failure with the code's default message and a cause.
   *
   * @param code what went wrong
   * @param op what was being done, for example {@code note.read}; for the log, not for the client
   * @param cause why; for the log, not for the client
   */
  public ServiceException(ErrorCode code, String op, Throwable cause) {
    this(code, op, code.defaultMessage(), cause);
  }

  /**
   * A failure with a message of its own.
   *
   * @param code what went wrong
   * @param op what was being done, for example {@code note.read}; for the log, not for the client
   * @param message what the client reads, without white space at its ends; if blank, the code's default message
   */
  public ServiceException(ErrorCode code, String op, String message) {
    super(text(code, op, message));
    this.code = code;
    this.op = op;
    this.clientMessage = clientMessage(code, message);
  }

  /**
   * A failure with a message of its own and a cause.
   *
   * @param code what went wrong
   * @param op what was being done, for example {@code note.read}; for the log, not for the client
   * @param message what the client reads, without white space at its ends; if blank, the code's default message
   * @param cause why; for the log, not for the client
   */
  public ServiceException(ErrorCode code, String op, String message, Throwable cause) {
    super(text(code, op, message), cause);
    this.code = code;
    this.op = op;
    this.clientMessage = clientMessage(code, message);
  }

  private static String text(ErrorCode code, String op, String message) {
    return Objects.requireNonNull(op, "op") + ": " + clientMessage(code, message);
  }

  private static String clientMessage(ErrorCode code, String message) {
    Objects.requireNonNull(code, "code");
    String trimmed = trim(Objects.requireNonNull(message, "message"));
    return trimmed.isEmpty() ? code.defaultMessage() : trimmed;
  }

  private static String trim(String text) {
    int start = 0;
    int end = text.length();
    while (start < end && isSpace(text.charAt(start))) {
      start++;
    }
    while (end > start && isSpace(text.charAt(end - 1))) {
      end--;
    }
    return text.substring(start, end);
  }

  /** White space as Unicode has it, which is neither what {@link String#strip} nor what {@code trim} takes away. */
  private static boolean isSpace(char c) {
    return (c >= '\t' && c <= '\r') || c == 0x85 || Character.isSpaceChar(c);
  }

  /**
   * What went wrong.
   *
   * @return the code
   */
  public ErrorCode code() {
    return code;
  }

  /**
   * What was being done.
   *
   * @return for example {@code note.read}
   */
  public String op() {
    return op;
  }

  String clientMessage() {
    return clientMessage;
  }
}
