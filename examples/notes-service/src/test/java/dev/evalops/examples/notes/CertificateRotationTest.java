package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.mtls.ClientTls;
import dev.evalops.runtime.mtls.ServerTls;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.RedisServer;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** One certificate, renewed in its file, reaches Postgres, Redis, NATS, the HTTP client and the HTTP server. */
@Timeout(180)
class CertificateRotationTest {
  private static final Duration BOUND = Duration.ofSeconds(60);

  @TempDir
  Path folder;

  private Certificates certificates;
  private final List<Throwable> failures = new CopyOnWriteArrayList<>();
  private final Map<String, AtomicLong> requests = new ConcurrentHashMap<>();
  private final Set<Integer> httpPorts = ConcurrentHashMap.newKeySet();
  private final AtomicBoolean stop = new AtomicBoolean();
  private final List<Thread> load = new ArrayList<>();

  @Test
  void failsNoRequest_andLeavesNoOldConnection() throws Exception {
    rotations(2, Duration.ofSeconds(2));
  }

  @Test
  @Tag("soak")
  @Timeout(1800)
  void failsNoRequest_andLeavesNoOldConnectionAfterAMinute_inTenRotations() throws Exception {
    rotations(10, Duration.ofMinutes(1));
  }

  private void rotations(int count, Duration within) throws Exception {
    certificates = new Certificates(folder);
    // As another pool of the process does; the driver then logs in on a thread of its own.
    DriverManager.setLoginTimeout(7);
    int natsPort = FreePort.next();
    int natsMonitor = FreePort.next();
    int redisPort = FreePort.next();
    try (PostgresServer postgres = PostgresServer.start();
        Connection admin = DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + postgres.port() + "/postgres", "test", "test");
        RedisServer redisServer = RedisServer.start();
        Redis redisAdmin = Redis.open(redisServer.url());
        AutoCloseable natsServer = nats(natsPort, natsMonitor)) {
      secure(admin);
      redisAdmin
          .connection()
          .sync()
          .configSet(Map.of(
              "tls-cert-file", copy("redis.crt", certificates.certificateFile()).toString(),
              "tls-key-file", copy("redis.key", certificates.keyFile()).toString(),
              "tls-ca-cert-file", certificates.caFile().toString(),
              "tls-port", Integer.toString(redisPort)));
      String tlsFiles = certificates.certificateFile().toString();
      try (ClientTls tls = ClientTls.builder()
              .ca(certificates.caFile())
              .certificate(tlsFiles, certificates.keyFile().toString())
              .reloadEvery(within.dividedBy(6))
              .open();
          ServerTls serving = ServerTls.builder()
              .certificate(certificates.certificateFile(), certificates.keyFile())
              .requireClients(certificates.caFile())
              .reloadEvery(within.dividedBy(6))
              .open();
          HikariDataSource db = Postgres.builder(
                  "postgres://test:test@localhost:" + postgres.port() + "/postgres")
              .tls(tls.sslContext())
              .rotationTimeout(within)
              .open();
          Redis redis = Redis.builder("rediss://localhost:" + redisPort)
              .tls(tls.sslContext())
              .rotationTimeout(within)
              .open();
          NatsBus bus = NatsBus.builder("nats://localhost:" + natsPort).stream("NOTES")
              .subjectPrefix("notes.changes")
              .publishTimeout(Duration.ofSeconds(30))
              .tls(tls.sslContext())
              .rotationTimeout(within)
              .open();
          HttpService http = HttpService.builder(0)
              .tls(serving.sslContext(), HttpService.ClientCertificates.REQUIRED)
              .filters(serving.filter())
              .handle("GET /", exchange -> {
                httpPorts.add(exchange.getRemoteAddress().getPort());
                exchange.sendResponseHeaders(204, -1);
                exchange.close();
              })
              .start()) {
        HttpClient client = tls.httpClient();
        HttpRequest request = HttpRequest.newBuilder(
                URI.create("https://localhost:" + http.port() + "/"))
            .timeout(Duration.ofSeconds(30))
            .build();
        // Before the load, beside which logins take long.
        await().atMost(BOUND).until(() -> sessions(admin, "true") == 10);
        load("postgres", () -> select(db));
        load("redis", () -> redis.connection().sync().set("key", "value"));
        load("nats", () -> bus.publish(Change.of("note", "n", "create")));
        load(
            "http",
            () -> assertThat(client.send(request, BodyHandlers.discarding()).statusCode())
                .isEqualTo(204));

        long slowest = 0;
        for (int i = 1; i <= count; i++) {
          await().atMost(BOUND).until(() -> sessions(admin, "true") == 10);
          String natsBefore = natsStart(natsMonitor);
          long redisBefore = lastClient(redisAdmin);
          Set<Integer> portsBefore = Set.copyOf(httpPorts);
          long at = System.nanoTime();
          certificates.renew();
          String serial = certificates.serialNumber().toString();
          await()
              .atMost(within.plus(BOUND))
              .until(() ->
                  sessions(admin, "client_serial IS NOT NULL AND client_serial <> " + serial) == 0);
          await().atMost(within.plus(BOUND)).until(() -> firstTlsClient(redisAdmin) > redisBefore);
          await()
              .atMost(within.plus(BOUND))
              .until(() -> !natsStart(natsMonitor).equals(natsBefore));
          await().atMost(within.plus(BOUND)).until(() -> {
            httpPorts.clear();
            long known = requests.get("http").get();
            await().atMost(BOUND).until(() -> requests.get("http").get() > known + 5);
            return httpPorts.stream().noneMatch(portsBefore::contains);
          });
          slowest = Math.max(slowest, System.nanoTime() - at);
        }
        stop.set(true);
        for (Thread each : load) {
          each.join();
        }
        System.out.printf(
            "%d rotations of the certificate, %s requests, %d failed; no old connection after %.1f"
                + " s at most, bound %d s%n",
            count, requests, failures.size(), slowest / 1e9, within.toSeconds());
      } finally {
        stop.set(true);
      }
    }
    assertThat(failures).isEmpty();
    assertThat(requests.values()).allMatch(each -> each.get() > 0);
  }

  private interface Work {
    void run() throws Exception;
  }

  private void load(String what, Work work) {
    AtomicLong count = requests.computeIfAbsent(what, key -> new AtomicLong());
    load.add(Thread.ofPlatform().start(() -> {
      while (!stop.get()) {
        try {
          work.run();
          count.incrementAndGet();
        } catch (Throwable failure) {
          failures.add(failure);
        }
      }
    }));
  }

  private static void select(HikariDataSource db) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute("SELECT 1");
    }
  }

  private Path copy(String name, Path file) throws IOException {
    return Files.copy(file, folder.resolve(name));
  }

  private void secure(Connection admin) throws Exception {
    Path data = Path.of(query(admin, "SHOW data_directory"));
    for (Map.Entry<String, Path> each : Map.of(
            "server.crt", certificates.certificateFile(),
            "server.key", certificates.keyFile(),
            "ca.crt", certificates.caFile())
        .entrySet()) {
      Path copy = Files.copy(each.getValue(), data.resolve(each.getKey()));
      Files.setPosixFilePermissions(copy, PosixFilePermissions.fromString("rw-------"));
      Files.setOwner(copy, Files.getOwner(data));
    }
    try (Statement statement = admin.createStatement()) {
      statement.execute("ALTER SYSTEM SET ssl_ca_file = 'ca.crt'");
      statement.execute("ALTER SYSTEM SET ssl = on");
      statement.execute("SELECT pg_reload_conf()");
    }
    await().atMost(BOUND).until(() -> query(admin, "SHOW ssl").equals("on"));
  }

  private AutoCloseable nats(int port, int monitor) throws Exception {
    Path file = Files.writeString(folder.resolve("nats.conf"), """
        listen: "127.0.0.1:%d"
        http: "127.0.0.1:%d"
        jetstream { store_dir: "%s" }
        tls { cert_file: "%s", key_file: "%s", ca_file: "%s", verify: true }
        """.formatted(
            port,
            monitor,
            folder.resolve("store"),
            copy("nats.crt", certificates.certificateFile()),
            copy("nats.key", certificates.keyFile()),
            certificates.caFile()));
    Process process = new ProcessBuilder("nats-server", "-c", file.toString())
        .redirectErrorStream(true)
        .redirectOutput(folder.resolve("nats.log").toFile())
        .start();
    return () -> process.destroyForcibly().waitFor();
  }

  private static synchronized String query(Connection admin, String sql) throws SQLException {
    try (Statement statement = admin.createStatement();
        ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getString(1);
    }
  }

  private static int sessions(Connection admin, String condition) throws SQLException {
    return Integer.parseInt(
        query(admin, "SELECT count(*) FROM pg_stat_ssl WHERE ssl AND " + condition));
  }

  /** When the connection to NATS was made. */
  private static String natsStart(int monitor) throws Exception {
    try (HttpClient plain = HttpClient.newHttpClient()) {
      String connections = plain
          .send(
              HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + monitor + "/connz"))
                  .build(),
              BodyHandlers.ofString())
          .body();
      Matcher start = Pattern.compile("\"start\": *\"([^\"]+)\"").matcher(connections);
      return start.find() ? start.group(1) : "";
    }
  }

  private static List<Long> clients(Redis admin) {
    return Pattern.compile("(?m)^id=(\\d+) ")
        .matcher(admin.connection().sync().clientList())
        .results()
        .map(each -> Long.valueOf(each.group(1)))
        .toList();
  }

  private static long lastClient(Redis admin) {
    return clients(admin).stream().mapToLong(Long::longValue).max().orElseThrow();
  }

  /** Of those but the oldest, which is this test's own. */
  private static long firstTlsClient(Redis admin) {
    return clients(admin).stream()
        .mapToLong(Long::longValue)
        .sorted()
        .skip(1)
        .findFirst()
        .orElse(0);
  }
}
