package dev.evalops.runtime.idempotency;

import static dev.evalops.runtime.idempotency.PostgresStoreTest.query;
import static dev.evalops.runtime.idempotency.Services.isReplay;
import static org.assertj.core.api.Assertions.assertThat;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(TestPostgres.class)
@Schema({"dev/evalops/runtime/idempotency/idempotency.sql", "effects.sql"})
class ConcurrencyTest {
  private static final int CLIENTS = 64;

  @Test
  void ofManyConcurrentFirstsOneRuns(HikariDataSource db) throws Exception {
    inOneProcess(db, 4);
  }

  @Test
  void ofManyConcurrentFirstsOneRuns_overTwoProcesses(HikariDataSource db) throws Exception {
    overTwoProcesses(db, 4);
  }

  @Test
  @Tag("soak")
  void ofManyConcurrentFirstsOneRuns_manyTimes(HikariDataSource db) throws Exception {
    inOneProcess(db, 100);
    overTwoProcesses(db, 100);
    System.out.println("200 keys, 64 clients each: one effect and one answer for each");
  }

  private static void inOneProcess(HikariDataSource db, int rounds) throws Exception {
    try (HttpService service = Services.serve(Idempotency.of(db), Services.effects(db))) {
      for (int round = 0; round < rounds; round++) {
        race(db, "one-" + round, round % 2 == 0 ? "/v1/plain" : "/v1/tx", service.port());
      }
    }
  }

  private static void overTwoProcesses(HikariDataSource db, int rounds) throws Exception {
    Duration lease = Duration.ofSeconds(60);
    try (EffectProcess a = EffectProcess.start(db, lease);
        EffectProcess b = EffectProcess.start(db, lease)) {
      for (int round = 0; round < rounds; round++) {
        race(db, "two-" + round, round % 2 == 0 ? "/v1/plain" : "/v1/tx", a.port(), b.port());
      }
    }
  }

  private static void race(HikariDataSource db, String key, String path, int... ports)
      throws Exception {
    CountDownLatch ready = new CountDownLatch(CLIENTS);
    List<HttpResponse<String>> responses = new ArrayList<>();
    try (ExecutorService clients = Executors.newVirtualThreadPerTaskExecutor()) {
      List<Future<HttpResponse<String>>> pending = new ArrayList<>();
      for (int i = 0; i < CLIENTS; i++) {
        int port = ports[i % ports.length];
        pending.add(clients.submit(() -> {
          ready.countDown();
          ready.await();
          return Services.send(Services.post(port, path, key, "{}"));
        }));
      }
      for (Future<HttpResponse<String>> each : pending) {
        responses.add(each.get(60, TimeUnit.SECONDS));
      }
    }

    assertThat(query(db, "SELECT id FROM effects WHERE key = '" + key + "'")).hasSize(1);
    assertThat(responses).extracting(HttpResponse::statusCode).isSubsetOf(201, 409);
    assertThat(responses).filteredOn(r -> r.statusCode() == 201 && !isReplay(r)).hasSize(1);
    assertThat(responses)
        .filteredOn(r -> r.statusCode() == 201)
        .extracting(HttpResponse::body)
        .containsOnly(responses.stream()
            .filter(r -> r.statusCode() == 201)
            .findFirst()
            .orElseThrow()
            .body());
    assertThat(responses)
        .filteredOn(r -> r.statusCode() == 409)
        .allMatch(r -> r.body().contains("idempotency_in_progress"));
  }
}
