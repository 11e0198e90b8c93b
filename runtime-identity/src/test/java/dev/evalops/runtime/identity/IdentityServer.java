package dev.evalops.runtime.identity;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.function.Function;

/** An identity service on a real socket. It gives the answers that it was told, the last one for ever. */
final class IdentityServer implements AutoCloseable {
  static {
    System.setProperty(
        "sun.net.httpserver.nodelay", "true"); // or each answer waits 40 ms for Nagle's algorithm
  }

  record Request(String method, String path, Headers headers, String body) {
    String header(String name) {
      return headers.getFirst(name);
    }
  }

  record Answer(int status, String body, Map<String, String> headers) {
    static Answer of(int status, String body) {
      return new Answer(status, body, Map.of());
    }
  }

  private final HttpServer server;
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final List<Request> requests = new CopyOnWriteArrayList<>();
  private final Deque<Function<Request, Answer>> answers = new ArrayDeque<>();

  IdentityServer() throws IOException {
    server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 1024);
    server.setExecutor(threads);
    server.createContext("/", this::answer);
    server.start();
  }

  IdentityServer then(Function<Request, Answer> answer) {
    synchronized (answers) {
      answers.add(answer);
    }
    return this;
  }

  IdentityServer then(int status, String body) {
    return then(request -> Answer.of(status, body));
  }

  /** From now on. */
  IdentityServer only(int status, String body) {
    synchronized (answers) {
      answers.clear();
    }
    return then(status, body);
  }

  String url(String path) {
    return "http://localhost:" + server.getAddress().getPort() + path;
  }

  String url() {
    return url("/v1/introspect");
  }

  List<Request> requests() {
    return requests;
  }

  Request request() {
    return requests.get(requests.size() - 1);
  }

  private void answer(HttpExchange exchange) throws IOException {
    Request request = new Request(
        exchange.getRequestMethod(),
        exchange.getRequestURI().toString(),
        exchange.getRequestHeaders(),
        new String(exchange.getRequestBody().readAllBytes(), UTF_8));
    requests.add(request);
    Function<Request, Answer> next;
    synchronized (answers) {
      next = answers.size() > 1 ? answers.remove() : answers.element();
    }
    Answer answer = next.apply(request);
    byte[] body = answer.body.getBytes(UTF_8);
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    answer.headers.forEach(exchange.getResponseHeaders()::set);
    exchange.sendResponseHeaders(answer.status, body.length == 0 ? -1 : body.length);
    if (body.length > 0) {
      exchange.getResponseBody().write(body);
    }
    exchange.close();
  }

  @Override
  public void close() {
    server.stop(0);
    threads.shutdownNow();
  }
}
