package dev.evalops.hook;

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;

/** A governance service that decides as it is told. */
public final class Governance implements AutoCloseable {
  private final HttpServer server;
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final AtomicInteger requests = new AtomicInteger();
  private final CountDownLatch closed = new CountDownLatch(1);
  private volatile String decision = "ACTION_DECISION_ALLOW";
  private volatile boolean holds;

  private Governance(HttpServer server) {
    this.server = server;
  }

  public static Governance start() throws IOException {
    HttpServer server =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    Governance governance = new Governance(server);
    server.setExecutor(governance.threads);
    server.createContext("/", exchange -> {
      exchange.getRequestBody().readAllBytes();
      governance.requests.incrementAndGet();
      if (governance.holds) {
        try {
          governance.closed.await();
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
        }
      }
      byte[] answer = ("{\"evaluation\":{\"decision\":\"" + governance.decision
              + "\",\"reasons\":[\"policy\"]}}")
          .getBytes(StandardCharsets.UTF_8);
      exchange.getResponseHeaders().set("Content-Type", "application/json");
      exchange.sendResponseHeaders(200, answer.length);
      exchange.getResponseBody().write(answer);
      exchange.close();
    });
    server.start();
    return governance;
  }

  public String url() {
    return "http://127.0.0.1:" + server.getAddress().getPort();
  }

  public int requests() {
    return requests.get();
  }

  public void decide(String newDecision) {
    decision = newDecision;
  }

  /** Answers no request any more. */
  public void hold() {
    holds = true;
  }

  @Override
  public void close() {
    closed.countDown();
    server.stop(0);
    threads.shutdownNow();
  }
}
