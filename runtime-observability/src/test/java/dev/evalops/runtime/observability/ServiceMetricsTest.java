package dev.evalops.runtime.observability;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.RequestContext;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.RedisServer;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisFuture;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.net.URI;
import java.net.URL;
import java.net.URLClassLoader;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.time.Duration;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class ServiceMetricsTest {
  private static final Duration SOON = Duration.ofSeconds(30);

  private final PrometheusMeterRegistry registry =
      new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  private final ServiceMetrics metrics = ServiceMetrics.of("notes", registry);
  private final LoggedRequests log = new LoggedRequests();
  private final HttpClient client = HttpClient.newHttpClient();

  private HttpService serve() {
    return HttpService.builder(0)
        .filters(HttpFilters.requestId(), metrics.requests(log.logger()))
        .handle("/v1/notes", (HttpService.Handler) exchange -> {
          RequestContext context = RequestContext.of(exchange);
          context.route("/v1/notes/{id}");
          if (context.path().endsWith("broken")) {
            throw new IllegalStateException("broken");
          }
          if (context.path().endsWith("half")) {
            exchange.sendResponseHeaders(200, 5);
            return;
          }
          if (context.path().endsWith("gone")) {
            throw ServiceException.of(ErrorCode.NOT_FOUND).op("test");
          }
          exchange.sendResponseHeaders(204, -1);
        })
        .handle("/metrics", HttpEndpoints.metrics(registry::scrape))
        .start();
  }

  private int call(HttpService http, String method, String path) throws Exception {
    HttpRequest request = HttpRequest.newBuilder(http.uri().resolve(path))
        .method(method, BodyPublishers.noBody())
        .build();
    return client.send(request, BodyHandlers.discarding()).statusCode();
  }

  private List<String> series(String name) {
    return registry.scrape().lines().filter(line -> line.startsWith(name)).toList();
  }

  static Stream<JsonNode> prefixes() throws Exception {
    try (InputStream in =
        ServiceMetricsTest.class.getResourceAsStream("/metric_prefix_observability.json")) {
      return StreamSupport.stream(
          JsonMapper.shared().readTree(in).get("cases").spliterator(), false);
    }
  }

  @ParameterizedTest
  @MethodSource("prefixes")
  void namesAreWhatOtherServicesHave(JsonNode vector) {
    assertThat(MetricPrefix.of(vector.get("input").stringValue()))
        .isEqualTo(vector.get("expected").stringValue());
  }

  @Test
  void countsAndTimesRequests_withTheLabelsOfTheContract() throws Exception {
    try (HttpService http = serve()) {
      assertThat(call(http, "GET", "/v1/notes/1")).isEqualTo(204);
      assertThat(call(http, "GET", "/v1/notes/2")).isEqualTo(204);
      assertThat(call(http, "PUT", "/v1/notes/gone")).isEqualTo(404);
      assertThat(call(http, "GET", "/v1/notes/broken")).isEqualTo(500);
      assertThat(call(http, "GET", "/nowhere")).isEqualTo(404);
      assertThat(call(http, "GET", "/v1//notes")).isEqualTo(400);
      assertThatThrownBy(() -> call(http, "POST", "/v1/notes/half"))
          .isInstanceOf(IOException.class);
    }

    assertThat(series("notes_http_requests_total"))
        .containsExactlyInAnyOrder(
            "notes_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"400\"} 1.0",
            "notes_http_requests_total{method=\"POST\",route=\"/v1/notes/{id}\",status=\"cut\"} 1.0",
            "notes_http_requests_total{method=\"GET\",route=\"/v1/notes/{id}\",status=\"204\"} 2.0",
            "notes_http_requests_total{method=\"PUT\",route=\"/v1/notes/{id}\",status=\"404\"} 1.0",
            "notes_http_requests_total{method=\"GET\",route=\"/v1/notes/{id}\",status=\"500\"} 1.0",
            "notes_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"} 1.0");
    String labels = "{method=\"GET\",route=\"/v1/notes/{id}\",status=\"204\"";
    List<String> buckets = series("notes_http_request_duration_seconds_bucket" + labels);
    assertThat(buckets)
        .extracting(line -> line.replaceAll(".*le=\"([^\"]+)\".*", "$1"))
        .containsExactly(
            "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0",
            "+Inf");
    assertThat(series("notes_http_request_duration_seconds_count" + labels))
        .containsExactly("notes_http_request_duration_seconds_count" + labels + "} 2");
    assertThat(series("notes_http_request_duration_seconds_sum" + labels)).hasSize(1);
  }

  @Test
  void speaksOpenMetrics_whenAskedFor() throws Exception {
    metrics.record("GET", "/a", 200, 1);
    try (HttpService http = serve()) {
      HttpRequest request = HttpRequest.newBuilder(http.uri().resolve("/metrics"))
          .header("Accept", "application/openmetrics-text; version=1.0.0")
          .build();
      assertThat(client.send(request, BodyHandlers.ofString()).body())
          .contains("# TYPE notes_http_requests counter")
          .endsWith("# EOF\n");
    }
  }

  @Test
  void addsNoSeries_forWhateverClientsSend() {
    addsNoSeries(5_000);
  }

  @Test
  @Tag("soak")
  void addsNoSeries_forWhateverClientsSend_inFull() {
    addsNoSeries(100_000);
    System.out.println("observability: 100 000 random methods, paths and statuses, "
        + series("notes_http_requests_total").size() + " series");
  }

  private void addsNoSeries(int requests) {
    Random random = new Random(7);
    for (int i = 0; i < requests; i++) {
      String text = Long.toString(random.nextLong(), 36);
      metrics.record("M" + text, i < 2_000 ? "/r/" + text : "/s/" + text, 600 + i, 1);
      metrics.record("GET", RequestContext.UNMATCHED, -1, 1);
      metrics.record("GET", " ", random.nextInt(3) * 100_000, 1);
    }
    assertThat(series("notes_http_requests_total")).hasSize(1000 - 1 + 1 + 2);
    assertThat(series("notes_http_requests_total"))
        .contains(
            "notes_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"cut\"} "
                + (double) requests,
            "notes_http_requests_total{method=\"GET\",route=\"unknown\",status=\"other\"} "
                + (double) requests)
        .allMatch(line -> line.contains("status=\"other\"") || line.contains("status=\"cut\""));
  }

  @Test
  void countsAClientThatGoesAway_once() throws Exception {
    try (HttpService http = HttpService.builder(0)
        .filters(metrics.requests(log.logger()))
        .handle("/long", (HttpService.Handler) exchange -> {
          exchange.sendResponseHeaders(200, 0);
          byte[] block = new byte[64 * 1024];
          OutputStream body = exchange.getResponseBody();
          for (int i = 0; i < 10_000; i++) {
            body.write(block);
          }
        })
        .start()) {
      try (Socket socket = new Socket(InetAddress.getLoopbackAddress(), http.port())) {
        socket
            .getOutputStream()
            .write("GET /long HTTP/1.1\r\nHost: x\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
        assertThat(socket.getInputStream().read()).isPositive();
        socket.setSoLinger(true, 0);
      }
      await().atMost(SOON).until(() -> !log.lines().isEmpty());
    }
    assertThat(log.lines()).hasSize(1);
    assertThat(series("notes_http_requests_total"))
        .containsExactly(
            "notes_http_requests_total{method=\"GET\",route=\"/long\",status=\"cut\"} 1.0");
  }

  @Test
  void watchesThePoolsThatAreOpen() throws Exception {
    String url = PostgresServer.shared().url();
    try (HikariDataSource first =
        Postgres.builder(url).configure(pool -> pool.setMinimumIdle(1)).open()) {
      metrics.bind(first).bind(first);
      ServiceMetrics.of("notes", registry).bind(first);
      try (Connection connection = first.getConnection()) {
        assertThat(connection.isValid(1)).isTrue();
        assertThat(series("notes_db_in_use_connections"))
            .containsExactly("notes_db_in_use_connections 1.0");
        assertThat(series("# HELP notes_db_"))
            .hasSize(3)
            .allMatch(line -> line.matches("# HELP \\w+ [A-Z].+"));
        try (HikariDataSource second = Postgres.open(url);
            Connection other = second.getConnection()) {
          ServiceMetrics.of("notes", registry).bind(second);
          assertThat(other.isValid(1)).isTrue();
          assertThat(series("notes_db_in_use_connections"))
              .containsExactly("notes_db_in_use_connections 2.0");
        }
        assertThat(series("notes_db_in_use_connections"))
            .containsExactly("notes_db_in_use_connections 1.0");
      }
      await()
          .atMost(SOON)
          .until(() -> series("notes_db_open_connections")
              .equals(List.of("notes_db_open_connections "
                  + series("notes_db_idle_connections").get(0).replaceAll(".* ", ""))));
    }
    assertThat(series("notes_db_open_connections"))
        .containsExactly("notes_db_open_connections 0.0");
  }

  @Test
  void countsRedisCommands_byNameAndHowTheyWent() throws Exception {
    try (RedisServer server = RedisServer.start();
        Redis redis =
            Redis.builder(server.url()).commandListener(metrics.redisCommands()).open()) {
      redis.connection().sync().set("a", "1");
      redis.connection().sync().get("a");
      redis.connection().sync().get("nothing");
      RedisFuture<Long> wrong = redis.connection().async().llen("a");
      assertThat(wrong.toCompletableFuture())
          .failsWithin(SOON)
          .withThrowableThat()
          .havingCause()
          .isInstanceOf(RedisException.class);

      await()
          .atMost(SOON)
          .untilAsserted(() -> assertThat(series("notes_redis_commands_total"))
              .contains(
                  "notes_redis_commands_total{command=\"set\",status=\"ok\"} 1.0",
                  "notes_redis_commands_total{command=\"get\",status=\"ok\"} 1.0",
                  "notes_redis_commands_total{command=\"get\",status=\"nil\"} 1.0",
                  "notes_redis_commands_total{command=\"llen\",status=\"error\"} 1.0"));
      assertThat(series("notes_redis_command_duration_seconds_bucket{command=\"set\""))
          .extracting(line -> line.replaceAll(".*le=\"([^\"]+)\".*", "$1"))
          .containsExactly(
              "5.0E-4", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5",
              "1.0", "+Inf");
      assertThat(series("notes_redis_command_duration_seconds_count{command=\"set\""))
          .singleElement()
          .asString()
          .endsWith(" 1");

      server.kill();
      await().atMost(SOON).until(() -> !redis.connection().isOpen());
      assertThat(redis.connection().async().get("a").toCompletableFuture()).failsWithin(SOON);
      await()
          .atMost(SOON)
          .until(() -> series("notes_redis_commands_total").stream()
              .anyMatch(line -> line.contains("command=\"get\",status=\"error\"")));
    }
  }

  @Test
  void countsACommandOfARedisTransaction_byTheAnswerThatItWasQueued() throws Exception {
    try (RedisServer server = RedisServer.start();
        Redis redis =
            Redis.builder(server.url()).commandListener(metrics.redisCommands()).open();
        Redis other = Redis.open(server.url())) {
      var commands = redis.connection().sync();
      commands.multi();
      commands.set("a", "1");
      commands.get("a");
      assertThat(commands.exec().wasDiscarded()).isFalse();
      commands.watch("a");
      other.connection().sync().set("a", "2");
      commands.multi();
      commands.get("a");
      assertThat(commands.exec().wasDiscarded()).isTrue();

      await()
          .atMost(SOON)
          .untilAsserted(() -> assertThat(series("notes_redis_commands_total"))
              .contains(
                  "notes_redis_commands_total{command=\"set\",status=\"ok\"} 1.0",
                  "notes_redis_commands_total{command=\"get\",status=\"ok\"} 2.0",
                  "notes_redis_commands_total{command=\"exec\",status=\"ok\"} 1.0",
                  "notes_redis_commands_total{command=\"exec\",status=\"nil\"} 1.0"));
    }
  }

  @Test
  void worksWithoutTheLibrariesThatAreOptional() throws Exception {
    URL[] classPath = Stream.of(System.getProperty("java.class.path").split(":"))
        .filter(entry -> Stream.of("HikariCP", "lettuce", "opentelemetry", "netty", "prometheus")
            .noneMatch(entry::contains))
        .map(ServiceMetricsTest::url)
        .toArray(URL[]::new);
    try (URLClassLoader loader =
        new URLClassLoader(classPath, ClassLoader.getPlatformClassLoader())) {
      loader.loadClass(WithoutOptional.class.getName()).getMethod("run").invoke(null);
    }
  }

  /** Runs in a class loader of its own. */
  public static final class WithoutOptional {
    private WithoutOptional() {}

    /** Makes one request. */
    public static void run() throws Exception {
      SimpleMeterRegistry registry = new SimpleMeterRegistry();
      ServiceMetrics metrics = ServiceMetrics.of("bare", registry);
      int status;
      try (HttpService http = HttpService.builder(0)
          .filters(metrics.requests(org.slf4j.LoggerFactory.getLogger("bare")))
          .handle("/", HttpEndpoints.health("bare"))
          .start()) {
        status = HttpClient.newHttpClient()
            .send(
                HttpRequest.newBuilder(URI.create(http.uri() + "/")).build(),
                BodyHandlers.discarding())
            .statusCode();
      }
      // A request is counted when its answer has gone out, at the latest when the service has
      // stopped.
      Set<String> names = new TreeSet<>();
      registry.forEachMeter(meter -> names.add(meter.getId().getName()));
      if (status != 200 || !names.contains("bare.http.requests")) {
        throw new AssertionError(status + " " + names);
      }
    }
  }

  private static URL url(String entry) {
    try {
      return Path.of(entry).toUri().toURL();
    } catch (java.io.IOException e) {
      throw new AssertionError(e);
    }
  }
}
