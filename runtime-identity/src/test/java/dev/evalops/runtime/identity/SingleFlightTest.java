package dev.evalops.runtime.identity;

import static dev.evalops.runtime.identity.Failures.failure;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.identity.IdentityException.Reason;
import dev.evalops.runtime.identity.IdentityServer.Answer;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class SingleFlightTest {
  private final CountDownLatch release = new CountDownLatch(1);
  private final List<Thread> callers = new ArrayList<>();
  private final Queue<Object> results = new ConcurrentLinkedQueue<>();
  private IdentityServer server;
  private IdentityClient client;

  @BeforeEach
  void start() throws IOException {
    server = new IdentityServer();
    client = IdentityClient.builder(server.url())
        .serviceTokens(server.url("/v1/tokens"))
        .bootstrapKey("boot")
        .requestTimeout(Duration.ofSeconds(60))
        .open();
  }

  @AfterEach
  void stop() throws InterruptedException {
    release.countDown();
    client.close();
    server.close();
    for (Thread caller : callers) {
      caller.join(TimeUnit.SECONDS.toMillis(20));
    }
  }

  private Function<IdentityServer.Request, Answer> held(int status, String body) {
    return request -> {
      try {
        release.await(60, TimeUnit.SECONDS);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      return Answer.of(status, body);
    };
  }

  /** Starts callers, and comes back when all of them wait. */
  private void call(int number, Supplier<Object> call) {
    List<Thread> started = new ArrayList<>();
    for (int i = 0; i < number; i++) {
      Thread caller = new Thread(null, () -> results.add(outcome(call)), "caller", 128 * 1024);
      started.add(caller);
      caller.start();
    }
    callers.addAll(started);
    await()
        .atMost(Duration.ofSeconds(30))
        .until(() -> started.stream()
            .allMatch(caller -> caller.getState() == Thread.State.WAITING
                && List.of(caller.getStackTrace()).toString().contains("IdentityClient.await")));
  }

  private static Object outcome(Supplier<Object> call) {
    try {
      return call.get();
    } catch (IdentityException e) {
      return e;
    }
  }

  private void awaitResults(int number) {
    await().atMost(Duration.ofSeconds(30)).until(() -> results.size() == number);
  }

  @Test
  void aThousandIntrospectionsOfOneToken_makeOneCall() {
    server.then(held(200, "{\"active\":true,\"subject\":\"one\"}"));
    call(1_000, () -> client.introspect("tok-1"));
    release.countDown();
    awaitResults(1_000);
    assertThat(server.requests()).hasSize(1);
    assertThat(Set.copyOf(results)).hasSize(1);
    assertThat(results.peek())
        .isInstanceOfSatisfying(
            Introspection.class, found -> assertThat(found.subject()).contains("one"));
  }

  @Test
  void differentTokensShareNothing() {
    server.then(request -> Answer.of(
        200, "{\"active\":true,\"subject\":\"" + request.header("Authorization") + "\"}"));
    for (int i = 0; i < 20; i++) {
      assertThat(client.introspect("tok-" + i).subject()).contains("Bearer tok-" + i);
    }
    assertThat(server.requests()).hasSize(20);
  }

  @Test
  void aFailure_isEverybodysOwn_andNotTheNextOnes() {
    server.then(held(503, "")).then(200, "{\"active\":true}");
    call(20, () -> client.introspect("tok-1"));
    release.countDown();
    awaitResults(20);
    assertThat(results)
        .allSatisfy(result -> assertThat(result)
            .isInstanceOfSatisfying(
                IdentityException.class,
                failure -> assertThat(failure.reason()).isEqualTo(Reason.UNAVAILABLE)))
        .doesNotHaveDuplicates();
    assertThat(((IdentityException) results.peek()).getStackTrace())
        .as("the stack of the caller")
        .anyMatch(frame -> frame.getClassName().equals(SingleFlightTest.class.getName()));
    assertThat(server.requests()).hasSize(1);
    assertThat(client.introspect("tok-1").active()).isTrue();
    assertThat(server.requests()).hasSize(2);
  }

  @Test
  void anInterruptedCallerLeavesAtOnce_andTheOthersGetTheirAnswer() {
    server.then(held(200, "{\"active\":true}"));
    call(1, () -> client.introspect("tok-1")); // the one that has started the call
    call(5, () -> client.introspect("tok-1"));
    callers.get(0).interrupt();
    callers.get(3).interrupt();
    awaitResults(2);
    assertThat(results)
        .allSatisfy(result -> assertThat((IdentityException) result)
            .hasMessage("identity_unavailable: identity_request: interrupted"));
    release.countDown();
    awaitResults(6);
    assertThat(results).filteredOn(Introspection.class::isInstance).hasSize(4);
    assertThat(server.requests()).hasSize(1);
  }

  @Test
  void manyCallersOfAServiceToken_makeOneCall() {
    server.then(
        held(201, "{\"token\":\"st\",\"expires_at\":\"" + Instant.now().plusSeconds(600) + "\"}"));
    call(
        200,
        () -> client.serviceToken("org-1", "billing", Set.of("a", "b"), Duration.ofMinutes(5)));
    release.countDown();
    awaitResults(200);
    assertThat(results).containsOnly("st");
    assertThat(server.requests()).hasSize(1);
  }

  @Test
  void aFailedServiceToken_isNotTheNextOnes() {
    server
        .then(held(503, ""))
        .then(201, "{\"token\":\"st\",\"expires_at\":\"" + Instant.now().plusSeconds(600) + "\"}");
    Supplier<Object> token =
        () -> client.serviceToken("org-1", "billing", Set.of(), Duration.ofMinutes(5));
    call(10, token);
    release.countDown();
    awaitResults(10);
    assertThat(server.requests()).hasSize(1);
    assertThat(failure(() -> {
          throw (IdentityException) results.peek();
        }))
        .hasMessage("issue_service_token: unexpected_status_503");
    assertThat(token.get()).isEqualTo("st");
  }
}
