package dev.evalops.runtime.idempotency;

import static dev.evalops.runtime.idempotency.PostgresStoreTest.execute;
import static dev.evalops.runtime.idempotency.PostgresStoreTest.query;
import static dev.evalops.runtime.idempotency.Services.isReplay;
import static dev.evalops.runtime.idempotency.Services.post;
import static dev.evalops.runtime.idempotency.Services.request;
import static dev.evalops.runtime.idempotency.Services.send;
import static dev.evalops.runtime.idempotency.Services.serve;
import static dev.evalops.runtime.testutil.TestHttp.assertError;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.net.http.HttpResponse;
import java.sql.Array;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;
import org.postgresql.jdbc.PgResultSet;

@ExtendWith(TestPostgres.class)
@Schema({"dev/evalops/runtime/idempotency/idempotency.sql", "effects.sql"})
class TransactionTest {
  private final AtomicInteger runs = new AtomicInteger();
  private HikariDataSource db;
  private HttpService service;

  @BeforeEach
  void setUp(HikariDataSource db) {
    this.db = db;
  }

  @AfterEach
  void tearDown() {
    service.close();
  }

  /** Has an effect in the transaction, then does what is given, which answers. */
  private void start(Idempotency idempotency, HttpService.Handler then) {
    service = serve(idempotency, exchange -> {
      runs.incrementAndGet();
      Services.effect(Idempotency.transaction(exchange), exchange, UUID.randomUUID());
      then.serve(exchange);
    });
  }

  private void start(HttpService.Handler then) {
    start(Idempotency.of(db), then);
  }

  private void answerOk() {
    start(exchange -> HttpResponses.json(exchange, 200, Map.of("run", runs.get())));
  }

  private int effects() throws SQLException {
    return query(db, "SELECT id FROM effects").size();
  }

  private List<String> keys() throws SQLException {
    return query(db, "SELECT response_code FROM api_idempotency_keys");
  }

  @Test
  void commitsEffectAndAnswerTogether() throws Exception {
    answerOk();

    HttpResponse<String> first = post(service, "/v1/x", "k", "a");
    HttpResponse<String> second = post(service, "/v1/x", "k", "a");

    assertThat(first.statusCode()).isEqualTo(200);
    assertThat(isReplay(second)).isTrue();
    assertThat(second.body()).isEqualTo(first.body());
    assertThat(effects()).isEqualTo(1);
    assertThat(query(
            db,
            "SELECT count(DISTINCT t.xmin) FROM (SELECT xmin::text FROM effects"
                + " UNION ALL SELECT xmin::text FROM api_idempotency_keys) t"))
        .containsExactly("1");
  }

  @Test
  void runsWhatWaitsForTheCommit_andNothingOfARollback() throws Exception {
    List<Integer> seen = new CopyOnWriteArrayList<>();
    start(exchange -> {
      Connection tx = Idempotency.transaction(exchange);
      assertThat(tx.isWrapperFor(Executor.class)).isTrue();
      tx.unwrap(Executor.class).execute(() -> {
        try {
          seen.add(effects());
        } catch (SQLException e) {
          throw new IllegalStateException(e);
        }
      });
      tx.unwrap(Executor.class).execute(() -> {
        throw new IllegalStateException("a bug of the task");
      });
      HttpResponses.json(exchange, runs.get() == 1 ? 503 : 200, Map.of());
    });

    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(503);
    assertThat(seen).isEmpty();
    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(200);
    assertThat(seen).containsExactly(1);
  }

  @Test
  void showsNothingOfItBeforeTheHandlerHasReturned_andRefusesADuplicateAtOnce() throws Exception {
    CountDownLatch running = new CountDownLatch(1);
    CountDownLatch go = new CountDownLatch(1);
    start(exchange -> {
      HttpResponses.json(exchange, 200, Map.of());
      running.countDown();
      go.await(30, TimeUnit.SECONDS);
    });
    CompletableFuture<HttpResponse<String>> first = Services.CLIENT.sendAsync(
        Services.post(service.port(), "/v1/x", "k", "a"), HttpResponse.BodyHandlers.ofString());
    assertThat(running.await(20, TimeUnit.SECONDS)).isTrue();

    assertThat(effects()).isZero();
    assertThat(keys()).containsExactly("null");
    assertError(post(service, "/v1/x", "k", "a"), 409, "idempotency_in_progress");
    assertThat(first).isNotDone();

    go.countDown();
    assertThat(first.get(20, TimeUnit.SECONDS).statusCode()).isEqualTo(200);
    assertThat(effects()).isEqualTo(1);
  }

  @Test
  void rollsBackAndFreesTheKey_whenTheHandlerThrows() throws Exception {
    start(exchange -> {
      if (runs.get() == 1) {
        throw ServiceException.of(ErrorCode.CONFLICT).op("test");
      }
      HttpResponses.noContent(exchange);
    });

    assertError(post(service, "/v1/x", "k", "a"), 409, "conflict");
    assertThat(effects()).isZero();
    assertThat(keys()).isEmpty();
    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(204);
    assertThat(effects()).isEqualTo(1);
  }

  @Test
  void rollsBackAndFreesTheKey_whenTheAnswerIsNotFinal() throws Exception {
    start(exchange -> HttpResponses.json(exchange, runs.get() == 1 ? 503 : 200, Map.of()));

    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(503);
    assertThat(effects()).isZero();
    assertThat(keys()).isEmpty();
    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(200);
    assertThat(effects()).isEqualTo(1);
  }

  @Test
  void rollsBackAndFreesTheKey_whenTheAnswerHasAHeaderThatCannotBeSent() throws Exception {
    start(exchange -> {
      exchange.getResponseHeaders().set("Location", runs.get() == 1 ? "/v1/a\u0001b" : "/v1/ab");
      HttpResponses.json(exchange, 201, Map.of());
    });

    assertError(post(service, "/v1/x", "k", "a"), 500, "internal_error");
    assertThat(effects()).isZero();
    assertThat(keys()).isEmpty();
    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(201);
    assertThat(effects()).isEqualTo(1);
  }

  @Test
  void answers500AndKeepsNothing_whenAConstraintFailsAtTheCommit() throws Exception {
    execute(
        db,
        "ALTER TABLE effects ADD CONSTRAINT once UNIQUE (key) DEFERRABLE INITIALLY DEFERRED;"
            + " INSERT INTO effects VALUES (gen_random_uuid(), 'k')");
    answerOk();

    HttpResponse<String> response = post(service, "/v1/x", "k", "a");

    assertError(response, 500, "idempotency_failed");
    assertThat(response.body()).doesNotContain("once");
    assertThat(effects()).isEqualTo(1);
    assertThat(keys()).isEmpty();
    execute(db, "DELETE FROM effects");
    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(200);
  }

  @Test
  void answers503AndKeepsNothing_whenTheConnectionIsLostBeforeTheCommit() throws Exception {
    start(exchange -> {
      if (runs.get() == 1) {
        execute(
            db,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                + " WHERE state = 'idle in transaction' AND query LIKE '%INTO effects%'"
                + " AND pid <> pg_backend_pid() AND pid IN (SELECT pid FROM pg_locks"
                + " WHERE relation = 'effects'::regclass)");
      }
      HttpResponses.json(exchange, 200, Map.of());
    });

    assertError(post(service, "/v1/x", "k", "a"), 503, "unavailable");
    assertThat(effects()).isZero();
    await().atMost(Duration.ofSeconds(20)).until(() -> keys().isEmpty());
    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(200);
    assertThat(effects()).isEqualTo(1);
  }

  @Test
  void theLateFirstCannotCommit_whenAnotherHasTakenOver() throws Exception {
    CountDownLatch running = new CountDownLatch(1);
    CountDownLatch late = new CountDownLatch(1);
    start(Idempotency.builder(db).leaseFor(Duration.ofMillis(200)).build(), exchange -> {
      int run = runs.get();
      if (run == 1) {
        running.countDown();
        late.await(30, TimeUnit.SECONDS);
      }
      HttpResponses.json(exchange, 200, Map.of("run", run));
    });
    CompletableFuture<HttpResponse<String>> first = Services.CLIENT.sendAsync(
        Services.post(service.port(), "/v1/x", "k", "a"), HttpResponse.BodyHandlers.ofString());
    assertThat(running.await(20, TimeUnit.SECONDS)).isTrue();

    await()
        .atMost(Duration.ofSeconds(20))
        .until(() -> post(service, "/v1/x", "k", "a").statusCode() == 200);
    late.countDown();

    assertError(first.get(20, TimeUnit.SECONDS), 409, "idempotency_in_progress");
    assertThat(effects()).isEqualTo(1);
    assertThat(post(service, "/v1/x", "k", "a").body()).contains("2");
  }

  @Test
  void theHandlerCannotEndTheTransaction() throws Exception {
    AtomicReference<Connection> escaped = new AtomicReference<>();
    start(exchange -> {
      Connection transaction = Idempotency.transaction(exchange);
      escaped.set(transaction);
      assertThat(Idempotency.transaction(exchange)).isSameAs(transaction).isEqualTo(transaction);
      assertThat(transaction.getAutoCommit()).isFalse();
      assertThat(transaction.isClosed()).isFalse();
      assertThat(transaction.toString()).contains("transaction of a request");
      assertThatThrownBy(transaction::commit).isInstanceOf(SQLException.class);
      assertThatThrownBy(transaction::rollback).isInstanceOf(SQLException.class);
      assertThatThrownBy(transaction::close).isInstanceOf(SQLException.class);
      assertThatThrownBy(() -> transaction.setAutoCommit(true)).isInstanceOf(SQLException.class);
      assertThatThrownBy(() -> transaction.abort(Runnable::run)).isInstanceOf(SQLException.class);
      for (String sql : List.of(
          "COMMIT",
          " rollback",
          "END",
          "ROLLBACK AND CHAIN",
          "abort;",
          "-- done\nCOMMIT",
          "/* a\nb */ /**/ROLLBACK",
          "; -- \r\n;commit",
          "/* a /* b */ c */ COMMIT",
          "/*/**/*/ /* /*/* */*/ */end")) {
        assertThatThrownBy(() -> transaction.prepareStatement(sql))
            .hasMessageContaining("is refused");
        assertThatThrownBy(() -> transaction.createStatement().execute(sql))
            .hasMessageContaining("is refused");
      }
      try (Statement statement = transaction.createStatement();
          ResultSet row = statement.executeQuery("SELECT 1 AS \"end\", 2 AS \"commit\"")) {
        assertThat(row.next()).isTrue();
        assertThat(row.getInt("end") + row.getInt("commit")).isEqualTo(3);
      }
      Savepoint savepoint = transaction.setSavepoint();
      Services.effect(transaction, exchange, UUID.randomUUID());
      transaction.rollback(savepoint);
      HttpResponses.json(exchange, 200, Map.of());
    });

    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(200);
    assertThat(effects()).isEqualTo(1);
    assertThat(escaped.get().isClosed()).isTrue();
    assertThatThrownBy(() -> escaped.get().prepareStatement("SELECT 1"))
        .isInstanceOf(SQLException.class)
        .hasMessageContaining("ended with its request");
  }

  @Test
  void theHandlerFindsNoOtherConnection_behindWhatItsConnectionGives() throws Exception {
    AtomicReference<PreparedStatement> escaped = new AtomicReference<>();
    start(exchange -> {
      Connection transaction = Idempotency.transaction(exchange);
      PreparedStatement prepared = transaction.prepareStatement("SELECT ?::int[]");
      Statement statement = transaction.createStatement();
      Array array = transaction.createArrayOf("int4", new Object[] {1, 2});
      prepared.setArray(1, array);
      ResultSet row = prepared.executeQuery();
      assertThat(row.next()).isTrue();
      assertThat((Object[]) row.getArray(1).getArray()).containsExactly(1, 2);
      ResultSet tables = transaction.getMetaData().getTables(null, null, "effects", null);

      assertThat(List.of(
              prepared.getConnection(),
              statement.getConnection(),
              transaction.prepareCall("SELECT 1").getConnection(),
              transaction.getMetaData().getConnection(),
              row.getStatement().getConnection(),
              tables.getStatement().getConnection(),
              row.getArray(1).getResultSet().getStatement().getConnection(),
              transaction.unwrap(Connection.class)))
          .allSatisfy(each -> assertThat(each).isSameAs(transaction));
      assertThat(row.getStatement()).isEqualTo(prepared).hasSameHashCodeAs(prepared);
      assertThat(statement).isNotEqualTo(prepared).isNotEqualTo(null);
      assertThat(prepared.unwrap(Statement.class)).isSameAs(prepared);
      assertThat(transaction.isWrapperFor(PGConnection.class)).isFalse();
      assertThatThrownBy(() -> transaction.unwrap(PGConnection.class))
          .isInstanceOf(SQLException.class)
          .hasMessageContaining("unwrap is refused");
      assertThatThrownBy(() -> prepared.unwrap(PGStatement.class)).isInstanceOf(SQLException.class);
      assertThatThrownBy(() -> row.unwrap(PgResultSet.class)).isInstanceOf(SQLException.class);
      escaped.set(prepared);
      statement.getConnection().commit();
    });

    assertError(post(service, "/v1/x", "k", "a"), 500, "internal_error");
    assertThat(effects()).isZero();
    assertThat(keys()).isEmpty();
    assertThatThrownBy(() -> escaped.get().executeQuery())
        .isInstanceOf(SQLException.class)
        .hasMessageContaining("ended with its request");
    escaped.get().close();
  }

  @Test
  void rollsBack_whenTheAnswerIsTooLargeToKeep_evenIfTheHandlerHidesIt() throws Exception {
    start(exchange -> {
      try {
        HttpResponses.bytes(exchange, 200, "text/plain", new byte[2 << 20]);
      } catch (IllegalStateException e) {
        assertThat(e).hasMessageContaining("maxResponse");
      }
    });

    assertError(post(service, "/v1/x", "k", "a"), 500, "internal_error");
    assertThat(effects()).isZero();
    assertThat(keys()).isEmpty();
  }

  @Test
  void isRefused_whereNoKeyIsNeeded_orTheStoreIsAnother() throws Exception {
    PostgresStore real = PostgresStore.open(db);
    IdempotencyStore own = new IdempotencyStore() {
      @Override
      public Decision begin(Attempt attempt) throws SQLException {
        return real.begin(attempt);
      }

      @Override
      public boolean complete(Claim claim, StoredResponse response) throws SQLException {
        return real.complete(claim, response);
      }

      @Override
      public void release(Claim claim) throws SQLException {
        real.release(claim);
      }

      @Override
      public int sweep(int limit) {
        throw new IllegalStateException("not swept");
      }
    };
    start(Idempotency.builder(own).build(), exchange -> HttpResponses.noContent(exchange));

    assertThat(send(request(service, "/v1/x").build()).statusCode()).isEqualTo(500);
    assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(500);
    assertThat(effects()).isZero();
    assertThat(keys()).isEmpty();
  }

  @Test
  void needsOneConnectionAtATime() throws Exception {
    try (HikariDataSource single = new HikariDataSource()) {
      single.setJdbcUrl(db.getJdbcUrl());
      single.setDataSourceProperties(db.getDataSourceProperties());
      single.setMaximumPoolSize(1);
      single.setConnectionTimeout(10_000);
      start(Idempotency.of(single), exchange -> {
        if (runs.get() == 1) {
          throw new IllegalStateException("test");
        }
        HttpResponses.noContent(exchange);
      });

      assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(500);
      assertThat(post(service, "/v1/x", "k", "a").statusCode()).isEqualTo(204);
      assertThat(isReplay(post(service, "/v1/x", "k", "a"))).isTrue();
    }
  }

  @Test
  void everyRequestGivesItsConnectionBack() throws Exception {
    start(exchange -> {
      switch (runs.get() % 4) {
        case 0 -> throw new IllegalStateException("test");
        case 1 -> HttpResponses.json(exchange, 500, Map.of());
        default -> HttpResponses.json(exchange, 200, Map.of());
      }
    });

    for (int i = 0; i < 40; i++) {
      post(service, "/v1/x", "k" + i, "a");
    }

    assertThat(db.getHikariPoolMXBean().getActiveConnections()).isZero();
    assertThat(effects()).isEqualTo(20);
    assertThat(keys()).hasSize(20);
  }
}
