package dev.evalops.runtime.servlet;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpContext;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpPrincipal;
import com.sun.net.httpserver.HttpsExchange;
import dev.evalops.runtime.http.HttpFilters.ForwardingExchange;
import dev.evalops.runtime.http.RequestContext;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.ServletResponseWrapper;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Field;
import java.lang.reflect.Proxy;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.security.cert.X509Certificate;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLSession;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The exchange of a container's request and response. What filters may ask for when the request has ended is read at
 * the beginning: a container may have taken its request back by then.
 */
final class ServletExchange extends HttpsExchange {
  static final String FORM = "application/x-www-form-urlencoded";

  private static final Logger LOG = LoggerFactory.getLogger(Servlets.class);
  private static final String OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
  private static final Pattern IP_ADDRESS =
      Pattern.compile(OCTET + "(\\." + OCTET + "){3}|[0-9a-fA-F]*+:[0-9a-fA-F:.]*+(%[\\w.-]+)?");
  // Beside what no URI may have: brackets, which only the query may have.
  private static final String QUOTED_IN_PATH = "\"<>\\^`{|}[]#";
  private static final String QUOTED_IN_QUERY = "\"<>\\^`{|}#";

  private final HttpServletRequest request;
  private final HttpServletResponse response;
  private final Bridge bridge;
  private final String method;
  private final String protocol;
  private final Address remote;
  private final Address local;
  private final Headers requestHeaders;
  private final Headers responseHeaders = new Headers();
  private final URI target;
  private final Input in = new Input();
  private final OutputStream out = new Output();
  private boolean formTaken;
  private boolean bodyTaken;
  private boolean broken;
  private boolean resumed;
  private int status = -1;
  private volatile @Nullable IOException clientGone;

  ServletExchange(HttpServletRequest request, HttpServletResponse response, Bridge bridge) {
    this.request = request;
    this.response = response;
    this.bridge = bridge;
    this.method = request.getMethod();
    this.protocol = request.getProtocol();
    this.remote = new Address(request.getRemoteAddr(), request.getRemotePort());
    this.local = new Address(request.getLocalAddr(), request.getLocalPort());
    this.requestHeaders = headers(request);
    this.target = target(request);
  }

  /** This exchange as the type that it has on the JDK's server: over TLS, and only there, an {@link HttpsExchange}. */
  HttpExchange typed() {
    return request.isSecure() ? this : new ForwardingExchange(this) {};
  }

  private static Headers headers(HttpServletRequest request) {
    Headers headers = new Headers();
    for (String name : Collections.list(request.getHeaderNames())) {
      for (String value : Collections.list(request.getHeaders(name))) {
        headers.add(name, value);
      }
    }
    if (!request.getProtocol().startsWith("HTTP/1") && !headers.containsKey("Host")) {
      // A pseudo-header there.
      String host = request.getServerName();
      boolean bare = host.indexOf(':') >= 0 && !host.startsWith("[");
      int port = request.getServerPort();
      boolean usual = port == (request.getScheme().equals("https") ? 443 : 80);
      headers.set("Host", (bare ? "[" + host + "]" : host) + (usual ? "" : ":" + port));
    }
    return headers;
  }

  /** What a server of this application alone would have been asked for. */
  private static URI target(HttpServletRequest request) {
    String path =
        withoutContext(request.getRequestURI(), request.getServletContext().getContextPath());
    String query = request.getQueryString();
    try {
      URI target = new URI(quoted(path, QUOTED_IN_PATH)
          + (query == null ? "" : "?" + quoted(query, QUOTED_IN_QUERY)));
      String dispatched = dispatched(request);
      String asked = target.getPath();
      // The container has chosen a welcome file: it, too, must be what filters see.
      if (asked != null
          && asked.endsWith("/")
          && dispatched.startsWith(asked)
          && dispatched.length() > asked.length()
          && dispatched.indexOf('/', asked.length()) < 0) {
        return new URI(new URI(null, null, dispatched, null).getRawPath()
            + (query == null ? "" : "?" + target.getRawQuery()));
      }
      return target;
    } catch (URISyntaxException e) {
      return URI.create("*"); // refused, as what is no path
    }
  }

  /**
   * The path without the segments of the context path, however they are written. If they are not where they should be,
   * the rest differs from what the container dispatches.
   */
  private static String withoutContext(String path, String context) {
    int end = 0;
    for (int i = 0; i < context.length(); i++) {
      if (context.charAt(i) == '/') {
        end = path.indexOf('/', end + 1);
        if (end < 0) {
          return "/";
        }
      }
    }
    return path.substring(end);
  }

  /** The path by which the container chooses filters and servlets. */
  static String dispatched(HttpServletRequest request) {
    String more = request.getPathInfo();
    String path = request.getServletPath() + (more == null ? "" : more);
    return path.isEmpty() ? "/" : path;
  }

  private static String quoted(String text, String characters) {
    StringBuilder quoted = null;
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      boolean escape = c == '%' && !isHex(text, i + 1);
      if (c > ' ' && c != 0x7f && characters.indexOf(c) < 0 && !escape) {
        if (quoted != null) {
          quoted.append(c);
        }
        continue;
      }
      quoted = quoted == null ? new StringBuilder(text.substring(0, i)) : quoted;
      for (byte b : String.valueOf(c).getBytes(StandardCharsets.UTF_8)) {
        quoted.append(String.format(Locale.ROOT, "%%%02X", b));
      }
    }
    return quoted == null ? text : quoted.toString();
  }

  private static boolean isHex(String text, int index) {
    return index + 2 <= text.length()
        && Character.digit(text.charAt(index), 16) >= 0
        && Character.digit(text.charAt(index + 1), 16) >= 0;
  }

  /** Whether a content type is this one, whatever its parameters. */
  static boolean isOfType(@Nullable String contentType, String type) {
    if (contentType == null) {
      return false;
    }
    int end = contentType.indexOf(';');
    return (end < 0 ? contentType : contentType.substring(0, end))
        .trim()
        .toLowerCase(Locale.ROOT)
        .equals(type);
  }

  /** Whether a filter before ours has read the form, as Spring Security does: its parameters are in the request. */
  boolean formTaken() {
    if (!bodyTaken && hasForm()) {
      in.lookAhead();
    }
    return formTaken;
  }

  private boolean hasForm() {
    return isOfType(request.getHeader("Content-Type"), FORM)
        && (request.getContentLengthLong() > 0 || request.getHeader("Transfer-Encoding") != null);
  }

  /** Whether somebody has begun to read the request body here. */
  boolean bodyTaken() {
    return bodyTaken;
  }

  /** The failure of writing to a client that went away. */
  @Nullable
  IOException clientGone() {
    return clientGone;
  }

  /** Says that the client went away. */
  void gone(IOException failure) {
    clientGone = failure;
  }

  /** When reading fails Tomcat takes no answer any more, and sends a page of its own, with a stack trace. */
  void resume() {
    ServletResponse below = response;
    while (below instanceof ServletResponseWrapper wrapper) {
      below = wrapper.getResponse();
    }
    if (status > 0 || !below.getClass().getName().startsWith("org.apache.catalina.")) {
      return;
    }
    try {
      Field field = below.getClass().getDeclaredField("response");
      field.setAccessible(true);
      Object tomcats = field.get(below);
      tomcats.getClass().getMethod("setSuspended", boolean.class).invoke(tomcats, false);
      resumed = true;
    } catch (ReflectiveOperationException | RuntimeException e) {
      LOG.atDebug().setCause(e).log("Tomcat answers a body that cannot be read by itself");
    }
  }

  /** Gives the response the headers that filters have set. */
  void copyHeaders() {
    boolean http1 = protocol.startsWith("HTTP/1");
    for (Map.Entry<String, List<String>> header : responseHeaders.entrySet()) {
      String name = header.getKey();
      if (name.equals("Connection") && !http1) {
        continue; // not in the later versions
      }
      boolean first = !name.equalsIgnoreCase("Set-Cookie"); // the container has cookies of its own
      for (String value : header.getValue()) {
        if (first) {
          response.setHeader(name, value);
        } else {
          response.addHeader(name, value);
        }
        first = false;
      }
    }
  }

  @Override
  public void sendResponseHeaders(int code, long responseLength) throws IOException {
    IOException gone = clientGone;
    if (gone != null) {
      throw gone;
    }
    status = code;
    response.setStatus(code);
    copyHeaders();
    if (responseLength > 0) {
      response.setContentLengthLong(responseLength);
    }
    boolean empty = code == 204 || code == 205 || code == 304;
    if (method.equals("HEAD") && !empty && !responseHeaders.containsKey("Content-Length")) {
      out.flush(); // Jetty would announce a length of 0
    } else if (resumed && responseLength < 0) {
      out.flush(); // Tomcat would still send its page
    }
  }

  /** The status that was sent, here or by the container itself; -1 before that. */
  @Override
  public int getResponseCode() {
    if (status < 0 && bridge.upgraded()) {
      return HttpServletResponse.SC_SWITCHING_PROTOCOLS;
    }
    return status < 0 && response.isCommitted() ? response.getStatus() : status;
  }

  /** Is called with a stream that cannot be written to, when the response cannot be ended. */
  @Override
  public void setStreams(@Nullable InputStream i, @Nullable OutputStream o) {
    broken |= o != null;
  }

  @Override
  public void close() {
    bridge.ended(!broken);
  }

  @Override
  public Headers getRequestHeaders() {
    return requestHeaders;
  }

  @Override
  public Headers getResponseHeaders() {
    return responseHeaders;
  }

  @Override
  public URI getRequestURI() {
    return target;
  }

  @Override
  public String getRequestMethod() {
    return method;
  }

  @Override
  public HttpContext getHttpContext() {
    return HostContext.INSTANCE;
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
  public InetSocketAddress getRemoteAddress() {
    return remote.resolved();
  }

  @Override
  public InetSocketAddress getLocalAddress() {
    return local.resolved();
  }

  @Override
  public String getProtocol() {
    return protocol;
  }

  @Override
  public @Nullable Object getAttribute(String name) {
    return request.getAttribute(name);
  }

  @Override
  public void setAttribute(String name, @Nullable Object value) {
    if (value instanceof RequestContext.Suspension suspension) {
      bridge.suspended(suspension);
    } else {
      request.setAttribute(name, value);
    }
  }

  @Override
  public @Nullable HttpPrincipal getPrincipal() {
    return null;
  }

  /** A session that knows what the container tells: the client's certificates, the cipher suite. */
  @Override
  @SuppressWarnings("ReferenceEquality") // a session is equal to itself alone
  public SSLSession getSSLSession() {
    return (SSLSession) Proxy.newProxyInstance(
        SSLSession.class.getClassLoader(),
        new Class<?>[] {SSLSession.class},
        (proxy, method, arguments) -> switch (method.getName()) {
          case "getPeerCertificates" -> certificates();
          case "getPeerPrincipal" -> certificates()[0].getSubjectX500Principal();
          case "getCipherSuite" ->
            request.getAttribute("jakarta.servlet.request.cipher_suite") instanceof String suite
                ? suite
                : "";
          case "isValid" -> true;
          case "equals" -> proxy == arguments[0];
          case "hashCode" -> System.identityHashCode(proxy);
          case "toString" -> "SSLSession of a servlet container";
          default ->
            throw new UnsupportedOperationException(
                "a servlet container does not tell: " + method.getName());
        });
  }

  private X509Certificate[] certificates() throws SSLPeerUnverifiedException {
    Object chain = request.getAttribute("jakarta.servlet.request.X509Certificate");
    if (chain instanceof X509Certificate[] certificates && certificates.length > 0) {
      return certificates.clone();
    }
    throw new SSLPeerUnverifiedException("the client has shown no certificate");
  }

  /** What may be the text of a header; no name is looked up. */
  record Address(@Nullable String host, int port) {
    InetSocketAddress resolved() {
      String name = host == null ? "" : host;
      if (name.startsWith("[") && name.endsWith("]")) {
        name = name.substring(1, name.length() - 1);
      }
      int checked = port < 0 || port > 65535 ? 0 : port;
      if (IP_ADDRESS.matcher(name).matches()) {
        try {
          return new InetSocketAddress(InetAddress.getByName(name), checked);
        } catch (UnknownHostException e) {
          // No address then.
        }
      }
      return InetSocketAddress.createUnresolved(name, checked);
    }
  }

  private final class Input extends InputStream {
    private long received;
    private int ahead = -1;

    /** Reads a byte, to see whether there is one. */
    void lookAhead() {
      if (received > 0 || formTaken) {
        return;
      }
      try {
        ahead = request.getInputStream().read();
        received = ahead < 0 ? 0 : 1;
        formTaken = ahead < 0;
      } catch (IOException e) {
        resume(); // who reads on will learn of it
      }
    }

    @Override
    public int read() throws IOException {
      byte[] one = new byte[1];
      return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
    }

    @Override
    public int read(byte[] b, int off, int len) throws IOException {
      bodyTaken = true;
      if (ahead >= 0 && len > 0) {
        b[off] = (byte) ahead;
        ahead = -1;
        return 1;
      }
      int n;
      try {
        n = request.getInputStream().read(b, off, len);
      } catch (IOException e) {
        resume();
        throw e;
      }
      if (n < 0 && received == 0 && hasForm()) {
        formTaken = true;
      }
      if (n >= 0) {
        received += n;
      } else if (!protocol.startsWith("HTTP/1") && received < request.getContentLengthLong()) {
        // To Tomcat, a stream that was reset has ended. In HTTP/1 containers look at the length.
        throw new EOFException("request body ended after " + received + " of "
            + request.getContentLengthLong() + " bytes");
      } else if (formTaken && request.getContentLengthLong() > 0) {
        throw new IllegalStateException("a filter before that of Servlets.addTo has read the form;"
            + " register the filter of addTo before it");
      }
      return n;
    }

    @Override
    public int available() throws IOException {
      return bodyTaken ? request.getInputStream().available() : 0;
    }
  }

  private final class Output extends OutputStream {
    @Override
    public void write(int b) throws IOException {
      write(new byte[] {(byte) b}, 0, 1);
    }

    @Override
    public void write(byte[] b, int off, int len) throws IOException {
      send(() -> response.getOutputStream().write(b, off, len));
    }

    @Override
    public void flush() throws IOException {
      send(response::flushBuffer);
    }

    @Override
    public void close() throws IOException {
      send(() -> response.getOutputStream().close());
    }

    private void send(Bridge.Sending sending) throws IOException {
      IOException gone = clientGone;
      if (gone != null) {
        throw gone;
      }
      try {
        bridge.send(sending);
      } catch (IOException e) {
        gone(e);
        bridge.clientWent(e);
        throw e;
      }
    }
  }
}
