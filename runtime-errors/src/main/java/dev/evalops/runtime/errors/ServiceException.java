package dev.evalops.runtime.errors;

import java.util.Objects;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * A failure that has an {@link ErrorCode}. The client reads the code and the message given here, or else the code's
 * default message; it never reads the text of a cause, which may hold hosts, users and queries.
 *
 * <pre>{@code
 * throw ServiceException.of(NOT_FOUND, "no such note").op("note.read");
 * }</pre>
 */
public final class ServiceException extends RuntimeException {
  private static final long serialVersionUID = 2L;

  /** What went wrong. */
  private final ErrorCode code;

  /** What the client reads. */
  private final String clientMessage;

  /** What was being done. */
  private @Nullable String op;

  private ServiceException(ErrorCode code, String message, @Nullable Throwable cause) {
    super(message, cause);
    this.code = Objects.requireNonNull(code, "code");
    String trimmed = trim(Objects.requireNonNull(message, "message"));
    this.clientMessage = trimmed.isEmpty() ? code.defaultMessage() : trimmed;
  }

  static String trim(String text) {
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
   * Returns a failure with the code's default message.
   *
   * @param code what went wrong
   * @return the failure, to be thrown
   */
  public static ServiceException of(ErrorCode code) {
    return new ServiceException(code, code.defaultMessage(), null);
  }

  /**
   * Returns a failure with a message of its own.
   *
   * @param code what went wrong
   * @param message what the client reads, without white space at its ends; if blank, the code's default message
   * @return the failure, to be thrown
   */
  public static ServiceException of(ErrorCode code, String message) {
    return new ServiceException(code, message, null);
  }

  /**
   * Returns a failure with the code's default message and a cause.
   *
   * @param code what went wrong
   * @param cause why; for the log, not for the client
   * @return the failure, to be thrown
   */
  public static ServiceException of(ErrorCode code, Throwable cause) {
    return new ServiceException(code, code.defaultMessage(), cause);
  }

  /**
   * Returns a failure with a message of its own and a cause.
   *
   * @param code what went wrong
   * @param message what the client reads, without white space at its ends; if blank, the code's default message
   * @param cause why; for the log, not for the client
   * @return the failure, to be thrown
   */
  public static ServiceException of(ErrorCode code, String message, Throwable cause) {
    return new ServiceException(code, message, cause);
  }

  /**
   * Sets what was being done. It is for the log, not for the client.
   *
   * @param op for example {@code note.read}
   * @return this
   */
  public ServiceException op(String op) {
    this.op = Objects.requireNonNull(op, "op");
    return this;
  }

  /**
   * Returns what was being done.
   *
   * @return for example {@code note.read}; empty if it was not said
   */
  public Optional<String> op() {
    return Optional.ofNullable(op);
  }

  /**
   * Returns what went wrong.
   *
   * @return the code
   */
  public ErrorCode code() {
    return code;
  }

  /**
   * Returns the text for the log.
   *
   * @return what the client reads, after {@code <op>: } if the operation was said
   */
  @Override
  public String getMessage() {
    return op == null ? clientMessage : op + ": " + clientMessage;
  }

  String clientMessage() {
    return clientMessage;
  }
}
