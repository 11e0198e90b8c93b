package dev.evalops.examples.notes;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * The page of {@code make run}: it creates notes, shows what the service answers, and stops and starts the servers
 * beside it. It calls the service as any client does; the service knows nothing of it. For this machine alone.
 */
final class LivePage implements AutoCloseable {
  /** Of all that the page asks again and again. */
  static final String REQUEST_ID = "live-page";

  private static final Map<String, String> QUESTIONS = Map.of(
      "ready", "/readyz",
      "metrics", "/metrics",
      "feed", "/v1/feed?limit=20",
      "limit", "/v1/notes?limit=1");
  private static final Duration TIMEOUT = Duration.ofSeconds(20);
  private static final int AT_ONCE = 40;

  private final HttpClient client = HttpClient.newHttpClient();
  private final URI service;
  private final String token;
  private final Map<String, Server> servers;
  private final String html;
  private final HttpService http;

  /** A server beside the service, and how to stop and to start it. */
  record Server(Runnable stop, Runnable start, AtomicBoolean up) {
    Server(Runnable stop, Runnable start) {
      this(stop, start, new AtomicBoolean(true));
    }

    synchronized void turn(boolean on) {
      if (up.get() == on) {
        return;
      }
      up.set(false);
      (on ? start : stop).run();
      up.set(on);
    }
  }

  private record Answer(int status, String body, Map<String, String> headers) {}

  private LivePage(int port, URI service, String token, Map<String, Server> servers)
      throws IOException {
    this.service = service;
    this.token = token;
    this.servers = servers;
    try (InputStream in = LivePage.class.getResourceAsStream("live-page.html")) {
      html = new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
    http = HttpService.builder(port)
        .host("127.0.0.1")
        .drainTimeout(Duration.ZERO)
        .filters(
            Filter.beforeHandler("own host", this::refuseOtherHosts), HttpFilters.browserGuards())
        .handle("GET /", this::page)
        .handle("GET /servers", this::servers)
        .handle("GET /service/{question}", this::ask)
        .handle("POST /notes", this::create)
        .handle("POST /burst", this::burst)
        .handle("POST /servers/{name}/{action}", this::turn)
        .start();
  }

  /** Serves the page; the token is that of a person who may read and write notes. */
  static LivePage start(int port, URI service, String token, Map<String, Server> servers)
      throws IOException {
    return new LivePage(port, service, token, servers);
  }

  URI url() {
    return URI.create("http://127.0.0.1:" + http.port() + "/");
  }

  /** So that no page of another name that leads here, as by DNS rebinding, can use this one. */
  private void refuseOtherHosts(HttpExchange exchange) {
    if (!url().getAuthority().equals(exchange.getRequestHeaders().getFirst("Host"))) {
      throw ServiceException.of(ErrorCode.FORBIDDEN, "only " + url());
    }
  }

  private void page(HttpExchange exchange) throws IOException {
    if (!exchange.getRequestURI().getPath().equals("/")) {
      throw ServiceException.of(ErrorCode.NOT_FOUND);
    }
    String nonce = UUID.randomUUID().toString();
    exchange
        .getResponseHeaders()
        .set(
            "Content-Security-Policy",
            "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
                + " frame-ancestors 'none';"
                + " script-src 'nonce-" + nonce + "'; style-src 'nonce-" + nonce + "'");
    HttpResponses.bytes(
        exchange,
        200,
        "text/html; charset=utf-8",
        html.replace("{nonce}", nonce).getBytes(StandardCharsets.UTF_8));
  }

  /** Which of the servers are up. */
  private void servers(HttpExchange exchange) throws IOException {
    HttpResponses.json(
        exchange,
        200,
        servers.entrySet().stream()
            .collect(
                Collectors.toMap(Map.Entry::getKey, each -> each.getValue().up.get())));
  }

  private void ask(HttpExchange exchange) throws IOException {
    String path = QUESTIONS.get(HttpRequests.pathValue(exchange, "question"));
    if (path == null) {
      throw ServiceException.of(ErrorCode.NOT_FOUND, "no such question");
    }
    HttpResponses.json(exchange, 200, ask(path).join());
  }

  private void create(HttpExchange exchange) throws IOException {
    String key = exchange.getRequestHeaders().getFirst("Idempotency-Key");
    HttpRequest request = request("/v1/notes")
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", key == null ? "" : key)
        .POST(BodyPublishers.ofByteArray(exchange.getRequestBody().readAllBytes()))
        .build();
    Answer answer = send(request).join();
    Optional.ofNullable(answer.headers.get("retry-after"))
        .ifPresent(seconds -> exchange.getResponseHeaders().set("Retry-After", seconds));
    HttpResponses.bytes(
        exchange,
        answer.status == 0 ? 504 : answer.status,
        "application/json",
        answer.body.getBytes(StandardCharsets.UTF_8));
  }

  /** Asks for notes many times at once and counts the answers. */
  private void burst(HttpExchange exchange) throws IOException {
    List<CompletableFuture<Answer>> answers =
        Stream.generate(() -> ask(QUESTIONS.get("limit"))).limit(AT_ONCE).toList();
    long limited = answers.stream().filter(each -> each.join().status == 429).count();
    HttpResponses.json(
        exchange, 200, Map.of("limited", limited, "allowed", answers.size() - limited));
  }

  private void turn(HttpExchange exchange) throws IOException {
    Server server = servers.get(HttpRequests.pathValue(exchange, "name"));
    if (server == null) {
      throw ServiceException.of(ErrorCode.NOT_FOUND, "no such server");
    }
    switch (HttpRequests.pathValue(exchange, "action")) {
      case "start" -> server.turn(true);
      case "stop" -> server.turn(false);
      default -> throw ServiceException.of(ErrorCode.NOT_FOUND, "no such action");
    }
    HttpResponses.noContent(exchange);
  }

  private CompletableFuture<Answer> ask(String path) {
    return send(request(path).header("X-Request-Id", REQUEST_ID).build());
  }

  private HttpRequest.Builder request(String path) {
    return HttpRequest.newBuilder(service.resolve(path))
        .timeout(TIMEOUT)
        .header("Authorization", "Bearer " + token);
  }

  /** The answer; one with status 0 if there is none in time. */
  private CompletableFuture<Answer> send(HttpRequest request) {
    return client
        .sendAsync(request, BodyHandlers.ofString())
        .handle((answer, failure) -> failure == null
            ? new Answer(answer.statusCode(), answer.body(), headers(answer))
            : new Answer(0, "", Map.of()));
  }

  private static Map<String, String> headers(HttpResponse<?> answer) {
    Map<String, String> headers = new TreeMap<>();
    Consumer<String> copy =
        name -> answer.headers().firstValue(name).ifPresent(value -> headers.put(name, value));
    Stream.of("ratelimit", "ratelimit-policy", "retry-after").forEach(copy);
    return headers;
  }

  @Override
  public void close() {
    http.close();
    client.shutdownNow();
  }
}
