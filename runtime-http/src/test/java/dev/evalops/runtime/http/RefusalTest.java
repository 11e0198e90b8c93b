package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;

import ch.qos.logback.classic.spi.ILoggingEvent;
import com.sun.net.httpserver.Filter;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.fixtures.RawClient;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What the service itself refuses is seen as every other request is. */
class RefusalTest {
  @ParameterizedTest
  @ValueSource(
      strings = {
        "GET /x//y HTTP/1.1\r\nHost: a\r\n",
        "GET /x/a%2Fb HTTP/1.1\r\nHost: a\r\n",
        "GET /x/%00 HTTP/1.1\r\nHost: a\r\n",
        "GET /x/..;/y HTTP/1.1\r\nHost: a\r\n",
        "GET //x/y HTTP/1.1\r\nHost: a\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET /x HTTP/1.1\r\n",
        "GET /x HTTP/1.2\r\nHost: a\r\n",
        "G@\"T /x HTTP/1.1\r\nHost: a\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n"
      })
  void logsMalformedRequests(String request) throws IOException {
    try (CapturedLog log = new CapturedLog(RefusalTest.class);
        HttpService service = HttpService.builder(0)
            .filters(HttpFilters.requestId(), HttpFilters.requestLog(log.logger()))
            .handle("/x", HttpResponses::noContent)
            .start();
        RawClient client = new RawClient(service.port())) {
      RawClient.Response response =
          client.send(request + "X-Request-Id: abc\r\n\r\nabc").read();
      assertThat(response.status()).isEqualTo(400);
      assertThat(response.header("X-Request-Id")).contains("abc");
      assertThat(response.body()).contains("\"invalid_input\"");
      assertThat(log.events()).hasSize(1);
      Map<String, Object> line = CapturedLog.keyValues(log.events().get(0));
      assertThat(line)
          .containsEntry("request_id", "abc")
          .containsEntry("route", "unmatched")
          .containsEntry("status", 400);
      assertThat(line.get("method") + "" + line.get("path")).matches("[!#-\\[\\]-~]+");
    }
  }

  @Test
  void logsThePathAsItWasSent() throws IOException {
    try (CapturedLog log = new CapturedLog(RefusalTest.class);
        HttpService service = HttpService.builder(0)
            .filters(HttpFilters.requestLog(log.logger()))
            .handle("/x", HttpResponses::noContent)
            .start();
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/x/%22%20status=%22500?q=1").status()).isEqualTo(204);
      assertThat(CapturedLog.keyValues(log.events().get(0)))
          .containsEntry("path", "/x/%22%20status=%22500");
    }
  }

  @Test
  void logsAndCountsRequestsAboveTheLimit() throws Exception {
    CountDownLatch busy = new CountDownLatch(2);
    CountDownLatch go = new CountDownLatch(1);
    AtomicInteger handled = new AtomicInteger();
    try (CapturedLog log = new CapturedLog(RefusalTest.class);
        CapturedLog service = new CapturedLog(HttpService.class)) {
      try (HttpService limited = HttpService.builder(0)
              .maxInFlight(2)
              .filters(HttpFilters.requestId(), HttpFilters.requestLog(log.logger()))
              .handle("/slow", (HttpService.Handler) exchange -> {
                handled.incrementAndGet();
                busy.countDown();
                go.await();
                HttpResponses.noContent(exchange);
              })
              .start();
          RawClient one = new RawClient(limited.port());
          RawClient two = new RawClient(limited.port());
          RawClient three = new RawClient(limited.port())) {
        one.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
        two.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
        assertThat(busy.await(20, TimeUnit.SECONDS)).isTrue();
        for (int i = 0; i < 8; i++) {
          RawClient.Response refused = three.get(i == 0 ? "/nowhere" : "/slow/" + i);
          assertThat(refused.status()).isEqualTo(503);
          assertThat(refused.header("X-Request-Id")).isPresent();
          assertThat(refused.header("Retry-After")).contains("1");
        }
        go.countDown();
        assertThat(one.read().status()).isEqualTo(204);
        assertThat(two.read().status()).isEqualTo(204);
      }
      List<String> lines = new ArrayList<>();
      for (ILoggingEvent event : log.events()) {
        Map<String, Object> line = CapturedLog.keyValues(event);
        lines.add(line.get("status") + " " + line.get("route"));
      }
      assertThat(lines).hasSize(10);
      assertThat(lines).filteredOn("503 /slow"::equals).hasSize(7);
      assertThat(lines).filteredOn("503 unmatched"::equals).hasSize(1);
      assertThat(handled).hasValue(2);
      assertThat(service.events().stream()
              .filter(e -> e.getMessage().startsWith("http requests refused"))
              .mapToLong(e -> (Long) CapturedLog.keyValues(e).get("refused"))
              .sum())
          .isEqualTo(8);
    }
  }

  @Test
  void answersTheRefusal_whateverFiltersDo() throws IOException {
    List<Filter> filters = List.of(
        GuardTest.filter((exchange, chain) -> HttpResponses.json(exchange, 200, "served")),
        GuardTest.filter((exchange, chain) -> {}),
        GuardTest.filter((exchange, chain) -> {
          throw new IllegalStateException("x");
        }),
        GuardTest.filter((exchange, chain) -> {
          assertThat(RequestContext.of(exchange).refusal()).isPresent();
          try {
            chain.doFilter(exchange);
          } catch (RuntimeException e) {
            HttpResponses.json(exchange, 200, "served");
          }
        }));
    for (Filter filter : filters) {
      try (HttpService service = HttpService.builder(0)
              .filters(filter)
              .handle("/x", HttpResponses::noContent)
              .start();
          RawClient client = new RawClient(service.port())) {
        assertThat(client.get("/x/%2e%2e/y").body()).contains("\"invalid_input\"");
      }
    }
  }
}
