package dev.evalops.runtime.http;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpContext;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpPrincipal;
import com.sun.net.httpserver.HttpsExchange;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * An exchange that behaves the same on every provider. The response ends when {@link #end()} is called after the handler has
 * returned, not when the handler closes the body: a handler that fails within try-with-resources must not make half a body
 * look whole.
 */
final class GuardedExchange extends HttpExchange {
  private static final long DRAINED_BY_SERVER = 64 * 1024;
  private static final Duration REENTER = Duration.ofSeconds(5);

  /** What a handler sets for the response that it did not get to send. */
  private static final List<String> SUCCESS_HEADERS = List.of(
      "Accept-Ranges",
      "Cache-Control",
      "Content-Disposition",
      "Content-Encoding",
      "Content-Language",
      "Content-Length",
      "Content-Location",
      "Content-Range",
      "Content-Type",
      "Etag",
      "Expires",
      "Last-Modified",
      "Location",
      "Set-Cookie",
      "Transfer-Encoding",
      "X-Change-Seq",
      "X-Idempotent-Replay");

  private final HttpExchange raw;
  private final Limits limits;
  private final RequestContext context;
  private final Headers requestHeaders;
  private final BodyInput bodyInput = new BodyInput();
  private final BodyOutput bodyOutput = new BodyOutput();
  private InputStream in = bodyInput;
  private OutputStream out = bodyOutput;
  private long bodyLimit;
  private boolean holdsPlace;
  private int status = -1;
  private long length;
  private @Nullable IOException clientGone;

  GuardedExchange(HttpExchange raw, Limits limits, String route) {
    this.raw = raw;
    this.limits = limits;
    this.bodyLimit = limits.maxBody();
    this.requestHeaders = raw.getRequestHeaders();
    // Null for a target like CONNECT's; "*" is refused.
    String rawPath = raw.getRequestURI().getRawPath();
    this.context = new RequestContext(this, route, rawPath == null ? "*" : rawPath);
  }

  RequestContext context() {
    return context;
  }

  HttpExchange raw() {
    return raw;
  }

  boolean draining() {
    return limits.draining();
  }

  /** Takes a place among the requests in flight; it is given back when the response begins. */
  void enter() {
    take(Duration.ZERO);
  }

  private void take(Duration patience) {
    if (!limits.enter(patience)) {
      raw.getResponseHeaders().set("Retry-After", "1");
      throw new ServiceException(Limits.FULL, "http.in_flight");
    }
    holdsPlace = true;
  }

  /** Gives the place back, if the request has one. */
  void leave() {
    if (holdsPlace) {
      holdsPlace = false;
      limits.leave();
    }
  }

  void bodyLimit(long bytes) {
    bodyLimit = bytes;
  }

  /** Refuses a body that says it is too large, before a byte of it is read. */
  void checkDeclaredLength() {
    RequestRules.requireBodyWithin(bodyLimit, declaredLength());
  }

  /**
   * Reads a short body before the handler runs. To the server a request has arrived when its body has been read, and it cuts
   * the connection of one that has not in time, even under a handler that reads its body late or never.
   */
  void readAhead() throws IOException {
    long declared = declaredLength();
    if (declared > 0 && declared <= DRAINED_BY_SERVER && bodyInput.count == 0) {
      bodyInput.readAhead((int) declared);
    }
  }

  private long declaredLength() {
    return RequestRules.contentLength(requestHeaders.getFirst("Content-Length"));
  }

  /** Whether the status is settled. */
  boolean committed() {
    return status > 0;
  }

  /** Whether something may have been sent; a response without a body is sent by {@link #end()}. */
  boolean begun() {
    return committed() && length >= 0;
  }

  /** The failure of writing to a client that went away. */
  @Nullable
  IOException clientGone() {
    return clientGone;
  }

  /** Forgets what was prepared for a response that will not be sent. */
  void prepareError() {
    Headers headers = raw.getResponseHeaders();
    SUCCESS_HEADERS.forEach(headers::remove);
    headers.entrySet().removeIf(e -> !RequestRules.isHeader(e.getKey(), e.getValue()));
    out = bodyOutput;
    bodyOutput.closed = false;
    status = -1;
  }

  /** Ends the response: the client has it when this returns. */
  void end() throws IOException {
    out.close();
    if (length < 0) {
      bodyOutput.sendHeaders(-1);
    } else {
      bodyOutput.end();
    }
    raw.close();
  }

  @Override
  public void sendResponseHeaders(int code, long responseLength) throws IOException {
    if (committed()) {
      throw new IOException("the response has begun already, with status " + status);
    }
    if (code < 200 || code > 599) {
      throw new IllegalArgumentException("status " + code + " must be between 200 and 599");
    }
    if (responseLength < -1) {
      throw new IllegalArgumentException("responseLength must be -1 or more");
    }
    Headers headers = raw.getResponseHeaders();
    context.runBeforeResponse(headers);
    headers.forEach((name, values) -> {
      if (!RequestRules.isHeader(name, values)) {
        throw new IllegalArgumentException(
            "response header " + RequestRules.printable(name) + " has an illegal character");
      }
    });
    String declared = headers.getFirst("Content-Length");
    headers.remove("Content-Length");
    headers.remove("Transfer-Encoding");
    boolean empty = code == 204 || code == 205 || code == 304;
    if (isHead() && !empty) {
      if (responseLength > 0) {
        headers.set("Content-Length", Long.toString(responseLength));
      } else if (responseLength == -1 && declared != null && RequestRules.isDigits(declared)) {
        headers.set("Content-Length", declared);
      }
    }
    if (limits.draining() || losesNextRequest()) {
      headers.set("Connection", "close");
    }
    status = code;
    leave();
    if (empty || isHead() || responseLength == -1) {
      length = -1;
    } else {
      length = responseLength;
      bodyOutput.begin();
    }
  }

  /**
   * Whether the server ends the connection, or may swallow its next request, because of a body that is not read. It reads less than 64
   * KiB after the response and cuts the connection behind a longer one, or one whose length is not known; over TLS it loses
   * whatever arrives in one piece with such a body: that is decrypted already, and nobody looks at it.
   */
  private boolean losesNextRequest() {
    if (bodyInput.atEnd) {
      return false;
    }
    long unread = declaredLength() - bodyInput.count;
    return unread >= DRAINED_BY_SERVER
        || requestHeaders.containsKey("Transfer-Encoding")
        || (raw instanceof HttpsExchange && unread > 0);
  }

  private boolean isHead() {
    return raw.getRequestMethod().equals("HEAD");
  }

  @Override
  public int getResponseCode() {
    return status;
  }

  @Override
  public @Nullable Object getAttribute(String name) {
    return name.equals(RequestContext.ATTRIBUTE) ? context : context.values().get(name);
  }

  @Override
  public void setAttribute(String name, @Nullable Object value) {
    if (value == null) {
      context.values().remove(name);
    } else {
      context.values().put(name, value);
    }
  }

  @Override
  public InputStream getRequestBody() {
    return in;
  }

  @Override
  public OutputStream getResponseBody() {
    return out;
  }

  @Override
  public void setStreams(@Nullable InputStream i, @Nullable OutputStream o) {
    if (i != null) {
      in = i;
    }
    if (o != null) {
      out = o;
    }
  }

  /** Does nothing: the response ends when the handler has returned. */
  @Override
  public void close() {}

  @Override
  public @Nullable HttpPrincipal getPrincipal() {
    HttpPrincipal own = context.principal();
    return own == null ? raw.getPrincipal() : own;
  }

  @Override
  public Headers getRequestHeaders() {
    return requestHeaders;
  }

  @Override
  public Headers getResponseHeaders() {
    return raw.getResponseHeaders();
  }

  @Override
  public URI getRequestURI() {
    return raw.getRequestURI();
  }

  @Override
  public String getRequestMethod() {
    return raw.getRequestMethod();
  }

  @Override
  public HttpContext getHttpContext() {
    return raw.getHttpContext();
  }

  @Override
  public InetSocketAddress getRemoteAddress() {
    return raw.getRemoteAddress();
  }

  @Override
  public InetSocketAddress getLocalAddress() {
    return raw.getLocalAddress();
  }

  @Override
  public String getProtocol() {
    return raw.getProtocol();
  }

  /** The request body up to the limit. While the client sends, the request holds no place. */
  private final class BodyInput extends InputStream {
    private long count;
    private boolean atEnd;
    private boolean closed;
    private byte[] ahead = {};
    private int aheadTaken;

    void readAhead(int length) throws IOException {
      // Grows with what has arrived, not with what is announced.
      byte[] body = new byte[Math.min(length, 2048)];
      for (int n = 0; n < length; ) {
        if (n == body.length) {
          body = Arrays.copyOf(body, Math.min(length, 2 * n));
        }
        int more = readFromClient(body, n, body.length - n);
        if (more < 0) {
          throw new ServiceException(RequestRules.INVALID_BODY, "http.body");
        }
        n += more;
      }
      ahead = body;
      atEnd = true;
    }

    @Override
    public int read() throws IOException {
      byte[] one = new byte[1];
      return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
    }

    @Override
    public int read(byte[] b, int off, int len) throws IOException {
      if (closed) {
        throw new IOException("the request body is closed");
      }
      if (aheadTaken < ahead.length) {
        int n = Math.min(len, ahead.length - aheadTaken);
        System.arraycopy(ahead, aheadTaken, b, off, n);
        aheadTaken += n;
        return n;
      }
      if (atEnd || len == 0) {
        return atEnd ? -1 : 0;
      }
      return readFromClient(b, off, len);
    }

    private int readFromClient(byte[] b, int off, int len) throws IOException {
      if (count == 0) {
        checkDeclaredLength();
      }
      checkCount();
      boolean held = false;
      int n;
      try {
        InputStream body = raw.getRequestBody();
        if (holdsPlace && body.available() <= 0) {
          held = true;
          leave();
        }
        // One byte more than is left, to see that there is one.
        int most = bodyLimit - count < len ? (int) (bodyLimit - count) + 1 : len;
        n = body.read(b, off, most);
      } catch (IOException e) {
        raw.getResponseHeaders().set("Connection", "close");
        throw new ServiceException(
            RequestRules.INVALID_BODY, "http.body", RequestRules.INVALID_BODY.defaultMessage(), e);
      }
      if (held) {
        take(REENTER);
      }
      if (n < 0) {
        atEnd = true;
      } else {
        count += n;
        checkCount();
      }
      return n;
    }

    private void checkCount() {
      if (count > bodyLimit) {
        raw.getResponseHeaders().set("Connection", "close");
        RequestRules.requireBodyWithin(bodyLimit, count);
      }
    }

    @Override
    public int available() throws IOException {
      if (closed) {
        return 0;
      }
      return atEnd ? ahead.length - aheadTaken : raw.getRequestBody().available();
    }

    @Override
    public void close() {
      closed = true;
    }
  }

  private final class BodyOutput extends OutputStream {
    private @Nullable OutputStream target;
    private long count;
    private boolean closed;

    void begin() throws IOException {
      sendHeaders(length);
      target = raw.getResponseBody();
    }

    void sendHeaders(long rawLength) throws IOException {
      try {
        raw.sendResponseHeaders(status, rawLength);
      } catch (IOException e) {
        clientGone = e;
        throw e;
      }
    }

    void end() throws IOException {
      if (length > 0 && count < length) {
        throw new IllegalStateException(
            "the handler wrote " + count + " of the " + length + " bytes that it had announced");
      }
      try {
        target().close();
      } catch (IOException e) {
        clientGone = e;
        throw e;
      }
    }

    @Override
    public void write(int b) throws IOException {
      write(new byte[] {(byte) b}, 0, 1);
    }

    @Override
    public void write(byte[] b, int off, int len) throws IOException {
      if (!committed()) {
        throw new IOException("the response has not begun; call sendResponseHeaders first");
      }
      if (closed) {
        throw new IOException("the response body is closed");
      }
      if (isHead() || len == 0) {
        return;
      }
      if (length < 0 || (length > 0 && count + len > length)) {
        throw new IOException("the response body is longer than announced");
      }
      count += len;
      try {
        target().write(b, off, len);
      } catch (IOException e) {
        clientGone = e;
        throw e;
      }
    }

    @Override
    public void flush() throws IOException {
      if (target != null && !closed) {
        try {
          target.flush();
        } catch (IOException e) {
          clientGone = e;
          throw e;
        }
      }
    }

    @Override
    public void close() {
      closed = committed();
    }

    private OutputStream target() {
      if (target == null) {
        throw new IllegalStateException("the response has no body");
      }
      return target;
    }
  }
}
