package dev.evalops.runtime.auth;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

class IsolationTest {
  /** Before Java 24 a service answers at most 256 requests at once. */
  private static final int AT_ONCE = Runtime.version().feature() < 24 ? 250 : 4000;

  @Test
  void tenThousandConcurrentRequestsNeverGetEachOthersActor() throws Exception {
    run(500, 10_000);
  }

  @Test
  @Tag("soak")
  void aHundredThousandConcurrentRequestsNeverGetEachOthersActor() throws Exception {
    run(4000, 100_000);
  }

  /**
   * All requests of a wave are verified at the same time, and are in their handlers at the same time; each looks at its
   * caller before and after all others have come. One in ten has an API key, and one in ten goes where nobody is asked.
   */
  private static void run(int wanted, int total) throws Exception {
    int concurrent = Math.min(wanted, AT_ONCE);
    CyclicBarrier inVerifiers = new CyclicBarrier(concurrent - concurrent / 10);
    CyclicBarrier inHandlers = new CyclicBarrier(concurrent);
    Auth auth = Auth.builder()
        .tokens((token, scopes) -> {
          inVerifiers.await(60, TimeUnit.SECONDS);
          Actor actor =
              new Actor("user", token, "org-" + token, Map.of("workspace", "ws-" + token));
          return Optional.of(VerifiedToken.of(actor, Set.of("read", "scope-" + token)));
        })
        .apiKeys(key -> {
          inVerifiers.await(60, TimeUnit.SECONDS);
          return Optional.of(new ApiKey(
              key, "org-" + key, Set.of("read", "scope-" + key), Map.of("workspace", "ws-" + key)));
        })
        .build();
    HttpService.Handler handler = exchange -> {
      String before = caller(exchange);
      inHandlers.await(60, TimeUnit.SECONDS);
      HttpResponses.json(exchange, 200, List.of(before, caller(exchange)));
    };
    int requests = 0;
    try (HttpService service = HttpService.builder(0)
            .maxInFlight(concurrent)
            .handle("/auth", handler, auth.require("read"))
            .handle("/open", handler)
            .start();
        HttpClient client = HttpClient.newHttpClient()) {
      while (requests < total) {
        List<CompletableFuture<Void>> answers = new ArrayList<>();
        for (int i = 0; i < concurrent; i++) {
          boolean open = i % 10 == 9;
          String token = (i % 10 == 0 ? "pk_" : "t") + requests++;
          HttpRequest request = HttpRequest.newBuilder(
                  service.uri().resolve(open ? "/open" : "/auth"))
              .header("Authorization", "Bearer " + token)
              .build();
          String expected =
              open ? "nobody" : token + " org-" + token + " ws-" + token + " true " + token;
          answers.add(client
              .sendAsync(request, HttpResponse.BodyHandlers.ofString())
              .thenAccept(response -> assertThat(response.body())
                  .isEqualTo("[\"" + expected + "\",\"" + expected + "\"]\n")));
        }
        CompletableFuture.allOf(answers.toArray(CompletableFuture[]::new))
            .get(120, TimeUnit.SECONDS);
      }
    }
    System.out.println("isolation of callers: " + requests + " requests, " + concurrent
        + " at a time, none got another's");
  }

  private static String caller(HttpExchange exchange) {
    Optional<Actor> actor = Actor.find(exchange);
    if (actor.isEmpty()) {
      return "nobody";
    }
    Principal principal = Principal.of(exchange);
    return String.join(
        " ",
        Actor.of(exchange).id(),
        principal.organizationId(),
        principal.workspaceId().orElseThrow(),
        Boolean.toString(principal.hasScope("scope-" + actor.get().id())),
        exchange.getPrincipal().getUsername());
  }
}
