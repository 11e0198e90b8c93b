package dev.evalops.runtime.errors;

import java.util.Locale;

/**
 * The error codes of the <a href="https://connectrpc.com/docs/protocol#error-codes">Connect protocol</a>, with the HTTP
 * status that the protocol gives each of them.
 */
public enum ConnectCode {
  /** The caller cancelled the call. */
  CANCELED(499),
  /** Nothing better is known. */
  UNKNOWN(500),
  /** The request is wrong, whatever the state of the system. */
  INVALID_ARGUMENT(400),
  /** The deadline passed before the call was done; it may have taken effect. */
  DEADLINE_EXCEEDED(504),
  /** There is no such resource. */
  NOT_FOUND(404),
  /** There is such a resource already. */
  ALREADY_EXISTS(409),
  /** The caller is known and may not do this. */
  PERMISSION_DENIED(403),
  /** A quota or rate limit is used up. */
  RESOURCE_EXHAUSTED(429),
  /** The system is not in the state that the call needs. */
  FAILED_PRECONDITION(400),
  /** A concurrent change got in the way. */
  ABORTED(409),
  /** The request goes past the valid range. */
  OUT_OF_RANGE(400),
  /** There is no such operation. */
  UNIMPLEMENTED(501),
  /** A bug, or an invariant that does not hold. */
  INTERNAL(500),
  /** The service cannot answer now. */
  UNAVAILABLE(503),
  /** Data is lost for good. */
  DATA_LOSS(500),
  /** The caller is not known. */
  UNAUTHENTICATED(401);

  private final String protocolName = name().toLowerCase(Locale.ROOT);
  private final int httpStatus;

  ConnectCode(int httpStatus) {
    this.httpStatus = httpStatus;
  }

  /**
   * The code as it stands on the wire.
   *
   * @return for example {@code not_found}
   */
  public String protocolName() {
    return protocolName;
  }

  /**
   * The HTTP status of a unary response with this code. {@link ErrorCode#httpStatus()} may differ: it is the status of
   * a plain HTTP response.
   *
   * @return for example 404
   */
  public int httpStatus() {
    return httpStatus;
  }
}
