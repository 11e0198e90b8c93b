package dev.evalops.runtime.http;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpContext;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpPrincipal;
import com.sun.net.httpserver.HttpsExchange;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.net.ssl.SSLSession;
import org.jspecify.annotations.NullUnmarked;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.spi.LoggingEventBuilder;

/**
 * Filters that most services use; {@link #chain} for handlers on another server; {@link ForwardingExchange} for your
 * own filters.
 *
 * <p>Thread-safe, as are the filters.
 */
public final class HttpFilters {
  private static final String[] GUARD_HEADERS = {
    "X-Content-Type-Options", "nosniff",
    "X-Frame-Options", "DENY",
    "Referrer-Policy", "same-origin",
    "Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy", "same-origin",
    "Cross-Origin-Resource-Policy", "same-origin",
    "Content-Security-Policy",
        "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; script-src"
            + " 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
  };

  private HttpFilters() {}

  /**
   * Returns one handler that runs the filters in order and then the handler, with the guard around them: whatever is
   * thrown is answered in the one JSON error shape, a response is ended when the handler has returned, request bodies
   * are limited to 1 MiB (see {@link #maxBody}), malformed requests are refused behind the filters, and {@link
   * RequestContext#of} works. A handler of {@link HttpService} has all this already; there a chain only adds filters.
   *
   * @param handler the handler
   * @param filters the filters, outermost first
   * @return a handler for any {@code HttpServer}
   * @throws IllegalArgumentException if a filter comes before the one that it must come {@link After after}
   */
  public static HttpHandler chain(HttpHandler handler, Filter... filters) {
    List<Filter> all = List.of(filters);
    String problem = wrongOrder(all);
    if (problem != null) {
      throw new IllegalArgumentException(problem);
    }
    return new Guard(all, handler);
  }

  /**
   * A filter that reads what another filter has stored, as that of {@code runtime-idempotency} reads the caller. If the
   * two are given in the wrong order, {@link #chain} and the builder of {@link HttpService} refuse them. If the other
   * is not there, a filter of another name may have its part.
   */
  public interface After {
    /**
     * Returns which filter must come before this one.
     *
     * @return its {@link Filter#description()}
     */
    String after();
  }

  /** What is wrong with the order of filters, or null. */
  static @Nullable String wrongOrder(List<Filter> filters) {
    List<String> names = filters.stream().map(Filter::description).toList();
    for (int i = 0; i < names.size(); i++) {
      if (filters.get(i) instanceof After filter && names.indexOf(filter.after()) > i) {
        return "filters must have " + filter.after() + " before " + names.get(i);
      }
    }
    return null;
  }

  /**
   * Returns a filter that gives every request an id, {@link RequestContext#requestId()}, and sends it back as {@code
   * X-Request-Id}: the one that came in if it has 1 to 128 characters of {@code A-Z a-z 0-9 . _ : / + = -}, else a new
   * UUID of version 7.
   *
   * @return the filter
   */
  public static Filter requestId() {
    return new Named("request id", (exchange, chain) -> {
      String id = RequestRules.requestId(exchange.getRequestHeaders().getFirst("X-Request-Id"));
      RequestContext.of(exchange).requestId(id);
      exchange.getResponseHeaders().set("X-Request-Id", id);
      chain.doFilter(exchange);
    });
  }

  /**
   * Returns a filter that limits the request body, in place of the limit of the service: 413 {@code body_too_large},
   * before the handler runs if the length is announced, else as soon as a byte too many has been read.
   *
   * @param bytes the most bytes, 0 or more
   * @return the filter
   * @throws IllegalArgumentException if {@code bytes} is negative
   */
  public static Filter maxBody(long bytes) {
    if (bytes < 0) {
      throw new IllegalArgumentException("bytes must be 0 or more: " + bytes);
    }
    return new Named("body limit", (exchange, chain) -> {
      RequestContext.of(exchange).bodyLimit(bytes);
      chain.doFilter(exchange);
    });
  }

  /**
   * Returns a filter that logs {@code http request complete} at INFO for every request, also for those that fail or
   * that the service refuses, with the key-values {@code request_id}, {@code method}, {@code path} (as sent,
   * percent-encoded where it could forge a field), {@code route}, {@code status} (as sent; -1 if the response was cut
   * short), {@code duration_ms} and what {@link RequestContext#logged} has. Neither query nor body is logged.
   *
   * @param logger where to
   * @return the filter
   */
  public static Filter requestLog(Logger logger) {
    Objects.requireNonNull(logger, "logger");
    return new Named("request log", (exchange, chain) -> {
      RequestContext context = RequestContext.of(exchange);
      String method = RequestRules.escaped(exchange.getRequestMethod());
      String path = RequestRules.escapedPath(exchange.getRequestURI());
      long start = System.nanoTime();
      context.onComplete(() -> {
        LoggingEventBuilder line = logger
            .atInfo()
            .addKeyValue("request_id", context.requestId())
            .addKeyValue("method", method)
            .addKeyValue("path", path)
            .addKeyValue("route", context.route())
            .addKeyValue("status", context.status())
            .addKeyValue("duration_ms", TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start));
        for (Map.Entry<String, Supplier<?>> more : context.logged().entrySet()) {
          line = line.addKeyValue(more.getKey(), told(more.getValue()));
        }
        line.log("http request complete");
      });
      chain.doFilter(exchange);
    });
  }

  /** The value, or the name of what is thrown instead: it must not cost the line. */
  private static @Nullable Object told(Supplier<?> value) {
    try {
      return value.get();
    } catch (RuntimeException | Error failure) {
      return failure.getClass().getName();
    }
  }

  /**
   * Returns a filter that protects what browsers can reach. It sets {@code X-Content-Type-Options}, {@code
   * X-Frame-Options}, {@code Referrer-Policy}, {@code Permissions-Policy}, {@code Cross-Origin-Opener-Policy}, {@code
   * Cross-Origin-Resource-Policy} and {@code Content-Security-Policy}, each only where the response does not have it;
   * refuses with 403 {@code cross_site_request} what a browser sends on behalf of a page of another origin, unless it
   * is GET, HEAD, OPTIONS or TRACE: by {@code Sec-Fetch-Site}, without it by {@code Origin} against {@code Host}; what
   * has neither comes from no browser. Refuses with 415 {@code missing_content_type} or {@code
   * unsupported_content_type} bodies other than JSON, forms, multipart, protobuf, gRPC, octet-stream and ndjson. Behind
   * a proxy that changes {@code Host}, name the public origin in {@link #browserGuards(Set, String...)}.
   *
   * @param moreContentTypes media types of request bodies to accept beside the usual ones, for example {@code
   *     text/csv}; lower-case, without parameters
   * @return the filter
   * @throws IllegalArgumentException if one is no such type; the message names each of them
   */
  public static Filter browserGuards(String... moreContentTypes) {
    return browserGuards(Set.of(), moreContentTypes);
  }

  /**
   * Returns a filter as {@link #browserGuards(String...)} does, for a service that pages of other origins may write to.
   *
   * @param allowedOrigins origins as browsers send them, for example {@code https://admin.example.com}, without the
   *     port of the scheme
   * @param moreContentTypes media types of request bodies to accept beside the usual ones; lower-case, without
   *     parameters
   * @return the filter
   * @throws IllegalArgumentException if one is no origin, or no such type; the message names each of them
   */
  public static Filter browserGuards(Set<String> allowedOrigins, String... moreContentTypes) {
    Set<String> origins = Set.copyOf(allowedOrigins);
    Set<String> moreTypes = Set.copyOf(Arrays.asList(moreContentTypes));
    String problems = Stream.concat(
            origins.stream()
                .filter(origin -> !RequestRules.isOrigin(origin))
                .sorted()
                .map(origin -> "allowedOrigins must be like https://admin.example.com: " + origin),
            moreTypes.stream()
                .filter(type -> !RequestRules.isMediaType(type))
                .sorted()
                .map(type -> "moreContentTypes must be like text/csv: " + type))
        .collect(Collectors.joining("; "));
    if (!problems.isEmpty()) {
      throw new IllegalArgumentException(problems);
    }
    return new Named("browser guards", (exchange, chain) -> {
      RequestContext.of(exchange).beforeResponse(HttpFilters::setGuardHeaders);
      String method = exchange.getRequestMethod();
      if (RequestRules.isSafe(method)) {
        chain.doFilter(exchange);
        return;
      }
      Headers headers = exchange.getRequestHeaders();
      Optional<ErrorCode> refused = RequestRules.refusedOrigin(
          method,
          joined(headers, "Sec-Fetch-Site"),
          joined(headers, "Origin"),
          headers.getFirst("Host"),
          origins);
      if (refused.isEmpty()) {
        refused = refusedContentType(exchange, method, moreTypes);
      }
      if (refused.isPresent()) {
        throw ServiceException.of(refused.get()).op("http.browser_guards");
      }
      chain.doFilter(exchange);
    });
  }

  private static Optional<ErrorCode> refusedContentType(
      HttpExchange exchange, String method, Set<String> moreTypes) throws IOException {
    Headers headers = exchange.getRequestHeaders();
    String length = headers.getFirst("Content-Length");
    boolean unknownLength = headers.containsKey("Transfer-Encoding")
        || (length == null && RequestRules.isMultiplexed(exchange.getProtocol()));
    boolean hasBody = unknownLength || RequestRules.contentLength(length) > 0;
    List<String> types = headers.get("Content-Type");
    Optional<ErrorCode> refused = RequestRules.refusedContentType(
        method, types == null ? null : types.get(0), hasBody, moreTypes);
    for (int i = 1; refused.isEmpty() && types != null && i < types.size(); i++) {
      refused = RequestRules.refusedContentType(method, types.get(i), hasBody, moreTypes);
    }
    boolean empty = unknownLength
        && refused.filter(HttpErrors.MISSING_CONTENT_TYPE::equals).isPresent()
        && exchange.getRequestBody().read() < 0;
    return empty ? Optional.empty() : refused;
  }

  /** All values, so that a second one does not hide behind the first. */
  private static @Nullable String joined(Headers headers, String name) {
    List<String> values = headers.get(name);
    return values == null ? null : String.join(",", values);
  }

  private static void setGuardHeaders(Headers headers) {
    for (int i = 0; i < GUARD_HEADERS.length; i += 2) {
      // Asking first would cost more: names are normalised at every call.
      List<String> value = new ArrayList<>(1);
      value.add(GUARD_HEADERS[i + 1]);
      List<String> own = headers.put(GUARD_HEADERS[i], value);
      if (own != null && !own.isEmpty()) {
        headers.put(GUARD_HEADERS[i], own);
      }
    }
  }

  /**
   * An exchange that calls another one, for filters that change a part of it. Behind the guard of {@link HttpService}
   * and {@link HttpFilters#chain} attributes belong to the request; those of a bare exchange of the JDK's server are
   * shared by all requests of its context. Passed to the chain as {@link #forChain()}:
   *
   * <pre>{@code
   * chain.doFilter(new ForwardingExchange(exchange) {
   *   @Override
   *   public InetSocketAddress getRemoteAddress() {
   *     return client;
   *   }
   * }.forChain());
   * }</pre>
   */
  @NullUnmarked // As the methods of HttpExchange.
  public abstract static class ForwardingExchange extends HttpExchange {
    private final HttpExchange exchange;

    /**
     * Creates an exchange.
     *
     * @param exchange the one that is called
     */
    protected ForwardingExchange(HttpExchange exchange) {
      this.exchange = Objects.requireNonNull(exchange, "exchange");
    }

    /**
     * Returns the exchange to pass on: this one, or, over TLS, an {@link HttpsExchange} that calls this one; filters
     * look for that type.
     *
     * @return the exchange
     */
    public final HttpExchange forChain() {
      return exchange instanceof HttpsExchange https ? new OverTls(this, https) : this;
    }

    @Override
    public Headers getRequestHeaders() {
      return exchange.getRequestHeaders();
    }

    @Override
    public Headers getResponseHeaders() {
      return exchange.getResponseHeaders();
    }

    @Override
    public URI getRequestURI() {
      return exchange.getRequestURI();
    }

    @Override
    public String getRequestMethod() {
      return exchange.getRequestMethod();
    }

    @Override
    public HttpContext getHttpContext() {
      return exchange.getHttpContext();
    }

    @Override
    public void close() {
      exchange.close();
    }

    @Override
    public InputStream getRequestBody() {
      return exchange.getRequestBody();
    }

    @Override
    public OutputStream getResponseBody() {
      return exchange.getResponseBody();
    }

    @Override
    public void sendResponseHeaders(int code, long responseLength) throws IOException {
      exchange.sendResponseHeaders(code, responseLength);
    }

    @Override
    public InetSocketAddress getRemoteAddress() {
      return exchange.getRemoteAddress();
    }

    @Override
    public int getResponseCode() {
      return exchange.getResponseCode();
    }

    @Override
    public InetSocketAddress getLocalAddress() {
      return exchange.getLocalAddress();
    }

    @Override
    public String getProtocol() {
      return exchange.getProtocol();
    }

    @Override
    public Object getAttribute(String name) {
      return exchange.getAttribute(name);
    }

    @Override
    public void setAttribute(String name, Object value) {
      exchange.setAttribute(name, value);
    }

    @Override
    public void setStreams(InputStream in, OutputStream out) {
      exchange.setStreams(in, out);
    }

    @Override
    public HttpPrincipal getPrincipal() {
      return exchange.getPrincipal();
    }
  }

  @NullUnmarked
  private static final class OverTls extends HttpsExchange {
    private final HttpExchange exchange;
    private final HttpsExchange tls;

    OverTls(HttpExchange exchange, HttpsExchange tls) {
      this.exchange = exchange;
      this.tls = tls;
    }

    @Override
    public SSLSession getSSLSession() {
      return tls.getSSLSession();
    }

    @Override
    public Headers getRequestHeaders() {
      return exchange.getRequestHeaders();
    }

    @Override
    public Headers getResponseHeaders() {
      return exchange.getResponseHeaders();
    }

    @Override
    public URI getRequestURI() {
      return exchange.getRequestURI();
    }

    @Override
    public String getRequestMethod() {
      return exchange.getRequestMethod();
    }

    @Override
    public HttpContext getHttpContext() {
      return exchange.getHttpContext();
    }

    @Override
    public void close() {
      exchange.close();
    }

    @Override
    public InputStream getRequestBody() {
      return exchange.getRequestBody();
    }

    @Override
    public OutputStream getResponseBody() {
      return exchange.getResponseBody();
    }

    @Override
    public void sendResponseHeaders(int code, long responseLength) throws IOException {
      exchange.sendResponseHeaders(code, responseLength);
    }

    @Override
    public InetSocketAddress getRemoteAddress() {
      return exchange.getRemoteAddress();
    }

    @Override
    public int getResponseCode() {
      return exchange.getResponseCode();
    }

    @Override
    public InetSocketAddress getLocalAddress() {
      return exchange.getLocalAddress();
    }

    @Override
    public String getProtocol() {
      return exchange.getProtocol();
    }

    @Override
    public Object getAttribute(String name) {
      return exchange.getAttribute(name);
    }

    @Override
    public void setAttribute(String name, Object value) {
      exchange.setAttribute(name, value);
    }

    @Override
    public void setStreams(InputStream in, OutputStream out) {
      exchange.setStreams(in, out);
    }

    @Override
    public HttpPrincipal getPrincipal() {
      return exchange.getPrincipal();
    }
  }

  private interface Body {
    void doFilter(HttpExchange exchange, Filter.Chain chain) throws IOException;
  }

  private static final class Named extends Filter {
    private final String description;
    private final Body body;

    Named(String description, Body body) {
      this.description = description;
      this.body = body;
    }

    @Override
    public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
      body.doFilter(exchange, chain);
    }

    @Override
    public String description() {
      return description;
    }
  }
}
