package dev.evalops.runtime.errors;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Objects;

/**
 * What a client is told of a failure.
 *
 * @param code what went wrong
 * @param message what the client reads
 */
public record ErrorResponse(ErrorCode code, String message) {

  /** What a handler may have set for the body that it did not get to send. */
  private static final List<String> BODY_HEADERS = List.of(
      "Cache-Control",
      "Content-Disposition",
      "Content-Encoding",
      "Content-Language",
      "Content-Length",
      "ETag",
      "Expires",
      "Last-Modified",
      "Transfer-Encoding");

  /** Checks the values. */
  public ErrorResponse {
    Objects.requireNonNull(code, "code");
    Objects.requireNonNull(message, "message");
  }

  /**
   * Returns what a client is told of this failure: code and message of the first {@link ServiceException} in its chain
   * of causes; without one {@link ErrorCode#UNAVAILABLE} when a dependency is away or refuses this service (a {@link
   * FailureKind} other than {@link FailureKind#INTERNAL}), else {@link ErrorCode#INTERNAL_ERROR}, with their default
   * messages. The text of any other exception stays out of it.
   *
   * @param failure any failure
   * @return the response
   */
  public static ErrorResponse of(Throwable failure) {
    ServiceException found = ErrorCode.serviceException(failure);
    if (found != null) {
      return new ErrorResponse(found.code(), found.clientMessage());
    }
    return of(
        FailureKind.of(failure) == FailureKind.INTERNAL
            ? ErrorCode.INTERNAL_ERROR
            : ErrorCode.UNAVAILABLE);
  }

  /**
   * The code with its default message.
   *
   * @param code what went wrong
   * @return the response
   */
  public static ErrorResponse of(ErrorCode code) {
    return new ErrorResponse(code, code.defaultMessage());
  }

  /**
   * The HTTP status. A Connect response takes {@code code().connectCode().httpStatus()} instead.
   *
   * @return 400 to 599
   */
  public int status() {
    return code.httpStatus();
  }

  /**
   * The body of an HTTP response, of type {@code application/json}.
   *
   * @return <code>{"error":{"code":"…","message":"…"}}</code> and a newline; safe inside HTML
   */
  public String toJson() {
    return "{\"error\":" + toObject(code.code()) + "}\n";
  }

  /**
   * The body of a unary Connect response, of type {@code application/json}.
   *
   * @return <code>{"code":"…","message":"…"}</code> with the {@link ConnectCode}; safe inside HTML
   */
  public String toConnectJson() {
    return toObject(code.connectCode().protocolName());
  }

  /**
   * Answers an exchange with {@link #status()} and {@link #toJson()} and ends it. Headers that are set already are
   * kept, but for those that describe a body. A 503 without a {@code Retry-After} gets one of a second.
   *
   * @param exchange an exchange whose response has not begun
   * @throws IOException if the response has begun, or the client is gone
   */
  public void send(HttpExchange exchange) throws IOException {
    byte[] body = toJson().getBytes(StandardCharsets.UTF_8);
    Headers headers = exchange.getResponseHeaders();
    BODY_HEADERS.forEach(headers::remove);
    if (status() != 416) { // which tells the length in it
      headers.remove("Content-Range");
    }
    headers.set("Content-Type", "application/json");
    if (status() == 503 && !headers.containsKey("Retry-After")) {
      headers.set("Retry-After", "1");
    }
    if (exchange.getRequestMethod().equals("HEAD")) {
      headers.set("Content-Length", Integer.toString(body.length));
      exchange.sendResponseHeaders(status(), -1);
    } else {
      exchange.sendResponseHeaders(status(), body.length);
      try (OutputStream out = exchange.getResponseBody()) {
        out.write(body);
      }
    }
    exchange.close();
  }

  private String toObject(String name) {
    StringBuilder json = new StringBuilder(64).append("{\"code\":");
    quote(json, name);
    json.append(",\"message\":");
    quote(json, message);
    return json.append('}').toString();
  }

  /** Escapes what Go's encoding/json escapes, so that both systems write the same bytes. */
  private static void quote(StringBuilder json, String text) {
    json.append('"');
    text.codePoints().forEach(c -> {
      switch (c) {
        case '"' -> json.append("\\\"");
        case '\\' -> json.append("\\\\");
        case '\b' -> json.append("\\b");
        case '\f' -> json.append("\\f");
        case '\n' -> json.append("\\n");
        case '\r' -> json.append("\\r");
        case '\t' -> json.append("\\t");
        case '<', '>', '&', '\u2028', '\u2029' -> escape(json, c);
        default -> {
          if (c < ' ') {
            escape(json, c);
          } else if (Character.getType(c) == Character.SURROGATE) {
            escape(json, '\ufffd');
          } else {
            json.appendCodePoint(c);
          }
        }
      }
    });
    json.append('"');
  }

  private static void escape(StringBuilder json, int c) {
    json.append(String.format("\\u%04x", c));
  }
}
