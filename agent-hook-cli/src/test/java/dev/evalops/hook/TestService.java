package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import javax.net.ssl.SSLContext;
import tools.jackson.databind.JsonNode;

/**
 * Both services on one real server. Answers each procedure with the next of its answers, and with the last for ever.
 */
final class TestService implements AutoCloseable {
  static {
    System.setProperty("sun.net.httpserver.nodelay", "true");
  }

  static final String ALLOW = "{\"evaluation\":{\"decision\":\"ACTION_DECISION_ALLOW\"}}";
  static final String REQUIRE_APPROVAL =
      "{\"evaluation\":{\"decision\":\"ACTION_DECISION_REQUIRE_APPROVAL\","
          + "\"riskLevel\":\"RISK_LEVEL_HIGH\",\"reasons\":[\"prod\"],\"matchedRules\":[]}}";
  static final String CREATED = "{\"approvalRequest\":{\"id\":\"req-1\"}}";

  record Request(String path, Map<String, List<String>> headers, JsonNode body) {}

  /** What a request gets. */
  record Answer(int status, String contentType, String body) {
    static Answer json(String body) {
      return new Answer(200, "application/json", body);
    }
  }

  private final HttpServer server;
  private final String scheme;
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final Map<String, Answer[]> answers = new ConcurrentHashMap<>();
  private final Map<String, AtomicInteger> counts = new ConcurrentHashMap<>();
  private final Map<String, Function<JsonNode, Answer>> functions = new ConcurrentHashMap<>();
  private final Map<String, Runnable> afterwards = new ConcurrentHashMap<>();
  final List<Request> requests = new CopyOnWriteArrayList<>();

  TestService() throws IOException {
    this(HttpServer.create(address(), 0), "http");
  }

  TestService(SSLContext context) throws IOException {
    this(https(context), "https");
  }

  private static HttpServer https(SSLContext context) throws IOException {
    HttpsServer server = HttpsServer.create(address(), 0);
    server.setHttpsConfigurator(new HttpsConfigurator(context));
    return server;
  }

  private TestService(HttpServer server, String scheme) {
    this.server = server;
    this.scheme = scheme;
    server.setExecutor(threads);
    server.createContext("/", this::handle);
    server.start();
  }

  private static InetSocketAddress address() {
    return new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
  }

  String url() {
    return scheme + "://127.0.0.1:" + server.getAddress().getPort();
  }

  TestService evaluate(String... bodies) {
    return on(GovernanceCheck.EVALUATE, bodies);
  }

  TestService on(String procedure, String... bodies) {
    Answer[] all = new Answer[bodies.length];
    for (int i = 0; i < bodies.length; i++) {
      all[i] = Answer.json(bodies[i]);
    }
    return on(procedure, all);
  }

  TestService on(String procedure, Answer... all) {
    answers.put(procedure, all);
    return this;
  }

  /** Answers what depends on the question. */
  TestService on(String procedure, Function<JsonNode, Answer> function) {
    functions.put(procedure, function);
    return this;
  }

  /** Does something once this procedure has been answered. */
  void after(String procedure, Runnable action) {
    afterwards.put(procedure, action);
  }

  List<Request> requests(String procedure) {
    return requests.stream().filter(request -> request.path().equals(procedure)).toList();
  }

  private void handle(HttpExchange exchange) throws IOException {
    byte[] body = exchange.getRequestBody().readAllBytes();
    String path = exchange.getRequestURI().getRawPath();
    JsonNode question = Vectors.JSON.readTree(body);
    requests.add(new Request(path, Map.copyOf(exchange.getRequestHeaders()), question));
    Answer[] all =
        answers.getOrDefault(path, new Answer[] {new Answer(404, "text/plain", "no such page")});
    int index = counts.computeIfAbsent(path, key -> new AtomicInteger()).getAndIncrement();
    Function<JsonNode, Answer> function = functions.get(path);
    Answer answer =
        function == null ? all[Math.min(index, all.length - 1)] : function.apply(question);
    byte[] bytes = answer.body.getBytes(UTF_8);
    exchange.getResponseHeaders().set("Content-Type", answer.contentType);
    if (answer.status / 100 == 3) {
      exchange.getResponseHeaders().set("Location", url() + "/elsewhere");
    }
    exchange.sendResponseHeaders(answer.status, bytes.length == 0 ? -1 : bytes.length);
    exchange.getResponseBody().write(bytes);
    exchange.close();
    afterwards.getOrDefault(path, () -> {}).run();
  }

  @Override
  public void close() {
    server.stop(0);
    threads.shutdownNow();
  }
}
