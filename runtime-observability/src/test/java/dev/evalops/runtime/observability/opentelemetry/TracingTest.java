package dev.evalops.runtime.observability.opentelemetry;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.awaitility.Awaitility.await;

import com.sun.net.httpserver.HttpServer;
import dev.evalops.fixtures.CapturedLog;
import io.opentelemetry.api.GlobalOpenTelemetry;
import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.propagation.TextMapGetter;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class TracingTest {
  private static final Duration SOON = Duration.ofSeconds(30);

  private record Received(String path, String type, String authorization, String body) {}

  private final List<Received> received = new CopyOnWriteArrayList<>();
  private HttpServer collector;

  @BeforeEach
  void start() throws Exception {
    collector = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    collector.createContext("/", exchange -> {
      byte[] body = exchange.getRequestBody().readAllBytes();
      received.add(new Received(
          exchange.getRequestURI().getPath(),
          exchange.getRequestHeaders().getFirst("Content-Type"),
          exchange.getRequestHeaders().getFirst("Authorization"),
          new String(body, StandardCharsets.ISO_8859_1)));
      exchange.sendResponseHeaders(200, -1);
      exchange.close();
    });
    collector.start();
  }

  @AfterEach
  void stop() {
    collector.stop(0);
  }

  private String endpoint() {
    return "http://127.0.0.1:" + collector.getAddress().getPort();
  }

  private Map<String, String> environment(String... more) {
    Map<String, String> environment = new HashMap<>();
    environment.put("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint());
    for (int i = 0; i < more.length; i += 2) {
      environment.put(more[i], more[i + 1]);
    }
    return environment;
  }

  private static void span(Tracing tracing, String name) {
    tracing.openTelemetry().getTracer("test").spanBuilder(name).startSpan().end();
  }

  @Test
  void exportsOverHttp_whatHasEndedByTheClose() {
    try (Tracing tracing = Tracing.from(
        environment(
            "OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20k",
            "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=prod"),
        "notes")) {
      span(tracing, "the-span");
      tracing.close();
      assertThat(received).singleElement().satisfies(request -> {
        assertThat(request.path()).isEqualTo("/v1/traces");
        assertThat(request.type()).isEqualTo("application/x-protobuf");
        assertThat(request.authorization()).isEqualTo("Bearer k");
        assertThat(request.body())
            .contains("the-span", "service.name", "notes", "deployment.environment", "prod")
            .doesNotContain("process.command");
      });
    }
    assertThat(received).hasSize(1);
  }

  @Test
  void exportsWithinASecondOrSo_withoutAClose() {
    try (Tracing tracing = Tracing.from(environment(), "notes")) {
      span(tracing, "the-span");
      await().atMost(SOON).until(() -> !received.isEmpty());
    }
  }

  @Test
  void appendsThePathOfTracesToABase_andTakesAnEndpointOfTracesAsItIs() {
    try (Tracing tracing =
        Tracing.from(Map.of("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint() + "/otlp"), "notes")) {
      span(tracing, "a");
    }
    try (Tracing tracing = Tracing.from(
        Map.of("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint() + "/custom"), "notes")) {
      span(tracing, "b");
    }
    assertThat(received).extracting(Received::path).containsExactly("/otlp/v1/traces", "/custom");
  }

  @ParameterizedTest
  @CsvSource({
    "'',      '',                    notes",
    "orders,  '',                    orders",
    "'',      'service.name=billing', billing",
    "'',      'a=b,service.name=,c=d', notes",
  })
  void takesTheNameFromTheEnvironmentFirst(String name, String attributes, String expected) {
    try (Tracing tracing = Tracing.from(
        environment("OTEL_SERVICE_NAME", name, "OTEL_RESOURCE_ATTRIBUTES", attributes), "notes")) {
      span(tracing, "a");
    }
    assertThat(received.get(0).body()).contains(expected);
    if (!expected.equals("notes")) {
      assertThat(received.get(0).body()).doesNotContain("notes");
    }
  }

  @Test
  void leavesOutAMalformedAttribute_andSaysWhereItIs() {
    try (CapturedLog log = new CapturedLog(Tracing.class);
        Tracing tracing = Tracing.from(
            environment("OTEL_RESOURCE_ATTRIBUTES", "good=1,bad,,=worse,x=%zz,also=2"), "notes")) {
      span(tracing, "a");
      assertThat(log.events())
          .extracting(event -> CapturedLog.keyValues(event).get("position"))
          .containsExactly(2, 4, 5);
    }
    assertThat(received.get(0).body()).contains("good", "also").doesNotContain("worse", "zz");
  }

  static Stream<Map<String, String>> offs() {
    return Stream.of(
        Map.of(),
        Map.of("OTEL_EXPORTER_OTLP_ENDPOINT", " "),
        Map.of("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_SDK_DISABLED", "TRUE"),
        Map.of(
            "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER", "none"));
  }

  @ParameterizedTest
  @MethodSource("offs")
  void makesNoSpans_butPassesTheContextOn_whenItIsOff(Map<String, String> environment) {
    Set<Long> before = exporterThreads(); // of other tests, which may still be ending
    try (Tracing tracing = Tracing.from(environment, "notes")) {
      OpenTelemetry openTelemetry = tracing.openTelemetry();
      assertThat(openTelemetry.getTracer("t").spanBuilder("s").startSpan().isRecording())
          .isFalse();
      Map<String, String> headers =
          Map.of("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
      Context context = openTelemetry
          .getPropagators()
          .getTextMapPropagator()
          .extract(Context.root(), headers, new TextMapGetter<>() {
            @Override
            public String get(Map<String, String> carrier, String key) {
              return carrier.get(key);
            }
          });
      assertThat(Span.fromContext(context).getSpanContext().getTraceId())
          .isEqualTo("0af7651916cd43dd8448eb211c80319c");
    }
    assertThat(before).containsAll(exporterThreads());
  }

  private static Set<Long> exporterThreads() {
    return Thread.getAllStackTraces().keySet().stream()
        .filter(thread -> thread.getName().contains("BatchSpanProcessor"))
        .map(Thread::threadId)
        .collect(Collectors.toSet());
  }

  static Stream<JsonNode> samplers() throws Exception {
    try (InputStream in = TracingTest.class.getResourceAsStream("/tracing_sampler.json")) {
      return StreamSupport.stream(
          JsonMapper.shared().readTree(in).get("cases").spliterator(), false);
    }
  }

  @ParameterizedTest
  @MethodSource("samplers")
  void readsSamplersInTheirShortForms(JsonNode vector) {
    String sampler = vector.at("/input/OTEL_TRACES_SAMPLER").stringValue();
    String argument = vector.at("/input/OTEL_TRACES_SAMPLER_ARG").stringValue();
    // These are in OpenTelemetry's standard, and so are read here.
    boolean standard = sampler.startsWith("parentbased_always_");
    if (vector.at("/expected/error").asBoolean(false) && !standard) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> SamplerSetting.parse(sampler, argument))
          .withMessageStartingWith("OTEL_TRACES_SAMPLER");
    } else {
      SamplerSetting expected = standard
          ? new SamplerSetting(sampler, 1)
          : new SamplerSetting(
              vector.at("/expected/sampler").stringValue(),
              vector.at("/expected/ratio").doubleValue());
      assertThat(SamplerSetting.parse(sampler, argument)).isEqualTo(expected);
    }
  }

  @Test
  void trimsSamplersAsEverythingElse() {
    assertThat(SamplerSetting.parse("\u00a0always_off\u0085", ""))
        .isEqualTo(new SamplerSetting("always_off", 1));
    assertThat(SamplerSetting.parse("\u2003traceidratio\u00a0:\u00a00.5\u00a0", ""))
        .isEqualTo(new SamplerSetting("traceidratio", 0.5));
    assertThat(SamplerSetting.parse("traceidratio", "\u00a00.5"))
        .isEqualTo(new SamplerSetting("traceidratio", 0.5));
    assertThat(SamplerSetting.parse("\u00a0", "").ratio()).isEqualTo(1);
    assertThatIllegalArgumentException()
        .isThrownBy(() -> SamplerSetting.parse("\u001calways_off", "")); // no white space
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"1d", "0.5f", "0x1p-3", "5.", "-1", "NaN", "10%", "1/10", "traceidratio:0.5d"})
  void refusesARatioThatIsNoneElsewhere(String sampler) {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> SamplerSetting.parse(sampler, ""))
        .withMessageStartingWith("OTEL_TRACES_SAMPLER must ");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> SamplerSetting.parse("traceidratio", sampler))
        .withMessageStartingWith("OTEL_TRACES_SAMPLER_ARG must ");
  }

  @ParameterizedTest
  @CsvSource({".5, 0.5", "1., 1", "+0.25, 0.25", "2.5E-1, 0.25"})
  void readsARatioAsOthersWriteIt(String sampler, double ratio) {
    assertThat(SamplerSetting.parse(sampler, ""))
        .isEqualTo(new SamplerSetting("parentbased_traceidratio", ratio));
  }

  @ParameterizedTest
  @ValueSource(strings = {"0", "traceidratio:0", "always-off", "parentbased_always_off"})
  void samplesAsItIsTold(String sampler) {
    try (Tracing tracing = Tracing.from(environment("OTEL_TRACES_SAMPLER", sampler), "notes")) {
      span(tracing, "a");
    }
    assertThat(received).isEmpty();
  }

  @Test
  void namesEveryVariableThatIsWrong_andShowsNoSecret() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Tracing.from(
            Map.of(
                "OTEL_EXPORTER_OTLP_ENDPOINT", "user:hunter2@tempo:4318",
                "OTEL_TRACES_SAMPLER", "2"),
            "notes"))
        .withMessageStartingWith("startup tracing: OTEL_EXPORTER_OTLP_ENDPOINT must be")
        .withMessageContaining("; OTEL_TRACES_SAMPLER must have")
        .withMessageNotContaining("hunter2");
    assertThatIllegalArgumentException()
        .isThrownBy(
            () -> Tracing.from(environment("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"), "notes"))
        .withMessageStartingWith("startup tracing: OTEL_EXPORTER_OTLP_HEADERS ")
        .withMessageNotContaining("hunter2")
        .withNoCause();
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Tracing.from(environment("OTEL_BSP_SCHEDULE_DELAY", "soon"), "notes"))
        .withMessageStartingWith("startup tracing: ");
  }

  @Test
  void noPrintableCharacterMakesAComplaintShowAPasswordOfTheUrl() {
    for (char raw = ' '; raw <= '~'; raw++) {
      for (String password :
          List.of("S3" + raw + "cret", raw + "S3cret", "S3cret" + raw, "12" + raw + "S3cret")) {
        for (String name :
            List.of("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")) {
          assertThatIllegalArgumentException()
              .isThrownBy(() ->
                  Tracing.from(Map.of(name, "http://user:" + password + "@tempo:4318"), "notes"))
              .withMessageStartingWith("startup tracing: " + name + " must be")
              .withMessageContaining("OTEL_EXPORTER_OTLP_HEADERS")
              .withMessageNotContainingAny("S3", "cret", "user:", "12")
              .withNoCause();
        }
      }
    }
  }

  /** Each of these would else be in a warning with every batch, value and all. */
  @ParameterizedTest
  @ValueSource(
      strings = {
        "api-key=hunter2%0A",
        "api-key=hunter2%zz",
        "api-key=\u201chunter2\u201d",
        "a=b,api-key=hunter2\u200b",
        "api key=hunter2",
        "=hunter2"
      })
  void refusesHeadersThatCannotBeSent_andDoesNotShowThem(String headers) {
    for (String name : List.of("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> Tracing.from(environment(name, headers), "notes"))
          .withMessageStartingWith("startup tracing: " + name + " must be name=value pairs")
          .withMessageNotContaining("hunter2")
          .withNoCause();
    }
  }

  @Test
  void refusesAQuery_andDoesNotShowIt() {
    for (String name :
        List.of("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")) {
      assertThatIllegalArgumentException()
          .isThrownBy(
              () -> Tracing.from(environment(name, endpoint() + "/otlp?key=hunter2"), "notes"))
          .withMessageStartingWith("startup tracing: " + name + " must be")
          .withMessageContaining("OTEL_EXPORTER_OTLP_HEADERS")
          .withMessageNotContaining("hunter2")
          .withNoCause();
    }
  }

  @ParameterizedTest
  @CsvSource({
    "OTEL_BSP_MAX_QUEUE_SIZE, 0",
    "OTEL_BSP_SCHEDULE_DELAY, -1",
    "OTEL_BSP_SCHEDULE_DELAY, soon",
    "OTEL_EXPORTER_OTLP_TIMEOUT, -1",
    "OTEL_EXPORTER_OTLP_COMPRESSION, zip",
    "OTEL_EXPORTER_OTLP_PROTOCOL, http/json",
    "OTEL_EXPORTER_OTLP_CERTIFICATE, /nowhere",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY, /nowhere",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, http://127.0.0.1:1/x#y",
    "OTEL_EXPORTER_OTLP_ENDPOINT, http://127.0.0.1:99999",
    "OTEL_TRACES_EXPORTER, zipkin",
    "OTEL_PROPAGATORS, b3",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, -1",
  })
  void namesTheVariable_ofWhateverTheSdkRefuses(String name, String value) {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Tracing.from(environment(name, value), "notes"))
        .withMessageStartingWith("startup tracing: ")
        .withMessageContaining(name);
  }

  @Test
  void neverExportsTheCommandLine_whateverElseIsLeftOut() {
    try (Tracing tracing = Tracing.from(
        environment(
            "OTEL_RESOURCE_DISABLED_KEYS", "host.name",
            "OTEL_RESOURCE_ATTRIBUTES",
                "process.command_line=java hunter2,process.command_args=hunter2,host.name=h-1,a=here"),
        "notes")) {
      span(tracing, "a");
    }
    assertThat(received.get(0).body()).contains("here").doesNotContain("hunter2", "h-1");
  }

  @Test
  void ends_whenTheCollectorIsGone() {
    try (Tracing tracing = Tracing.from(environment(), "notes")) {
      collector.stop(0);
      span(tracing, "a");
      tracing.close();
      tracing.close();
    }
    assertThat(GlobalOpenTelemetry.isSet()).isFalse();
  }
}
