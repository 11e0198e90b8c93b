package dev.evalops.examples.notes;

import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.RedisServer;
import io.nats.client.Nats;
import io.nats.client.Subscription;
import java.io.IOException;
import java.net.ConnectException;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.awaitility.Awaitility;

/** What {@code make demo} and {@code make run} start: the service with real servers beside it. */
final class Demo {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final Duration POSTGRES_LATE_BY = Duration.ofSeconds(2);

  private final Console console;
  private final HttpClient client = HttpClient.newHttpClient();
  private URI base = URI.create("http://localhost");

  Demo(Console console) {
    this.console = console;
  }

  public static void main(String[] args) throws Exception {
    Demo demo = new Demo(new Console(Boolean.getBoolean("demo.terminal")));
    boolean good = switch (args[0]) {
      case "demo" -> demo.demo();
      case "run" -> demo.run();
      default -> throw new IllegalArgumentException("demo or run, not " + args[0]);
    };
    System.exit(good ? 0 : 1);
  }

  private boolean demo() throws Exception {
    try {
      scenario();
      console.plain("\nThe demo went well. Next: make run, and try it yourself.\n");
      return true;
    } catch (StepFailed e) {
      console.failed(e.what, e.why);
      return false;
    }
  }

  /** The whole demo; fails with the step that went wrong. */
  void scenario() throws Exception {
    console.title("Servers");
    try (RedisServer redis = console.working("start Redis", RedisServer::start);
        NatsServer nats = console.working("start NATS", NatsServer::start);
        ScheduledExecutorService later = Executors.newSingleThreadScheduledExecutor()) {
      int postgresPort = freePort();

      console.title("A service that starts before its database");
      long begin = System.nanoTime();
      try (ServiceProcess service = ServiceProcess.start(
          environment(
              "postgres://test:test@127.0.0.1:" + postgresPort + "/postgres",
              redis.url(),
              nats.url(),
              0),
          this::tell)) {
        console.done("start the notes service", "pid " + service.pid(), "Postgres follows in 2 s");
        Future<PostgresServer> starting = later.schedule(
            () -> PostgresServer.start(postgresPort),
            POSTGRES_LATE_BY.toMillis(),
            TimeUnit.MILLISECONDS);
        service.awaitLine(line -> line.contains("postgres: attempt 1 of 30 failed"), SOON);
        base = URI.create("http://localhost:" + service.awaitPort(SOON));
        try (PostgresServer postgres = get(starting)) {
          console.done(
              "Postgres came up, and so did the service",
              Console.seconds(Duration.ofNanos(System.nanoTime() - begin)),
              base.toString());
          notes(nats);
          trouble(redis);
          stop(service);
        }
      }
    }
  }

  private void notes(NatsServer nats) throws Exception {
    console.title("Notes");
    call("it is alive", "GET", "/healthz", "", "", 200);
    call("it is ready", "GET", "/readyz", "", "", 200);
    try (io.nats.client.Connection connection = Nats.connect(nats.url())) {
      Subscription changes = connection.subscribe("notes.changes.>");
      connection.flush(SOON);
      HttpResponse<String> created = call(
          "create a note",
          "POST",
          "/v1/notes",
          "{\"title\":\"milk\",\"body\":\"two litres\"}",
          "",
          201);
      String note = header(created, "Location");
      call("read it", "GET", note, "", "", 200);
      call(
          "update it with If-Match",
          "PUT",
          note,
          "{\"title\":\"milk\",\"body\":\"three\"}",
          header(created, "ETag"),
          200);
      call(
          "update the old version again",
          "PUT",
          note,
          "{\"title\":\"tea\"}",
          header(created, "ETag"),
          412);
      call("update without If-Match", "PUT", note, "{\"title\":\"tea\"}", "", 428);
      call("list", "GET", "/v1/notes?limit=10", "", "", 200);
      for (String subject :
          new String[] {"notes.changes.note.create", "notes.changes.note.update"}) {
        io.nats.client.Message message = changes.nextMessage(SOON);
        check(
            "hear of it on NATS", message != null && message.getSubject().equals(subject), subject);
        console.done(
            "hear of it on NATS",
            subject,
            shortened(new String(message.getData(), StandardCharsets.UTF_8), 110));
      }
    }
  }

  private void trouble(RedisServer redis) throws Exception {
    console.title("Clients that are wrong");
    call("broken JSON", "POST", "/v1/notes", "{\"title\":", "", 400);
    call("no title", "POST", "/v1/notes", "{}", "", 400);
    call(
        "a body of 2 MiB",
        "POST",
        "/v1/notes",
        "{\"title\":\"" + "x".repeat(2 << 20) + "\"}",
        "",
        413);
    call("an id that is no UUID", "GET", "/v1/notes/7", "", "", 400);
    call(
        "a note that is not there",
        "GET",
        "/v1/notes/00000000-0000-4000-8000-000000000000",
        "",
        "",
        404);
    call("a method that is not there", "DELETE", "/v1/notes", "", "", 405);
    call("a path that is not there", "GET", "/v2/notes", "", "", 404);

    console.title("A dependency that goes away");
    redis.close();
    HttpResponse<String> unready = Awaitility.await()
        .atMost(SOON)
        .until(() -> get("/readyz"), response -> response.statusCode() == 503);
    console.done("Redis stopped: not ready", "GET /readyz  503", shortened(unready.body(), 110));
    call("list works all the same", "GET", "/v1/notes?limit=1", "", "", 200);
  }

  private void stop(ServiceProcess service) throws Exception {
    console.title("A clean stop");
    long begin = System.nanoTime();
    service.terminate();
    int status = service
        .awaitExit(SOON)
        .orElseThrow(() -> new StepFailed("SIGTERM", "the service still runs"));
    check("SIGTERM", status == 143, "exit status " + status + "\n" + service.log());
    console.done(
        "SIGTERM: the service drained and ended",
        Console.seconds(Duration.ofNanos(System.nanoTime() - begin)),
        "exit status 143, a JVM's answer to SIGTERM");
    try {
      get("/healthz");
      throw new StepFailed("nobody listens any more", "somebody answered");
    } catch (ConnectException e) {
      console.done("nobody listens any more", "connection refused", "");
    }
  }

  private boolean run() throws Exception {
    int port = Settings.from(Map.of(
            "DATABASE_URL",
            "-",
            "REDIS_URL",
            "-",
            "NATS_URL",
            "-",
            "PORT",
            System.getenv().getOrDefault("PORT", "8080")))
        .port();
    try (PostgresServer postgres = console.working("start Postgres", PostgresServer::start);
        RedisServer redis = console.working("start Redis", RedisServer::start);
        NatsServer nats = console.working("start NATS", NatsServer::start);
        ServiceProcess service = ServiceProcess.start(
            environment(postgres.url(), redis.url(), nats.url(), port), console::service)) {
      String url = "http://localhost:" + service.awaitPort(SOON);
      console.plain("""

          The service is up. Try it from another terminal:

            curl -i %1$s/v1/notes -H 'Content-Type: application/json' -d '{"title":"milk","body":"two litres"}'
            curl -s %1$s/v1/notes
            curl -i -X PUT %1$s/v1/notes/<id> -H 'Content-Type: application/json' -H 'If-Match: "1"' -d '{"title":"tea"}'
            curl -s %1$s/readyz
            curl -s %1$s/metrics | head

          Ctrl-C stops everything.
          """.formatted(url));
      return service.awaitExit(Duration.ofDays(365)).orElse(1) == 0;
    }
  }

  private HttpResponse<String> call(
      String what, String method, String path, String body, String ifMatch, int expected)
      throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(base.resolve(path)).timeout(SOON);
    if (!body.isEmpty()) {
      request.header("Content-Type", "application/json");
    }
    if (!ifMatch.isEmpty()) {
      request.header("If-Match", ifMatch);
    }
    request.method(
        method, body.isEmpty() ? BodyPublishers.noBody() : BodyPublishers.ofString(body));
    HttpResponse<String> response = client.send(request.build(), BodyHandlers.ofString());
    check(
        what,
        response.statusCode() == expected,
        "expected " + expected + ", got " + response.statusCode() + " " + response.body());
    String about =
        response.headers().firstValue("ETag").map(tag -> "  ETag " + tag).orElse("")
            + response
                .headers()
                .firstValue("X-Change-Seq")
                .map(seq -> "  X-Change-Seq " + seq)
                .orElse("");
    console.done(
        what,
        method + " " + shortened(path, 44) + "  " + expected + about,
        shortened(response.body().strip(), 110));
    return response;
  }

  private HttpResponse<String> get(String path) throws IOException, InterruptedException {
    return client.send(
        HttpRequest.newBuilder(base.resolve(path)).timeout(SOON).build(), BodyHandlers.ofString());
  }

  /** What the service logs, but for its requests: those are told by who makes them. */
  private void tell(String line) {
    if (!line.contains("http request complete")) {
      console.service(line);
    }
  }

  private static Map<String, String> environment(
      String postgres, String redis, String nats, int port) {
    return Map.of(
        "DATABASE_URL",
        postgres,
        "REDIS_URL",
        redis,
        "NATS_URL",
        nats,
        "PORT",
        Integer.toString(port));
  }

  private static <T> T get(Future<T> future) throws Exception {
    try {
      return future.get(SOON.toSeconds(), TimeUnit.SECONDS);
    } catch (ExecutionException e) {
      throw new StepFailed("start Postgres", String.valueOf(e.getCause()));
    }
  }

  private static String header(HttpResponse<?> response, String name) {
    return response
        .headers()
        .firstValue(name)
        .orElseThrow(() -> new StepFailed("header " + name, "is missing"));
  }

  private static void check(String what, boolean good, String otherwise) {
    if (!good) {
      throw new StepFailed(what, otherwise);
    }
  }

  private static String shortened(String text, int length) {
    return text.length() <= length ? text : text.substring(0, length - 1) + "…";
  }

  private static int freePort() throws IOException {
    try (ServerSocket socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }

  private static final class StepFailed extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final String what;
    private final String why;

    StepFailed(String what, String why) {
      super(what + ": " + why);
      this.what = what;
      this.why = why;
    }
  }
}
