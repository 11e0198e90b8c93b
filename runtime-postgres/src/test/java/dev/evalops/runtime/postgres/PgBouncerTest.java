package dev.evalops.runtime.postgres;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.VerifiedToken;
import dev.evalops.runtime.changejournal.ChangeActor;
import dev.evalops.runtime.changejournal.ChangeJournal;
import dev.evalops.runtime.changejournal.JournalReader;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.testutil.PostgresServer;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.postgresql.PGConnection;

class PgBouncerTest {
  private static final int CLIENTS = 24;
  private static PostgresServer server;
  private static PgBouncer bouncer;

  @BeforeAll
  static void start() throws Exception {
    server = PostgresServer.start();
    bouncer = PgBouncer.start(server.port());
    try (Connection connection = DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + server.port() + "/postgres", "test", "test");
        Statement statement = connection.createStatement()) {
      statement.execute(resource("idempotency/idempotency.sql"));
      statement.execute(resource("changejournal/changejournal.sql"));
      statement.execute("CREATE TABLE items (key text NOT NULL)");
    }
  }

  @AfterAll
  static void stop() throws Exception {
    bouncer.close();
    server.close();
  }

  private static String resource(String name) throws Exception {
    try (InputStream in = Idempotency.class.getResourceAsStream("/dev/evalops/runtime/" + name)) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
  }

  @Test
  void everyRequestIsAnswered_throughATransactionPooler() throws Exception {
    requests(160);
  }

  @Test
  @Tag("soak")
  void everyRequestIsAnswered_throughATransactionPooler_manyTimes() throws Exception {
    for (int i = 0; i < 5; i++) {
      requests(800);
    }
  }

  /** Sends each key twice, half of them to a handler with the transaction of its key. */
  private static void requests(int count) throws Exception {
    try (HikariDataSource db = Postgres.builder(bouncer.url())
            .configure(pool -> pool.setMaximumPoolSize(CLIENTS))
            .open();
        HttpService service = serve(db);
        HttpClient client = HttpClient.newHttpClient();
        ExecutorService clients = Executors.newFixedThreadPool(CLIENTS)) {
      String run = "run-" + System.nanoTime() + "-";
      List<Future<Integer>> sent = new ArrayList<>();
      for (int i = 0; i < count; i++) {
        String key = run + i / 2;
        HttpRequest request = HttpRequest.newBuilder(URI.create(
                "http://localhost:" + service.port() + (i / 2 % 2 == 0 ? "/v1/plain" : "/v1/tx")))
            .header("Authorization", "Bearer alice")
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", key)
            .timeout(Duration.ofSeconds(60))
            .POST(HttpRequest.BodyPublishers.ofString("{}"))
            .build();
        sent.add(clients.submit(
            () -> client.send(request, HttpResponse.BodyHandlers.discarding()).statusCode()));
      }
      List<String> journaled = journaled(db, run, sent);
      List<Integer> statuses = new ArrayList<>();
      for (Future<Integer> each : sent) {
        statuses.add(each.get(120, TimeUnit.SECONDS));
      }

      assertThat(statuses).isSubsetOf(201, 409); // 409 while the first is in progress
      assertThat(statuses.stream().filter(status -> status == 201).count())
          .isGreaterThanOrEqualTo(count / 2);
      for (String rows : new String[] {
        "SELECT count(*) FROM items WHERE key LIKE '" + run + "%'",
        "SELECT count(DISTINCT key) FROM items WHERE key LIKE '" + run + "%'",
        "SELECT count(*) FROM change_journal WHERE aggregate_id LIKE '" + run + "%'",
        "SELECT count(*) FROM api_idempotency_keys WHERE response_code = 201 AND idempotency_key LIKE '"
            + run + "%'"
      }) {
        assertThat(number(db, rows)).as(rows).isEqualTo(count / 2);
      }
      assertThat(journaled).hasSize(count / 2).doesNotHaveDuplicates();
      assertThat(
              number(db, "SELECT count(*) FROM api_idempotency_keys WHERE response_code IS NULL"))
          .isZero();
    }
  }

  /**
   * Reads the journal while it is written and then to its end, each statement on whichever connection the pooler takes.
   */
  private static List<String> journaled(
      HikariDataSource db, String run, List<Future<Integer>> writing) throws SQLException {
    JournalReader reader = ChangeJournal.reader(db);
    JournalReader.Position position = JournalReader.Position.START;
    List<String> read = new ArrayList<>();
    boolean done;
    do {
      done = writing.stream().allMatch(Future::isDone);
      JournalReader.Changes page = reader.changes(position, 100);
      page.changes().stream()
          .map(change -> change.aggregateId().orElse(""))
          .filter(key -> key.startsWith(run))
          .forEach(read::add);
      position = page.next();
    } while (!done || reader.lag(position).changes() > 0);
    return read;
  }

  private static HttpService serve(HikariDataSource db) {
    Auth auth = Auth.of((token, scopes) ->
        Optional.of(VerifiedToken.of(new Actor("user", token, "org"), Set.of())));
    return HttpService.builder(0)
        .host("localhost")
        .handle(
            "/v1",
            exchange -> {
              String key = exchange.getRequestHeaders().getFirst("Idempotency-Key");
              if (exchange.getRequestURI().getPath().equals("/v1/tx")) {
                add(Idempotency.transaction(exchange), key);
              } else {
                try (Connection connection = db.getConnection()) {
                  connection.setAutoCommit(false);
                  add(connection, key);
                  connection.commit();
                }
              }
              HttpResponses.json(exchange, 201, Map.of("key", key));
            },
            auth.require(),
            Idempotency.of(db).filter())
        .start();
  }

  private static void add(Connection connection, String key) throws SQLException {
    try (PreparedStatement insert =
        connection.prepareStatement("INSERT INTO items (key) VALUES (?)")) {
      insert.setString(1, key);
      insert.executeUpdate();
    }
    ChangeJournal.mutation("item", key, "create")
        .by(new ChangeActor("user", "alice", "org"))
        .payload(Map.of("key", key))
        .metadata("source", "test")
        .write(connection);
  }

  private static long number(HikariDataSource db, String sql) throws SQLException {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getLong(1);
    }
  }

  private static int prepareThreshold(String url) throws SQLException {
    try (HikariDataSource db = Postgres.open(url);
        Connection connection = db.getConnection()) {
      return connection.unwrap(PGConnection.class).getPrepareThreshold();
    }
  }

  @Test
  void statementsArePreparedOnTheServer_directly_orIfTheUrlSaysSo() throws Exception {
    String direct = "postgres://test:test@127.0.0.1:" + server.port() + "/postgres";

    assertThat(prepareThreshold(direct)).isEqualTo(5);
    assertThat(prepareThreshold(bouncer.url())).isZero();
    assertThat(prepareThreshold(bouncer.url() + "?default_query_exec_mode=cache_statement"))
        .isEqualTo(5);
    assertThat(prepareThreshold(direct + "?default_query_exec_mode=exec")).isZero();
    assertThat(prepareThreshold("jdbc:postgresql://127.0.0.1:" + bouncer.port()
            + "/postgres?user=test&password=test&prepareThreshold=3"))
        .isEqualTo(3);
  }

  private static int attempts(String url) {
    AtomicInteger failures = new AtomicInteger();
    assertThatThrownBy(() -> Postgres.builder(url)
            .retry(Retry.builder()
                .maxAttempts(3)
                .delay(Duration.ZERO)
                .onFailedAttempt(attempt -> failures.incrementAndGet())
                .build())
            .open()
            .close())
        .isInstanceOf(StartupException.class);
    return failures.get();
  }

  @ParameterizedTest
  @CsvSource({
    "test:wrong, postgres, ''",
    "nobody:test, postgres, ''",
    "test:test, nowhere, ''",
    "test:test, postgres, ?options=-c%20geqo%3Doff",
    "test:test, postgres, ?search_path=other",
    "test:test, postgres, ?statement_timeout=7s",
    "test:test, postgres, ?sslmode=require"
  })
  void whatItRefusesForGoodStopsAtOnce(String userInfo, String database, String query) {
    assertThat(attempts(
            "postgres://" + userInfo + "@127.0.0.1:" + bouncer.port() + "/" + database + query))
        .isEqualTo(1);
  }

  @Test
  void whatCanPassIsTriedAgain() throws Exception {
    int nobody = FreePort.next();
    try (PgBouncer away =
            PgBouncer.start(nobody, "query_wait_timeout = 1", "server_login_retry = 1");
        PgBouncer full = PgBouncer.start(server.port(), "max_client_conn = 1");
        Connection only = DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + full.port() + "/postgres", "test", "test")) {
      assertThat(attempts(away.url())).isEqualTo(3);
      assertThat(attempts(full.url())).isEqualTo(3);
      assertThat(only.isValid(5)).isTrue();
    }
  }

  @Test
  void initStopsAtOnce_whereThePoolerTakesNoTransactions() throws Exception {
    try (PgBouncer statements = PgBouncer.start(server.port(), "pool_mode = statement")) {
      Postgres.Builder builder = Postgres.builder(statements.url())
          .retry(Retry.builder().maxAttempts(3).delay(Duration.ZERO).build())
          .init(connection -> {});
      assertThatThrownBy(builder::open)
          .isInstanceOf(StartupException.class)
          .hasMessage("startup failed after 1 attempts: open_postgres:"
              + " transaction blocks not allowed in statement pooling mode");
    }
  }
}
