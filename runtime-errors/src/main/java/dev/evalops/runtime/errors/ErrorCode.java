package dev.evalops.runtime.errors;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * What went wrong, in the words that a client can act on. Services define their own, in one line each:
 *
 * <pre>{@code
 * static final ErrorCode QUOTA = ErrorCode.of("quota_exceeded", 429, ConnectCode.RESOURCE_EXHAUSTED, "quota exceeded");
 * }</pre>
 *
 * @param code the name on the wire: a letter, then at most 63 letters, digits, {@code _}, {@code .} or {@code -}; by
 *     convention in {@code snake_case}
 * @param httpStatus the status of an HTTP response, 400 to 599
 * @param connectCode the code of a Connect response
 * @param defaultMessage what the client reads when the failure brings no message of its own; not blank
 * @param retry whether trying again can help
 */
public record ErrorCode(
    String code,
    int httpStatus,
    ConnectCode connectCode,
    String defaultMessage,
    ErrorCode.Retry retry)
    implements Serializable {

  private static final Pattern CODE = Pattern.compile("[A-Za-z][A-Za-z0-9_.-]{0,63}");

  /** The request is wrong: 400. */
  public static final ErrorCode INVALID_INPUT =
      of("invalid_input", 400, ConnectCode.INVALID_ARGUMENT, "invalid input");
  /** The body is not the JSON that was asked for: 400. */
  public static final ErrorCode INVALID_JSON =
      of("invalid_json", 400, ConnectCode.INVALID_ARGUMENT, "invalid input");
  /** The caller is not known: 401. */
  public static final ErrorCode UNAUTHORIZED =
      of("unauthorized", 401, ConnectCode.UNAUTHENTICATED, "authentication required");
  /** The caller is known and may not do this: 403. */
  public static final ErrorCode FORBIDDEN =
      of("forbidden", 403, ConnectCode.PERMISSION_DENIED, "forbidden");
  /** There is no such resource: 404. */
  public static final ErrorCode NOT_FOUND =
      of("not_found", 404, ConnectCode.NOT_FOUND, "resource not found");
  /** The resource is there already, or is not in the state that the request needs: 409. */
  public static final ErrorCode CONFLICT =
      of("conflict", 409, ConnectCode.ALREADY_EXISTS, "request conflicts with current state");
  /** The resource has changed since the caller read it: 412. */
  public static final ErrorCode VERSION_CONFLICT = of(
      "version_conflict",
      412,
      ConnectCode.FAILED_PRECONDITION,
      "request conflicts with current state");
  /** The caller sends too much: 429. */
  public static final ErrorCode RATE_LIMITED =
      of("rate_limited", 429, ConnectCode.RESOURCE_EXHAUSTED, "rate limit exceeded");
  /** The service, or what it needs, cannot answer now: 503. */
  public static final ErrorCode UNAVAILABLE =
      of("unavailable", 503, ConnectCode.UNAVAILABLE, "service unavailable");
  /** Everything else: 500. */
  public static final ErrorCode INTERNAL_ERROR =
      of("internal_error", 500, ConnectCode.INTERNAL, "internal error");

  /**
   * Whether trying again can help. Whether it is safe is another question: a call that changes something needs an
   * idempotency key for that.
   */
  public enum Retry {
    /** The same call fails the same way until somebody changes something. */
    NEVER,
    /** The same call may succeed a little later. */
    SAME_CALL,
    /** A call made from a fresh reading of the resource may succeed. */
    AFTER_READING
  }

  /**
   * Checks the values.
   *
   * @throws IllegalArgumentException if one is out of its range; the message names each of them
   */
  public ErrorCode {
    Objects.requireNonNull(code, "code");
    Objects.requireNonNull(connectCode, "connectCode");
    Objects.requireNonNull(defaultMessage, "defaultMessage");
    Objects.requireNonNull(retry, "retry");
    List<String> problems = new ArrayList<>();
    if (!CODE.matcher(code).matches()) {
      problems.add(
          "code must be a letter and at most 63 letters, digits, '_', '.' or '-': " + code);
    }
    if (httpStatus < 400 || httpStatus > 599) {
      problems.add("httpStatus must be between 400 and 599: " + httpStatus);
    }
    if (ServiceException.trim(defaultMessage).isEmpty()) {
      problems.add("defaultMessage must not be blank");
    }
    if (!problems.isEmpty()) {
      throw new IllegalArgumentException(String.join("; ", problems));
    }
  }

  /**
   * A code whose {@link #retry()} follows from its status: {@link Retry#SAME_CALL} for 408, 425, 429, 502, 503 and 504,
   * {@link Retry#AFTER_READING} for 409 and 412, else {@link Retry#NEVER}. Use the constructor to say otherwise.
   *
   * @param code the name on the wire
   * @param httpStatus 400 to 599
   * @param connectCode the code of a Connect response
   * @param defaultMessage what the client reads when the failure brings no message of its own
   * @return the code
   * @throws IllegalArgumentException if a value is out of its range
   */
  public static ErrorCode of(
      String code, int httpStatus, ConnectCode connectCode, String defaultMessage) {
    Retry retry = switch (httpStatus) {
      case 408, 425, 429, 502, 503, 504 -> Retry.SAME_CALL;
      case 409, 412 -> Retry.AFTER_READING;
      default -> Retry.NEVER;
    };
    return new ErrorCode(code, httpStatus, connectCode, defaultMessage, retry);
  }

  /**
   * The code of a failure: that of the first {@link ServiceException} in its chain of causes.
   *
   * @param failure any failure
   * @return the code, or empty if there is none; {@link ErrorResponse#of} says what a client is told then
   */
  public static Optional<ErrorCode> codeOf(Throwable failure) {
    return Optional.ofNullable(serviceException(failure)).map(ServiceException::code);
  }

  static @Nullable ServiceException serviceException(Throwable failure) {
    Set<Throwable> seen = Collections.newSetFromMap(new IdentityHashMap<>());
    for (Throwable t = failure; t != null && seen.add(t); t = t.getCause()) {
      if (t instanceof ServiceException found) {
        return found;
      }
    }
    return null;
  }
}
