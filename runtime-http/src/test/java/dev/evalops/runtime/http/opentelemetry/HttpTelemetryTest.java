package dev.evalops.runtime.http.opentelemetry;

import static io.opentelemetry.api.common.AttributeKey.longKey;
import static io.opentelemetry.api.common.AttributeKey.stringKey;
import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.RequestContext;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.sdk.testing.junit5.OpenTelemetryExtension;
import io.opentelemetry.sdk.trace.data.SpanData;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.sql.SQLException;
import java.util.List;
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
          throw new ServiceException(ErrorCode.CONFLICT, "x");
        })
        .handle("/down", exchange -> {
          throw new ServiceException(ErrorCode.UNAVAILABLE, "x", new SQLException("hunter2"));
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
}
