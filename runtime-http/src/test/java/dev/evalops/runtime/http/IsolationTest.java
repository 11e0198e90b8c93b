package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

class IsolationTest {
  /** Before Java 24 a service answers at most 256 requests at once. */
  private static final int AT_ONCE = Runtime.version().feature() < 24 ? 250 : 4000;

  private record Actor(String name) {}

  private static final RequestContext.Key<Actor> ACTOR = RequestContext.Key.of("actor");

  @Test
  void concurrentRequestsNeverSeeEachOthersContext() throws Exception {
    run(500, 10_000);
  }

  @Test
  @Tag("soak")
  void thousandsOfConcurrentRequestsNeverSeeEachOthersContext() throws Exception {
    run(4000, 100_000);
  }

  /**
   * All requests of a wave are within the handler at the same time, and look at their context again when all are there.
   */
  private static void run(int wanted, int total) throws Exception {
    int concurrent = Math.min(wanted, AT_ONCE);
    CyclicBarrier together = new CyclicBarrier(concurrent);
    Filter authenticating = GuardTest.filter((exchange, chain) -> {
      String name = exchange.getRequestHeaders().getFirst("X-Actor");
      RequestContext.of(exchange).put(ACTOR, new Actor(name));
      exchange.setAttribute("actor", name);
      RequestContext.of(exchange).beforeResponse(h -> h.set("X-Actor", actors(exchange)));
      chain.doFilter(exchange);
    });
    try (HttpService service = HttpService.builder(0)
            .maxInFlight(concurrent)
            .filters(HttpFilters.requestId(), HttpFilters.browserGuards(), authenticating)
            .handle("/who", (HttpService.Handler) exchange -> {
              String before = actors(exchange);
              together.await(60, TimeUnit.SECONDS);
              HttpResponses.json(exchange, 200, List.of(before, actors(exchange)));
            })
            .start();
        HttpClient client = HttpClient.newHttpClient()) {
      int requests = 0;
      while (requests < total) {
        List<CompletableFuture<Void>> answers = new ArrayList<>();
        for (int i = 0; i < concurrent; i++) {
          String name = "actor-" + requests++;
          HttpRequest request = HttpRequest.newBuilder(service.uri().resolve("/who"))
              .header("X-Actor", name)
              .header("X-Request-Id", "id-" + name)
              .build();
          answers.add(client
              .sendAsync(request, HttpResponse.BodyHandlers.ofString())
              .thenAccept(response -> {
                String all = name + " " + name;
                assertThat(response.body()).isEqualTo("[\"" + all + "\",\"" + all + "\"]\n");
                assertThat(response.headers().firstValue("X-Actor")).contains(all);
                assertThat(response.headers().firstValue("X-Request-Id")).contains("id-" + name);
              }));
        }
        CompletableFuture.allOf(answers.toArray(CompletableFuture[]::new))
            .get(120, TimeUnit.SECONDS);
      }
      System.out.println("isolation: " + requests + " requests, " + concurrent + " at a time");
    }
  }

  private static String actors(HttpExchange exchange) {
    return RequestContext.of(exchange).get(ACTOR).orElseThrow().name() + " "
        + exchange.getAttribute("actor");
  }
}
