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
  private final @Nullable Curl curl;
  private final Tls tls;
  private final @Nullable String token;

  /** Java's TLS, which is opened when it is needed. */
  interface Tls {
    SSLSocketFactory open() throws Denial;
  }

  /**
   * A service at a URL.
   *
   * @param curl goes first over https; null for Java's TLS alone
   * @param token secret
   */
  Service(ServiceUrl url, @Nullable Curl curl, Tls tls, @Nullable String token) {
    this.url = url;
    this.curl = curl;
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
  Map<?, ?> call(String procedure, StringBuilder message, Duration timeout)
      throws FailedException, Denial {
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
      throws FailedException, Denial {
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
      throws FailedException, Denial {
    long end = System.nanoTime() + timeout.toNanos();
    byte[] body = message.toString().getBytes(UTF_8);
    String fields = "User-Agent: evalops-agent-hook\r\nConnection: close"
        + "\r\nContent-Type: application/json\r\nAccept: application/json"
        + "\r\nConnect-Protocol-Version: 1\r\nConnect-Timeout-Ms: "
        + Math.max(1, timeout.toMillis()) + "\r\n";
    if (curl != null && url.tls()) {
      String target = "https://" + url.authority() + url.path() + procedure;
      HttpExchange.Answer answer;
      try {
        answer = curl.send(target, fields, body, token, timeout);
      } catch (FailedException e) {
        if (HttpExchange.CLOSED.equals(e.getMessage())) {
          tls.open(); // says it if our own certificate is why
        }
        throw e;
      }
      if (answer != null) {
        return answer;
      }
    }
    SSLSocketFactory sockets = url.tls() ? tls.open() : null;
    return HttpExchange.send(
        url, sockets, request(procedure, fields, body), Math.max(1, end - System.nanoTime()));
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

  private byte[] request(String procedure, String fields, byte[] body) {
    StringBuilder head = new StringBuilder(512)
        .append("POST ")
        .append(url.path())
        .append(procedure)
        .append(" HTTP/1.1\r\nHost: ")
        .append(url.authority())
        .append("\r\n")
        .append(fields)
        .append("Content-Length: ")
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
