package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.fixtures.CapturedLog;
import dev.evalops.fixtures.RawClient;
import java.io.IOException;
import java.io.OutputStream;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class HttpEndpointsTest {
  private static final String TEXT = "text/plain; version=0.0.4; charset=utf-8";
  private static final String OPEN_METRICS =
      "application/openmetrics-text; version=1.0.0; charset=utf-8";

  /** With the overloads of a PrometheusMeterRegistry. */
  static final class Registry {
    String scrape() {
      return "";
    }

    void scrape(OutputStream out) throws IOException {}

    void scrape(OutputStream out, String contentType) throws IOException {}

    String scrape(String contentType) {
      return "# for " + contentType + " \u00fc\n";
    }
  }

  @Test
  void answersHealth_forGetAndHeadAlone() throws IOException {
    try (HttpService service = HttpService.builder(0)
            .handle("/healthz", HttpEndpoints.health("notes"))
            .start();
        RawClient client = new RawClient(service.port())) {
      RawClient.Response response = client.get("/healthz");
      assertThat(response.status()).isEqualTo(200);
      assertThat(response.header("Content-Type")).contains("application/json");
      assertThat(response.body()).isEqualTo("{\"service\":\"notes\",\"status\":\"ok\"}\n");
      assertThat(client.post("/healthz", "").status()).isEqualTo(405);
    }
  }

  @Test
  void saysWhatIsWaitedFor_andServesTheRestLater() throws IOException {
    List<Object> pending = new CopyOnWriteArrayList<>(List.of("postgres: for 3 s"));
    try (CapturedLog log = new CapturedLog(Guard.class);
        HttpService service = HttpService.builder(0)
            .handle("/startupz", HttpEndpoints.starting(() -> pending))
            .handle("/", HttpEndpoints.unavailable())
            .start();
        RawClient client = new RawClient(service.port())) {
      RawClient.Response starting = client.get("/startupz");
      assertThat(starting.status()).isEqualTo(503);
      assertThat(starting.header("Cache-Control")).contains("no-store");
      assertThat(starting.body())
          .isEqualTo("{\"pending\":[\"postgres: for 3 s\"],\"status\":\"starting\"}\n");
      RawClient.Response early = client.post("/v1/notes", "");
      assertThat(early.status()).isEqualTo(503);
      assertThat(early.header("Retry-After")).contains("1");
      assertThat(early.body()).contains("\"code\":\"unavailable\"");
      assertThat(log.messages()).as("a start is no failure").isEmpty();

      pending.clear();
      assertThatThrownBy(() ->
              service.serve(HttpService.builder().handle("no slash", HttpEndpoints.unavailable())))
          .isInstanceOf(IllegalArgumentException.class);
      assertThat(client.get("/startupz").status())
          .as("until it serves its routes")
          .isEqualTo(503);
      service.serve(HttpService.builder()
          .handle("/startupz", HttpEndpoints.health("notes"))
          .handle("POST /v1/notes", (HttpService.Handler)
              exchange -> HttpResponses.noContent(exchange)));

      assertThat(client.post("/v1/notes", "").status()).isEqualTo(204);
      assertThat(client.get("/startupz").status()).isEqualTo(200);
    }
  }

  @Test
  void answersMetrics_inTheFormatThatIsAskedFor() throws IOException {
    Registry registry = new Registry();
    try (HttpService service = HttpService.builder(0)
            .handle("/metrics", HttpEndpoints.metrics(registry::scrape))
            .start();
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/metrics").header("Content-Type")).contains(TEXT);
      RawClient.Response response = client
          .send(String.join(
              "\r\n",
              "GET /metrics HTTP/1.1",
              "Host: x",
              "Accept: text/plain;q=0.3",
              "Accept: application/openmetrics-text;version=1.0.0;q=0.5",
              "",
              ""))
          .read();
      assertThat(response.header("Content-Type")).contains(OPEN_METRICS);
      assertThat(response.body()).isEqualTo("# for " + OPEN_METRICS + " \u00fc\n");
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "'' | text",
        "*/* | text",
        "text/plain | text",
        "application/openmetrics-text | open",
        "APPLICATION/OpenMetrics-Text; version=1.0.0 | open",
        "application/openmetrics-text;q=0 | text",
        "application/openmetrics-text;q=0.2,text/plain;q=0.3 | text",
        "application/openmetrics-text;q=x | text",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            + "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,*/*;q=0.1 | open",
        ";;,;q=,,= | text"
      })
  void negotiatesMetrics(String accept, String expected) {
    assertThat(HttpEndpoints.metricsType(accept))
        .isEqualTo(expected.equals("open") ? OPEN_METRICS : TEXT);
  }
}
