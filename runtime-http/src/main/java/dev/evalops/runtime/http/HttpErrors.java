package dev.evalops.runtime.http;

import dev.evalops.runtime.errors.ConnectCode;
import dev.evalops.runtime.errors.ErrorCode;

/**
 * The codes that this library answers beside those of {@link ErrorCode}. What is wrong with one parameter has a code
 * with its name: {@code invalid_<name>}, see {@link HttpRequests}.
 */
public final class HttpErrors {
  /** 400: the body has ended too early, or is malformed. */
  public static final ErrorCode INVALID_BODY = ErrorCode.of(
      "invalid_body", 400, ConnectCode.INVALID_ARGUMENT, "unable to read request body");

  /** 400: {@code If-Match} is no version. */
  public static final ErrorCode INVALID_IF_MATCH = ErrorCode.of(
      "invalid_if_match",
      400,
      ConnectCode.INVALID_ARGUMENT,
      "If-Match must contain a numeric version");

  /** 403: a browser sends the request for a page of another origin. */
  public static final ErrorCode CROSS_SITE_REQUEST = ErrorCode.of(
      "cross_site_request",
      403,
      ConnectCode.PERMISSION_DENIED,
      "cross-site browser requests are not allowed");

  /** 405, with {@code Allow}. */
  public static final ErrorCode METHOD_NOT_ALLOWED = ErrorCode.of(
      "method_not_allowed", 405, ConnectCode.UNIMPLEMENTED, "method is not allowed here");

  /** 413: the body is larger than {@link HttpService.Builder#maxBody} or {@link HttpFilters#maxBody}. */
  public static final ErrorCode BODY_TOO_LARGE = ErrorCode.of(
      "body_too_large", 413, ConnectCode.RESOURCE_EXHAUSTED, "request body is too large");

  /** 415: there is a body, and no {@code Content-Type}. */
  public static final ErrorCode MISSING_CONTENT_TYPE = ErrorCode.of(
      "missing_content_type",
      415,
      ConnectCode.INVALID_ARGUMENT,
      "request body requires a Content-Type header");

  /** 415: the {@code Content-Type} is none that {@link HttpFilters#browserGuards} accepts. */
  public static final ErrorCode UNSUPPORTED_CONTENT_TYPE = ErrorCode.of(
      "unsupported_content_type",
      415,
      ConnectCode.INVALID_ARGUMENT,
      "request Content-Type is not supported");

  /** 415: the body is compressed. */
  public static final ErrorCode UNSUPPORTED_CONTENT_ENCODING = ErrorCode.of(
      "unsupported_content_encoding",
      415,
      ConnectCode.INVALID_ARGUMENT,
      "request body must not be compressed");

  /** 428: there is no {@code If-Match}. */
  public static final ErrorCode MISSING_IF_MATCH = ErrorCode.of(
      "missing_if_match", 428, ConnectCode.FAILED_PRECONDITION, "If-Match header is required");

  /** 503 {@code unavailable}, with {@code Retry-After}: {@link HttpService.Builder#maxInFlight} is reached. */
  public static final ErrorCode OVERLOADED = ErrorCode.of(
      ErrorCode.UNAVAILABLE.code(), 503, ConnectCode.UNAVAILABLE, "service is at its limit");

  private HttpErrors() {}
}
