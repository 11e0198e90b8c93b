package dev.evalops.runtime.idempotency;

import static dev.evalops.runtime.idempotency.PostgresStoreTest.query;
import static dev.evalops.runtime.idempotency.Services.isReplay;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Kills the process that serves a request at each point of its life; then the client repeats it at another. */
@ExtendWith(TestPostgres.class)
@Schema({"dev/evalops/runtime/idempotency/idempotency.sql", "effects.sql"})
class CrashTest {
  private static final Duration LEASE = Duration.ofMillis(500);

  /** How many effects a key may have had in the end when the process was killed here. */
  private static final Map<String, Integer> PLAIN = Map.of(
      "before begin", 1,
      "after begin", 1,
      "before effect", 1,
      "after effect", 2,
      "before finish", 2,
      "after finish", 1);

  /** Of the handler that catches the failure of its second statement. */
  private static final List<String> CAUGHT = List.of("failed effect", "before commit");

  private static final List<String> POINTS = List.of(
      "failed effect",
      "before begin",
      "after begin",
      "before effect",
      "after effect",
      "before finish",
      "after finish",
      "before commit",
      "after commit");

  private record Round(String path, String point, String key) {}

  @Test
  void leavesOneEffectAndOneAnswer_whereverTheProcessIsKilled(HikariDataSource db)
      throws Exception {
    run(db, 16);
  }

  @Test
  @Tag("soak")
  void leavesOneEffectAndOneAnswer_whereverTheProcessIsKilled_manyTimes(HikariDataSource db)
      throws Exception {
    run(db, 208);
  }

  private static void run(HikariDataSource db, int rounds) throws Exception {
    Map<String, Integer> effects = new TreeMap<>();
    try (HttpService other =
            Services.serve(Idempotency.builder(db).leaseFor(LEASE).build(), Services.effects(db));
        ExecutorService pool = Executors.newFixedThreadPool(2)) {
      List<Future<?>> running = new ArrayList<>();
      List<Round> all = rounds(rounds);
      for (Round round : all) {
        running.add(pool.submit(() -> {
          crash(db, round, other);
          return null;
        }));
      }
      for (Future<?> each : running) {
        each.get(5, TimeUnit.MINUTES);
      }
      for (Round round : all) {
        int count = query(db, "SELECT id FROM effects WHERE key = '" + round.key() + "'")
            .size();
        effects.merge(
            round.path() + " killed " + round.point() + ": effects " + count, 1, Integer::sum);
      }
    }
    if (rounds > 16) {
      effects.forEach((what, times) -> System.out.println(what + ", " + times + " times"));
    }
  }

  private static List<Round> rounds(int count) {
    List<Round> rounds = new ArrayList<>();
    while (true) {
      for (String point : POINTS) {
        for (String path : List.of("/v1/tx", "/v1/plain", "/v1/caught")) {
          if (rounds.size() == count) {
            return rounds;
          }
          boolean passed = switch (path) {
            case "/v1/plain" -> PLAIN.containsKey(point);
            case "/v1/caught" -> CAUGHT.contains(point);
            default -> !point.startsWith("failed");
          };
          if (passed) {
            rounds.add(new Round(path, point, "crash-" + rounds.size()));
          }
        }
      }
    }
  }

  private static void crash(HikariDataSource db, Round round, HttpService other) throws Exception {
    List<HttpResponse<String>> answers = new ArrayList<>();
    try (EffectProcess process = EffectProcess.start(db, LEASE, round.point())) {
      CompletableFuture<HttpResponse<String>> first = Services.CLIENT.sendAsync(
          Services.post(process.port(), round.path(), round.key(), "{}"),
          HttpResponse.BodyHandlers.ofString());
      process.killAt(round.point());
      first
          .handle((response, failure) -> response == null || answers.add(response))
          .get(30, TimeUnit.SECONDS);
    }
    assertThat(answers).as("answers of a process that was killed %s", round).isEmpty();

    await().atMost(Duration.ofSeconds(30)).pollInterval(Duration.ofMillis(50)).until(() -> {
      HttpResponse<String> retry = Services.post(other, round.path(), round.key(), "{}");
      if (retry.statusCode() == 409) {
        assertThat(retry.body()).contains("idempotency_in_progress");
        return false;
      }
      return answers.add(retry);
    });
    answers.add(Services.post(other, round.path(), round.key(), "{}"));

    assertThat(answers).as("%s", round).extracting(HttpResponse::statusCode).containsOnly(201);
    assertThat(answers.get(1).body()).as("%s", round).isEqualTo(answers.get(0).body());
    assertThat(isReplay(answers.get(1))).isTrue();
    List<String> effects = query(db, "SELECT id FROM effects WHERE key = '" + round.key() + "'");
    boolean plain = round.path().equals("/v1/plain");
    assertThat(effects).as("%s", round).hasSize(plain ? PLAIN.get(round.point()) : 1);
    assertThat(effects).as("%s", round).anyMatch(id -> answers.get(0).body().contains(id));
    boolean wasComplete =
        round.point().equals("after commit") || (plain && round.point().equals("after finish"));
    assertThat(isReplay(answers.get(0))).as("%s", round).isEqualTo(wasComplete);
    assertThat(query(
            db,
            "SELECT response_code, convert_from(response_body, 'UTF8') FROM api_idempotency_keys"
                + " WHERE idempotency_key = '" + round.key() + "'"))
        .as("%s", round)
        .containsExactly("201|" + answers.get(0).body());
  }
}
