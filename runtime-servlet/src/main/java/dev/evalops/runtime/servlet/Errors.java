package dev.evalops.runtime.servlet;

import dev.evalops.runtime.errors.ConnectCode;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpErrors;
import jakarta.servlet.ServletRequest;
import java.util.List;

/** What {@code sendError} means. */
final class Errors {
  /** Where Spring Boot 4 and 3 keep what a controller has thrown. */
  private static final List<String> THROWN = List.of(
      "org.springframework.boot.webmvc.error.DefaultErrorAttributes.ERROR",
      "org.springframework.boot.web.servlet.error.DefaultErrorAttributes.ERROR");

  private static final String NOT_READABLE =
      "org.springframework.http.converter.HttpMessageNotReadableException";

  private Errors() {}

  /**
   * The failure that a status stands for. Texts that come with a status are for the log at best: they may hold
   * anything.
   */
  static ServiceException of(int status, ServletRequest request) {
    for (String name : THROWN) {
      if (request.getAttribute(name) instanceof Throwable thrown) {
        Throwable t = thrown;
        for (int depth = 0; t != null && depth < 20; depth++, t = t.getCause()) {
          if (t instanceof ServiceException failure) {
            return failure;
          }
        }
        if (status == 400 && thrown.getClass().getName().equals(NOT_READABLE)) {
          return ServiceException.of(
                  ErrorCode.INVALID_JSON, "Request body must be valid JSON", thrown)
              .op("servlet.send_error");
        }
        return ServiceException.of(code(status), code(status).defaultMessage(), thrown)
            .op("servlet.send_error");
      }
    }
    return ServiceException.of(code(status)).op("servlet.send_error");
  }

  private static ErrorCode code(int status) {
    return switch (status) {
      case 400 -> ErrorCode.INVALID_INPUT;
      case 401 -> ErrorCode.UNAUTHORIZED;
      case 403 -> ErrorCode.FORBIDDEN;
      case 404 -> ErrorCode.NOT_FOUND;
      case 405 -> HttpErrors.METHOD_NOT_ALLOWED;
      case 409 -> ErrorCode.CONFLICT;
      case 412 -> ErrorCode.VERSION_CONFLICT;
      case 413 -> HttpErrors.BODY_TOO_LARGE;
      case 415 -> HttpErrors.UNSUPPORTED_CONTENT_TYPE;
      case 429 -> ErrorCode.RATE_LIMITED;
      case 500 -> ErrorCode.INTERNAL_ERROR;
      case 503 -> ErrorCode.UNAVAILABLE;
      default ->
        status < 500
            ? like(ErrorCode.INVALID_INPUT, status, ConnectCode.INVALID_ARGUMENT)
            : like(ErrorCode.INTERNAL_ERROR, status, ConnectCode.INTERNAL);
    };
  }

  private static ErrorCode like(ErrorCode known, int status, ConnectCode connect) {
    return ErrorCode.of(known.code(), status, connect, known.defaultMessage());
  }
}
