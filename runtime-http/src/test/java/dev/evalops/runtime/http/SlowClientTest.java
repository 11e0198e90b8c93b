package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.fixtures.CapturedLog;
import dev.evalops.fixtures.RawClient;
import dev.evalops.fixtures.TestCertificates;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The build sets sun.net.httpserver.maxReqTime and maxRspTime to a few seconds for the tests. */
class SlowClientTest {
  private static final int FEW = 64;
  /** Before Java 24 a service has 256 threads; the clients hold most of them. */
  private static final int MANY = Runtime.version().feature() < 24 ? 200 : 3000;

  /** Virtual threads before Java 24 are what two slow clients can stop. */
  private static IntStream javaFeatures() {
    return Runtime.version().feature() < 24 ? IntStream.of(21) : IntStream.of(21, 24);
  }

  private static HttpService service(int javaFeature) {
    return HttpService.builder(0)
        .javaFeature(javaFeature)
        .maxInFlight(4)
        .handle("/quick", exchange -> HttpResponses.json(exchange, 200, "ok"))
        .handle(
            "/json",
            exchange -> HttpResponses.json(exchange, 200, HttpRequests.json(exchange, Map.class)))
        .handle("/large", exchange -> {
          exchange.sendResponseHeaders(200, 0);
          for (int i = 0; i < 500; i++) {
            exchange.getResponseBody().write(new byte[8192]);
          }
        })
        .start();
  }

  @ParameterizedTest
  @MethodSource("javaFeatures")
  void servesOthers_whileHeadersArriveSlowly(int javaFeature) throws IOException {
    attack(javaFeature, FEW, "GET /quick HTTP/1.1\r\nHost: x\r\nX-Slow: ");
  }

  @ParameterizedTest
  @MethodSource("javaFeatures")
  void servesOthers_whileBodiesArriveSlowly(int javaFeature) throws IOException {
    attack(
        javaFeature,
        FEW,
        "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"a\":\"");
  }

  @ParameterizedTest
  @MethodSource("javaFeatures")
  void servesOthers_whileResponsesAreNotRead(int javaFeature) throws IOException {
    attack(javaFeature, FEW, "GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  }

  @Test
  void answersARequestThatHasArrived_howeverLateItsBodyIsRead_andLogsTheOthersAsCut()
      throws Exception {
    CountDownLatch entered = new CountDownLatch(8);
    CountDownLatch go = new CountDownLatch(1);
    HttpService.Handler deaf = exchange -> {
      entered.countDown();
      go.await();
      HttpResponses.json(exchange, 200, "done");
    };
    HttpService.Handler late = exchange -> {
      entered.countDown();
      go.await();
      HttpResponses.json(exchange, 200, HttpRequests.json(exchange, Map.class));
    };
    try (CapturedLog guard = new CapturedLog(Guard.class);
        CapturedLog log = new CapturedLog(SlowClientTest.class);
        HttpService service = HttpService.builder(0)
            .filters(HttpFilters.requestLog(log.logger()))
            .handle("/deaf", deaf)
            .handle("/late", late)
            .handle("/empty", (HttpService.Handler) exchange -> {
              entered.countDown();
              go.await();
              HttpResponses.noContent(exchange);
            })
            .start()) {
      String body = " HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
      String chunked = " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
      String long64 = "10000\r\n{\"a\":" + " ".repeat(0x10000 - 7) + "1}\r\n0\r\n\r\n";
      String long65 = "11000\r\n{\"a\":" + " ".repeat(0x11000 - 7) + "1}\r\n0\r\n\r\n";
      String declared65 =
          " HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + "x".repeat(70_000);
      List<String> whole = List.of(
          "POST /deaf" + body,
          "POST /late" + body,
          "POST /deaf" + chunked + "0\r\n\r\n",
          "POST /late" + chunked + "2\r\n{\"\r\n5\r\na\":1}\r\n0\r\n\r\n",
          "POST /late" + chunked + long64);
      List<String> cut = List.of(
          "POST /deaf" + declared65, "POST /empty" + declared65, "POST /deaf" + chunked + long65);
      List<RawClient> clients = new ArrayList<>();
      try (RawClient unfinished = new RawClient(service.port())) {
        for (String request : whole) {
          clients.add(new RawClient(service.port()).send(request));
        }
        for (String request : cut) {
          clients.add(new RawClient(service.port()).send(request));
        }
        assertThat(entered.await(20, TimeUnit.SECONDS)).isTrue();
        unfinished.send("GET /deaf HT").drainUntilCut(); // so their time is over, too
        for (RawClient client : clients.subList(whole.size(), clients.size())) {
          client.drainUntilCut();
        }
        go.countDown();
        for (int i = 0; i < whole.size(); i++) {
          assertThat(clients.get(i).read().body())
              .isEqualTo(whole.get(i).startsWith("POST /deaf") ? "\"done\"\n" : "{\"a\":1}\n");
        }
        await().until(() -> log.events().size() == clients.size());
        assertThat(log.events().stream().map(e -> CapturedLog.keyValues(e).get("status")))
            .containsExactlyInAnyOrder(200, 200, 200, 200, 200, -1, -1, -1);
        assertThat(guard.messages())
            .hasSize(3)
            .containsOnly("WARN http response cut, time limit of the server reached");
      } finally {
        for (RawClient client : clients) {
          client.close();
        }
      }
    }
  }

  @Test
  @Tag("soak")
  void servesOthers_whileThousandsAreSlow() throws IOException {
    int running = Runtime.version().feature();
    attack(running, MANY, "GET /quick HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    attack(
        running, MANY, "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"a\":\"");
    // Each fills buffers on both sides, in this process.
    attack(running, MANY / 4, "GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    System.out.println("slow clients: " + MANY + " senders, " + MANY / 4
        + " that do not read, others were served");
  }

  /** Many more slow clients than the service has places; each of them is cut in the end. */
  private static void attack(int javaFeature, int clients, String beginning) throws IOException {
    List<RawClient> slow = new ArrayList<>();
    try (CapturedLog quiet = new CapturedLog(Guard.class);
        HttpService service = service(javaFeature)) {
      for (int i = 0; i < clients; i++) {
        RawClient client = slowClient(service).send(beginning);
        slow.add(client);
        if (beginning.endsWith("\r\n\r\n")) { // until the response begins it is in flight
          assertThat(client.socket().getInputStream().read()).isEqualTo('H');
        }
      }
      try (RawClient client = new RawClient(service.port())) {
        for (int i = 0; i < 100; i++) {
          slow.get(i % clients).dripUnlessCut();
          assertThat(client.get("/quick").body()).isEqualTo("\"ok\"\n");
          assertThat(client.post("/json", "{\"a\":1}").status()).isEqualTo(200);
        }
      }
      for (RawClient each : slow) {
        each.drainUntilCut();
      }
      try (RawClient client = new RawClient(service.port())) {
        assertThat(client.get("/quick").status()).isEqualTo(200);
      }
    } finally {
      for (RawClient each : slow) {
        each.close();
      }
    }
  }

  /** With little room for what it does not read, so that thousands of them do not fill the machine's memory. */
  private static RawClient slowClient(HttpService service) throws IOException {
    Socket socket = new Socket();
    socket.setReceiveBufferSize(4096);
    socket.connect(new InetSocketAddress("localhost", service.port()));
    return new RawClient(socket);
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void stopsInTime_whenClientsDoNotRead(boolean tls) throws Exception {
    HttpService.Builder builder = HttpService.builder(0)
        .drainTimeout(java.time.Duration.ofMillis(200))
        .handle("/large", exchange -> {
          exchange.sendResponseHeaders(200, 0);
          while (true) {
            exchange.getResponseBody().write(new byte[8192]);
          }
        });
    if (tls) {
      builder.tls(TestCertificates.server(), HttpService.ClientCertificates.NONE);
    }
    List<RawClient> clients = new ArrayList<>();
    try (CapturedLog quiet = new CapturedLog(Guard.class)) {
      HttpService service = builder.start();
      for (int i = 0; i < 8; i++) {
        RawClient client = tls
            ? new RawClient(TestCertificates.socket(service.port(), TestCertificates.client(false)))
            : new RawClient(service.port());
        clients.add(client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n"));
        assertThat(client.socket().getInputStream().read()).isEqualTo('H');
      }
      try (CapturedLog log = new CapturedLog(HttpService.class)) {
        service.close();
        assertThat(log.messages()).containsExactly("WARN http service stopped");
        assertThat(CapturedLog.keyValues(log.events().get(0))).containsEntry("requests_cut", 8);
      }
      for (RawClient client : clients) {
        client.drainUntilCut();
      }
    } finally {
      for (RawClient client : clients) {
        client.close();
      }
    }
  }
}
