package dev.evalops.runtime.servlet;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpPrincipal;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpErrors;
import dev.evalops.runtime.http.RequestContext;
import jakarta.servlet.AsyncContext;
import jakarta.servlet.ReadListener;
import jakarta.servlet.RequestDispatcher;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletInputStream;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletRequestWrapper;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpUpgradeHandler;
import jakarta.servlet.http.Part;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.URLDecoder;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.security.Principal;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Enumeration;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.jspecify.annotations.NullUnmarked;
import org.jspecify.annotations.Nullable;

/** The request that the application sees: its body is that of the exchange, forms too. */
@NullUnmarked // As the methods of HttpServletRequest.
final class BridgedRequest extends HttpServletRequestWrapper {
  /** Of the query and the form together. */
  private static final int MAX_PARAMETERS = 1000;

  private static final char REPLACEMENT = '\ufffd';
  // Of Tomcat; of Jetty for Servlet 6.0.
  private static final Pattern MALFORMED =
      Pattern.compile("\\.fileupload\\.|^org\\.eclipse\\.jetty\\.http\\.BadMessageException$");

  private final HttpServletRequest container;
  private final HttpServletResponse response;
  private final HttpExchange exchange;
  private final ServletExchange raw;
  private final Bridge bridge;
  private ServletInputStream stream;
  private BufferedReader reader;
  private Map<String, List<String>> form;
  private Map<String, String[]> parameters;

  BridgedRequest(
      HttpServletRequest request,
      HttpServletResponse response,
      HttpExchange exchange,
      ServletExchange raw,
      Bridge bridge) {
    super(request);
    this.container = request;
    this.response = response;
    this.exchange = exchange;
    this.raw = raw;
    this.bridge = bridge;
  }

  @Override
  public ServletInputStream getInputStream() {
    if (reader != null) {
      throw new IllegalStateException("getReader has been called");
    }
    if (stream == null) {
      stream = new BodyStream(exchange.getRequestBody());
    }
    return stream;
  }

  @Override
  public BufferedReader getReader() throws IOException {
    if (stream != null) {
      throw new IllegalStateException("getInputStream has been called");
    }
    if (reader == null) {
      reader = new BufferedReader(
          new InputStreamReader(exchange.getRequestBody(), charset(StandardCharsets.ISO_8859_1)));
    }
    return reader;
  }

  private Charset charset(Charset otherwise) {
    try {
      String name = getCharacterEncoding(); // Jetty throws for an unknown charset
      return name == null ? otherwise : Charset.forName(name);
    } catch (IllegalArgumentException e) {
      throw ServiceException.of(ErrorCode.INVALID_INPUT, "Content-Type has an unknown charset", e)
          .op("servlet.charset");
    }
  }

  /** Not the container's: Jetty throws for an unknown charset. */
  @Override
  public @Nullable String getContentType() {
    return getHeader("Content-Type");
  }

  private boolean hasType(String type) {
    return ServletExchange.isOfType(getContentType(), type);
  }

  /** Not the container's: it would read a form past the limit of bodies, and past filters that have read it. */
  private Map<String, String[]> parameters() {
    if (raw.formTaken() || (hasType("multipart/form-data") && !raw.bodyTaken())) {
      try {
        return super.getParameterMap();
      } catch (RuntimeException e) {
        throw unreadable(e);
      }
    }
    if (parameters == null) {
      Map<String, List<String>> read = new LinkedHashMap<>();
      int count = 0;
      String query = container.getQueryString();
      if (query != null) {
        count = decode(query, StandardCharsets.UTF_8, 0, read);
      }
      form = form(count);
      parameters = merged(strings(read), form);
    }
    if (getRequest().equals(container)) {
      return parameters;
    }
    // Tomcat puts its request of a forward or include, which knows the query of that, below ours.
    try {
      container.getInputStream(); // else it would read a form
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
    return merged(super.getParameterMap(), form);
  }

  private Map<String, List<String>> form(int before) {
    Map<String, List<String>> read = new LinkedHashMap<>();
    boolean posted = getMethod().equals("POST") && hasType(ServletExchange.FORM);
    if (posted && stream == null && reader == null) {
      try {
        Charset charset = charset(StandardCharsets.UTF_8);
        byte[] body = exchange.getRequestBody().readAllBytes();
        decode(encoded(body), charset, before, read);
      } catch (IOException e) {
        throw ServiceException.of(ErrorCode.INVALID_INPUT, "form cannot be read", e)
            .op("servlet.form");
      }
    }
    return read;
  }

  private static Map<String, String[]> strings(Map<String, List<String>> parameters) {
    Map<String, String[]> strings = new LinkedHashMap<>();
    parameters.forEach((name, values) -> strings.put(name, values.toArray(String[]::new)));
    return strings;
  }

  private static Map<String, String[]> merged(
      Map<String, String[]> first, Map<String, List<String>> second) {
    Map<String, String[]> all = new LinkedHashMap<>(first);
    strings(second)
        .forEach((name, values) -> all.merge(
            name,
            values,
            (before, more) -> Stream.of(before, more).flatMap(Stream::of).toArray(String[]::new)));
    return Collections.unmodifiableMap(all);
  }

  /**
   * Encodes what clients such as curl send as it is, so that it is decoded in the charset of the form, too: UTF-8, or
   * one in which no part of another character is ASCII.
   */
  private static String encoded(byte[] form) {
    StringBuilder text = new StringBuilder(form.length);
    for (byte b : form) {
      if (b < 0) {
        HexFormat.of().toHexDigits(text.append('%'), b);
      } else {
        text.append((char) b);
      }
    }
    return text.toString();
  }

  /** Returns how many there are now. */
  private static int decode(
      String text, Charset charset, int before, Map<String, List<String>> to) {
    int count = before;
    for (String pair : text.split("&", -1)) {
      if (pair.isEmpty()) {
        continue;
      }
      if (++count > MAX_PARAMETERS) {
        throw ServiceException.of(
                ErrorCode.INVALID_INPUT, "more than " + MAX_PARAMETERS + " parameters")
            .op("servlet.parameters");
      }
      int end = pair.indexOf('=');
      String name;
      String value;
      try {
        name = decoded(end < 0 ? pair : pair.substring(0, end), charset);
        value = end < 0 ? "" : decoded(pair.substring(end + 1), charset);
      } catch (IllegalArgumentException e) {
        throw ServiceException.of(ErrorCode.INVALID_INPUT, "parameters have a broken encoding", e)
            .op("servlet.parameters");
      }
      to.computeIfAbsent(name, n -> new ArrayList<>()).add(value);
    }
    return count;
  }

  private static String decoded(String text, Charset charset) {
    String decoded = URLDecoder.decode(text, charset);
    // Takes the place of what is malformed, if nobody has sent it.
    if (decoded.indexOf(REPLACEMENT) >= 0
        && text.indexOf(REPLACEMENT) < 0
        && charset.equals(StandardCharsets.UTF_8)
        && !text.toUpperCase(Locale.ROOT).contains("%EF%BF%BD")) {
      throw new IllegalArgumentException("not in UTF-8");
    }
    return decoded;
  }

  @Override
  public String getParameter(String name) {
    String[] values = parameters().get(name);
    return values == null ? null : values[0];
  }

  @Override
  public Map<String, String[]> getParameterMap() {
    return parameters();
  }

  @Override
  public Enumeration<String> getParameterNames() {
    return Collections.enumeration(parameters().keySet());
  }

  @Override
  public String[] getParameterValues(String name) {
    String[] values = parameters().get(name);
    return values == null ? null : values.clone();
  }

  @Override
  public Collection<Part> getParts() throws IOException, ServletException {
    return parts(() -> super.getParts());
  }

  @Override
  public Part getPart(String name) throws IOException, ServletException {
    return parts(() -> super.getPart(name));
  }

  /**
   * What a container throws for parts that are malformed, or larger than the servlet allows, as a refusal. An
   * IllegalStateException without a cause is something else, such as a servlet that has no {@code @MultipartConfig}.
   */
  private <E extends Exception> ServiceException unreadable(E failure) throws E {
    raw.resume();
    Throwable cause = failure.getCause();
    boolean malformed = failure instanceof IllegalStateException
        ? cause != null
        : MALFORMED.matcher(failure.getClass().getName()).find();
    if (!malformed) {
      throw failure;
    }
    for (Throwable t = failure; t != null; t = t.getCause()) {
      String message = t.getMessage();
      if (t.getClass().getSimpleName().endsWith("LimitExceededException") // Tomcat's
          || (message != null && message.matches("max .* exceeded: .*"))) { // Jetty's
        // Spring knows by these words that it is the size.
        return ServiceException.of(
                HttpErrors.BODY_TOO_LARGE, "parts exceed the maximum size", failure)
            .op("servlet.parts");
      }
    }
    return ServiceException.of(ErrorCode.INVALID_INPUT, "multipart body cannot be read", failure)
        .op("servlet.parts");
  }

  private interface Parts<T> {
    T read() throws IOException, ServletException;
  }

  private <T> T parts(Parts<T> parts) throws IOException, ServletException {
    checkParts();
    try {
      return parts.read();
    } catch (IOException e) {
      throw unreadable(e);
    } catch (IllegalStateException e) {
      throw unreadable(e);
    } catch (ServletException e) {
      if (!hasType("multipart/form-data")) {
        throw new ServletException(
            e.getMessage(),
            ServiceException.of(HttpErrors.UNSUPPORTED_CONTENT_TYPE, e).op("servlet.parts"));
      }
      if (e.getCause() instanceof RuntimeException jettys) {
        throw unreadable(jettys);
      }
      throw e;
    }
  }

  private void checkParts() {
    // The container has taken the body if it has made parts of it already.
    if (raw.bodyTaken()) {
      throw new IllegalStateException(
          "multipart parts are not available, because a filter has read the request body (as that of"
              + " runtime-idempotency does); use another content type");
    }
  }

  @Override
  public Principal getUserPrincipal() {
    Principal own = exchange.getPrincipal();
    return own == null ? super.getUserPrincipal() : own;
  }

  @Override
  public String getRemoteUser() {
    HttpPrincipal own = exchange.getPrincipal();
    return own == null ? super.getRemoteUser() : own.getUsername();
  }

  /** Jetty's forgets what the response below has in its buffer, not what ours has. */
  @Override
  public RequestDispatcher getRequestDispatcher(String path) {
    RequestDispatcher dispatcher = super.getRequestDispatcher(path);
    return dispatcher == null ? null : new ResettingDispatcher(dispatcher);
  }

  private record ResettingDispatcher(RequestDispatcher dispatcher) implements RequestDispatcher {
    @Override
    public void forward(ServletRequest request, ServletResponse response)
        throws ServletException, IOException {
      response.resetBuffer();
      dispatcher.forward(request, response);
    }

    @Override
    public void include(ServletRequest request, ServletResponse response)
        throws ServletException, IOException {
      dispatcher.include(request, response);
    }
  }

  @Override
  public boolean isAsyncSupported() {
    return super.isAsyncSupported() && RequestContext.maySuspend(exchange);
  }

  @Override
  public AsyncContext startAsync() {
    return bridge.startAsync(this, response);
  }

  @Override
  public AsyncContext startAsync(ServletRequest request, ServletResponse response) {
    return bridge.startAsync(request, response);
  }

  @Override
  public AsyncContext getAsyncContext() {
    return bridge.asyncContext();
  }

  @Override
  public <T extends HttpUpgradeHandler> T upgrade(Class<T> type)
      throws IOException, ServletException {
    raw.copyHeaders();
    T handler = super.upgrade(type);
    bridge.upgrade();
    return handler;
  }

  private static final class BodyStream extends ServletInputStream {
    private final InputStream body;
    private boolean finished;

    BodyStream(InputStream body) {
      this.body = body;
    }

    @Override
    public int read() throws IOException {
      int b = body.read();
      finished |= b < 0;
      return b;
    }

    @Override
    public int read(byte[] b, int off, int len) throws IOException {
      int n = body.read(b, off, len);
      finished |= n < 0;
      return n;
    }

    @Override
    public int available() throws IOException {
      return body.available();
    }

    @Override
    public boolean isFinished() {
      return finished;
    }

    @Override
    public boolean isReady() {
      return true;
    }

    @Override
    public void setReadListener(@Nullable ReadListener listener) {
      throw new IllegalStateException(
          "non-blocking reading is not supported behind Servlets.next()");
    }
  }
}
