package dev.evalops.runtime.idempotency;

import static dev.evalops.runtime.idempotency.PostgresStoreTest.execute;
import static dev.evalops.runtime.idempotency.PostgresStoreTest.query;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(TestPostgres.class)
@Schema("dev/evalops/runtime/idempotency/idempotency.sql")
class SweepTest {
  /** Begins everything, and counts sweeps, which wait or fail on demand. */
  private static final class Counting implements IdempotencyStore {
    private final AtomicInteger sweeps = new AtomicInteger();
    private final CountDownLatch go;
    private final boolean fails;

    Counting(CountDownLatch go, boolean fails) {
      this.go = go;
      this.fails = fails;
    }

    @Override
    public Decision begin(Attempt attempt) {
      return new Started(new Claim(attempt.scope(), attempt.key(), 1));
    }

    @Override
    public boolean complete(Claim claim, StoredResponse response) {
      return true;
    }

    @Override
    public void release(Claim claim) {}

    @Override
    public int sweep(int limit) throws SQLException {
      sweeps.incrementAndGet();
      try {
        go.await(30, TimeUnit.SECONDS);
      } catch (InterruptedException e) {
        throw new SQLException(e);
      }
      if (fails) {
        throw new SQLException("no");
      }
      return 0;
    }
  }

  @Test
  void neitherWaitsForASweepNorStartsASecond() {
    CountDownLatch go = new CountDownLatch(1);
    Counting store = new Counting(go, false);
    Idempotency idempotency =
        Idempotency.builder(store).sweepInterval(Duration.ofNanos(1)).build();
    try {
      for (int i = 0; i < 100; i++) {
        idempotency.begin("s", "k" + i, "h");
      }
      await().atMost(Duration.ofSeconds(20)).until(() -> store.sweeps.get() == 1);
      idempotency.begin("s", "k", "h");
      assertThat(store.sweeps).hasValue(1);
    } finally {
      go.countDown();
    }
    await().atMost(Duration.ofSeconds(20)).until(() -> {
      idempotency.begin("s", "k", "h");
      return store.sweeps.get() > 1;
    });
  }

  @Test
  void sweepsNotWithEachRequest() {
    Counting store = new Counting(new CountDownLatch(0), false);
    Idempotency idempotency = Idempotency.builder(store).build(); // every 5 minutes

    idempotency.begin("s", "first", "h");
    await().atMost(Duration.ofSeconds(20)).until(() -> store.sweeps.get() == 1);
    for (int i = 0; i < 1000; i++) {
      idempotency.begin("s", "k" + i, "h");
    }

    assertThat(store.sweeps).hasValue(1);
  }

  @Test
  void logsASweepThatFails_andGoesOn() {
    Counting store = new Counting(new CountDownLatch(0), true);
    Idempotency idempotency =
        Idempotency.builder(store).sweepInterval(Duration.ofMillis(1)).build();
    try (CapturedLog log = new CapturedLog(Idempotency.class)) {
      await().atMost(Duration.ofSeconds(20)).until(() -> {
        idempotency.begin("s", "k", "h");
        return store.sweeps.get() > 2;
      });
      assertThat(log.messages()).contains("WARN idempotency cleanup failed");
      assertThat(CapturedLog.keyValues(log.events().getFirst()).get("error").toString())
          .contains("SQLException");
    }
  }

  /** As the removal of large answers can. */
  @Test
  void removesFewerAtATime_whenABatchTakesLongerThanAStatementMay(HikariDataSource db)
      throws Exception {
    execute(
        db,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
            + " 'BEGIN PERFORM pg_sleep(0.002); RETURN OLD; END'");
    execute(
        db,
        "CREATE TRIGGER slow BEFORE DELETE ON api_idempotency_keys"
            + " FOR EACH ROW EXECUTE FUNCTION slow()");
    execute(
        db,
        "INSERT INTO api_idempotency_keys (scope, idempotency_key, request_hash, created_at,"
            + " expires_at) SELECT 's', 'old' || g, 'h', now() - interval '2 days',"
            + " now() - interval '1 day' FROM generate_series(1, 1500) g");
    try (CapturedLog log = new CapturedLog(Idempotency.class);
        HikariDataSource limited = new HikariDataSource()) {
      limited.setJdbcUrl(db.getJdbcUrl() + "&options=-c%20statement_timeout=1s");
      limited.setDataSourceProperties(db.getDataSourceProperties());
      Idempotency.of(limited).begin("s", "k", "h");
      await()
          .atMost(Duration.ofSeconds(30))
          .until(() -> query(db, "SELECT count(*) FROM api_idempotency_keys").equals(List.of("1")));
      assertThat(log.messages()).isEmpty();
    }
  }

  @Test
  void removesAnyNumberOfExpiredKeysWhileRequestsGoOn(HikariDataSource db) throws Exception {
    sweep(db, 20_000);
  }

  @Test
  @Tag("soak")
  void removesAMillionExpiredKeysWhileRequestsGoOn(HikariDataSource db) throws Exception {
    sweep(db, 1_000_000);
  }

  private static void sweep(HikariDataSource db, int expired) throws Exception {
    execute(
        db,
        "INSERT INTO api_idempotency_keys (scope, idempotency_key, request_hash, response_code,"
            + " response_body, created_at, expires_at)"
            + " SELECT 's', 'old' || g, 'h', 200, '{}', now() - interval '2 days',"
            + " now() - interval '1 day' FROM generate_series(1, " + expired + ") g");
    Idempotency idempotency = Idempotency.of(db);
    StoredResponse response = new StoredResponse(200, "", Map.of(), new byte[10]);
    long start = System.nanoTime();
    long slowest = 0;
    int requests = 0;
    int left;
    do {
      for (int i = 0; i < 50; i++) {
        long before = System.nanoTime();
        // New keys, and old ones that the sweep may be about to remove.
        String key = i % 2 == 0 ? "new" + requests : "old" + (expired - requests);
        IdempotencyStore.Decision decision = idempotency.begin("s", key, "h");
        if (decision instanceof IdempotencyStore.Started started) {
          assertThat(idempotency.finish(started.claim(), response)).isTrue();
        } else {
          // The row is in a batch that is being removed.
          assertThat(decision).isEqualTo(new IdempotencyStore.InProgress());
        }
        slowest = Math.max(slowest, System.nanoTime() - before);
        requests++;
      }
      left = Integer.parseInt(
          query(db, "SELECT count(*) FROM api_idempotency_keys WHERE expires_at <= now()")
              .getFirst());
    } while (left > 0 && System.nanoTime() - start < TimeUnit.MINUTES.toNanos(10));

    assertThat(left).isZero();
    if (expired > 100_000) {
      System.out.printf(
          "%d expired rows removed in %d ms; %d requests meanwhile, the slowest %d ms%n",
          expired,
          TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start),
          requests,
          TimeUnit.NANOSECONDS.toMillis(slowest));
    }
  }
}
