package dev.evalops.examples.notes;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.mtls.ClientTls;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.RedisServer;
import io.nats.client.JetStreamManagement;
import io.nats.client.Nats;
import io.nats.client.PushSubscribeOptions;
import io.nats.client.Subscription;
import io.nats.client.api.StreamConfiguration;
import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.X509Certificate;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.awaitility.Awaitility;
import org.slf4j.LoggerFactory;

/** What {@code make demo} and {@code make run} start: the service with real servers beside it. */
final class Demo {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final String MILK = "{\"title\":\"milk\",\"body\":\"two litres\"}";
  private static final String TEA = "{\"title\":\"tea\"}";
  static final String FEED =
      "{\"schema_version\":1,\"flags\":[{\"key\":\"notes.feed\",\"enabled\":%s}]}";
  private static final int BURST = 10;

  /** Tokens that the identity server knows. */
  static final String ANN = "token-of-ann";

  private static final String READER = "token-of-a-reader";
  private static final String STRANGER = "token-of-another-organization";
  private static final String OPERATOR = "token-of-an-operator";
  private static final String API_KEY = "pk_demo";

  private final Console console;
  private HttpClient client = HttpClient.newHttpClient();
  private URI base = URI.create("http://localhost");

  Demo(Console console) {
    this.console = console;
  }

  public static void main(String[] args) throws Exception {
    // The servers beside the service speak in their steps.
    for (String quiet : List.of("dev.evalops", "io.zonky")) {
      ((Logger) LoggerFactory.getLogger(quiet)).setLevel(Level.WARN);
    }
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
    Path folder = Files.createTempDirectory("notes-demo");
    Certificates certificates = new Certificates(folder);
    Path flags = folder.resolve("flags.json");
    Files.writeString(flags, FEED.formatted(false));
    console.title("Servers");
    try (RedisServer redis = console.working("start Redis", RedisServer::start);
        NatsServer nats = console.working("start NATS", NatsServer::start);
        IdentityServer identity = console.working(
            "start an identity service, behind mTLS", () -> identity(Optional.of(certificates)));
        ClientTls tls = ClientTls.builder()
            .ca(certificates.caFile())
            .certificate(certificates.certificateFile(), certificates.keyFile())
            .onReload(reload -> {})
            .open()) {
      client = tls.httpClient();
      int postgresPort = FreePort.next();
      Map<String, String> environment = with(
          environment(
              "postgres://test:test@127.0.0.1:" + postgresPort + "/postgres",
              redis.url(),
              nats.url(),
              identity.url().toString(),
              0),
          Map.of(
              "TLS_CA_FILE", certificates.caFile().toString(),
              "TLS_CERT_FILE", certificates.certificateFile().toString(),
              "TLS_KEY_FILE", certificates.keyFile().toString(),
              "IDEMPOTENCY_LEASE", "PT2S",
              "FEATURE_FLAGS_PATH", flags.toString(),
              "RATE_LIMIT_PER_SECOND", "100000",
              "RATE_LIMIT_BURST", "100000"));

      console.title("A service that starts before its database");
      long begin = System.nanoTime();
      ServiceProcess service = ServiceProcess.start(environment, this::tell);
      try {
        console.done(
            "start the notes service", "pid " + service.pid(), "Postgres follows a failed attempt");
        service.awaitLine(line -> line.contains("postgres: attempt 1 of 30 failed"), SOON);
        try (PostgresServer postgres = PostgresServer.start(postgresPort)) {
          base = URI.create("https://localhost:" + service.awaitPort(SOON));
          console.done(
              "Postgres came up, and so did the service",
              Console.seconds(Duration.ofNanos(System.nanoTime() - begin)),
              base + " with client certificates");
          String note = notes(nats);
          flag(flags);
          callers(postgres, identity, note);
          service = exactlyOnce(service, environment, postgres);
          trouble();
          service = natsOutage(service, environment, nats, postgres);
          refusedChange(nats);
          redisOutage(redis, note);
          rotation(service, certificates, note);
          oneBudget(environment);
          wholeFeed(nats, postgres);
          measurements();
          stop(service);
        }
      } finally {
        service.close();
      }
      agent(certificates, folder.resolve("hook"));
    } finally {
      delete(folder);
    }
  }

  static IdentityServer identity(Optional<Certificates> certificates) {
    IdentityServer server = certificates.isPresent()
        ? IdentityServer.start(certificates.get())
        : IdentityServer.start();
    return server
        .person(ANN, "ann", "org-1", "notes:read", "notes:write")
        .person(READER, "rea", "org-1", "notes:read")
        .person(OPERATOR, "olga", "org-1", "notes:read", "notes:operate")
        .person(STRANGER, "sam", "org-2", "notes:read", "notes:write");
  }

  private String notes(NatsServer nats) throws Exception {
    console.title("Notes");
    call("it is alive", 200, new Call("GET", "/healthz"));
    call("it is ready", 200, new Call("GET", "/readyz"));
    try (io.nats.client.Connection connection = Nats.connect(nats.url())) {
      Subscription changes = connection.subscribe("notes.changes.note.*");
      connection.flush(SOON);
      HttpResponse<String> created = call(
          "create a note", 201, new Call("POST", "/v1/notes").by(ANN).body(MILK).freshKey());
      String note = header(created, "Location");
      call("read it", 200, new Call("GET", note).by(ANN));
      Call update = new Call("PUT", note).by(ANN).body(MILK.replace("two", "three"));
      call(
          "update it with If-Match",
          200,
          update.ifMatch(header(created, "ETag")).freshKey());
      call(
          "update the old version again",
          412,
          update.ifMatch(header(created, "ETag")).freshKey());
      call("update without If-Match", 428, update.ifMatch("").freshKey());
      call("list", 200, new Call("GET", "/v1/notes?limit=10").by(ANN));
      for (String subject : List.of("notes.changes.note.create", "notes.changes.note.update")) {
        io.nats.client.Message message = changes.nextMessage(SOON);
        check(
            "hear of it on NATS", message != null && message.getSubject().equals(subject), subject);
        console.done(
            "hear of it on NATS",
            subject,
            shortened(new String(message.getData(), StandardCharsets.UTF_8), 110));
      }
      return note;
    }
  }

  private void flag(Path flags) throws Exception {
    console.title("A feature behind a flag");
    Call feed = new Call("GET", "/v1/feed").by(ANN);
    call("the feed, fed by NATS, is switched off", 404, feed);
    Certificates.replace(flags, FEED.formatted(true));
    HttpResponse<String> answer = Awaitility.await()
        .atMost(SOON)
        .until(() -> send(feed), response -> response.statusCode() == 200);
    console.done(
        "another file put in the place of the old one",
        "GET /v1/feed  200",
        shortened(answer.body(), 110));
  }

  private void callers(PostgresServer postgres, IdentityServer identity, String note)
      throws Exception {
    console.title("Who calls");
    call("no token", 401, new Call("GET", note));
    call("a token that nobody knows", 401, new Call("GET", note).by("made-up"));
    call(
        "a token without notes:write",
        403,
        new Call("POST", "/v1/notes").by(READER).body(TEA).freshKey());
    call("the same token reads", 200, new Call("GET", note).by(READER));
    call("a token of another organization", 404, new Call("GET", note).by(STRANGER));
    try (Connection connection = DriverManager.getConnection(jdbc(postgres));
        PreparedStatement insert = connection.prepareStatement(
            "INSERT INTO api_keys VALUES (?, 'ci', 'org-1', ARRAY['notes:read'])")) {
      insert.setBytes(1, KeyTable.hash(API_KEY));
      insert.execute();
    }
    call("an API key", 200, new Call("GET", note).by(API_KEY));
    identity.stop();
    call("identity is down: not the caller's fault", 503, new Call("GET", note).by(ANN));
    call("API keys work all the same", 200, new Call("GET", note).by(API_KEY));
    identity.restart();
    call("identity is back", 200, new Call("GET", note).by(ANN));
  }

  /** A lock on the journal holds the handler between its mutation and its commit. */
  private ServiceProcess exactlyOnce(
      ServiceProcess service, Map<String, String> environment, PostgresServer postgres)
      throws Exception {
    console.title("Exactly once");
    Call tea = new Call("POST", "/v1/notes").by(ANN).body(TEA).key("tea-1");
    HttpResponse<String> first = call("create a note with a key", 201, tea);
    HttpResponse<String> again = call("the same request again", 201, tea);
    check(
        "the same request again",
        again.body().equals(first.body())
            && header(again, "X-Idempotent-Replay").equals("true")
            && header(again, "ETag").equals(header(first, "ETag"))
            && header(again, "Location").equals(header(first, "Location")),
        again.headers() + " " + again.body());
    console.done("it is the answer of the first", "X-Idempotent-Replay: true", "");
    call("the same key for another note", 409, tea.body(MILK));

    Call coffee =
        new Call("POST", "/v1/notes").by(ANN).body("{\"title\":\"coffee\"}").key("coffee-1");
    try (Connection lock = DriverManager.getConnection(jdbc(postgres))) {
      lock.setAutoCommit(false);
      lock.createStatement().execute("LOCK TABLE change_journal IN ACCESS EXCLUSIVE MODE");
      CompletableFuture<HttpResponse<String>> hanging =
          client.sendAsync(request(coffee), BodyHandlers.ofString());
      Awaitility.await().atMost(SOON).until(() -> waitsForLock(lock));
      call("a second one while the first is at work", 409, coffee);
      service.kill();
      check(
          "kill -9 between mutation and answer",
          service.awaitExit(SOON).isPresent(),
          "the service still runs");
      check(
          "kill -9 between mutation and answer",
          hanging.handle((answer, failure) -> failure != null).get(60, TimeUnit.SECONDS),
          "the client got an answer");
      console.done("kill -9 between mutation and answer", "the client knows nothing", "");
      lock.rollback();
    }
    ServiceProcess next = ServiceProcess.start(environment, this::tell);
    base = URI.create("https://localhost:" + next.awaitPort(SOON));
    console.done("the service is back", "pid " + next.pid(), "");
    HttpResponse<String> retried = Awaitility.await()
        .atMost(SOON)
        .until(() -> send(coffee), answer -> answer.statusCode() == 201);
    console.done("the client tries again", "POST /v1/notes  201", shortened(retried.body(), 110));
    HttpResponse<String> replayed = call("and again", 201, coffee);
    check("and again", replayed.body().equals(retried.body()), replayed.body());
    try (Connection connection = DriverManager.getConnection(jdbc(postgres));
        ResultSet rows = connection
            .createStatement()
            .executeQuery("SELECT (SELECT count(*) FROM notes WHERE title = 'coffee'),"
                + " (SELECT count(*) FROM change_journal WHERE payload ->> 'title' = 'coffee'),"
                + " (SELECT count(*) FROM audit_entries WHERE resource_id = '"
                + header(retried, "Location").replaceAll(".*/", "") + "')")) {
      rows.next();
      String counts = rows.getInt(1) + " note, " + rows.getInt(2) + " change, " + rows.getInt(3)
          + " audit entry";
      check("one of each", counts.equals("1 note, 1 change, 1 audit entry"), counts);
      console.done("what is in the database", counts, "");
    }
    return next;
  }

  private static boolean waitsForLock(Connection connection) throws SQLException {
    try (ResultSet rows = connection
        .createStatement()
        .executeQuery("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")) {
      rows.next();
      return rows.getInt(1) > 0;
    }
  }

  private void trouble() throws Exception {
    console.title("Clients that are wrong");
    Call post = new Call("POST", "/v1/notes").by(ANN);
    call("no Idempotency-Key", 400, post.body(MILK));
    call("broken JSON", 400, post.body("{\"title\":").freshKey());
    call("no title", 400, post.body("{}").freshKey());
    call(
        "a body of 2 MiB",
        413,
        post.body("{\"title\":\"" + "x".repeat(2 << 20) + "\"}").freshKey());
    call("an id that is no UUID", 400, new Call("GET", "/v1/notes/7").by(ANN));
    call(
        "a note that is not there",
        404,
        new Call("GET", "/v1/notes/00000000-0000-4000-8000-000000000000").by(ANN));
    call(
        "a method that is not there",
        405,
        new Call("DELETE", "/v1/notes").by(ANN).freshKey());
    call("a path that is not there", 404, new Call("GET", "/v2/notes").by(ANN));
  }

  private void rotation(ServiceProcess service, Certificates certificates, String note)
      throws Exception {
    console.title("Certificates that rotate");
    try (Traffic readers = new Traffic(4, () -> expect(200, new Call("GET", note).by(ANN)))) {
      certificates.renew();
      service.awaitLines(line -> line.contains("certificates reloaded"), 2, SOON);
      try (ClientTls fresh = ClientTls.builder()
          .ca(certificates.caFile())
          .certificate(certificates.certificateFile(), certificates.keyFile())
          .open()) {
        HttpResponse<String> answer = fresh
            .httpClient()
            .send(request(new Call("GET", note).by(ANN)), BodyHandlers.ofString());
        X509Certificate served =
            (X509Certificate) answer.sslSession().orElseThrow().getPeerCertificates()[0];
        check(
            "the new certificate is served",
            served.getSerialNumber().equals(certificates.serialNumber()),
            "serial number " + served.getSerialNumber());
      }
      console.done(
          "a new key and certificate in the files",
          readers.stop() + " requests meanwhile, none failed",
          "served, and shown to the identity service, without a restart");
    }
  }

  private void redisOutage(RedisServer redis, String note) throws Exception {
    console.title("Redis goes away and comes back");
    Call read = new Call("GET", note).by(ANN);
    Call write = new Call("POST", "/v1/notes").by(ANN).body(TEA);
    try (Traffic readers = new Traffic(2, () -> expect(200, read));
        Traffic writers = new Traffic(1, () -> expect(201, write.freshKey()))) {
      redis.kill();
      awaitRedis(false);
      console.done(
          "Redis killed: reported, and still ready, since every instance has the same one",
          "GET /readyz  200",
          "");
      writers.awaitMore(5);
      redis.restart();
      awaitRedis(true);
      console.done("Redis started again: healthy", "GET /readyz  200", "");
      writers.awaitMore(5);
      console.done(
          "meanwhile",
          (readers.stop() + writers.stop()) + " requests, none failed",
          "without the cache, and with a rate limit of each process's own");
    }
  }

  private void awaitRedis(boolean healthy) {
    String reported = "\"name\":\"redis\",\"healthy\":" + healthy;
    Awaitility.await().atMost(SOON).until(() -> {
      HttpResponse<String> ready = get("/readyz");
      return ready.statusCode() == 200 && ready.body().contains(reported);
    });
  }

  private ServiceProcess natsOutage(
      ServiceProcess service,
      Map<String, String> environment,
      NatsServer nats,
      PostgresServer postgres)
      throws Exception {
    console.title("NATS goes away while notes are written");
    Call write = new Call("POST", "/v1/notes").by(ANN).body(MILK);
    int written;
    try (Traffic writers = new Traffic(4, () -> expect(201, write.freshKey()))) {
      writers.awaitMore(50);
      nats.kill();
      writers.awaitMore(100);
      console.done("kill -9 of NATS; the writers go on", "100 notes and more", "");
      nats.restart();
      writers.awaitMore(50);
      written = writers.stop();
    }
    console.done("NATS started again", written + " notes written in all, none refused", "");
    nats.kill();
    for (int i = 0; i < 10; i++) {
      expect(201, write.freshKey());
    }
    double waiting = Awaitility.await()
        .atMost(SOON)
        .until(() -> metric("outbox_pending"), pending -> pending >= 10);
    console.done(
        "kill -9 of NATS; what waits is on the metrics page",
        String.format(Locale.ROOT, "outbox_pending %.0f", waiting),
        String.format(Locale.ROOT, "outbox_oldest_seconds %.1f", metric("outbox_oldest_seconds")));
    service.kill();
    check("kill -9", service.awaitExit(SOON).isPresent(), "the service still runs");
    console.done(
        "kill -9 of the service, between the commits and the publishing", "10 notes wait", "");
    nats.restart();
    ServiceProcess next = ServiceProcess.start(environment, this::tell);
    base = URI.create("https://localhost:" + next.awaitPort(SOON));
    console.done("both started again", "pid " + next.pid(), "");
    try (Connection connection = DriverManager.getConnection(jdbc(postgres))) {
      String counts = Awaitility.await()
          .atMost(SOON)
          .until(() -> feedOf(connection), found -> found.endsWith(", 0 missing"));
      console.done("every committed change is in the feed", "once", counts);
    }
    return next;
  }

  private double metric(String name) throws IOException, InterruptedException {
    return get("/metrics")
        .body()
        .lines()
        .filter(line -> line.startsWith(name + " "))
        .mapToDouble(line -> Double.parseDouble(line.substring(name.length())))
        .findFirst()
        .orElseThrow(() -> new StepFailed("GET /metrics", name + " is missing"));
  }

  private void refusedChange(NatsServer nats) throws Exception {
    console.title("A change that NATS refuses");
    try (io.nats.client.Connection connection = Nats.connect(nats.url())) {
      maxEventBytes(connection, 1000);
      console.done("the stream takes events of 1000 bytes at most", "max_msg_size 1000", "");
      String large = MILK.replace("milk", "\u8336".repeat(200));
      HttpResponse<String> created = call(
          "create a note with a long title",
          201,
          new Call("POST", "/v1/notes").by(ANN).body(large).freshKey());
      String note = header(created, "Location");
      Call update = new Call("PUT", note).by(ANN).body(TEA);
      call("shorten it", 200, update.ifMatch(header(created, "ETag")).freshKey());
      Call list = new Call("GET", "/v1/parked-changes").by(OPERATOR);
      HttpResponse<String> parked = Awaitility.await()
          .atMost(SOON)
          .until(() -> expect(200, list), answer -> answer.body().contains("\"id\""));
      console.done(
          "its change is parked",
          "GET /v1/parked-changes  200",
          shortened(parked.body().strip(), 220));
      HttpResponse<String> health = Awaitility.await()
          .atMost(SOON)
          .until(
              () -> get("/readyz"),
              answer -> answer.body().contains("{\"name\":\"outbox\",\"healthy\":false"));
      console.done(
          "the service is ready all the same",
          "GET /readyz  " + health.statusCode(),
          "outbox: check failed");
      String other = header(
          call(
              "other notes do not wait for it",
              201,
              new Call("POST", "/v1/notes").by(ANN).body(MILK).freshKey()),
          "Location");
      Awaitility.await().atMost(SOON).until(() -> feedHas(other, 1));
      check("what comes after it waits", !feedHas(note, 2), "the second version is in the feed");
      console.done("what comes after it waits", "the feed has the other note alone", "");
      maxEventBytes(connection, -1);
      console.done("mended: the stream takes larger ones", "max_msg_size -1", "");
      String id = parked.body().replaceAll("(?s).*\"id\":\"([^\"]*)\".*", "$1");
      call(
          "sent again",
          204,
          new Call("POST", "/v1/parked-changes/" + id + "/requeue").by(OPERATOR));
      Awaitility.await().atMost(SOON).until(() -> feedHas(note, 2));
      check("both changes are in the feed", feedHas(note, 1), "the first version is missing");
      console.done("both changes are in the feed", "in order", "");
    }
  }

  private static void maxEventBytes(io.nats.client.Connection connection, int bytes)
      throws Exception {
    JetStreamManagement management = connection.jetStreamManagement();
    management.updateStream(
        StreamConfiguration.builder(management.getStreamInfo("NOTES").getConfiguration())
            .maximumMessageSize(bytes)
            .build());
  }

  private boolean feedHas(String note, int version) throws Exception {
    String id = note.replaceAll(".*/", "");
    return expect(200, new Call("GET", "/v1/feed?limit=20").by(ANN))
        .body()
        .contains("{\"note_id\":\"" + id + "\",\"version\":" + version + ",");
  }

  /** What the stream holds is what the feed was made of. */
  private void wholeFeed(NatsServer nats, PostgresServer postgres) throws Exception {
    console.title("After all that");
    try (Connection connection = DriverManager.getConnection(jdbc(postgres));
        io.nats.client.Connection bus = Nats.connect(nats.url())) {
      String counts = Awaitility.await()
          .atMost(SOON)
          .until(() -> feedOf(connection), found -> found.endsWith(", 0 missing"));
      console.done("every change is in the feed", "once", counts);
      long all =
          bus.jetStreamManagement().getStreamInfo("NOTES").getStreamState().getMsgCount();
      check("each once in the stream", counts.startsWith(all + " changes"), all + " events");
      Subscription events = bus.jetStream()
          .subscribe(
              "notes.changes.>", PushSubscribeOptions.builder().ordered(true).build());
      Map<String, Long> versions = new HashMap<>();
      for (long i = 0; i < all; i++) {
        Event event = NatsBus.read(events.nextMessage(SOON));
        String note = event.aggregateId().orElseThrow();
        long version = event.version().orElseThrow();
        check(
            "in the order of the commits",
            version == versions.getOrDefault(note, 0L) + 1,
            "version " + version + " of note " + note + " after " + versions.get(note));
        versions.put(note, version);
      }
      console.done("and once in the stream, in the order of the commits", all + " events", "");
    }
  }

  private static String feedOf(Connection connection) throws SQLException {
    try (ResultSet rows = connection
        .createStatement()
        .executeQuery("SELECT (SELECT count(*) FROM change_journal), (SELECT count(*) FROM feed),"
            + " (SELECT count(*) FROM change_journal j WHERE NOT EXISTS (SELECT 1 FROM feed f"
            + " WHERE f.note_id::text = j.aggregate_id AND f.version = j.aggregate_version))")) {
      rows.next();
      return rows.getLong(1) + " changes, " + rows.getLong(2) + " in the feed, " + rows.getLong(3)
          + " missing";
    }
  }

  /** Two fresh instances with a small limit; Redis keeps the one bucket for both. */
  private void oneBudget(Map<String, String> environment) throws Exception {
    console.title("Two instances, one budget");
    Map<String, String> limited = with(
        environment,
        Map.of("RATE_LIMIT_PER_SECOND", "1", "RATE_LIMIT_BURST", Integer.toString(BURST)));
    URI before = base;
    try (ServiceProcess one = ServiceProcess.start(limited, line -> {});
        ServiceProcess other = ServiceProcess.start(limited, line -> {});
        ScheduledExecutorService waiting = Executors.newSingleThreadScheduledExecutor()) {
      List<URI> bases = new ArrayList<>();
      for (ServiceProcess each : List.of(one, other)) {
        bases.add(URI.create("https://localhost:" + each.awaitPort(SOON)));
      }
      console.done("two instances", "1 request a second, " + BURST + " at once", "");
      Call list = new Call("GET", "/v1/notes?limit=1").by(ANN);
      // Their first answers come from cold code; they are of another route and so another bucket.
      for (int i = 0; i < 8; i++) {
        base = bases.get(i % 2);
        send(new Call("GET", "/v1/feed").by(ANN));
      }
      int allowed = 0;
      HttpResponse<String> refused = null;
      for (int i = 0; i < 3 * BURST; i++) {
        base = bases.get(i % 2);
        HttpResponse<String> answer = send(list);
        if (answer.statusCode() == 200) {
          allowed++;
        } else {
          check("a burst", answer.statusCode() == 429, answer.body());
          refused = answer;
        }
      }
      check(
          "a burst of " + 3 * BURST,
          refused != null && allowed >= BURST && allowed < 2 * BURST,
          allowed + " were allowed");
      long wait = Long.parseLong(header(refused, "Retry-After"));
      console.done(
          "a burst of " + 3 * BURST + " requests, at both in turn",
          allowed + " allowed by both together, then 429",
          "Retry-After: " + wait);
      HttpResponse<String> later = get(waiting.schedule(() -> send(list), wait, TimeUnit.SECONDS));
      check("after the wait", later.statusCode() == 200, later.body());
      console.done("after the wait that it was told", "GET " + list.path + "  200", "");
    } finally {
      base = before;
    }
  }

  private void measurements() throws Exception {
    console.title("What was measured");
    Map<String, double[]> series = new TreeMap<>();
    for (String line : get("/metrics").body().lines().toList()) {
      String name = line.replaceAll("[{ ].*", "");
      boolean ours =
          name.matches("(notes|natsbus|outbox|feature)_.*") && !name.matches(".*_(bucket|max|sum)");
      if (ours) {
        double[] sum = series.computeIfAbsent(name, key -> new double[2]);
        sum[0]++;
        sum[1] += Double.parseDouble(line.substring(line.lastIndexOf(' ') + 1));
      }
    }
    check("GET /metrics", series.containsKey("notes_http_requests_total"), series.toString());
    series.forEach((name, sum) ->
        console.done(name, String.format(Locale.ROOT, "%.0f in %.0f series", sum[1], sum[0]), ""));
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

  private void agent(Certificates certificates, Path home) throws Exception {
    console.title("An agent that asks before it acts");
    PolicyServer policy = new PolicyServer(certificates);
    try (ExecutorService beside = Executors.newVirtualThreadPerTaskExecutor()) {
      Hook hook = Hook.install(home, policy, certificates).waiting(SOON);
      ask(hook, "ls", 0, "");
      ask(hook, "rm -rf /", 2, "denied: ");
      Future<Hook.Answer> publishing = beside.submit(() -> hook.ask("git push", SOON));
      check("git push", policy.awaitSomebodyWaiting(SOON), "the hook asks for no approval");
      check("git push", !publishing.isDone(), "the hook did not wait");
      console.done("git push", "waits for a person", "");
      policy.approve();
      answered("git push, approved", get(publishing), 0, "");

      Hook hurried = hook.waiting(Duration.ofSeconds(1));
      String ask = "ask the user to approve it, then repeat exactly this call";
      ask(hurried, "git push", 2, ask);
      ask(hurried, "git push", 2, ask);
      check("git push", policy.requested() == 2, "a call that was repeated made another request");
      policy.approve();
      console.done("git push", "approved, when the call was over", "");
      ask(hurried, "git push --force", 2, ask);
      answered("git push, repeated", hook.ask("git push", SOON), 0, "");
      answered("git push, once more", hurried.ask("git push", SOON), 2, ask);
      check("git push", policy.requested() == 4, "an approval was used for another call");
      policy.close();
      ask(hook, "ls", 2, "blocked (fail closed): ");
    } finally {
      policy.close();
    }
  }

  private void ask(Hook hook, String command, int status, String reason) throws Exception {
    answered(command, hook.ask(command, SOON), status, reason);
  }

  private void answered(String what, Hook.Answer answer, int status, String reason) {
    check(
        what,
        answer.status() == status
            && answer.err().contains(reason)
            && answer.out().isEmpty() == (status == 0),
        answer.toString());
    console.done(
        what,
        status == 0 ? "runs: status 0" : "does not run: status " + status,
        shortened(answer.err().strip().lines().findFirst().orElse(""), 110));
  }

  private boolean run() throws Exception {
    try (LiveService live =
        new LiveService(console, port("PORT", "8080"), port("PAGE_PORT", "8081"))) {
      console.plain("""

          The service is up. To see it at work, open %3$s
          Or try it from another terminal:

            auth='Authorization: Bearer %2$s'
            curl -i %1$s/v1/notes -H "$auth" -H 'Idempotency-Key: 1' \
          -H 'Content-Type: application/json' -d '{"title":"milk","body":"two litres"}'
            curl -s %1$s/v1/notes -H "$auth"
            curl -i -X PUT %1$s/v1/notes/<id> -H "$auth" -H 'Idempotency-Key: 2' -H 'Content-Type: application/json' \
          -H 'If-Match: "1"' -d '{"title":"tea"}'
            curl -s %1$s/v1/feed -H "$auth"
            curl -s %1$s/readyz
            curl -s %1$s/metrics | grep ^notes_

          Ctrl-C stops everything.
          """.formatted(live.url(), ANN, live.page()));
      return live.awaitExit() == 0;
    }
  }

  private static int port(String variable, String fallback) {
    return Settings.from(Map.of(
            "DATABASE_URL",
            "-",
            "REDIS_URL",
            "-",
            "NATS_URL",
            "-",
            "IDENTITY_URL",
            "-",
            "PORT",
            System.getenv().getOrDefault(variable, fallback)))
        .port();
  }

  /** A request; each method gives a changed copy. */
  private record Call(
      String method, String path, String token, String body, String ifMatch, String key) {
    Call(String method, String path) {
      this(method, path, "", "", "", "");
    }

    Call by(String newToken) {
      return new Call(method, path, newToken, body, ifMatch, key);
    }

    Call body(String newBody) {
      return new Call(method, path, token, newBody, ifMatch, key);
    }

    Call ifMatch(String etag) {
      return new Call(method, path, token, body, etag, key);
    }

    Call key(String newKey) {
      return new Call(method, path, token, body, ifMatch, newKey);
    }

    /** With a key that no other request has. */
    Call freshKey() {
      return key(UUID.randomUUID().toString());
    }
  }

  private HttpResponse<String> call(String what, int expected, Call call) throws Exception {
    HttpResponse<String> response = send(call);
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
        call.method + " " + shortened(call.path, 44) + "  " + expected + about,
        shortened(response.body().strip(), 110));
    return response;
  }

  private HttpResponse<String> expect(int status, Call call) throws Exception {
    HttpResponse<String> answer = send(call);
    check(call.method + " " + call.path, answer.statusCode() == status, answer.body());
    return answer;
  }

  private HttpResponse<String> send(Call call) throws IOException, InterruptedException {
    return client.send(request(call), BodyHandlers.ofString());
  }

  private HttpRequest request(Call call) {
    HttpRequest.Builder request =
        HttpRequest.newBuilder(base.resolve(call.path)).timeout(SOON);
    if (!call.body.isEmpty()) {
      request.header("Content-Type", "application/json");
    }
    if (!call.token.isEmpty()) {
      request.header("Authorization", "Bearer " + call.token);
    }
    if (!call.ifMatch.isEmpty()) {
      request.header("If-Match", call.ifMatch);
    }
    if (!call.key.isEmpty()) {
      request.header("Idempotency-Key", call.key);
    }
    return request
        .method(
            call.method,
            call.body.isEmpty() ? BodyPublishers.noBody() : BodyPublishers.ofString(call.body))
        .build();
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
      String postgres, String redis, String nats, String identity, int port) {
    return Map.of(
        "IDENTITY_URL",
        identity,
        "DATABASE_URL",
        postgres,
        "REDIS_URL",
        redis,
        "NATS_URL",
        nats,
        "PORT",
        Integer.toString(port));
  }

  private static Map<String, String> with(Map<String, String> settings, Map<String, String> more) {
    Map<String, String> all = new HashMap<>(settings);
    all.putAll(more);
    return all;
  }

  private static <T> T get(Future<T> future) throws Exception {
    try {
      return future.get(SOON.toSeconds(), TimeUnit.SECONDS);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof StepFailed failed) {
        throw failed;
      }
      throw new StepFailed("something beside", String.valueOf(e.getCause()));
    }
  }

  private static String jdbc(PostgresServer postgres) {
    URI url = URI.create(postgres.url());
    String[] user = url.getUserInfo().split(":", 2);
    return "jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath() + "?user="
        + user[0] + "&password=" + user[1];
  }

  static void delete(Path folder) throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
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
