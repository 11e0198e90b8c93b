package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpFilters.ForwardingExchange;
import dev.evalops.runtime.http.RequestContext.Suspension;
import java.io.EOFException;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SuspensionTest {
  /** A request that waits for its answer. */
  private record Pending(HttpExchange exchange, Suspension suspension) {}

  private final BlockingQueue<Pending> pending = new LinkedBlockingQueue<>();
  private final List<Integer> completed = new CopyOnWriteArrayList<>();
  private CapturedLog log;

  @BeforeEach
  void capture() {
    log = new CapturedLog(Guard.class);
  }

  @AfterEach
  void release() {
    log.close();
  }

  private HttpService serve(HttpService.Handler handler, Filter... filters) {
    return HttpService.builder(0)
        .filters(HttpFilters.requestId(), Filter.beforeHandler("completed", exchange -> {
          RequestContext context = RequestContext.of(exchange);
          context.onComplete(() -> completed.add(context.status()));
        }))
        .handle("/x", handler, filters)
        .start();
  }

  private void suspend(HttpExchange exchange) {
    pending.add(new Pending(exchange, RequestContext.suspend(exchange)));
  }

  @Test
  void answersWhenResumed_onceAndWithWhatWasAnsweredFirst() throws Exception {
    try (HttpService service = serve(this::suspend);
        RawClient client = new RawClient(service.port())) {
      for (int i = 0; i < 2; i++) {
        client.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
        Pending request = pending.take();
        HttpResponses.json(request.exchange, 201, "late");
        request.suspension.resume(null);
        request.suspension.resume(new IllegalStateException("too late"));
        RawClient.Response response = client.read();
        assertThat(response.status()).isEqualTo(201);
        assertThat(response.body()).isEqualTo("\"late\"\n");
        assertThat(response.header("X-Request-Id")).isPresent();
      }
    }
    assertThat(completed).containsExactly(201, 201);
    assertThat(log.messages()).isEmpty();
  }

  @Test
  void answersWhenTheHandlerReturns_whenItHasResumedAlready() throws Exception {
    CountDownLatch returns = new CountDownLatch(1);
    try (HttpService service = serve(exchange -> {
          Suspension suspension = RequestContext.suspend(exchange);
          HttpResponses.json(exchange, 201, "at once");
          suspension.resume(null);
          assertThat(completed).isEmpty();
          returns.countDown();
        });
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/x").status()).isEqualTo(201);
      returns.await();
    }
    assertThat(completed).containsExactly(201);
  }

  @Test
  void answersFailuresAsIfTheHandlerHadThrownThem() throws Exception {
    try (HttpService service = serve(this::suspend);
        RawClient client = new RawClient(service.port())) {
      client.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
      pending.take().suspension.resume(ServiceException.of(ErrorCode.CONFLICT, "taken"));
      assertThat(client.read().body())
          .isEqualTo("{\"error\":{\"code\":\"conflict\",\"message\":\"taken\"}}\n");
      client.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
      pending.take().suspension.resume(null); // nothing has been answered
      assertThat(client.read().status()).isEqualTo(500);
    }
    assertThat(completed).containsExactly(409, 500);
  }

  @ParameterizedTest
  @ValueSource(longs = {0, 30_000})
  void cutsTheConnection_whenItFailsAfterTheResponseHasBegun(long length) throws Exception {
    try (HttpService service = serve(this::suspend);
        RawClient client = new RawClient(service.port())) {
      client.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
      Pending request = pending.take();
      request.exchange.sendResponseHeaders(200, length);
      request.exchange.getResponseBody().write(new byte[20_000]);
      request.exchange.getResponseBody().flush();
      request.suspension.resume(new IllegalStateException("half-way"));
      assertThatThrownBy(client::read).isInstanceOf(EOFException.class);
    }
    assertThat(completed).containsExactly(-1);
    assertThat(log.messages()).containsExactly("ERROR http panic recovered");
  }

  @Test
  void takesAClientForGone_whenItIsToldSo() throws Exception {
    try (HttpService service = serve(this::suspend);
        RawClient client = new RawClient(service.port())) {
      client.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
      pending.take().suspension.abandon(new IOException("reset"));
      assertThatThrownBy(client::read).isInstanceOf(EOFException.class);
    }
    assertThat(completed).containsExactly(-1);
    assertThat(log.messages()).containsExactly("DEBUG http client went away");
  }

  @Test
  void answersWhatTheHandlerThrows_afterItHasSuspended() throws Exception {
    try (HttpService service = serve(exchange -> {
          suspend(exchange);
          throw ServiceException.of(ErrorCode.CONFLICT);
        });
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/x").status()).isEqualTo(409);
      pending.take().suspension.resume(null);
    }
    assertThat(completed).containsExactly(409);
  }

  @Test
  void refusesAnExchangeThatAFilterHasWrapped_andASecondTime() throws Exception {
    CompletableFuture<Throwable> twice = new CompletableFuture<>();
    Filter wrapping = new Filter() {
      @Override
      public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
        chain.doFilter(new ForwardingExchange(exchange) {}.forChain());
      }

      @Override
      public String description() {
        return "wraps";
      }
    };
    try (HttpService wrapped = serve(this::suspend, wrapping);
        HttpService service = serve(exchange -> {
          suspend(exchange);
          try {
            suspend(exchange);
          } catch (IllegalStateException e) {
            twice.complete(e);
          }
          HttpResponses.noContent(exchange);
          pending.take().suspension.resume(null);
        });
        RawClient client = new RawClient(wrapped.port());
        RawClient other = new RawClient(service.port())) {
      assertThat(client.get("/x").status()).isEqualTo(500);
      assertThat(log.events().getFirst().getThrowableProxy().getMessage())
          .contains("a filter has wrapped the exchange");
      assertThat(other.get("/x").status()).isEqualTo(204);
      assertThat(twice.get()).hasMessage("the request is suspended already");
    }
  }

  @Test
  void isWaitedFor_whenTheServiceCloses() throws Exception {
    HttpService service = serve(this::suspend);
    try (RawClient client = new RawClient(service.port())) {
      client.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
      Pending request = pending.take();
      Thread closing = Thread.ofVirtual().start(service::close);
      await().until(() -> RequestContext.of(request.exchange).draining());
      await().until(() -> cannotConnect(service));
      HttpResponses.json(request.exchange, 200, "last");
      assertThat(closing.isAlive()).isTrue();
      request.suspension.resume(null);
      assertThat(client.read().body()).isEqualTo("\"last\"\n");
      closing.join();
    } finally {
      service.close();
    }
  }

  private static boolean cannotConnect(HttpService service) {
    try (RawClient client = new RawClient(service.port())) {
      return false;
    } catch (IOException e) {
      return true;
    }
  }

  @ParameterizedTest
  @CsvSource({"4, 500"})
  void endsOnce_whenResumingRacesWithTheReturnOfTheHandler(int clients, int requests)
      throws Exception {
    AtomicInteger answered = new AtomicInteger();
    try (HttpService service = serve(exchange -> {
      Suspension suspension = RequestContext.suspend(exchange);
      Thread.ofVirtual().start(() -> {
        try {
          HttpResponses.json(exchange, 201, "raced");
        } catch (IOException e) {
          suspension.resume(e);
        }
        suspension.resume(null);
      });
    })) {
      CompletableFuture<?>[] all = new CompletableFuture<?>[clients];
      for (int i = 0; i < clients; i++) {
        all[i] = new CompletableFuture<>();
        CompletableFuture<?> done = all[i];
        Thread.ofPlatform().start(() -> {
          try (RawClient client = new RawClient(service.port())) {
            for (int n = 0; n < requests; n++) {
              RawClient.Response response = client.get("/x");
              if (response.status() == 201 && response.body().equals("\"raced\"\n")) {
                answered.incrementAndGet();
              }
            }
            done.complete(null);
          } catch (Throwable t) {
            done.completeExceptionally(t);
          }
        });
      }
      CompletableFuture.allOf(all).get();
    }
    assertThat(answered).hasValue(clients * requests);
    assertThat(completed).hasSize(clients * requests).containsOnly(201);
  }
}
