package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;

import dev.evalops.hook.HttpExchange.FailedException;
import java.time.Duration;
import java.util.Locale;
import java.util.Map;
import javax.net.ssl.SSLSocketFactory;
import org.jspecify.annotations.Nullable;

/** A Connect service: one unary call in JSON after the other. */
final class Service {
  private final ServiceUrl url;
  private final @Nullable SSLSocketFactory tls;
  private final @Nullable String token;

  Service(ServiceUrl url, @Nullable SSLSocketFactory tls, @Nullable String token) {
    this.url = url;
    this.tls = tls;
    this.token = token;
  }

  /**
   * Calls a procedure.
   *
   * @param procedure with a slash at the beginning
   * @param message an object in JSON
   * @param timeout for all of it
   * @return the answer, which is an object
   */
  Map<?, ?> call(String procedure, StringBuilder message, Duration timeout) throws FailedException {
    HttpExchange.Answer answer = send(procedure, message, timeout);
    if (answer.status != 200) {
      throw new FailedException("HTTP status " + answer.status);
    }
    return object(answer);
  }

  /**
   * Calls a procedure that not every service has.
   *
   * @return false if this one has not
   */
  boolean callIfThere(String procedure, StringBuilder message, Duration timeout)
      throws FailedException {
    HttpExchange.Answer answer = send(procedure, message, timeout);
    if (answer.status == 200) {
      return true;
    }
    if (answer.status == 501 || (answer.status == 404 && !isConnectError(answer))) {
      return false;
    }
    throw new FailedException("HTTP status " + answer.status);
  }

  /** Whether the procedure itself says so, and not somebody who does not know it. */
  private static boolean isConnectError(HttpExchange.Answer answer) {
    try {
      Object code = Json.get(object(answer), "code");
      return code != null && !code.equals("unimplemented");
    } catch (FailedException e) {
      return false;
    }
  }

  private HttpExchange.Answer send(String procedure, StringBuilder message, Duration timeout)
      throws FailedException {
    return HttpExchange.send(url, tls, request(procedure, message, timeout), timeout.toNanos());
  }

  private static Map<?, ?> object(HttpExchange.Answer answer) throws FailedException {
    if (!isJson(answer.contentType)) {
      throw new FailedException("the answer is not application/json");
    }
    Object value;
    try {
      value = Json.parse(answer.body);
    } catch (Json.MalformedException e) {
      throw new FailedException("the answer is no valid JSON: " + e.getMessage());
    }
    if (!(value instanceof Map<?, ?> object)) {
      throw new FailedException("the answer is no JSON object");
    }
    return object;
  }

  private byte[] request(String procedure, StringBuilder message, Duration timeout) {
    byte[] body = message.toString().getBytes(UTF_8);
    StringBuilder head = new StringBuilder(512)
        .append("POST ")
        .append(url.path())
        .append(procedure)
        .append(" HTTP/1.1\r\nHost: ")
        .append(url.authority())
        .append("\r\nUser-Agent: evalops-agent-hook\r\nConnection: close")
        .append("\r\nContent-Type: application/json\r\nAccept: application/json")
        .append("\r\nConnect-Protocol-Version: 1\r\nConnect-Timeout-Ms: ")
        .append(Math.max(1, timeout.toMillis()))
        .append("\r\nContent-Length: ")
        .append(body.length);
    if (token != null) {
      head.append("\r\nAuthorization: Bearer ").append(token);
    }
    byte[] start = HttpExchange.ascii(head.append("\r\n\r\n").toString());
    byte[] request = new byte[start.length + body.length];
    System.arraycopy(start, 0, request, 0, start.length);
    System.arraycopy(body, 0, request, start.length, body.length);
    return request;
  }

  private static boolean isJson(@Nullable String contentType) {
    if (contentType == null) {
      return false;
    }
    int semicolon = contentType.indexOf(';');
    String type = semicolon < 0 ? contentType : contentType.substring(0, semicolon);
    return GoText.trim(type).toLowerCase(Locale.ROOT).equals("application/json");
  }
}
