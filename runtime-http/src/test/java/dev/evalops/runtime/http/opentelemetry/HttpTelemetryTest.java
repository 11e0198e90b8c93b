package dev.evalops.runtime.http.opentelemetry;

import static io.opentelemetry.api.common.AttributeKey.longKey;
import static io.opentelemetry.api.common.AttributeKey.stringKey;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.RequestContext;
import io.opentelemetry.api.baggage.Baggage;
import io.opentelemetry.api.baggage.propagation.W3CBaggagePropagator;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.propagation.ContextPropagators;
import io.opentelemetry.context.propagation.TextMapGetter;
import io.opentelemetry.context.propagation.TextMapPropagator;
import io.opentelemetry.context.propagation.TextMapSetter;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.testing.exporter.InMemorySpanExporter;
import io.opentelemetry.sdk.testing.junit5.OpenTelemetryExtension;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.SimpleSpanProcessor;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.sql.SQLException;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

class HttpTelemetryTest {
  @RegisterExtension
  static final OpenTelemetryExtension OTEL = OpenTelemetryExtension.create();

  private final HttpClient client =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
  private HttpService service;

  @BeforeEach
  void start() {
    service = HttpService.builder(0)
        .filters(HttpTelemetry.filter(OTEL.getOpenTelemetry()))
        .handle("/notes", exchange -> {
          RequestContext.of(exchange).route("/notes/{id}");
          Span.current().setAttribute("inside", "yes");
          HttpResponses.json(exchange, 200, Span.current().getSpanContext().getTraceId());
        })
        .handle("/conflict", exchange -> {
          throw ServiceException.of(ErrorCode.CONFLICT).op("x");
        })
        .handle("/down", exchange -> {
          throw ServiceException.of(ErrorCode.UNAVAILABLE, new SQLException("hunter2"))
              .op("x");
        })
        .handle("/half", (HttpService.Handler) exchange -> {
          exchange.sendResponseHeaders(200, 5);
          throw new SQLException("hunter2");
        })
        .handle("/bug", (HttpService.Handler) exchange -> {
          throw new SQLException("hunter2");
        })
        .start();
  }

  @AfterEach
  void stop() {
    service.close();
    client.close();
  }

  private String send(String method, String path, String... headers) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(service.uri() + path))
        .method(method, HttpRequest.BodyPublishers.noBody());
    if (headers.length > 0) {
      request.headers(headers);
    }
    return client.send(request.build(), HttpResponse.BodyHandlers.ofString()).body();
  }

  private static SpanData onlySpan() {
    List<SpanData> spans = OTEL.getSpans();
    assertThat(spans).hasSize(1);
    return spans.get(0);
  }

  @Test
  void makesAServerSpan_asAChildOfTheCaller() throws Exception {
    String trace = "0af7651916cd43dd8448eb211c80319c";
    String body = send(
        "GET",
        "/notes/7?token=hunter2&page=2&bare",
        "traceparent",
        "00-" + trace + "-b7ad6b7169203331-01",
        "User-Agent",
        "test/1");
    assertThat(body).contains(trace);
    SpanData span = onlySpan();
    assertThat(span.getName()).isEqualTo("GET /notes/{id}");
    assertThat(span.getKind()).isEqualTo(SpanKind.SERVER);
    assertThat(span.getParentSpanId()).isEqualTo("b7ad6b7169203331");
    assertThat(span.getStatus().getStatusCode()).isEqualTo(StatusCode.UNSET);
    assertThat(span.getAttributes().get(stringKey("http.request.method"))).isEqualTo("GET");
    assertThat(span.getAttributes().get(stringKey("http.route"))).isEqualTo("/notes/{id}");
    assertThat(span.getAttributes().get(longKey("http.response.status_code"))).isEqualTo(200);
    assertThat(span.getAttributes().get(stringKey("url.path"))).isEqualTo("/notes/7");
    assertThat(span.getAttributes().get(stringKey("url.query")))
        .isEqualTo("token=REDACTED&page=REDACTED&REDACTED");
    assertThat(span.getAttributes().get(stringKey("url.scheme"))).isEqualTo("http");
    assertThat(span.getAttributes().get(stringKey("server.address"))).isEqualTo("localhost");
    assertThat(span.getAttributes().get(longKey("server.port"))).isEqualTo(service.port());
    assertThat(span.getAttributes().get(stringKey("client.address"))).isNotBlank();
    assertThat(span.getAttributes().get(stringKey("network.peer.address"))).isNotBlank();
    assertThat(span.getAttributes().get(longKey("network.peer.port"))).isPositive();
    assertThat(span.getAttributes().get(stringKey("network.protocol.version"))).isEqualTo("1.1");
    assertThat(span.getAttributes().get(stringKey("user_agent.original"))).isEqualTo("test/1");
    assertThat(span.getAttributes().get(stringKey("inside"))).isEqualTo("yes");
    assertThat(span.getAttributes().get(stringKey("error.type"))).isNull();
    assertThat(span.hasEnded()).isTrue();
  }

  @Test
  void isNamedByTheMethodAlone_whenNoRouteMatches() throws Exception {
    send("GET", "/scan/1.php");
    SpanData span = onlySpan();
    assertThat(span.getName()).isEqualTo("GET");
    assertThat(span.getAttributes().get(stringKey("http.route"))).isNull();
    assertThat(span.getAttributes().get(longKey("http.response.status_code"))).isEqualTo(404);
    assertThat(span.getStatus().getStatusCode()).isEqualTo(StatusCode.UNSET);
  }

  @Test
  void boundsMethodsThatNobodyKnows() throws Exception {
    send("BREW", "/notes");
    SpanData span = onlySpan();
    assertThat(span.getName()).isEqualTo("HTTP /notes/{id}");
    assertThat(span.getAttributes().get(stringKey("http.request.method"))).isEqualTo("_OTHER");
    assertThat(span.getAttributes().get(stringKey("http.request.method_original")))
        .isEqualTo("BREW");
  }

  @Test
  void isNoError_below500() throws Exception {
    send("GET", "/conflict");
    assertThat(onlySpan().getStatus().getStatusCode()).isEqualTo(StatusCode.UNSET);
    assertThat(onlySpan().getAttributes().get(stringKey("error.type"))).isNull();
  }

  @Test
  void isAnError_from500Up() throws Exception {
    send("GET", "/down");
    SpanData span = onlySpan();
    assertThat(span.getStatus().getStatusCode()).isEqualTo(StatusCode.ERROR);
    assertThat(span.getAttributes().get(stringKey("error.type"))).isEqualTo("unavailable");
    assertThat(span.toString()).doesNotContain("hunter2");
  }

  @Test
  void namesTheClassOfAFailureWithoutCode_notItsText() throws Exception {
    send("GET", "/bug");
    SpanData span = onlySpan();
    assertThat(span.getStatus().getStatusCode()).isEqualTo(StatusCode.ERROR);
    assertThat(span.getAttributes().get(stringKey("error.type")))
        .isEqualTo("java.sql.SQLException");
    assertThat(span.toString()).doesNotContain("hunter2");
  }

  @Test
  void seesRequestsThatTheServiceRefuses() throws Exception {
    send("GET", "/notes//7");
    SpanData span = onlySpan();
    assertThat(span.getName()).isEqualTo("GET");
    assertThat(span.getAttributes().get(stringKey("url.path"))).isEqualTo("/notes//7");
    assertThat(span.getAttributes().get(longKey("http.response.status_code"))).isEqualTo(400);
    assertThat(span.getStatus().getStatusCode()).isEqualTo(StatusCode.UNSET);
  }

  @Test
  void hasNoStatus_whenTheResponseWasCut() throws Exception {
    assertThatThrownBy(() -> send("POST", "/half")) // which the client does not repeat
        .isInstanceOf(IOException.class);
    SpanData span = onlySpan();
    assertThat(span.getAttributes().get(longKey("http.response.status_code"))).isNull();
    assertThat(span.getStatus().getStatusCode()).isEqualTo(StatusCode.ERROR);
    assertThat(span.getAttributes().get(stringKey("error.type")))
        .isEqualTo("java.sql.SQLException");
  }

  /** As propagators that look for all headers of a prefix do. */
  @Test
  void showsAPropagatorEveryHeader_andRecordsAPeerThatIsNotResolved() throws Exception {
    Set<String> seen = ConcurrentHashMap.newKeySet();
    TextMapPropagator prefixed = new TextMapPropagator() {
      @Override
      public Collection<String> fields() {
        return List.of();
      }

      @Override
      public <C> void inject(Context context, C carrier, TextMapSetter<C> setter) {}

      @Override
      @SuppressWarnings("deprecation")
      public <C> Context extract(Context context, C carrier, TextMapGetter<C> getter) {
        getter.keys(carrier).forEach(key -> seen.add(key + "=" + getter.get(carrier, key)));
        return context;
      }
    };
    InMemorySpanExporter spans = InMemorySpanExporter.create();
    Filter proxy = new Filter() {
      @Override
      public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
        chain.doFilter(
            new HttpFilters.ForwardingExchange(exchange) {
              @Override
              public InetSocketAddress getRemoteAddress() {
                return InetSocketAddress.createUnresolved("client.test", 7);
              }
            }.forChain());
      }

      @Override
      public String description() {
        return "proxy";
      }
    };
    try (OpenTelemetrySdk sdk = OpenTelemetrySdk.builder()
            .setTracerProvider(SdkTracerProvider.builder()
                .addSpanProcessor(SimpleSpanProcessor.create(spans))
                .build())
            .setPropagators(ContextPropagators.create(
                TextMapPropagator.composite(W3CBaggagePropagator.getInstance(), prefixed)))
            .build();
        HttpService proxied = HttpService.builder(0)
            .filters(proxy, HttpTelemetry.filter(sdk))
            .handle(
                "/",
                exchange -> HttpResponses.json(
                    exchange, 200, String.valueOf(Baggage.current().getEntryValue("k"))))
            .start()) {
      HttpRequest request = HttpRequest.newBuilder(proxied.uri())
          .header("uberctx-a", "1")
          .header("baggage", "k=v")
          .build();
      assertThat(client.send(request, HttpResponse.BodyHandlers.ofString()).body())
          .isEqualTo("\"v\"\n");
      assertThat(seen).contains("Uberctx-a=1", "Baggage=k=v");
      var attributes = spans.getFinishedSpanItems().get(0).getAttributes();
      assertThat(attributes.get(stringKey("client.address"))).isEqualTo("client.test");
      assertThat(attributes.get(stringKey("network.peer.address"))).isEqualTo("client.test");
      assertThat(attributes.get(longKey("network.peer.port"))).isEqualTo(7);
    }
  }
}
