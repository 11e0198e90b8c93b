package dev.evalops.benchmarks;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.idempotency.IdempotencyStore;
import dev.evalops.runtime.idempotency.StoredResponse;
import dev.evalops.runtime.testutil.FaultProxy;
import dev.evalops.runtime.testutil.PostgresServer;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Threads;
import org.openjdk.jmh.annotations.Warmup;

/**
 * What a key costs on a real Postgres that does not wait for its disk: a first request (begin and finish) and a replay,
 * beside the statements that the system in Go sends for the same, and an empty round trip; over loopback, and behind a
 * proxy that delays each direction.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Warmup(iterations = 3, time = 2)
@Measurement(iterations = 5, time = 2)
@Fork(1)
@Threads(4)
@SuppressWarnings("NullAway.Init") // JMH calls the setup.
public class IdempotencyBenchmark {
  private static final String SCOPE = "org:user:alice:POST:/v1/notes";
  private static final String HASH = "0".repeat(64);
  private static final StoredResponse RESPONSE = new StoredResponse(
      201,
      "application/json",
      Map.of("ETag", "\"1\"", "X-Change-Seq", "42"),
      "{\"message\":\"hello world\"}\n".getBytes(StandardCharsets.UTF_8));

  /** Of each direction. */
  @Param({"0", "250"})
  public int delayMicros;

  private final AtomicLong keys = new AtomicLong();
  private PostgresServer server;
  private FaultProxy network;
  private HikariDataSource db;
  private Idempotency idempotency;

  @Setup
  public void start() throws IOException, SQLException {
    server = PostgresServer.start();
    URI url = URI.create(server.url());
    network = FaultProxy.start(url.getPort());
    network.delay(Duration.ofNanos(delayMicros * 1000L));
    int port = delayMicros == 0 ? url.getPort() : network.port();
    String[] user = url.getUserInfo().split(":", 2);
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl("jdbc:postgresql://" + url.getHost() + ":" + port + url.getPath());
    config.setUsername(user[0]);
    config.setPassword(user[1]);
    config.setMaximumPoolSize(4);
    db = new HikariDataSource(config);
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement()) {
      statement.execute(Idempotency.schema());
    }
    idempotency = Idempotency.of(db);
    finish(idempotency.begin(SCOPE, "replayed", HASH));
  }

  @TearDown
  public void stop() {
    db.close();
    network.close();
    server.close();
  }

  private boolean finish(IdempotencyStore.Decision decision) {
    return idempotency.finish(((IdempotencyStore.Started) decision).claim(), RESPONSE);
  }

  @Benchmark
  public boolean emptyRoundTrip() throws SQLException {
    try (Connection connection = db.getConnection()) {
      return read(connection, "SELECT 1");
    }
  }

  @Benchmark
  public boolean beginAndFinish() {
    return finish(idempotency.begin(SCOPE, "k" + keys.incrementAndGet(), HASH));
  }

  @Benchmark
  public StoredResponse replay() {
    return ((IdempotencyStore.Replay) idempotency.begin(SCOPE, "replayed", HASH)).response();
  }

  /** BEGIN, SELECT, INSERT, COMMIT; UPDATE. */
  @Benchmark
  public int beginAndFinishInGo() throws SQLException {
    String key = "g" + keys.incrementAndGet();
    try (Connection connection = db.getConnection()) {
      execute(connection, "BEGIN");
      read(
          connection,
          "SELECT request_hash, response_code, response_body, content_type"
              + " FROM api_idempotency_keys WHERE scope = ? AND idempotency_key = ?",
          SCOPE,
          key);
      update(
          connection,
          "INSERT INTO api_idempotency_keys (scope, idempotency_key, request_hash, created_at,"
              + " expires_at) VALUES (?, ?, ?, now(), now() + interval '1 day')",
          SCOPE,
          key,
          HASH);
      execute(connection, "COMMIT");
    }
    try (Connection connection = db.getConnection()) {
      return update(
          connection,
          "UPDATE api_idempotency_keys SET response_code = 201, response_body = ?::text::bytea,"
              + " content_type = 'application/json', completed_at = now()"
              + " WHERE scope = ? AND idempotency_key = ?",
          "hello world",
          SCOPE,
          key);
    }
  }

  /** BEGIN, SELECT, COMMIT. */
  @Benchmark
  public boolean replayInGo() throws SQLException {
    try (Connection connection = db.getConnection()) {
      execute(connection, "BEGIN");
      boolean found = read(
          connection,
          "SELECT request_hash, response_code, response_body, content_type"
              + " FROM api_idempotency_keys WHERE scope = ? AND idempotency_key = ?",
          SCOPE,
          "replayed");
      execute(connection, "COMMIT");
      return found;
    }
  }

  private static void execute(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  private static boolean read(Connection connection, String sql, String... parameters)
      throws SQLException {
    try (PreparedStatement select = connection.prepareStatement(sql)) {
      set(select, parameters);
      try (ResultSet rows = select.executeQuery()) {
        return rows.next();
      }
    }
  }

  private static int update(Connection connection, String sql, String... parameters)
      throws SQLException {
    try (PreparedStatement update = connection.prepareStatement(sql)) {
      set(update, parameters);
      return update.executeUpdate();
    }
  }

  private static void set(PreparedStatement statement, String... parameters) throws SQLException {
    for (int i = 0; i < parameters.length; i++) {
      statement.setString(i + 1, parameters[i]);
    }
  }
}
