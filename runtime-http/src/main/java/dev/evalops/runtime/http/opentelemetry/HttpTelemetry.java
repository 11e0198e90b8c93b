package dev.evalops.runtime.http.opentelemetry;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpsExchange;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.http.RequestContext;
import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanBuilder;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.Scope;
import io.opentelemetry.context.propagation.TextMapGetter;
import io.opentelemetry.context.propagation.TextMapPropagator;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * Makes a server span for every request, after OpenTelemetry's stable
 * <a href="https://opentelemetry.io/docs/specs/semconv/http/http-spans/">conventions for HTTP</a>.
 */
public final class HttpTelemetry {
  private static final AttributeKey<String> METHOD = AttributeKey.stringKey("http.request.method");
  private static final AttributeKey<String> METHOD_ORIGINAL =
      AttributeKey.stringKey("http.request.method_original");
  private static final AttributeKey<String> ROUTE = AttributeKey.stringKey("http.route");
  private static final AttributeKey<Long> STATUS =
      AttributeKey.longKey("http.response.status_code");
  private static final AttributeKey<String> PATH = AttributeKey.stringKey("url.path");
  private static final AttributeKey<String> QUERY = AttributeKey.stringKey("url.query");
  private static final AttributeKey<String> SCHEME = AttributeKey.stringKey("url.scheme");
  private static final AttributeKey<String> SERVER = AttributeKey.stringKey("server.address");
  private static final AttributeKey<Long> SERVER_PORT = AttributeKey.longKey("server.port");
  private static final AttributeKey<String> CLIENT = AttributeKey.stringKey("client.address");
  private static final AttributeKey<String> PEER = AttributeKey.stringKey("network.peer.address");
  private static final AttributeKey<Long> PEER_PORT = AttributeKey.longKey("network.peer.port");
  private static final AttributeKey<String> VERSION =
      AttributeKey.stringKey("network.protocol.version");
  private static final AttributeKey<String> AGENT = AttributeKey.stringKey("user_agent.original");
  private static final AttributeKey<String> ERROR_TYPE = AttributeKey.stringKey("error.type");

  private static final Set<String> KNOWN_METHODS =
      Set.of("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE");

  private static final TextMapGetter<Headers> HEADERS = new TextMapGetter<>() {
    // Abstract in older versions of the API, and how propagators find names by their prefix.
    @Override
    @SuppressWarnings("deprecation")
    public Iterable<String> keys(Headers carrier) {
      return carrier.keySet();
    }

    @Override
    public @Nullable String get(@Nullable Headers carrier, String key) {
      return carrier == null ? null : carrier.getFirst(key);
    }

    @Override
    public Iterator<String> getAll(@Nullable Headers carrier, String key) {
      List<String> values = carrier == null ? null : carrier.get(key);
      return values == null ? Collections.emptyIterator() : values.iterator();
    }
  };

  private HttpTelemetry() {}

  /**
   * A filter that makes a span {@code METHOD route} (only the method when no route matches), as a child of what the
   * caller sent in the form of the given propagators. The span is current for inner filters and the handler. A status
   * from 500 up or a response that was cut short is an error, a status below 500 is not. The values of the query are
   * not recorded, nor are the texts of exceptions: either may hold secrets.
   *
   * @param openTelemetry makes the spans
   * @return the filter, which is thread-safe; put it first
   */
  public static Filter filter(OpenTelemetry openTelemetry) {
    return new TelemetryFilter(
        openTelemetry.getTracer("dev.evalops.runtime.http"),
        openTelemetry.getPropagators().getTextMapPropagator());
  }

  private static final class TelemetryFilter extends Filter {
    private final Tracer tracer;
    private final TextMapPropagator propagator;

    TelemetryFilter(Tracer tracer, TextMapPropagator propagator) {
      this.tracer = tracer;
      this.propagator = propagator;
    }

    @Override
    public String description() {
      return "server span";
    }

    @Override
    public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
      RequestContext request = RequestContext.of(exchange);
      String original = exchange.getRequestMethod();
      String method = KNOWN_METHODS.contains(original) ? original : "HTTP";
      Context parent = propagator.extract(Context.current(), exchange.getRequestHeaders(), HEADERS);
      // The name and what samplers look at are set at the start; a router may refine the route
      // later.
      SpanBuilder builder =
          tracer.spanBuilder(name(method, request)).setSpanKind(SpanKind.SERVER).setParent(parent);
      setRequest(builder, exchange, original);
      Span span = builder.startSpan();
      request.onComplete(() -> end(span, method, request));
      Scope scope = parent.with(span).makeCurrent();
      try {
        chain.doFilter(exchange);
      } finally {
        scope.close();
      }
    }

    private static String name(String method, RequestContext request) {
      return request.route().equals(RequestContext.UNMATCHED)
          ? method
          : method + " " + request.route();
    }

    private static void setRequest(SpanBuilder span, HttpExchange exchange, String original) {
      if (KNOWN_METHODS.contains(original)) {
        span.setAttribute(METHOD, original);
      } else {
        span.setAttribute(METHOD, "_OTHER").setAttribute(METHOD_ORIGINAL, original);
      }
      String path = exchange.getRequestURI().getRawPath();
      if (path != null) {
        span.setAttribute(PATH, path);
      }
      String query = exchange.getRequestURI().getRawQuery();
      if (query != null) {
        span.setAttribute(QUERY, redact(query));
      }
      boolean tls = exchange instanceof HttpsExchange;
      span.setAttribute(SCHEME, tls ? "https" : "http");
      setServer(span, exchange.getRequestHeaders().getFirst("Host"));
      InetSocketAddress peer = exchange.getRemoteAddress();
      if (peer != null) {
        InetAddress address = peer.getAddress();
        String host = address == null ? peer.getHostString() : address.getHostAddress();
        span.setAttribute(CLIENT, host);
        span.setAttribute(PEER, host);
        span.setAttribute(PEER_PORT, (long) peer.getPort());
      }
      String protocol = exchange.getProtocol();
      span.setAttribute(VERSION, protocol.substring(protocol.indexOf('/') + 1));
      String agent = exchange.getRequestHeaders().getFirst("User-Agent");
      if (agent != null) {
        span.setAttribute(AGENT, agent);
      }
    }

    private static void setServer(SpanBuilder span, @Nullable String host) {
      if (host == null) {
        return;
      }
      int colon = host.lastIndexOf(':');
      boolean port = colon > 0 && host.indexOf(']', colon) < 0;
      span.setAttribute(SERVER, port ? host.substring(0, colon) : host);
      if (port) {
        try {
          span.setAttribute(SERVER_PORT, Long.parseLong(host.substring(colon + 1)));
        } catch (NumberFormatException e) {
          // No port then.
        }
      }
    }

    private static void end(Span span, String method, RequestContext request) {
      span.updateName(name(method, request));
      if (!request.route().equals(RequestContext.UNMATCHED)) {
        span.setAttribute(ROUTE, request.route());
      }
      int status = request.status();
      if (status > 0) {
        span.setAttribute(STATUS, (long) status);
      }
      Throwable failure = request.failure().orElse(null);
      // Below 500 a failure is an answer, unless it cut the response short.
      boolean cut = status < 0;
      if (status >= 500 || cut) {
        span.setStatus(StatusCode.ERROR);
        span.setAttribute(
            ERROR_TYPE, failure == null ? Integer.toString(status) : errorType(failure));
      }
      span.end();
    }

    private static String errorType(Throwable failure) {
      return ErrorCode.codeOf(failure)
          .map(ErrorCode::code)
          .orElse(failure.getClass().getName());
    }

    /** Keeps the names of a query's parameters. */
    private static String redact(String query) {
      StringBuilder names = new StringBuilder();
      for (String pair : query.split("&", -1)) {
        int end = pair.indexOf('=');
        names.append(names.isEmpty() ? "" : "&");
        names.append(end < 0 ? "REDACTED" : pair.substring(0, end) + "=REDACTED");
      }
      return names.toString();
    }
  }
}
