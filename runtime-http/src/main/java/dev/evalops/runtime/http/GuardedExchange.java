package dev.evalops.runtime.http;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpPrincipal;
import com.sun.net.httpserver.HttpsExchange;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.nio.channels.ClosedChannelException;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * An exchange that behaves the same on every provider. The response ends when {@link #end()} is called after the
 * handler has returned, not when the handler closes the body: a handler that fails within try-with-resources must not
 * make half a body look whole.
 */
final class GuardedExchange extends HttpFilters.ForwardingExchange {
  private static final int READ_AHEAD = 64 * 1024;
  private static final Duration REENTER = Duration.ofSeconds(5);
  // From when on the end of a response is sent apart from the rest, to see whether the connection
  // is still there.
  private static final long SLOW_NANOS = TimeUnit.MILLISECONDS.toNanos(100);

  /** What a handler sets for the response that it did not get to send. */
  private static final List<String> SUCCESS_HEADERS = List.of(
      "Accept-Ranges",
      "Cache-Control",
      "Content-Disposition",
      "Content-Encoding",
      "Content-Language",
      "Content-Length",
      "Content-Location",
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
  // Another server's, which brings us requests; what works around the JDK's server is not for it.
  private final boolean hosted;
  private final Headers requestHeaders;
  private final RequestHead head;
  private final BodyInput bodyInput = new BodyInput();
  private final BodyOutput bodyOutput = new BodyOutput();
  private final long start = System.nanoTime();
  private InputStream in = bodyInput;
  private OutputStream out = bodyOutput;
  private long bodyLimit;
  private boolean holdsPlace;
  private int status = -1;
  private long length;
  private @Nullable IOException clientGone;
  private @Nullable ServiceException refusal;
  private boolean refusing;
  private boolean cut;
  private boolean answeredElsewhere;
  private @Nullable HttpExchange forHandler;
  private volatile RequestContext.@Nullable Suspension suspension;

  GuardedExchange(HttpExchange raw, Limits limits, String route) {
    super(raw);
    this.raw = raw;
    this.limits = limits;
    this.hosted = raw.getHttpContext().getServer() == null;
    this.bodyLimit = limits.maxBody();
    this.requestHeaders = raw.getRequestHeaders();
    this.head = new RequestHead(requestHeaders);
    // Null for a target like CONNECT's; "*" is refused.
    String rawPath = raw.getRequestURI().getRawPath();
    this.context = new RequestContext(this, route, rawPath == null ? "*" : rawPath);
  }

  RequestContext context() {
    return context;
  }

  RequestHead head() {
    return head;
  }

  boolean draining() {
    return limits.draining();
  }

  boolean hosted() {
    return hosted;
  }

  /** The exchange that the first filter is given. */
  HttpExchange forHandler() {
    HttpExchange known = forHandler;
    if (known == null) {
      known = forChain();
      forHandler = known;
    }
    return known;
  }

  /** Makes the response wait for {@link RequestContext.Suspension}. */
  RequestContext.Suspension suspend() {
    if (suspension != null) {
      throw new IllegalStateException("the request is suspended already");
    }
    RequestContext.Suspension made = new RequestContext.Suspension(this);
    if (hosted) { // the other server has to wait, too
      raw.setAttribute(RequestContext.Suspension.class.getName(), made);
    }
    suspension = made;
    limits.suspended(1);
    return made;
  }

  RequestContext.@Nullable Suspension suspension() {
    return suspension;
  }

  /** Says that a request that was suspended has been dealt with. */
  void dealtWith() {
    limits.suspended(-1);
  }

  /** Takes over the status of a response that was made beneath us, as by a protocol upgrade; false if there is none. */
  boolean adopt() {
    if (!hosted || committed() || raw.getResponseCode() <= 0) {
      return false;
    }
    status = raw.getResponseCode();
    length = -1;
    answeredElsewhere = true;
    leave();
    return true;
  }

  /**
   * Closes the connection, or the stream of it that the response has: the client must not take half a response for a
   * whole one.
   */
  void abort() {
    // The server closes the connection where it cannot end the response.
    raw.setStreams(null, new OutputStream() {
      @Override
      public void write(int b) throws IOException {
        throw new IOException("response cut short");
      }

      @Override
      public void close() throws IOException {
        throw new IOException("response cut short");
      }
    });
    raw.close();
  }

  /** Takes a place among the requests in flight; it is given back when the response begins. */
  void enter() {
    take(Duration.ZERO);
  }

  private void take(Duration patience) {
    if (!limits.enter(patience)) {
      raw.getResponseHeaders().set("Retry-After", "1");
      throw ServiceException.of(HttpErrors.OVERLOADED).op("http.in_flight");
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

  /** Refuses the request: filters may see it, and cannot answer it. */
  void refuse(ServiceException refusal) {
    this.refusal = refusal;
    refusing = true;
  }

  @Nullable
  ServiceException refusal() {
    return refusal;
  }

  void bodyLimit(long bytes) {
    bodyLimit = bytes;
  }

  /** Refuses a body that says it is too large, before a byte of it is read. */
  void checkDeclaredLength() {
    RequestRules.requireBodyWithin(bodyLimit, head.declaredLength());
  }

  /**
   * Reads a short body before the handler runs. To the server a request has arrived when its body has been read, and it
   * cuts the connection of one that has not in time, even under a handler that reads its body late or never.
   */
  void readAhead() throws IOException {
    if (hosted || bodyInput.count > 0 || bodyInput.atEnd) {
      return;
    }
    if (head.isChunked()) {
      bodyInput.readAhead(READ_AHEAD + 1, false); // one more, to see the end
    } else {
      long declared = head.declaredLength();
      if (declared > 0 && declared <= READ_AHEAD) {
        bodyInput.readAhead((int) declared, true);
      }
    }
  }

  /** Whether the status is settled. */
  boolean committed() {
    return status > 0;
  }

  /** Whether something may have been sent; a response without a body is sent by {@link #end()}. */
  boolean begun() {
    return committed() && length >= 0;
  }

  /** Says that the response did not reach the client as a whole. */
  void cut() {
    cut = true;
  }

  /** Whether this server has closed the connection, because of a time limit or since it stops. */
  boolean closedHere() {
    // What a socket says of itself once it is closed; another server may say so of its own accord.
    InetSocketAddress local = raw.getLocalAddress();
    return !hosted
        && local != null
        && local.getAddress() != null
        && local.getAddress().isAnyLocalAddress();
  }

  /** Says that the client went away. */
  void clientGone(IOException failure) {
    clientGone = failure;
  }

  /** Whether this is, or comes from, the failure of writing to a client that went away. */
  boolean isClientGone(Throwable failure) {
    IOException gone = clientGone;
    if (gone == null) {
      return false;
    }
    Throwable t = failure;
    for (int depth = 0; t != null && depth < 20; depth++, t = t.getCause()) {
      // A container may bring another exception for the same end of a connection.
      if (t.equals(gone) || (hosted && t instanceof IOException)) {
        return true;
      }
    }
    return false;
  }

  /** Forgets what was prepared for a response that will not be sent. */
  void prepareError() {
    Headers headers = raw.getResponseHeaders();
    SUCCESS_HEADERS.forEach(headers::remove);
    headers.entrySet().removeIf(e -> !RequestRules.isHeader(e.getKey(), e.getValue()));
    out = bodyOutput;
    bodyOutput.closed = false;
    status = -1;
    refusing = false;
  }

  /**
   * Sends all but the end of a response of which this may fail, so that one that was cut is known as such before the
   * client can see its end.
   */
  void settle() throws IOException {
    if (answeredElsewhere) {
      return;
    }
    out.close();
    bodyOutput.checkLength();
    if (!mayBeCut()) {
      return;
    }
    if (length >= 0) {
      bodyOutput.send(OutputStream::flush);
    } else if (closedHere()) {
      throw gone(new ClosedChannelException());
    }
  }

  /** Whether the connection may have been closed by a time limit, or by a client that did not want to wait. */
  private boolean mayBeCut() {
    return hasUnread() || System.nanoTime() - start > SLOW_NANOS;
  }

  /** Ends the response: the client has it when this returns. */
  void end() throws IOException {
    if (answeredElsewhere) {
      raw.close();
      return;
    }
    try {
      if (hasUnread()) {
        limits.lingering().run(this::finish);
      } else {
        finish();
      }
    } catch (IndexOutOfBoundsException e) {
      if (bodyInput.broken) {
        throw gone(new IOException("request body is malformed", e));
      }
      throw e;
    }
  }

  private IOException gone(IOException failure) {
    clientGone = failure;
    return failure;
  }

  private void finish() throws IOException {
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
    if (refusing && refusal != null) {
      throw refusal;
    }
    if (code < 200 || code > 599) {
      throw new IllegalArgumentException("code must be between 200 and 599: " + code);
    }
    if (responseLength < -1) {
      throw new IllegalArgumentException("responseLength must be -1 or more: " + responseLength);
    }
    Headers headers = raw.getResponseHeaders();
    context.runBeforeResponse(headers);
    String declared = HttpResponses.isFramed(headers) ? unframe(headers) : null;
    boolean empty = code == 204 || code == 205 || code == 304;
    if (isHead() && !empty) {
      if (responseLength > 0) {
        headers.set("Content-Length", Long.toString(responseLength));
      } else if (responseLength == -1 && declared != null && RequestRules.isDigits(declared)) {
        headers.set("Content-Length", declared);
      } else if (responseLength == -1 && hosted) {
        headers.set("Content-Length", "0"); // tells it from an unknown length
      }
    }
    boolean hasBody = !empty && !isHead() && responseLength != -1;
    // To HTTP/1.0 the end of the connection is the end of a body of unknown length.
    boolean endsBody = hasBody && responseLength == 0 && raw.getProtocol().equals("HTTP/1.0");
    // The server closes it then, and after a last request, and says so (RFC 9112, section 9.6).
    if (limits.draining() || losesNextRequest() || (!hosted && (head.isLast() || endsBody))) {
      headers.set("Connection", "close");
    }
    status = code;
    leave();
    if (!hasBody) {
      length = -1;
    } else {
      length = responseLength;
      bodyOutput.begin();
    }
  }

  /** Removes what says how long the response is; returns the length that it said. */
  private static @Nullable String unframe(Headers headers) {
    String declared = headers.getFirst("Content-Length");
    headers.remove("Content-Length");
    headers.remove("Transfer-Encoding");
    return declared;
  }

  /**
   * Whether the next request of the connection would be lost, or could only be read behind a long body that is not
   * read: over TLS the server loses whatever arrives in one piece with such a body, since that is decrypted already and
   * nobody looks at it.
   */
  private boolean losesNextRequest() {
    return hasUnread()
        && (head.isChunked()
            || head.declaredLength() - bodyInput.count >= READ_AHEAD
            || raw instanceof HttpsExchange);
  }

  /** Whether there is a part of the request's body that has not been read from the client. */
  private boolean hasUnread() {
    return !hosted
        && !bodyInput.atEnd
        && (head.isChunked() || head.declaredLength() > bodyInput.count);
  }

  private boolean isHead() {
    return raw.getRequestMethod().equals("HEAD");
  }

  @Override
  public int getResponseCode() {
    return cut ? -1 : status;
  }

  @Override
  public @Nullable Object getAttribute(String name) {
    if (name.equals(RequestContext.ATTRIBUTE)) {
      return context;
    }
    Object own = context.values().get(name);
    // Those of another server belong to the request.
    return own == null && hosted ? raw.getAttribute(name) : own;
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

  /** The request body up to the limit. While the client sends, the request holds no place. */
  private final class BodyInput extends InputStream {
    private long count;
    private boolean atEnd;
    private boolean broken;
    private boolean closed;
    private byte[] ahead = {};
    private int aheadEnd;
    private int aheadTaken;

    /** Reads up to so many bytes; fewer are an error if all of them were announced. */
    void readAhead(int length, boolean announced) throws IOException {
      // Grows with what has arrived, not with what is announced.
      byte[] body = new byte[Math.min(length, 2048)];
      int n = 0;
      while (n < length) {
        if (n == body.length) {
          body = Arrays.copyOf(body, Math.min(length, 2 * n));
        }
        int more = readFromClient(body, n, body.length - n);
        if (more < 0 && announced) {
          throw ServiceException.of(HttpErrors.INVALID_BODY).op("http.body");
        }
        if (more < 0) {
          break;
        }
        n += more;
      }
      ahead = body;
      aheadEnd = n;
      atEnd |= announced;
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
      if (aheadTaken < aheadEnd) {
        int n = Math.min(len, aheadEnd - aheadTaken);
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
      } catch (IOException
          | IndexOutOfBoundsException e) { // the latter from a chunk size beyond an int
        broken = true;
        raw.getResponseHeaders().set("Connection", "close");
        throw ServiceException.of(
                HttpErrors.INVALID_BODY, HttpErrors.INVALID_BODY.defaultMessage(), e)
            .op("http.body");
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
      int taken = aheadEnd - aheadTaken;
      return taken > 0 || atEnd ? taken : raw.getRequestBody().available();
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
    // The last byte, while it is held back.
    private byte @Nullable [] last;

    void begin() throws IOException {
      sendHeaders(length);
      target = raw.getResponseBody();
    }

    void sendHeaders(long rawLength) throws IOException {
      try {
        raw.sendResponseHeaders(status, rawLength);
      } catch (IOException e) {
        throw gone(e);
      }
    }

    void checkLength() {
      if (length > 0 && count < length) {
        throw new IllegalStateException(
            "the handler wrote " + count + " of the " + length + " bytes that it had announced");
      }
    }

    void end() throws IOException {
      send(to -> {
        sendLast(to);
        to.close();
      });
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
      boolean holdsBack = count == length && mayBeCut();
      if (holdsBack) {
        last = new byte[] {b[off + len - 1]};
      }
      send(to -> to.write(b, off, holdsBack ? len - 1 : len));
    }

    @Override
    public void flush() throws IOException {
      if (target != null && !closed) {
        send(to -> {
          sendLast(to);
          to.flush();
        });
      }
    }

    private void sendLast(OutputStream to) throws IOException {
      byte[] held = last;
      last = null;
      if (held != null) {
        to.write(held);
      }
    }

    private void send(Sending sending) throws IOException {
      OutputStream to = target;
      if (to == null) {
        throw new IllegalStateException("the response has no body");
      }
      // A channel closes itself under a thread that writes with the flag set.
      boolean interrupted = Thread.interrupted();
      try {
        sending.to(to);
      } catch (IOException e) {
        throw gone(e);
      } finally {
        if (interrupted) {
          Thread.currentThread().interrupt();
        }
      }
    }

    @Override
    public void close() {
      closed = committed();
    }
  }

  private interface Sending {
    void to(OutputStream target) throws IOException;
  }
}
