package dev.evalops.runtime.identity;

import static org.assertj.core.api.Assertions.assertThat;

import java.net.Authenticator;
import java.net.CookieHandler;
import java.net.ProxySelector;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandler;
import java.net.http.HttpResponse.PushPromiseHandler;
import java.time.Duration;
import java.time.Instant;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

class TraceContextTest {
  /** Finds the caller's context by its thread, and sends it along, as clients that trace do. */
  private static final class TracedClient extends HttpClient {
    private final ThreadLocal<String> context = ThreadLocal.withInitial(() -> "none");
    private final HttpClient client = HttpClient.newHttpClient();

    private HttpRequest traced(HttpRequest request) {
      return HttpRequest.newBuilder(request, (name, value) -> true)
          .header("traceparent", context.get())
          .build();
    }

    @Override
    public <T> HttpResponse<T> send(HttpRequest request, BodyHandler<T> handler) {
      throw new UnsupportedOperationException();
    }

    @Override
    public <T> CompletableFuture<HttpResponse<T>> sendAsync(
        HttpRequest request, BodyHandler<T> handler) {
      return client.sendAsync(traced(request), handler);
    }

    @Override
    public <T> CompletableFuture<HttpResponse<T>> sendAsync(
        HttpRequest request, BodyHandler<T> handler, @Nullable PushPromiseHandler<T> promises) {
      return client.sendAsync(traced(request), handler, promises);
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
  }

  @Test
  void theContextOfTheCallersThreadGoesWithEveryCall() throws Exception {
    TracedClient http = new TracedClient();
    try (IdentityServer server = new IdentityServer();
        IdentityClient client = IdentityClient.builder(server.url())
            .serviceTokens(server.url("/v1/tokens"))
            .httpClient(http)
            .open()) {
      server
          .then(200, "{\"active\":true}")
          .then(201, "{\"token\":\"t\",\"expires_at\":\"" + Instant.now().plusSeconds(600) + "\"}");
      http.context.set("00-11111111111111111111111111111111-2222222222222222-01");
      client.introspect("tok-1");
      client.serviceToken("org-1", "billing", Set.of(), Duration.ofMinutes(5));
      assertThat(server.requests())
          .hasSize(2)
          .allSatisfy(
              request -> assertThat(request.header("traceparent")).isEqualTo(http.context.get()));
    }
  }
}
