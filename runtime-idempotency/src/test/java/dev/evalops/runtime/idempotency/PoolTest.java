package dev.evalops.runtime.idempotency;

import static dev.evalops.runtime.idempotency.PostgresStoreTest.query;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.net.http.HttpResponse;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** More requests than the pool has connections. */
@ExtendWith(TestPostgres.class)
@Schema({"dev/evalops/runtime/idempotency/idempotency.sql", "effects.sql"})
class PoolTest {
  private static final int REQUESTS = 50;

  private static HikariDataSource pool(HikariDataSource db, long timeoutMillis) {
    HikariDataSource pool = new HikariDataSource();
    pool.setJdbcUrl(db.getJdbcUrl());
    pool.setDataSourceProperties(db.getDataSourceProperties());
    pool.setMaximumPoolSize(5);
    pool.setConnectionTimeout(timeoutMillis);
    return pool;
  }

  private static List<HttpResponse<String>> posts(HttpService service) throws Exception {
    List<CompletableFuture<HttpResponse<String>>> sent = new ArrayList<>();
    for (int i = 0; i < REQUESTS; i++) {
      sent.add(Services.CLIENT.sendAsync(
          Services.post(service.port(), "/v1/x", "k" + i, "a"),
          HttpResponse.BodyHandlers.ofString()));
    }
    List<HttpResponse<String>> answers = new ArrayList<>();
    for (CompletableFuture<HttpResponse<String>> each : sent) {
      answers.add(each.get(60, TimeUnit.SECONDS));
    }
    return answers;
  }

  @Test
  void allSucceed_withTheConnectionOfTheTransactionAlone(HikariDataSource db) throws Exception {
    try (HikariDataSource pool = pool(db, 20_000);
        HttpService service = Services.serve(Idempotency.of(pool), exchange -> {
          Services.effect(Idempotency.transaction(exchange), exchange, UUID.randomUUID());
          HttpResponses.json(exchange, 201, Map.of());
        })) {
      assertThat(posts(service)).extracting(HttpResponse::statusCode).containsOnly(201);
      assertThat(query(db, "SELECT DISTINCT key FROM effects")).hasSize(REQUESTS);
    }
  }

  @Test
  void aSecondConnectionIs503_leavesNoKey_andIsLoggedOnce(HikariDataSource db) throws Exception {
    try (CapturedLog log = new CapturedLog(Idempotency.class);
        HikariDataSource pool = pool(db, 2_000);
        HttpService service = Services.serve(Idempotency.of(pool), exchange -> {
          Services.effect(Idempotency.transaction(exchange), exchange, UUID.randomUUID());
          takeAnother(pool);
          HttpResponses.json(exchange, 201, Map.of());
        })) {
      List<Connection> othersAtWork = allButOne(pool);
      List<HttpResponse<String>> answers = posts(service);

      assertThat(answers).allSatisfy(answer -> {
        if (answer.statusCode() != 201) {
          assertThat(answer.statusCode()).isEqualTo(503);
          assertThat(answer.body()).contains("\"unavailable\"");
          assertThat(answer.headers().firstValue("Retry-After")).isPresent();
        }
      });
      assertThat(answers).extracting(HttpResponse::statusCode).contains(503);
      for (Connection each : othersAtWork) {
        each.close();
      }
      await()
          .atMost(Duration.ofSeconds(20))
          .untilAsserted(() -> assertThat(
                  query(db, "SELECT scope FROM api_idempotency_keys WHERE response_code IS NULL"))
              .isEmpty());
      assertThat(log.events())
          .filteredOn(event -> event.getMessage().startsWith("handler found"))
          .singleElement()
          .satisfies(event -> {
            Map<String, Object> values = CapturedLog.keyValues(event);
            assertThat(values).containsEntry("route", "/v1");
            assertThat(values.get("at").toString()).contains("PoolTest.takeAnother");
          });
    }
    try (HikariDataSource patient = pool(db, 30_000); // each is to get one
        HttpService service = Services.serve(Idempotency.of(patient), exchange -> {
          Services.effect(Idempotency.transaction(exchange), exchange, UUID.randomUUID());
          HttpResponses.json(exchange, 201, Map.of());
        })) {
      assertThat(posts(service)).extracting(HttpResponse::statusCode).containsOnly(201);
      assertThat(query(db, "SELECT key FROM effects")).hasSize(REQUESTS).doesNotHaveDuplicates();
    }
  }

  /** So that who holds the one that is left finds no other. */
  private static List<Connection> allButOne(HikariDataSource pool) throws SQLException {
    List<Connection> taken = new ArrayList<>();
    for (int i = 1; i < pool.getMaximumPoolSize(); i++) {
      taken.add(pool.getConnection());
    }
    return taken;
  }

  private static void takeAnother(HikariDataSource pool) throws Exception {
    try (Connection connection = pool.getConnection()) {
      connection.isValid(1);
    }
  }
}
