package dev.evalops.benchmarks;

import com.sun.management.OperatingSystemMXBean;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.idempotency.IdempotencyStore;
import dev.evalops.runtime.idempotency.StoredResponse;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.ratelimit.RateLimiter;
import dev.evalops.runtime.testutil.PostgresServer;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.DoubleStream;

/**
 * What a request costs when there are many connections, many keys of a rate limiter, and many stored idempotency keys,
 * beside the same with few, in turn. Wants {@code wrk}, and 11 000 open files in each process.
 */
public final class GrowthLoad {
  private static final OperatingSystemMXBean PROCESS =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
  private static final int ROUNDS = 5;
  private static final int MANY = 1_000_000;
  private static final int FIRST_REQUESTS = 20_000;
  private static final Pattern REQUESTS = Pattern.compile("([0-9]+) requests in");
  private static final byte[] HELLO =
      "{\"message\":\"hello world\"}\n".getBytes(StandardCharsets.UTF_8);
  private static final StoredResponse RESPONSE =
      new StoredResponse(201, "application/json", Map.of("ETag", "\"1\""), HELLO);

  private record Case(String name, Callable<Cost> run, List<Cost> costs) {
    Case(String name, Callable<Cost> run) {
      this(name, run, new ArrayList<>());
    }
  }

  /** In microseconds of processor time of a request. */
  private record Cost(double service, double postgres) {}

  private GrowthLoad() {}

  /**
   * Runs it and prints the tables.
   *
   * @param arguments none
   * @throws Exception if anything fails
   */
  public static void main(String[] arguments) throws Exception {
    connections();
    keys();
    rows();
  }

  private static void connections() throws Exception {
    try (HttpService service = HttpService.builder(0)
        .maxInFlight(20_000)
        .handle("/hello", GrowthLoad::hello)
        .start()) {
      HttpServer bare = HttpServer.create(new InetSocketAddress(0), 1024);
      bare.setExecutor(Executors.newVirtualThreadPerTaskExecutor());
      bare.createContext("/hello", exchange -> {
        try (exchange) {
          hello(exchange);
        }
      });
      bare.start();
      String url = service.uri().resolve("/hello").toString();
      String bareUrl = "http://localhost:" + bare.getAddress().getPort() + "/hello";
      // Long, so that little of it is for the connections themselves.
      List<String> twentySeconds = List.of("-d20s");
      try {
        compare(
            "connections, each with a request under way",
            new Case("32", () -> load(url, 32, twentySeconds)),
            new Case("10 000", () -> load(url, 10_000, twentySeconds)),
            new Case("32, JDK's server alone", () -> load(bareUrl, 32, twentySeconds)),
            new Case("10 000, JDK's server alone", () -> load(bareUrl, 10_000, twentySeconds)));
      } finally {
        bare.stop(0);
      }
    }
  }

  private static void keys() throws Exception {
    List<Case> cases = new ArrayList<>();
    List<AutoCloseable> opened = new ArrayList<>();
    try {
      cases.add(keyed("1 000", 1000, 100_000, opened));
      cases.add(keyed("1 000 000, all kept", MANY, 2 * MANY, opened));
      cases.add(keyed("1 000 000, 100 000 kept", MANY, 100_000, opened));
      compare("keys of a rate limiter in memory, at random", cases.toArray(Case[]::new));
    } finally {
      for (AutoCloseable each : opened) {
        each.close();
      }
    }
  }

  private static Case keyed(String name, int keys, int maxKeys, List<AutoCloseable> opened)
      throws IOException {
    RateLimiter limiter = RateLimiter.builder()
        .perSecond(1000)
        .burst(1000)
        .maxKeys(maxKeys)
        .key(exchange -> exchange.getRequestURI().getQuery())
        .open();
    opened.add(limiter);
    HttpService service = HttpService.builder(0)
        .handle("/hello", GrowthLoad::hello, limiter.filter())
        .start();
    opened.add(service);
    for (int key = 1; key <= keys; key++) {
      var unused = limiter.decide(Integer.toString(key));
    }
    Path script = Files.createTempFile("keys", ".lua");
    script.toFile().deleteOnExit();
    Files.writeString(
        script,
        "function request() return wrk.format('GET', '/hello?' .. math.random("
            + keys
            + ")) end\n");
    List<String> options = List.of("-s", script.toString());
    return new Case(name, () -> load(service.uri().toString(), 32, options));
  }

  private static void rows() throws Exception {
    try (PostgresServer few = PostgresServer.start();
        PostgresServer many = PostgresServer.start();
        HikariDataSource fewDb = table(few.url(), 1000);
        HikariDataSource manyDb = table(many.url(), MANY)) {
      compare(
          "idempotency keys in the table, a first request",
          new Case("1 000", () -> firstRequests(fewDb)),
          new Case("1 000 000", () -> firstRequests(manyDb)));
    }
  }

  private static void hello(HttpExchange exchange) throws IOException {
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.sendResponseHeaders(200, HELLO.length);
    exchange.getResponseBody().write(HELLO);
  }

  private static HikariDataSource table(String server, int rows) throws SQLException {
    HikariDataSource db = Postgres.builder(server).open();
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute(Idempotency.schema());
      statement.execute(
          "INSERT INTO api_idempotency_keys (scope, idempotency_key, request_hash, response_code,"
              + " response_body, content_type, created_at, completed_at, expires_at)"
              + " SELECT 'org:user:' || i % 10000, gen_random_uuid(), repeat('0', 64), 201, '{}', 'application/json',"
              + " now(), now(), now() + interval '1 day' FROM generate_series(1, " + rows + ") i");
      statement.execute("VACUUM ANALYZE api_idempotency_keys");
      statement.execute("CHECKPOINT");
    }
    return db;
  }

  private static Cost firstRequests(HikariDataSource db) throws Exception {
    Idempotency idempotency = Idempotency.of(db);
    AtomicLong left = new AtomicLong(FIRST_REQUESTS);
    return cost(() -> {
      try (ExecutorService threads = Executors.newFixedThreadPool(4)) {
        List<Future<?>> running = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
          running.add(threads.submit(() -> {
            while (left.decrementAndGet() >= 0) {
              IdempotencyStore.Decision decision = idempotency.begin(
                  "org:user:" + ThreadLocalRandom.current().nextInt(10_000),
                  UUID.randomUUID().toString(),
                  "0".repeat(64));
              idempotency.finish(((IdempotencyStore.Started) decision).claim(), RESPONSE);
            }
          }));
        }
        for (Future<?> each : running) {
          each.get();
        }
      }
      return FIRST_REQUESTS;
    });
  }

  private static Cost load(String url, int connections, List<String> options) throws Exception {
    return cost(() -> {
      List<String> command = new ArrayList<>(List.of("wrk", "-t1", "-c" + connections, "-d5s"));
      command.addAll(options);
      command.add(url);
      Process wrk = new ProcessBuilder(command).redirectErrorStream(true).start();
      String output = new String(wrk.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      Matcher requests = REQUESTS.matcher(output);
      if (wrk.waitFor() != 0 || !requests.find() || output.contains("Non-2xx")) {
        throw new IOException("wrk failed:\n" + output);
      }
      return Integer.parseInt(requests.group(1));
    });
  }

  private static Cost cost(Callable<Integer> requests) throws Exception {
    long service = PROCESS.getProcessCpuTime();
    long servers = serversCpuNanos();
    int count = requests.call();
    return new Cost(
        (PROCESS.getProcessCpuTime() - service) / 1e3 / count,
        (serversCpuNanos() - servers) / 1e3 / count);
  }

  private static long serversCpuNanos() {
    return ProcessHandle.current()
        .descendants()
        .mapToLong(
            process -> process.info().totalCpuDuration().map(Duration::toNanos).orElse(0L))
        .sum();
  }

  private static void compare(String what, Case... cases) throws Exception {
    for (int round = -1; round < ROUNDS; round++) {
      for (Case each : cases) {
        Cost cost = each.run().call();
        if (round >= 0) {
          each.costs().add(cost);
        }
      }
    }
    System.out.printf(
        "%n%s: us of processor time of a request, median of %d rounds%n", what, ROUNDS);
    for (Case each : cases) {
      System.out.printf(
          Locale.ROOT,
          "  %-26s service %s, Postgres %s%n",
          each.name(),
          median(each.costs().stream().mapToDouble(Cost::service)),
          median(each.costs().stream().mapToDouble(Cost::postgres)));
    }
  }

  private static String median(DoubleStream all) {
    double[] sorted = all.sorted().toArray();
    return String.format(
        Locale.ROOT, "%.1f (%.1f-%.1f)", sorted[ROUNDS / 2], sorted[0], sorted[ROUNDS - 1]);
  }
}
