package dev.evalops.runtime.observability.opentelemetry;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import dev.evalops.fixtures.FreePort;
import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Scope;
import io.opentelemetry.context.propagation.ContextPropagators;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.SpanData;
import java.io.IOException;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class TracedHttpClientTest {
  private final BlockingQueue<SpanData> spans = new LinkedBlockingQueue<>();
  private final BlockingQueue<List<String>> traceparents = new LinkedBlockingQueue<>();
  private final CountDownLatch released = new CountDownLatch(1);
  private final ExecutorService threads = Executors.newCachedThreadPool();

  private OpenTelemetrySdk telemetry;
  private HttpServer server;
  private HttpClient client;

  @BeforeEach
  void start() throws IOException {
    telemetry = OpenTelemetrySdk.builder()
        .setTracerProvider(
            SdkTracerProvider.builder().addSpanProcessor(new EndedSpans(spans)).build())
        .setPropagators(ContextPropagators.create(W3CTraceContextPropagator.getInstance()))
        .build();
    server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.setExecutor(threads);
    server.createContext("/", this::answer);
    server.start();
    client = TracedHttpClient.of(HttpClient.newHttpClient(), telemetry);
  }

  @AfterEach
  void stop() {
    released.countDown();
    server.stop(0);
    threads.shutdownNow();
    telemetry.close();
  }

  private void answer(HttpExchange exchange) throws IOException {
    traceparents.add(
        List.copyOf(exchange.getRequestHeaders().getOrDefault("traceparent", List.of())));
    String path = exchange.getRequestURI().getPath();
    if (path.equals("/slow")) {
      try {
        released.await(20, TimeUnit.SECONDS);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }
    exchange.sendResponseHeaders(path.equals("/missing") ? 404 : 204, -1);
    exchange.close();
  }

  private HttpRequest request(String pathAndQuery) {
    return HttpRequest.newBuilder(uri(pathAndQuery)).build();
  }

  private URI uri(String pathAndQuery) {
    return URI.create("http://localhost:" + server.getAddress().getPort() + pathAndQuery);
  }

  private SpanData ended() throws InterruptedException {
    SpanData span = spans.poll(20, TimeUnit.SECONDS);
    assertThat(span).isNotNull();
    return span;
  }

  private static Object attribute(SpanData span, String name) {
    return span.getAttributes().asMap().entrySet().stream()
        .filter(entry -> entry.getKey().getKey().equals(name))
        .findFirst()
        .map(Map.Entry::getValue)
        .orElse(null);
  }

  @Test
  void makesAClientSpanOfACall_belowTheCurrentOne_andSendsItAlong() throws Exception {
    Span parent = telemetry.getTracer("test").spanBuilder("parent").startSpan();
    try (Scope scope = parent.makeCurrent()) {
      assertThat(client.send(request("/things"), BodyHandlers.discarding()).statusCode())
          .isEqualTo(204);
      assertThat(Span.current()).isSameAs(parent);
    }
    SpanData span = ended();
    assertThat(span.getName()).isEqualTo("GET");
    assertThat(span.getKind()).isEqualTo(SpanKind.CLIENT);
    assertThat(span.getParentSpanId()).isEqualTo(parent.getSpanContext().getSpanId());
    assertThat(span.getStatus().getStatusCode()).isEqualTo(StatusCode.UNSET);
    assertThat(traceparents.poll(20, TimeUnit.SECONDS))
        .containsExactly("00-" + span.getTraceId() + "-" + span.getSpanId() + "-"
            + span.getSpanContext().getTraceFlags().asHex());
    assertThat(span.getAttributes().asMap())
        .containsEntry(AttributeKey.stringKey("http.request.method"), "GET")
        .containsEntry(AttributeKey.longKey("http.response.status_code"), 204L)
        .containsEntry(AttributeKey.stringKey("server.address"), "localhost")
        .containsEntry(
            AttributeKey.longKey("server.port"), (long) server.getAddress().getPort())
        .containsEntry(AttributeKey.stringKey("url.full"), uri("/things").toString())
        .containsEntry(AttributeKey.stringKey("network.protocol.version"), "1.1")
        .hasSize(6);
  }

  @Test
  void makesOneSpanOfAnAsynchronousCall() throws Exception {
    HttpResponse<Void> response =
        client.sendAsync(request("/things"), BodyHandlers.discarding()).get(20, TimeUnit.SECONDS);
    assertThat(response.statusCode()).isEqualTo(204);
    SpanData span = ended();
    assertThat(attribute(span, "http.response.status_code")).isEqualTo(204L);
    assertThat(traceparents.poll(20, TimeUnit.SECONDS).get(0)).contains(span.getSpanId());
    assertThat(spans).isEmpty();
  }

  @Test
  void replacesATraceparentThatTheRequestAlreadyHas() throws Exception {
    HttpRequest request = HttpRequest.newBuilder(uri("/"))
        .header("traceparent", "00-11111111111111111111111111111111-2222222222222222-01")
        .header("X-Other", "kept")
        .build();
    client.send(request, BodyHandlers.discarding());
    SpanData span = ended();
    assertThat(traceparents.poll(20, TimeUnit.SECONDS))
        .containsExactly("00-" + span.getTraceId() + "-" + span.getSpanId() + "-"
            + span.getSpanContext().getTraceFlags().asHex());
  }

  @Test
  void keepsSecretsOfTheUrlOutOfTheSpan() throws Exception {
    client.send(request("/things?token=hunter2"), BodyHandlers.discarding());
    assertThat(attribute(ended(), "url.full")).isEqualTo(uri("/things?REDACTED").toString());
    URI userInfo =
        URI.create("http://user:hunter2@localhost:" + server.getAddress().getPort() + "/x");
    client.send(HttpRequest.newBuilder(userInfo).build(), BodyHandlers.discarding());
    assertThat(attribute(ended(), "url.full")).isEqualTo(uri("/x").toString());
  }

  @Test
  void marksAnErrorStatus() throws Exception {
    client.send(request("/missing"), BodyHandlers.discarding());
    SpanData span = ended();
    assertThat(span.getStatus().getStatusCode()).isEqualTo(StatusCode.ERROR);
    assertThat(attribute(span, "error.type")).isEqualTo("404");
  }

  @Test
  void marksAMethodThatNobodyKnows() throws Exception {
    client.send(
        HttpRequest.newBuilder(uri("/"))
            .method("PURGE", HttpRequest.BodyPublishers.noBody())
            .build(),
        BodyHandlers.discarding());
    SpanData span = ended();
    assertThat(span.getName()).isEqualTo("HTTP");
    assertThat(attribute(span, "http.request.method")).isEqualTo("_OTHER");
    assertThat(attribute(span, "http.request.method_original")).isEqualTo("PURGE");
  }

  @Test
  void recordsAFailedCall() throws Exception {
    HttpRequest unreachable = HttpRequest.newBuilder(
            URI.create("http://localhost:" + FreePort.next()))
        .build();
    assertThatThrownBy(() -> client.send(unreachable, BodyHandlers.discarding()))
        .isInstanceOf(ConnectException.class);
    SpanData span = ended();
    assertThat(span.getStatus().getStatusCode()).isEqualTo(StatusCode.ERROR);
    assertThat(attribute(span, "error.type")).isEqualTo("java.net.ConnectException");
    assertThat(span.getStatus().getDescription()).isEmpty();
    assertThat(span.getEvents()).isEmpty();
    assertThat(client.sendAsync(unreachable, BodyHandlers.discarding()))
        .failsWithin(20, TimeUnit.SECONDS);
    assertThat(attribute(ended(), "error.type")).isEqualTo("java.net.ConnectException");
  }

  @Test
  void keepsTheTextOfAnExceptionOutOfTheSpan() throws Exception {
    assertThatThrownBy(() -> client.send(request("/"), info -> {
          throw new IllegalStateException("hunter2");
        }))
        .hasStackTraceContaining("hunter2");
    SpanData span = ended();
    assertThat(attribute(span, "error.type")).isNotNull();
    assertThat(span.toString()).doesNotContain("hunter2");
    assertThat(span.getStatus().getDescription()).isEmpty();
  }

  @Test
  void cancelsTheCallInside() throws Exception {
    CompletableFuture<HttpResponse<Void>> call =
        client.sendAsync(request("/slow"), BodyHandlers.discarding());
    assertThat(traceparents.poll(20, TimeUnit.SECONDS)).hasSize(1);
    call.cancel(true);
    assertThat(attribute(ended(), "error.type"))
        .isEqualTo("java.util.concurrent.CancellationException");
  }

  @Test
  void sendsNothing_whenOpenTelemetryDoesNothing() throws Exception {
    HttpClient quiet = TracedHttpClient.of(HttpClient.newHttpClient(), OpenTelemetry.noop());
    assertThat(quiet.send(request("/"), BodyHandlers.discarding()).statusCode()).isEqualTo(204);
    assertThat(traceparents.poll(20, TimeUnit.SECONDS)).isEmpty();
  }

  @Test
  void leavesEverythingElseToTheClientInside() {
    HttpClient inside = HttpClient.newHttpClient();
    HttpClient outside = TracedHttpClient.of(inside, telemetry);
    assertThat(outside.sslContext()).isSameAs(inside.sslContext());
    assertThat(outside.version()).isEqualTo(inside.version());
    assertThat(outside.followRedirects()).isEqualTo(inside.followRedirects());
    assertThat(outside.newWebSocketBuilder()).isNotNull();
  }

  @Test
  void endsTheClientInside() throws Exception {
    HttpClient inside = HttpClient.newHttpClient();
    HttpClient outside = TracedHttpClient.of(inside, telemetry);
    outside.shutdown();
    assertThat(outside.awaitTermination(Duration.ofSeconds(20))).isTrue();
    assertThat(outside.isTerminated()).isTrue();
    assertThat(inside.isTerminated()).isTrue();
    client.close();
    assertThatThrownBy(() -> client.send(request("/"), BodyHandlers.discarding()))
        .isInstanceOf(IOException.class);
  }
}
