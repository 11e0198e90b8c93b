package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.opentelemetry.api.OpenTelemetry;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.function.Predicate;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a scrape of the running service shows, and that no client can make it show more. */
class MetricsTest {
  private static final String NOTE = "{\"title\":\"milk\"}";
  private static final Map<String, String> NO_LIMIT =
      Map.of("RATE_LIMIT_PER_SECOND", "1000000", "RATE_LIMIT_BURST", "1000000");
  private static final List<String> METHODS = List.of("GET", "POST", "PUT", "DELETE", "PATCH");

  @TempDir
  private Path folder;

  @Test
  void hasEverySeries_withItsLabels() throws Exception {
    Map<String, String> small = Map.of("RATE_LIMIT_PER_SECOND", "0.01", "RATE_LIMIT_BURST", "3");
    try (RunningService service = new RunningService(folder, OpenTelemetry.noop(), small)) {
      String note = service
          .send(service.write("POST", "/v1/notes", NOTE))
          .headers()
          .firstValue("Location")
          .orElseThrow();
      service.send(service.request(note));
      service.send(service.request("/v1/notes/" + UUID.randomUUID()));
      service.send(service.write("PUT", note, NOTE));
      // A decision that takes too long is made without Redis, from another bucket.
      await().until(() -> service.send(service.request(note)).statusCode() == 429);
      service.send(service.request("/readyz"));

      assertThat(service.scrape().lines().filter(line -> !line.startsWith("#")))
          .anyMatch(
              is("notes_http_requests_total{method=\"POST\",route=\"/v1/notes\",status=\"201\"}"))
          .anyMatch(is(
              "notes_http_requests_total{method=\"GET\",route=\"/v1/notes/{id}\",status=\"200\"}"))
          .anyMatch(is(
              "notes_http_requests_total{method=\"GET\",route=\"/v1/notes/{id}\",status=\"404\"}"))
          .anyMatch(is(
              "notes_http_requests_total{method=\"PUT\",route=\"/v1/notes/{id}\",status=\"428\"}"))
          .anyMatch(is(
              "notes_http_requests_total{method=\"GET\",route=\"/v1/notes/{id}\",status=\"429\"}"))
          .anyMatch(
              is(
                  "notes_http_request_duration_seconds_count{method=\"POST\",route=\"/v1/notes\",status=\"201\"}"))
          .anyMatch(
              is(
                  "notes_http_request_duration_seconds_sum{method=\"POST\",route=\"/v1/notes\",status=\"201\"}"))
          .anyMatch(is("notes_db_open_connections"))
          .anyMatch(is("notes_db_in_use_connections"))
          .anyMatch(is("notes_db_idle_connections"))
          .anyMatch(is("notes_redis_commands_total{command=\"get\",status=\"nil\"}"))
          .anyMatch(is("notes_redis_commands_total{command=\"set\",status=\"ok\"}"))
          .anyMatch(is("notes_redis_command_duration_seconds_count{command=\"set\",status=\"ok\"}"))
          .anyMatch(is("notes_rate_limit_hits_total{action=\"allowed\",route=\"/v1/notes\"}"))
          .anyMatch(is("notes_rate_limit_hits_total{action=\"limited\",route=\"/v1/notes/{id}\"}"))
          .anyMatch(is("notes_rate_limit_hits_total{action=\"exempt\",route=\"/readyz\"}"))
          .anyMatch(is("notes_rate_limit_fallbacks_total"))
          .anyMatch(is("natsbus_connected"))
          .anyMatch(is("natsbus_publish_failures_total"))
          .anyMatch(is("feature_flags_age_seconds"));
      assertThat(buckets(service.scrape(), "notes_http_request_duration_seconds_bucket"))
          .containsExactlyInAnyOrder(
              "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0",
              "+Inf");
      assertThat(buckets(service.scrape(), "notes_redis_command_duration_seconds_bucket"))
          .contains("5.0E-4", "1.0", "+Inf");
    }
  }

  private static Predicate<String> is(String series) {
    return line -> line.startsWith(series + " ");
  }

  private static Set<String> buckets(String scrape, String name) {
    return scrape
        .lines()
        .filter(line -> line.startsWith(name + "{"))
        .map(line -> line.replaceFirst(".*le=\"([^\"]*)\".*", "$1"))
        .collect(Collectors.toSet());
  }

  @Test
  void hasNoMoreSeries_afterRandomRequests() throws Exception {
    staysBounded(2_000);
  }

  @Test
  @Tag("soak")
  void hasNoMoreSeries_afterManyRandomRequests() throws Exception {
    staysBounded(100_000);
  }

  private void staysBounded(int requests) throws Exception {
    Random random = new Random(1);
    try (RunningService service = new RunningService(folder, OpenTelemetry.noop(), NO_LIMIT)) {
      String note = service
          .send(service.write("POST", "/v1/notes", NOTE))
          .headers()
          .firstValue("Location")
          .orElseThrow();
      Set<String> before = Set.of();
      Set<Integer> statuses = new TreeSet<>();
      int kinds = 12 * (METHODS.size() + 1);
      for (int i = 0; i < requests; i++) {
        if (i == 2 * kinds) {
          service.scrape(); // is a request, too
          before = series(service.scrape());
        }
        statuses.add(service.send(random(service, random, i % kinds, note)).statusCode());
      }
      Set<String> after = series(service.scrape());
      System.out.println("metrics: " + requests + " random requests, statuses " + statuses + ", "
          + before.size() + " series before, " + after.size() + " after");

      assertThat(after).isEqualTo(before);
      assertThat(String.join("\n", after))
          .doesNotContain("zufall", RunningService.ORGANIZATION, note)
          .doesNotContain(RunningService.TOKEN);
      assertThat(statuses).contains(200, 201, 400, 401, 404, 405, 412, 428);
      assertThat(after.stream().filter(line -> line.startsWith("notes_http_requests_total{")))
          .allMatch(line -> line.matches(".*\\{method=\"(GET|POST|PUT|DELETE|PATCH|other)\","
              + "route=\"(/v1/notes|/v1/notes/\\{id}|/v1/feed|/healthz|/metrics|unmatched)\","
              + "status=\"[1-5]\\d\\d\"}"));
    }
  }

  /** One of a fixed number of kinds of requests; what is random in it must not be seen. */
  private static HttpRequest.Builder random(
      RunningService service, Random random, int kind, String note) {
    String word = "zufall" + random.nextInt(1_000_000_000);
    int which = kind / 12;
    String method = which < METHODS.size() ? METHODS.get(which) : word.toUpperCase(Locale.ROOT);
    String path = switch (kind % 12) {
      case 0 -> "/" + word;
      case 1 -> "/v1/notes/" + word;
      case 2 -> "/v1/notes/" + new UUID(random.nextLong(), random.nextLong());
      case 3 -> "/v1/notes/" + word + "/" + word;
      case 4 -> "/v1/notes?limit=" + word;
      case 5, 6, 7, 11 -> note;
      case 8 -> "/v1/feed?" + word + "=1";
      case 9 -> "/healthz/" + word;
      default -> "/v1/notes";
    };
    HttpRequest.Builder request = service
        .request(path)
        .header("X-Request-Id", word)
        .header("Content-Type", "application/json");
    if (kind % 12 != 5) {
      request.header("Idempotency-Key", word);
    }
    if (kind % 12 != 7) {
      request.header("If-Match", "\"" + random.nextInt(1_000, 1_000_000) + "\"");
    }
    if (kind % 12 == 6) {
      request.setHeader("Authorization", "Bearer " + word);
    }
    return method.equals("GET")
        ? request.GET()
        : request.method(method, BodyPublishers.ofString(kind % 12 == 10 ? word : NOTE));
  }

  private static Set<String> series(String scrape) {
    return scrape
        .lines()
        .filter(line -> !line.startsWith("#"))
        .map(line -> line.substring(0, line.lastIndexOf(' ')))
        .collect(Collectors.toCollection(TreeSet::new));
  }
}
