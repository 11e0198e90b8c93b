package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.fixtures.CapturedLog;
import dev.evalops.fixtures.RawClient;
import dev.evalops.fixtures.TestCertificates;
import java.io.EOFException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.ConnectException;
import java.net.Socket;
import java.net.SocketException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLContext;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

@Timeout(120)
class DrainTest {
  private static final String GET = "GET /work HTTP/1.1\r\nHost: x\r\n\r\n";

  @ParameterizedTest
  @CsvSource({"21, 2", "24, 2", "24, 1"})
  void answersEveryAcceptedRequest_whenClosedUnderLoad(int javaFeature, int processors)
      throws Exception {
    closeUnderLoad(5, javaFeature, processors, false);
  }

  @Test
  void answersEveryAcceptedRequest_whenClosedUnderLoadWithTls() throws Exception {
    closeUnderLoad(3, 24, 2, true);
  }

  @Test
  @Tag("soak")
  void answersEveryAcceptedRequest_whenClosedUnderLoadAgainAndAgain() throws Exception {
    closeUnderLoad(100, 24, 2, false);
    closeUnderLoad(100, 24, 1, false);
    closeUnderLoad(30, 21, 2, false);
    closeUnderLoad(30, 24, 1, true);
  }

  private static void closeUnderLoad(int rounds, int javaFeature, int processors, boolean tls)
      throws Exception {
    int answered = 0;
    for (int round = 0; round < rounds; round++) {
      answered += closeUnderLoad(javaFeature, processors, tls);
    }
    System.out.println("drain: " + rounds + " rounds, " + answered + " answered, none lost, Java "
        + javaFeature + ", " + processors + " processors" + (tls ? ", TLS" : ""));
  }

  /** Each client sends on one connection until it is told that the connection ends; none may see it end before that. */
  private static int closeUnderLoad(int javaFeature, int processors, boolean tls) throws Exception {
    int clients = 32;
    AtomicInteger answered = new AtomicInteger();
    CountDownLatch warm = new CountDownLatch(clients * 20);
    HttpService.Builder builder = HttpService.builder(0)
        .javaFeature(javaFeature)
        .processors(processors)
        .handle("/work", (HttpService.Handler) exchange -> {
          long slow = ThreadLocalRandom.current().nextInt(20) == 0 ? 20 : 1;
          TimeUnit.MICROSECONDS.sleep(ThreadLocalRandom.current().nextInt(2000) * slow);
          HttpResponses.json(exchange, 200, "done");
        });
    if (tls) {
      builder.tls(TestCertificates.server(), HttpService.ClientCertificates.REQUIRED);
    }
    try (ExecutorService pool = Executors.newCachedThreadPool();
        HttpService service = builder.start()) {
      // A request has a few seconds from the first byte of its handshake (the build says so):
      // one by one, and all but the first resume its session.
      SSLContext context = TestCertificates.client(true);
      List<RawClient> connected = new ArrayList<>();
      for (int i = 0; i < clients; i++) {
        RawClient client = tls
            ? new RawClient(TestCertificates.socket(service.port(), context))
            : new RawClient(service.port());
        assertThat(client.get("/work").status()).isEqualTo(200);
        connected.add(client);
      }
      CompletableFuture<?>[] all = connected.stream()
          .map(client ->
              CompletableFuture.runAsync(() -> askUntilClosed(client, answered, warm), pool))
          .toArray(CompletableFuture[]::new);
      assertThat(warm.await(60, TimeUnit.SECONDS)).isTrue();
      service.close();
      CompletableFuture.allOf(all).get(20, TimeUnit.SECONDS);
    }
    return answered.get();
  }

  private static void askUntilClosed(
      RawClient client, AtomicInteger answered, CountDownLatch warm) {
    try (client) {
      RawClient.Response response;
      do {
        response = client.get("/work");
        assertThat(response.status()).isEqualTo(200);
        answered.incrementAndGet();
        warm.countDown();
      } while (!response.header("Connection").equals(Optional.of("close")));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** A service whose requests wait until they are let go. */
  private static final class Held implements AutoCloseable {
    final CountDownLatch entered = new CountDownLatch(1);
    final CountDownLatch go = new CountDownLatch(1);
    final HttpService service;

    Held(Duration drain) {
      service = HttpService.builder(0)
          .drainTimeout(drain)
          .handle("/work", (HttpService.Handler) exchange -> {
            entered.countDown();
            if (!go.await(60, TimeUnit.SECONDS)) {
              throw new IllegalStateException("was not let go");
            }
            HttpResponses.json(exchange, 200, "done");
          })
          .handle("/quick", exchange -> HttpResponses.json(exchange, 200, "done"))
          .start();
    }

    CompletableFuture<Void> closeInBackground() {
      CompletableFuture<Void> closed = CompletableFuture.runAsync(service::close);
      await().until(this::refuses);
      return closed;
    }

    private boolean refuses() throws IOException {
      try (Socket socket = new Socket("localhost", service.port())) {
        return false;
      } catch (ConnectException e) {
        return true;
      } catch (SocketException e) { // it was in the queue of the listener that closes
        return false;
      }
    }

    @Override
    public void close() {
      go.countDown();
      service.close();
    }
  }

  @Test
  void refusesNewConnections_andAnswersOnOpenOnes() throws Exception {
    try (Held held = new Held(Duration.ofMinutes(10));
        RawClient working = new RawClient(held.service.port());
        RawClient idle = new RawClient(held.service.port())) {
      assertThat(idle.get("/quick").header("Connection")).isEmpty();
      working.send(GET);
      assertThat(held.entered.await(20, TimeUnit.SECONDS)).isTrue();
      CompletableFuture<Void> closed = held.closeInBackground();

      assertThat(idle.get("/quick").header("Connection")).contains("close");
      assertThat(closed).isNotDone();
      held.go.countDown();
      RawClient.Response last = working.read();
      assertThat(last.status()).isEqualTo(200);
      assertThat(last.header("Connection")).contains("close");
      closed.get(20, TimeUnit.SECONDS);
    }
  }

  @Test
  void waitsForEver_whenToldTo() throws Exception {
    try (Held held = new Held(Duration.ofSeconds(Long.MAX_VALUE));
        RawClient working = new RawClient(held.service.port())) {
      working.send(GET);
      assertThat(held.entered.await(20, TimeUnit.SECONDS)).isTrue();
      CompletableFuture<Void> closed = held.closeInBackground();
      assertThat(closed).isNotDone();
      held.go.countDown();
      assertThat(working.read().header("Connection")).contains("close");
      closed.get(20, TimeUnit.SECONDS);
      assertThat(held.refuses()).isTrue();
    }
  }

  @Test
  void answersARequestOfWhichOnlyAPartHadArrived() throws Exception {
    try (Held held = new Held(Duration.ofMinutes(10));
        RawClient working = new RawClient(held.service.port());
        RawClient late = new RawClient(held.service.port())) {
      late.send("GET /quick HT");
      working.send(GET);
      assertThat(held.entered.await(20, TimeUnit.SECONDS)).isTrue();
      CompletableFuture<Void> closed = held.closeInBackground();
      assertThat(late.send("TP/1.1\r\nHost: x\r\n\r\n").read().status()).isEqualTo(200);
      held.go.countDown();
      assertThat(working.read().status()).isEqualTo(200);
      closed.get(20, TimeUnit.SECONDS);
    }
  }

  @Test
  void doesNotWaitForWhoNeverFinishesARequest() throws Exception {
    try (Held held = new Held(Duration.ofMinutes(10));
        RawClient slow = new RawClient(held.service.port())) {
      slow.send("GET /quick HT");
      held.service.close();
      slow.drainUntilCut();
    }
  }

  @Test
  void doesNotWaitForWhoSendsABodyThatNobodyReads() throws Exception {
    HttpService service = HttpService.builder(0)
        .drainTimeout(Duration.ofMinutes(10))
        .handle("/work", exchange -> HttpResponses.json(exchange, 200, "done"))
        .start();
    try (RawClient slow = new RawClient(service.port())) {
      slow.send("POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx");
      assertThat(slow.read().status()).isEqualTo(200);
      service.close();
      slow.drainUntilCut();
    }
  }

  @Test
  void doesNotWaitForRequestsThatAreLongGone() throws Exception {
    HttpService service = HttpService.builder(0)
        .drainTimeout(Duration.ofMinutes(10))
        .handle("/work", (HttpService.Handler) exchange -> {
          exchange.sendResponseHeaders(200, 0);
          exchange.getResponseBody().write(new byte[100_000]);
          throw new IllegalStateException("the server's own counter leaks");
        })
        .start();
    try (CapturedLog quiet = new CapturedLog(Guard.class)) {
      for (int i = 0; i < 5; i++) {
        try (RawClient client = new RawClient(service.port())) {
          client.send(GET);
          if (i % 2 == 0) {
            client.socket().setSoLinger(true, 0);
          } else {
            assertThatThrownBy(client::read).isInstanceOf(EOFException.class);
          }
        }
      }
      service.close();
    }
  }

  @Test
  void cutsOffWhatIsLeft_atTheEndOfItsTime() throws Exception {
    try (CapturedLog quiet = new CapturedLog(Guard.class);
        CapturedLog log = new CapturedLog(HttpService.class);
        Held held = new Held(Duration.ofMillis(300));
        RawClient client = new RawClient(held.service.port())) {
      client.send(GET);
      assertThat(held.entered.await(20, TimeUnit.SECONDS)).isTrue();
      held.service.close();
      assertThatThrownBy(client::read).isInstanceOf(IOException.class);
      assertThat(log.messages()).contains("WARN http service stopped");
      assertThat(CapturedLog.keyValues(log.events().get(log.events().size() - 1)))
          .containsEntry("requests_cut", 1);
    }
  }

  @Test
  void cutsOffAtOnce_whenInterrupted() throws Exception {
    try (CapturedLog quiet = new CapturedLog(Guard.class);
        Held held = new Held(Duration.ofMinutes(10));
        RawClient client = new RawClient(held.service.port())) {
      client.send(GET);
      assertThat(held.entered.await(20, TimeUnit.SECONDS)).isTrue();
      AtomicBoolean kept = new AtomicBoolean();
      Thread closing = Thread.ofPlatform().start(() -> {
        held.service.close();
        kept.set(Thread.currentThread().isInterrupted());
      });
      await().until(held::refuses);
      closing.interrupt();
      closing.join(20_000);
      assertThat(kept).isTrue();
      assertThatThrownBy(client::read).isInstanceOf(IOException.class);
    }
  }

  @Test
  void closesOnce_howeverOftenAndByWhomever() throws Exception {
    try (CapturedLog log = new CapturedLog(HttpService.class);
        Held held = new Held(Duration.ofSeconds(10))) {
      CompletableFuture<Void> other = CompletableFuture.runAsync(held.service::close);
      held.service.close();
      held.service.close();
      other.get(20, TimeUnit.SECONDS);
      assertThat(log.messages())
          .containsExactly("INFO http service started", "INFO http service stopped");
    }
  }

  @Test
  void saysItIsNotReady_beforeItRefusesConnections() throws Exception {
    HttpService service = HttpService.builder(0)
        .readinessDelay(Duration.ofMinutes(10))
        .handle(
            "/readyz",
            exchange -> HttpResponses.json(
                exchange, RequestContext.of(exchange).draining() ? 503 : 200, "ready"))
        .start();
    try (RawClient probe = new RawClient(service.port())) {
      assertThat(probe.get("/readyz").body()).isEqualTo("\"ready\"\n");
    }
    Thread closing = Thread.ofPlatform().start(service::close);
    try (CapturedLog quiet = new CapturedLog(Guard.class)) {
      await().untilAsserted(() -> {
        try (RawClient probe = new RawClient(service.port())) {
          RawClient.Response response = probe.get("/readyz");
          assertThat(response.status()).isEqualTo(503);
          assertThat(response.header("Connection")).contains("close");
        }
      });
    }
    closing.interrupt();
    closing.join(20_000);
    assertThat(closing.isAlive()).isFalse();
  }
}
