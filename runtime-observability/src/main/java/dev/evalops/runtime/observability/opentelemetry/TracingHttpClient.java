package dev.evalops.runtime.observability.opentelemetry;

import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanBuilder;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.Scope;
import io.opentelemetry.context.propagation.TextMapPropagator;
import java.io.IOException;
import java.net.Authenticator;
import java.net.CookieHandler;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandler;
import java.net.http.HttpResponse.PushPromiseHandler;
import java.net.http.WebSocket;
import java.time.Duration;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import org.jspecify.annotations.Nullable;

/** That of {@link TracedHttpClient}. */
final class TracingHttpClient extends HttpClient {
  private static final AttributeKey<String> METHOD = AttributeKey.stringKey("http.request.method");
  private static final AttributeKey<String> METHOD_ORIGINAL =
      AttributeKey.stringKey("http.request.method_original");
  private static final AttributeKey<Long> STATUS =
      AttributeKey.longKey("http.response.status_code");
  private static final AttributeKey<String> ADDRESS = AttributeKey.stringKey("server.address");
  private static final AttributeKey<Long> PORT = AttributeKey.longKey("server.port");
  private static final AttributeKey<String> URL = AttributeKey.stringKey("url.full");
  private static final AttributeKey<String> PROTOCOL_VERSION =
      AttributeKey.stringKey("network.protocol.version");
  private static final AttributeKey<String> ERROR_TYPE = AttributeKey.stringKey("error.type");

  private static final Set<String> METHODS =
      Set.of("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH");

  private final HttpClient client;
  private final Tracer tracer;
  private final TextMapPropagator propagator;

  TracingHttpClient(HttpClient client, OpenTelemetry openTelemetry) {
    this.client = client;
    tracer = openTelemetry.getTracer("dev.evalops.runtime.observability");
    propagator = openTelemetry.getPropagators().getTextMapPropagator();
  }

  @Override
  @SuppressWarnings("try") // the scope is held for its close alone
  public <T> HttpResponse<T> send(HttpRequest request, BodyHandler<T> handler)
      throws IOException, InterruptedException {
    Span span = start(request);
    try (Scope scope = span.makeCurrent()) {
      HttpResponse<T> response = client.send(withContext(request), handler);
      answered(span, response);
      return response;
    } catch (IOException | InterruptedException | RuntimeException | Error e) {
      failed(span, e);
      throw e;
    } finally {
      span.end();
    }
  }

  @Override
  public <T> CompletableFuture<HttpResponse<T>> sendAsync(
      HttpRequest request, BodyHandler<T> handler) {
    return sendAsync(request, handler, null);
  }

  @Override
  // The first future is returned, so that its cancel() works.
  @SuppressWarnings({"try", "FutureReturnValueIgnored"})
  public <T> CompletableFuture<HttpResponse<T>> sendAsync(
      HttpRequest request,
      BodyHandler<T> handler,
      @Nullable PushPromiseHandler<T> pushPromiseHandler) {
    Span span = start(request);
    CompletableFuture<HttpResponse<T>> answer;
    try (Scope scope = span.makeCurrent()) {
      answer = client.sendAsync(withContext(request), handler, pushPromiseHandler);
    } catch (RuntimeException | Error e) {
      failed(span, e);
      span.end();
      throw e;
    }
    answer.whenComplete((response, failure) -> {
      if (failure == null) {
        answered(span, response);
      } else {
        failed(
            span,
            failure instanceof CompletionException && failure.getCause() != null
                ? failure.getCause()
                : failure);
      }
      span.end();
    });
    return answer;
  }

  private Span start(HttpRequest request) {
    URI uri = request.uri();
    boolean known = METHODS.contains(request.method());
    SpanBuilder span = tracer
        .spanBuilder(known ? request.method() : "HTTP")
        .setSpanKind(SpanKind.CLIENT)
        .setAttribute(METHOD, known ? request.method() : "_OTHER")
        .setAttribute(ADDRESS, uri.getHost())
        .setAttribute(PORT, (long) port(uri))
        .setAttribute(URL, withoutSecrets(uri));
    if (!known) {
      span.setAttribute(METHOD_ORIGINAL, request.method());
    }
    return span.startSpan();
  }

  private static int port(URI uri) {
    if (uri.getPort() != -1) {
      return uri.getPort();
    }
    return uri.getScheme().equalsIgnoreCase("https") ? 443 : 80;
  }

  private static String withoutSecrets(URI uri) {
    String port = uri.getPort() == -1 ? "" : ":" + uri.getPort();
    String path = uri.getRawPath() == null ? "" : uri.getRawPath();
    return uri.getScheme() + "://" + uri.getHost() + port + path
        + (uri.getRawQuery() == null ? "" : "?REDACTED");
  }

  private HttpRequest withContext(HttpRequest request) {
    HttpRequest.Builder copy = HttpRequest.newBuilder(request, (name, value) -> true);
    propagator.inject(Context.current(), copy, (builder, name, value) -> {
      if (builder != null) {
        builder.setHeader(name, value);
      }
    });
    return copy.build();
  }

  private static void answered(Span span, HttpResponse<?> response) {
    int status = response.statusCode();
    span.setAttribute(STATUS, (long) status);
    span.setAttribute(PROTOCOL_VERSION, response.version() == Version.HTTP_2 ? "2" : "1.1");
    if (status >= 400) {
      span.setAttribute(ERROR_TYPE, Integer.toString(status));
      span.setStatus(StatusCode.ERROR);
    }
  }

  private static void failed(Span span, Throwable failure) {
    span.setAttribute(ERROR_TYPE, failure.getClass().getName());
    span.setStatus(StatusCode.ERROR);
  }

  @Override
  public void close() {
    client.close();
  }

  @Override
  public void shutdown() {
    client.shutdown();
  }

  @Override
  public void shutdownNow() {
    client.shutdownNow();
  }

  @Override
  public boolean awaitTermination(Duration time) throws InterruptedException {
    return client.awaitTermination(time);
  }

  @Override
  public boolean isTerminated() {
    return client.isTerminated();
  }

  @Override
  public Optional<CookieHandler> cookieHandler() {
    return client.cookieHandler();
  }

  @Override
  public Optional<Duration> connectTimeout() {
    return client.connectTimeout();
  }

  @Override
  public Redirect followRedirects() {
    return client.followRedirects();
  }

  @Override
  public Optional<ProxySelector> proxy() {
    return client.proxy();
  }

  @Override
  public SSLContext sslContext() {
    return client.sslContext();
  }

  @Override
  public SSLParameters sslParameters() {
    return client.sslParameters();
  }

  @Override
  public Optional<Authenticator> authenticator() {
    return client.authenticator();
  }

  @Override
  public Version version() {
    return client.version();
  }

  @Override
  public Optional<Executor> executor() {
    return client.executor();
  }

  @Override
  public WebSocket.Builder newWebSocketBuilder() {
    return client.newWebSocketBuilder();
  }
}
