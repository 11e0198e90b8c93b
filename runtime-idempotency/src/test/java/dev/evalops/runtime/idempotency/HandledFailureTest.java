package dev.evalops.runtime.idempotency;

import static dev.evalops.runtime.idempotency.PostgresStoreTest.execute;
import static dev.evalops.runtime.idempotency.PostgresStoreTest.query;
import static dev.evalops.runtime.idempotency.Services.isReplay;
import static dev.evalops.runtime.idempotency.Services.post;
import static dev.evalops.runtime.testutil.TestHttp.assertError;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.net.http.HttpResponse;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeSet;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Handlers that catch a failure of the database and answer. */
@ExtendWith(TestPostgres.class)
@Schema({"dev/evalops/runtime/idempotency/idempotency.sql", "effects.sql"})
class HandledFailureTest {
  private HikariDataSource db;
  private HttpService service;

  private interface Work {
    int in(Connection transaction) throws Exception;
  }

  @BeforeEach
  void setUp(HikariDataSource db) throws SQLException {
    this.db = db;
    execute(db, "CREATE TABLE numbers (n int PRIMARY KEY); INSERT INTO numbers VALUES (0)");
  }

  @AfterEach
  void tearDown() {
    if (service != null) {
      service.close();
    }
  }

  /** Does the work, whose result is the status of the answer. */
  private HttpResponse<String> answerOf(Work work) throws Exception {
    service = Services.serve(Idempotency.of(db), exchange -> {
      int status = work.in(Idempotency.transaction(exchange));
      HttpResponses.json(exchange, status, Map.of("answer", status));
    });
    return post(service, "/v1/x", "k", "a");
  }

  private void assertKept(HttpResponse<String> first, int status, String... numbers)
      throws Exception {
    HttpResponse<String> second = post(service, "/v1/x", "k", "a");
    assertThat(List.of(first, second)).allSatisfy(response -> {
      assertThat(response.statusCode()).isEqualTo(status);
      assertThat(response.body()).isEqualToIgnoringNewLines("{\"answer\":" + status + "}");
    });
    assertThat(isReplay(first)).isFalse();
    assertThat(isReplay(second)).isTrue();
    assertThat(numbers()).containsExactly(numbers);
  }

  private List<String> numbers() throws SQLException {
    return query(db, "SELECT n FROM numbers WHERE n > 0 ORDER BY n");
  }

  private static void run(Connection transaction, String sql) throws SQLException {
    try (Statement statement = transaction.createStatement()) {
      statement.execute(sql);
    }
  }

  private static void insert(Connection transaction, int number) throws SQLException {
    try (PreparedStatement insert =
        transaction.prepareStatement("INSERT INTO numbers VALUES (?)")) {
      insert.setInt(1, number);
      insert.executeUpdate();
    }
  }

  private static void fails(Connection transaction, String state, String sql) {
    assertThat(catchThrowableOfType(SQLException.class, () -> run(transaction, sql))
            .getSQLState())
        .isEqualTo(state);
  }

  @ParameterizedTest
  @CsvSource(quoteCharacter = '`', textBlock = """
          23505, 409, INSERT INTO numbers VALUES (0)
          22012, 201, SELECT 1 / 0
          42P01, 404, SELECT 1 FROM nowhere
          22P02, 422, SELECT 'x'::int
          P0001, 200, DO $$ BEGIN RAISE 'no'; END $$
          57014, 410, SET LOCAL statement_timeout = 1; SELECT pg_sleep(30)
          40001, 204, DO $$ BEGIN RAISE serialization_failure; END $$
          25001, 400, VACUUM numbers
          3B001, 201, ROLLBACK TO SAVEPOINT nowhere
          """)
  void theAnswerIsTheHandlersOwn_withAllThatItHasDone(String state, int status, String failing)
      throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      insert(transaction, 1);
      insert(transaction, 2);
      fails(transaction, state, failing);
      insert(transaction, 3);
      fails(transaction, state, failing);
      return status == 204 ? 200 : status;
    });

    assertKept(response, status == 204 ? 200 : status, "1", "2", "3");
  }

  @Test
  void aFailureOfTheFirstStatementUndoesNothingElse() throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      fails(transaction, "23505", "INSERT INTO numbers VALUES (0)");
      fails(transaction, "42601", "nonsense");
      insert(transaction, 1);
      return 201;
    });

    assertKept(response, 201, "1");
  }

  @Test
  void aHandlerThatOnlyFailsHasItsAnswerKept() throws Exception {
    assertKept(
        answerOf(transaction -> {
          fails(transaction, "23505", "INSERT INTO numbers VALUES (0)");
          return 409;
        }),
        409);
  }

  @Test
  void anAnswerThatIsNotFinalKeepsNothing_alsoAfterAFailure() throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      insert(transaction, 1);
      fails(transaction, "22012", "SELECT 1 / 0");
      return 503;
    });

    assertThat(response.statusCode()).isEqualTo(503);
    assertThat(numbers()).isEmpty();
    assertThat(query(db, "SELECT 1 FROM api_idempotency_keys")).isEmpty();
  }

  @Test
  void aBatchOrSeveralCommandsInOneFailAsOne() throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      insert(transaction, 1);
      try (Statement statement = transaction.createStatement()) {
        statement.addBatch("INSERT INTO numbers VALUES (2)");
        statement.addBatch("INSERT INTO numbers VALUES (0)");
        assertThatThrownBy(statement::executeBatch).isInstanceOf(SQLException.class);
      }
      try (PreparedStatement insert =
          transaction.prepareStatement("INSERT INTO numbers VALUES (?)")) {
        for (int n : new int[] {3, 0, 4}) {
          insert.setInt(1, n);
          insert.addBatch();
        }
        assertThatThrownBy(insert::executeBatch).isInstanceOf(SQLException.class);
      }
      fails(
          transaction,
          "23505",
          "INSERT INTO numbers VALUES (5); INSERT INTO numbers VALUES (0); INSERT INTO numbers VALUES (6)");
      insert(transaction, 7);
      return 200;
    });

    assertKept(response, 200, "1", "7");
  }

  @Test
  void aFailureOfTheDriverUndoesNothing() throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      try (Statement statement = transaction.createStatement();
          ResultSet row = statement.executeQuery("INSERT INTO numbers VALUES (1) RETURNING n")) {
        assertThat(row.next()).isTrue();
        assertThatThrownBy(() -> row.getInt("nowhere")).isInstanceOf(SQLException.class);
        assertThatThrownBy(() -> row.getInt("nowhere")).isInstanceOf(SQLException.class);
      }
      insert(transaction, 2);
      return 201;
    });

    assertKept(response, 201, "1", "2");
  }

  private static ResultSet failsLater(Statement statement) throws SQLException {
    statement.setFetchSize(2);
    return statement.executeQuery("SELECT 1 / (4 - n) FROM generate_series(1, 9) AS n");
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void aFailureWhileRowsAreFetchedUndoesNothingElse(boolean first) throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      if (!first) {
        insert(transaction, 1);
      }
      try (Statement statement = transaction.createStatement();
          ResultSet rows = failsLater(statement)) {
        assertThat(rows.next()).isTrue();
        assertThatThrownBy(() -> rows.getInt("nowhere")).isInstanceOf(SQLException.class);
        assertThatThrownBy(() -> {
              while (rows.next()) {
                rows.getInt(1);
              }
            })
            .hasMessageContaining("division by zero");
      }
      insert(transaction, 2);
      return 201;
    });

    assertKept(response, 201, first ? new String[] {"2"} : new String[] {"1", "2"});
  }

  @Test
  void noSuccessGoesOut_whenAFailureWhileRowsAreFetchedUndoesOtherStatements() throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      insert(transaction, 1);
      try (Statement statement = transaction.createStatement();
          ResultSet rows = failsLater(statement)) {
        insert(transaction, 2);
        assertThatThrownBy(() -> {
              while (rows.next()) {
                rows.getInt(1);
              }
            })
            .hasMessageContaining("division by zero");
      }
      insert(transaction, 3);
      return 201;
    });

    assertError(response, 500, "idempotency_failed");
    assertThat(numbers()).isEmpty();
    assertThat(query(db, "SELECT 1 FROM api_idempotency_keys")).isEmpty();
  }

  @Test
  void noSuccessGoesOut_whenTheConnectionIsLost() throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      insert(transaction, 1);
      assertThatThrownBy(() -> run(transaction, "SELECT pg_terminate_backend(pg_backend_pid())"))
          .isInstanceOf(SQLException.class);
      return 201;
    });

    assertError(response, 503, "unavailable");
    assertThat(response.headers().firstValue("Retry-After")).isPresent();
    assertThat(numbers()).isEmpty();
    assertThat(query(db, "SELECT 1 FROM api_idempotency_keys")).isEmpty();
  }

  @ParameterizedTest
  @CsvSource(quoteCharacter = '`', textBlock = """
          503, DO $$ BEGIN RAISE serialization_failure; END $$
          503, DO $$ BEGIN RAISE deadlock_detected; END $$
          503, SET LOCAL statement_timeout = 1; SELECT pg_sleep(30)
          503, SET LOCAL transaction_read_only = on; DELETE FROM numbers
          503, SELECT pg_terminate_backend(pg_backend_pid())
          500, INSERT INTO numbers VALUES (0)
          500, SELECT 1 / 0
          """)
  void whatTheHandlerDoesNotCatchIs503_onlyIfTheSameRequestMaySucceed(int status, String failing)
      throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      insert(transaction, 1);
      run(transaction, failing);
      return 201;
    });

    assertError(response, status, status == 503 ? "unavailable" : "internal_error");
    assertThat(response.headers().firstValue("Retry-After").isPresent()).isEqualTo(status == 503);
    assertThat(numbers()).isEmpty();
    assertThat(query(db, "SELECT 1 FROM api_idempotency_keys")).isEmpty();
  }

  @Test
  void aTransactionThatTheServerHasEndedForIdlingIs503() throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      insert(transaction, 1);
      run(transaction, "SET LOCAL idle_in_transaction_session_timeout = 1");
      await()
          .atMost(Duration.ofSeconds(20))
          .until(() -> query(
                  db,
                  "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
                      + " AND query LIKE '%idle_in_transaction_session_timeout%' AND pid <> pg_backend_pid()")
              .isEmpty());
      return 201;
    });

    assertError(response, 503, "unavailable");
    assertThat(numbers()).isEmpty();
    assertThat(query(db, "SELECT 1 FROM api_idempotency_keys")).isEmpty();
  }

  @Test
  void theHandlersSavepointsAreItsOwn() throws Exception {
    HttpResponse<String> response = answerOf(transaction -> {
      Savepoint first = transaction.setSavepoint();
      insert(transaction, 1);
      Savepoint second = transaction.setSavepoint("named");
      insert(transaction, 2);
      fails(transaction, "23505", "INSERT INTO numbers VALUES (2)");
      transaction.rollback(second);
      insert(transaction, 3);
      transaction.releaseSavepoint(second);
      run(transaction, "SAVEPOINT textual");
      insert(transaction, 4);
      insert(transaction, 5);
      fails(transaction, "22012", "SELECT 1 / 0");
      run(transaction, "ROLLBACK TO textual");
      insert(transaction, 6);
      assertThatThrownBy(() -> transaction.rollback(second)).isInstanceOf(SQLException.class);
      insert(transaction, 7);
      if (numbersIn(transaction).equals("1,3,6,7")) {
        transaction.rollback(first);
      }
      insert(transaction, 8);
      return 201;
    });

    assertKept(response, 201, "8");
  }

  private static String numbersIn(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery(
            "SELECT coalesce(string_agg(n::text, ',' ORDER BY n), '') FROM numbers WHERE n > 0")) {
      row.next();
      return row.getString(1);
    }
  }

  /** The statements that have not failed, but for those that the handler itself has taken back. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void whateverFailsInBetween_everythingElseIsThere(boolean shared) throws Exception {
    for (int seed = 0; seed < 60; seed++) {
      Random random = new Random(seed);
      TreeSet<Integer> expected = new TreeSet<>();
      Deque<TreeSet<Integer>> states = new ArrayDeque<>();
      Deque<Savepoint> savepoints = new ArrayDeque<>();
      Connection below = PostgresStore.open(db).transaction();
      TransactionConnection guard = new TransactionConnection(below, shared);
      Connection transaction = guard.forHandler();
      StringBuilder steps = new StringBuilder("seed " + seed + ":");
      for (int step = 1; step <= 12; step++) {
        int kind = random.nextInt(savepoints.isEmpty() ? 6 : 9);
        steps.append(' ').append(kind);
        switch (kind) {
          case 0, 1, 2 -> {
            insert(shared && kind > 0 ? below : transaction, step);
            expected.add(step);
          }
          case 3, 4 -> fails(transaction, "23505", "INSERT INTO numbers VALUES (0)");
          case 5 -> {
            savepoints.push(transaction.setSavepoint());
            states.push(new TreeSet<>(expected));
          }
          case 6 -> {
            transaction.rollback(savepoints.peek());
            expected = new TreeSet<>(states.peek());
          }
          case 7 -> {
            transaction.releaseSavepoint(savepoints.pop());
            states.pop();
          }
          default -> {
            assertThatThrownBy(() -> transaction.prepareStatement("nonsense").execute())
                .isInstanceOf(SQLException.class);
          }
        }
      }
      assertThat(numbersIn(guard.forCommit()))
          .as(steps.toString())
          .isEqualTo(String.join(",", expected.stream().map(String::valueOf).toList()));
      guard.close(connection -> {});
    }
  }
}
