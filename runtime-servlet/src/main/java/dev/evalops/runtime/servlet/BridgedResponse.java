package dev.evalops.runtime.servlet;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import jakarta.servlet.ServletOutputStream;
import jakarta.servlet.WriteListener;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpServletResponseWrapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.io.UnsupportedEncodingException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.charset.Charset;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.NullUnmarked;
import org.jspecify.annotations.Nullable;

/**
 * The response that the application sees. Its headers are those of the exchange; it is committed by sending them there,
 * so that all that filters do with a response holds for it.
 */
@NullUnmarked // As the methods of HttpServletResponse.
final class BridgedResponse extends HttpServletResponseWrapper {
  private static final DateTimeFormatter HTTP_DATE = DateTimeFormatter.ofPattern(
          "EEE, dd MMM yyyy HH:mm:ss 'GMT'", Locale.US)
      .withZone(ZoneOffset.UTC);
  private static final int BUFFER = 8 * 1024;

  private final HttpServletResponse container;
  private final HttpExchange exchange;
  private final Bridge bridge;
  private final Headers headers;
  private final Map<String, List<String>> initialHeaders;
  private final HttpServletResponse forApplication;
  private final BodyStream stream = new BodyStream();
  // Of who writes; never held while waiting for the lock of a writer, which is taken first.
  private final ReentrantLock lock = new ReentrantLock();
  private volatile boolean taken;
  private int status = SC_OK;
  private int errorStatus;
  private long length = -1;
  private String contentType;
  private String charset;
  private Locale locale;
  private int bufferSize = BUFFER;
  private boolean committed;
  private boolean streamUsed;
  private PrintWriter writer;

  BridgedResponse(HttpServletResponse container, HttpExchange exchange, Bridge bridge) {
    super(container);
    this.container = container;
    this.exchange = exchange;
    this.bridge = bridge;
    this.headers = exchange.getResponseHeaders();
    this.initialHeaders = copy(headers);
    this.forApplication = forApplication(container);
  }

  private static Map<String, List<String>> copy(Map<String, List<String>> headers) {
    Map<String, List<String>> copy = new HashMap<>();
    headers.forEach((name, values) -> copy.put(name, new ArrayList<>(values)));
    return copy;
  }

  /** What the application is given. */
  HttpServletResponse forApplication() {
    return forApplication;
  }

  /**
   * Tomcat takes the response below a wrapper away when a request has been forwarded, before the wrapper has written to
   * it; so for Tomcat this must not look like one. Jetty wants wrappers.
   */
  private HttpServletResponse forApplication(HttpServletResponse container) {
    if (!container.getClass().getName().startsWith("org.apache.catalina.")) {
      return this;
    }
    return (HttpServletResponse) Proxy.newProxyInstance(
        BridgedResponse.class.getClassLoader(),
        new Class<?>[] {HttpServletResponse.class},
        (proxy, method, arguments) -> {
          try {
            return method.invoke(this, arguments);
          } catch (InvocationTargetException e) {
            throw e.getCause();
          }
        });
  }

  /** Sends what is left: the application has done what it had to do. */
  void finish() throws IOException {
    if (!committed && bridge.answeredBelow()) {
      return;
    }
    if (errorStatus > 0) {
      throw Errors.of(errorStatus, bridge.request());
    }
    stream.finish();
  }

  /** Takes the response from the application, threads of which may still write: somebody answers in its place. */
  void take() {
    lock.lock();
    try {
      taken = true;
    } finally {
      lock.unlock();
    }
  }

  private void checkOwned() throws IOException {
    if (taken) {
      throw new IOException("the request has ended");
    }
  }

  private void commit(long announced) throws IOException {
    exchange.sendResponseHeaders(
        status, announced == 0 || hasNoBody() ? -1 : Math.max(announced, 0));
    committed = true;
  }

  private boolean hasNoBody() {
    return status == SC_NO_CONTENT || status == SC_RESET_CONTENT || status == SC_NOT_MODIFIED;
  }

  private boolean isHead() {
    return exchange.getRequestMethod().equals("HEAD");
  }

  private void checkUncommitted() {
    if (isCommitted()) {
      throw new IllegalStateException("the response has been committed");
    }
  }

  @Override
  public boolean isCommitted() {
    return taken || committed || errorStatus > 0 || bridge.answeredBelow();
  }

  @Override
  public void reset() {
    resetBuffer();
    headers.clear();
    headers.putAll(copy(initialHeaders));
    container.reset(); // cookies
    bridge.presetFailure();
    status = SC_OK;
    length = -1;
    contentType = null;
    charset = null;
    locale = null;
    streamUsed = false;
    writer = null;
  }

  @Override
  public void resetBuffer() {
    checkUncommitted();
    if (writer != null) {
      stream.discarding = true; // the writer has a buffer, too
      writer.flush();
      stream.discarding = false;
    }
    stream.buffer.reset();
    stream.count = 0;
  }

  @Override
  public void flushBuffer() throws IOException {
    if (writer != null) {
      writer.flush();
    }
    stream.flush();
  }

  @Override
  public void setBufferSize(int size) {
    checkUncommitted();
    if (stream.buffer.size() > 0) {
      throw new IllegalStateException("something has been written");
    }
    bufferSize = Math.max(size, BUFFER);
  }

  @Override
  public int getBufferSize() {
    return bufferSize;
  }

  @Override
  public ServletOutputStream getOutputStream() {
    if (writer != null) {
      throw new IllegalStateException("getWriter has been called");
    }
    streamUsed = true;
    return stream;
  }

  @Override
  public PrintWriter getWriter() throws IOException {
    if (streamUsed) {
      throw new IllegalStateException("getOutputStream has been called");
    }
    if (writer == null) {
      String name = getCharacterEncoding();
      Charset encoding;
      try {
        encoding = Charset.forName(name);
      } catch (IllegalArgumentException e) {
        throw new UnsupportedEncodingException(name);
      }
      charset = name;
      setTypeHeader();
      writer = new PrintWriter(new OutputStreamWriter(stream, encoding));
    }
    return writer;
  }

  @Override
  public void setStatus(int status) {
    if (!isCommitted()) {
      this.status = status;
    }
  }

  @Override
  public int getStatus() {
    return errorStatus > 0 ? errorStatus : status;
  }

  @Override
  public void sendError(int status) {
    sendError(status, null);
  }

  /** The text is not sent: it may hold anything. */
  @Override
  public void sendError(int status, @Nullable String message) {
    checkUncommitted();
    resetBuffer();
    this.status = status;
    if (status >= 400) {
      errorStatus = status;
    }
  }

  @Override
  public void sendRedirect(String location) throws IOException {
    sendRedirect(location, SC_FOUND, true);
  }

  @Override
  public void sendRedirect(String location, int status) throws IOException {
    sendRedirect(location, status, true);
  }

  @Override
  public void sendRedirect(String location, boolean clearBuffer) throws IOException {
    sendRedirect(location, SC_FOUND, clearBuffer);
  }

  @Override
  public void sendRedirect(String location, int status, boolean clearBuffer) throws IOException {
    checkUncommitted();
    if (clearBuffer) {
      resetBuffer();
    }
    setStatus(status);
    setHeader("Location", location);
    stream.finish();
  }

  @Override
  public void setContentType(String type) {
    if (isCommitted()) {
      return;
    }
    contentType = type;
    if (type != null) {
      int start = type.toLowerCase(Locale.ROOT).indexOf("charset=");
      if (start >= 0) {
        int separator = type.lastIndexOf(';', start);
        contentType = separator < 0 ? type : type.substring(0, separator).trim();
        int end = type.indexOf(';', start);
        String named = type.substring(start + 8, end < 0 ? type.length() : end).trim();
        if (writer == null) {
          charset = named.replace("\"", "");
        }
        if (end >= 0) {
          contentType += type.substring(end);
        }
      }
    }
    setTypeHeader();
  }

  private void setTypeHeader() {
    if (contentType == null) {
      headers.remove("Content-Type");
    } else {
      headers.set(
          "Content-Type", charset == null ? contentType : contentType + ";charset=" + charset);
    }
  }

  @Override
  public String getContentType() {
    return headers.getFirst("Content-Type");
  }

  @Override
  public void setCharacterEncoding(String encoding) {
    if (!isCommitted() && writer == null) {
      charset = encoding;
      setTypeHeader();
    }
  }

  @Override
  public void setCharacterEncoding(Charset encoding) {
    setCharacterEncoding(encoding == null ? null : encoding.name());
  }

  @Override
  public String getCharacterEncoding() {
    if (charset == null) {
      boolean json = contentType != null && contentType.startsWith("application/json");
      return json ? "UTF-8" : container.getCharacterEncoding();
    }
    return charset;
  }

  @Override
  public void setLocale(Locale locale) {
    if (!isCommitted()) {
      this.locale = locale;
      setHeader("Content-Language", locale == null ? null : locale.toLanguageTag());
    }
  }

  @Override
  public Locale getLocale() {
    return locale == null ? container.getLocale() : locale;
  }

  @Override
  public void setContentLength(int length) {
    setContentLengthLong(length);
  }

  @Override
  public void setContentLengthLong(long length) {
    if (!isCommitted()) {
      this.length = length;
    }
  }

  @Override
  public boolean containsHeader(String name) {
    return getHeader(name) != null;
  }

  @Override
  public String getHeader(String name) {
    if (name.equalsIgnoreCase("Content-Length")) {
      return length < 0 ? null : Long.toString(length);
    }
    return headers.getFirst(name);
  }

  @Override
  public Collection<String> getHeaders(String name) {
    List<String> values = headers.get(name);
    return values == null ? List.of() : List.copyOf(values);
  }

  @Override
  public Collection<String> getHeaderNames() {
    return List.copyOf(headers.keySet());
  }

  @Override
  public void setHeader(String name, String value) {
    header(name, value, false);
  }

  @Override
  public void addHeader(String name, String value) {
    header(name, value, true);
  }

  private void header(String name, String value, boolean add) {
    if (isCommitted() || (add && value == null)) {
      return;
    }
    if (name.equalsIgnoreCase("Content-Type")) {
      setContentType(value);
    } else if (name.equalsIgnoreCase("Content-Length")) {
      setContentLengthLong(value == null ? -1 : Long.parseLong(value));
    } else if (value == null) {
      headers.remove(name);
    } else if (add) {
      headers.add(name, value);
    } else {
      headers.set(name, value);
    }
  }

  @Override
  public void setIntHeader(String name, int value) {
    setHeader(name, Integer.toString(value));
  }

  @Override
  public void addIntHeader(String name, int value) {
    addHeader(name, Integer.toString(value));
  }

  @Override
  public void setDateHeader(String name, long millis) {
    setHeader(name, HTTP_DATE.format(Instant.ofEpochMilli(millis)));
  }

  @Override
  public void addDateHeader(String name, long millis) {
    addHeader(name, HTTP_DATE.format(Instant.ofEpochMilli(millis)));
  }

  private final class BodyStream extends ServletOutputStream {
    private final ByteArrayOutputStream buffer = new ByteArrayOutputStream(512);
    private OutputStream body;
    private long count;
    private boolean closed;
    private boolean ending;
    private boolean discarding;
    private IOException failure;

    @Override
    public void write(int b) throws IOException {
      write(new byte[] {(byte) b}, 0, 1);
    }

    @Override
    public void write(byte[] b, int off, int len) throws IOException {
      lock.lock();
      try {
        checkOwned();
        writeLocked(b, off, len);
      } finally {
        lock.unlock();
      }
    }

    private void writeLocked(byte[] b, int off, int len) throws IOException {
      if (closed || discarding || errorStatus > 0) {
        return; // as containers do
      }
      if (length >= 0 && count + len > length && !hasNoBody()) {
        throw failed(new IOException("the response body is longer than announced"));
      }
      count += len;
      if (!committed && buffer.size() + len > bufferSize) {
        sendBuffered(length);
      }
      if (committed) {
        send(b, off, len);
      } else {
        buffer.write(b, off, len);
      }
    }

    private void sendBuffered(long announced) throws IOException {
      commit(announced);
      byte[] bytes = buffer.toByteArray();
      buffer.reset();
      send(bytes, 0, bytes.length);
    }

    private void send(byte[] b, int off, int len) throws IOException {
      if (len == 0 || hasNoBody()) {
        return;
      }
      try {
        if (body == null) {
          body = exchange.getResponseBody();
        }
        body.write(b, off, len);
      } catch (IOException e) {
        throw failed(e);
      }
    }

    private IOException failed(IOException e) {
      failure = e;
      return e;
    }

    @Override
    public void flush() throws IOException {
      lock.lock();
      try {
        checkOwned();
        flushLocked();
      } finally {
        lock.unlock();
      }
    }

    private void flushLocked() throws IOException {
      if (closed || ending || discarding || errorStatus > 0) {
        return;
      }
      if (!committed) {
        sendBuffered(length);
      }
      try {
        if (body != null || !hasNoBody()) {
          exchange.getResponseBody().flush();
        }
      } catch (IOException e) {
        throw failed(e);
      }
    }

    /** Sends the end of the body, of which the length is known now. */
    void finish() throws IOException {
      if (writer != null && !ending) {
        ending = true;
        writer.flush();
      }
      lock.lock();
      try {
        checkOwned();
        finishLocked();
      } finally {
        lock.unlock();
      }
    }

    private void finishLocked() throws IOException {
      if (failure != null) {
        throw failure; // a writer does not say so
      }
      if (closed) {
        return;
      }
      if (!committed && status == SC_SWITCHING_PROTOCOLS) {
        bridge.switchProtocols();
      } else if (!committed) {
        boolean whole = length < 0 || count == length || isHead() || hasNoBody();
        if (!whole) {
          throw new IllegalStateException(
              "the servlet wrote " + count + " of the " + length + " bytes that it had announced");
        }
        sendBuffered(isHead() && length >= 0 ? length : count);
      }
      if (body != null) {
        body.close();
      }
      closed = true;
    }

    @Override
    public void close() throws IOException {
      if (errorStatus == 0) {
        finish();
      }
    }

    @Override
    public boolean isReady() {
      return true;
    }

    @Override
    public void setWriteListener(@Nullable WriteListener listener) {
      throw new IllegalStateException(
          "non-blocking writing is not supported behind Servlets.next()");
    }
  }
}
