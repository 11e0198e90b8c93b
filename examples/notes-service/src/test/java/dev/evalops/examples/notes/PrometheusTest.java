package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.natsbus.spool.SpooledPublisher;
import dev.evalops.runtime.observability.ServiceMetrics;
import dev.evalops.runtime.startup.Lifecycle;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.opentelemetry.api.OpenTelemetry;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** The dashboard and the alert rules, in a real Prometheus that scrapes the service while it has work to do. */
class PrometheusTest {
  private static final Duration SOON = Duration.ofMinutes(3);
  private static final JsonMapper JSON = JsonMapper.shared();
  private static final Pattern SELECTOR =
      Pattern.compile("\\{[^}]*}|\\b(?:natsbus|outbox|feature_flags)_\\w+");
  private static final Map<String, String> NO_LIMIT =
      Map.of("RATE_LIMIT_PER_SECOND", "1000000", "RATE_LIMIT_BURST", "1000000");

  @TempDir
  private Path folder;

  private final Lifecycle life = Lifecycle.open();
  private final HttpClient client = HttpClient.newHttpClient();
  private RunningService service;
  private URI prometheus;

  @BeforeEach
  void start() throws Exception {
    service = life.add("service", new RunningService(folder, OpenTelemetry.noop(), NO_LIMIT));
    HttpService spool = spool();
    prometheus = prometheus(service.base().getPort(), spool.port());
    failSome();
    life.add("callers", Callers.start(client, List.of(service.base()), RunningService.TOKEN, 5));
  }

  /** Another process of the service, as far as a scrape tells: this one has a spool. */
  private HttpService spool() throws IOException {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    NatsBus bus = life.add(
        "bus",
        NatsBus.builder(service.nats().url()).stream("NOTES")
            .subjectPrefix("notes.changes")
            .open());
    life.add(
        "spool",
        SpooledPublisher.builder(bus, folder.resolve("spool")).metrics(registry).open());
    return life.add(
        "http",
        HttpService.builder(0)
            .handle("/metrics", HttpEndpoints.metrics(registry::scrape))
            .start());
  }

  private URI prometheus(int... targets) throws IOException {
    Path rules = folder.resolve("rules.yaml");
    Files.writeString(rules, resource("prometheus-rules.yaml"));
    Path config = folder.resolve("prometheus.yaml");
    Files.writeString(config, """
        global: {scrape_interval: 1s, evaluation_interval: 1s}
        rule_files: ['%s']
        scrape_configs:
        - job_name: notes
          static_configs:
          - targets: ['localhost:%d', 'localhost:%d']
        """.formatted(rules, targets[0], targets[1]));
    int port = FreePort.next();
    Process process;
    try {
      process = new ProcessBuilder(
              "prometheus",
              "--config.file=" + config,
              "--storage.tsdb.path=" + folder.resolve("tsdb"),
              "--web.listen-address=127.0.0.1:" + port)
          .redirectErrorStream(true)
          .redirectOutput(folder.resolve("prometheus.log").toFile())
          .start();
    } catch (IOException e) {
      throw new IOException("no prometheus on the path; make servers installs it", e);
    }
    life.add("prometheus", () -> process.destroyForcibly().waitFor());
    URI url = URI.create("http://127.0.0.1:" + port + "/");
    Awaitility.await().atMost(SOON).until(() -> {
      assertThat(process.isAlive())
          .as(Files.readString(folder.resolve("prometheus.log")))
          .isTrue();
      try {
        return client
                .send(
                    HttpRequest.newBuilder(url.resolve("-/ready")).build(),
                    BodyHandlers.discarding())
                .statusCode()
            == 200;
      } catch (IOException e) {
        return false;
      }
    });
    return url;
  }

  /** Failures of requests, of which the dashboard has a panel. */
  private void failSome() throws Exception {
    service.identity().stop();
    for (int i = 0; i < 5; i++) {
      assertThat(service.send(service.request("/v1/notes")).statusCode()).isEqualTo(503);
    }
    service.identity().restart();
  }

  @AfterEach
  void close() {
    life.close();
    client.shutdownNow();
  }

  @Test
  void everyQueryOfTheDashboardHasAnAnswer_andEveryRuleItsSeries() throws Exception {
    JsonNode dashboard = JSON.readTree(resource("grafana-dashboard.json"));
    for (JsonNode panel : dashboard.get("panels")) {
      for (JsonNode target : panel.path("targets")) {
        String query = target
            .get("expr")
            .asString()
            .replace("${prefix}", "notes")
            .replace("$job", "notes")
            .replace("$__rate_interval", "30s");
        JsonNode answer = await(query);
        for (String label : labels(target.path("legendFormat").asString(""))) {
          assertThat(answer).as(query).allMatch(each -> each.get("metric").has(label), label);
        }
      }
    }
    for (JsonNode variable : dashboard.get("templating").get("list")) {
      choices(variable);
    }

    JsonNode rules = Awaitility.await()
        .atMost(SOON)
        .until(
            () -> rules(),
            found -> found.findValuesAsString("health").stream().noneMatch("unknown"::equals));
    int count = 0;
    for (JsonNode group : rules) {
      for (JsonNode rule : group.get("rules")) {
        assertThat(rule.get("health").asString()).as(rule.toString()).isEqualTo("ok");
        for (String selector : selectors(rule.get("query").asString())) {
          await("count(" + selector + ")");
        }
        count++;
      }
    }
    assertThat(count).isGreaterThan(15);
  }

  /** The variables with which one chooses a service: both find ours. */
  private void choices(JsonNode variable) throws Exception {
    String query = variable.path("query").path("query").asString("").replace("$job", "notes");
    switch (variable.get("name").asString()) {
      case "datasource" -> {}
      case "job" -> {
        String series = query.replaceFirst("label_values\\((.*), job\\)", "$1");
        assertThat(await("count by (job) (" + series + ")").findValuesAsString("job"))
            .containsExactly("notes");
      }
      case "prefix" -> {
        JsonNode found = await(query.replaceFirst("query_result\\((.*)\\)", "$1"));
        assertThat(found.findValuesAsString("__name__"))
            .containsExactly("notes_http_requests_total");
      }
      default -> throw new AssertionError(variable.toString());
    }
  }

  /** The series that a rule reads, whatever the values of their other labels. */
  private static Set<String> selectors(String query) {
    Set<String> found = new LinkedHashSet<>();
    SELECTOR
        .matcher(query)
        .results()
        .map(MatchResult::group)
        .map(each -> each.replaceAll(",(\\w+)=~?\"[^\"]*\"", ",$1!=\"\""))
        .forEach(found::add);
    assertThat(found).as(query).isNotEmpty();
    return found;
  }

  private static List<String> labels(String legend) {
    return Pattern.compile("\\{\\{(\\w+)}}")
        .matcher(legend)
        .results()
        .map(each -> each.group(1))
        .toList();
  }

  /** The answer, once it is not empty. */
  private JsonNode await(String query) {
    return Awaitility.await(query)
        .atMost(SOON)
        .until(
            () -> get("query?query=" + URLEncoder.encode(query, StandardCharsets.UTF_8))
                .get("result"),
            result -> !result.isEmpty());
  }

  private JsonNode rules() throws Exception {
    return get("rules").get("groups");
  }

  private JsonNode get(String path) throws Exception {
    HttpRequest request = HttpRequest.newBuilder(prometheus.resolve("api/v1/" + path))
        .timeout(SOON)
        .build();
    JsonNode answer =
        JSON.readTree(client.send(request, BodyHandlers.ofString()).body());
    assertThat(answer.get("status").asString()).as(path + ": " + answer).isEqualTo("success");
    return answer.get("data");
  }

  private static String resource(String name) throws IOException {
    try (InputStream in = ServiceMetrics.class.getResourceAsStream(name)) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
  }
}
