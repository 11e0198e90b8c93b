package dev.evalops.runtime.idempotency;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.http.HttpFilters.ForwardingExchange;
import dev.evalops.runtime.http.HttpResponses;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * An exchange whose response is held back until its outcome is settled. A response that is larger than what may be held
 * settles it as such, and goes out from then on.
 */
final class HeldExchange extends ForwardingExchange {
  /** What replays beside status, content type and body. */
  private static final List<String> KEPT_HEADERS =
      List.of("Content-Encoding", "ETag", "Location", "X-Change-Seq");

  private final HttpExchange exchange;
  private final int maxResponse;
  private final Execution execution;
  private final HeldBody heldBody = new HeldBody();
  private InputStream in;
  private OutputStream out = heldBody;
  private int status = -1;
  private long length;

  HeldExchange(HttpExchange exchange, byte[] body, int maxResponse, Execution execution) {
    super(exchange);
    this.exchange = exchange;
    this.in = new ByteArrayInputStream(body);
    this.maxResponse = maxResponse;
    this.execution = execution;
  }

  /** Fails if the response is not what was announced, or if its writing has failed and nobody has said so. */
  void checkComplete() throws IOException {
    out.close(); // what inner filters have put around it may hold something back
    if (heldBody.failure != null) {
      throw new IOException("the response could not be written", heldBody.failure);
    }
    if (length > 0 && heldBody.count < length) {
      throw new IllegalStateException("the handler wrote " + heldBody.count + " of the " + length
          + " bytes that it had announced");
    }
  }

  StoredResponse response() {
    String contentType = exchange.getResponseHeaders().getFirst("Content-Type");
    return new StoredResponse(
        status,
        contentType == null ? "" : contentType,
        keptHeaders(),
        heldBody.buffer.toByteArray());
  }

  private Map<String, String> keptHeaders() {
    Map<String, String> kept = new HashMap<>();
    for (String name : KEPT_HEADERS) {
      String value = exchange.getResponseHeaders().getFirst(name);
      if (value != null) {
        kept.put(name, value);
      }
    }
    return kept;
  }

  /** Sends what was held back, if it has not gone out already. */
  void send() throws IOException {
    if (heldBody.target == null) {
      int size = heldBody.buffer.size();
      exchange.sendResponseHeaders(status, size == 0 ? -1 : size);
      if (size > 0) {
        try (OutputStream body = exchange.getResponseBody()) {
          heldBody.buffer.writeTo(body);
        }
      }
    } else {
      heldBody.target.close();
    }
  }

  @Override
  public void sendResponseHeaders(int code, long responseLength) throws IOException {
    if (status > 0) {
      throw new IOException("the response has begun already, with status " + status);
    }
    if (code < 200 || code > 599) {
      throw new IllegalArgumentException("code must be between 200 and 599: " + code);
    }
    if (responseLength < -1) {
      throw new IllegalArgumentException("responseLength must be -1 or more: " + responseLength);
    }
    // What cannot be sent is not kept either: it could never be replayed.
    HttpResponses.checkHeaders(getResponseHeaders());
    status = code;
    length = code == 204 || code == 205 || code == 304 ? -1 : responseLength;
  }

  @Override
  public int getResponseCode() {
    return status;
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

  /** Does nothing: the response goes out when the handler has returned. */
  @Override
  public void close() {}

  private final class HeldBody extends OutputStream {
    private final ByteArrayOutputStream buffer = new ByteArrayOutputStream();
    private long count;
    private boolean closed;
    private @Nullable Throwable failure;

    /** Where the response goes once it is too large to be held. */
    private @Nullable OutputStream target;

    @Override
    public void write(int b) throws IOException {
      write(new byte[] {(byte) b}, 0, 1);
    }

    @Override
    public void write(byte[] b, int off, int len) throws IOException {
      if (status < 0) {
        throw new IOException("the response has not begun; call sendResponseHeaders first");
      }
      if (closed) {
        throw new IOException("the response body is closed");
      }
      if (len == 0) {
        return;
      }
      if (length < 0 || (length > 0 && count + len > length)) {
        throw new IOException("the response body is longer than announced");
      }
      try {
        count += len;
        if (target == null && (count > maxResponse || length > maxResponse)) {
          execution.finishTooLarge(status, keptHeaders());
          exchange.sendResponseHeaders(status, length);
          target = exchange.getResponseBody();
          buffer.writeTo(target);
          buffer.reset();
        }
        (target == null ? buffer : target).write(b, off, len);
      } catch (IOException | RuntimeException e) {
        failure = e;
        throw e;
      }
    }

    @Override
    public void flush() throws IOException {
      if (target != null && !closed) {
        target.flush();
      }
    }

    @Override
    public void close() {
      closed = status > 0;
    }
  }
}
