package dev.evalops.runtime.health.outbox;

import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher;
import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.events.PublishException.Reason;
import dev.evalops.runtime.health.HealthCheck;
import dev.evalops.runtime.health.UnhealthyException;
import dev.evalops.runtime.outbox.Outbox;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.sql.Connection;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;

@Timeout(120)
@ExtendWith(TestPostgres.class)
class OutboxHealthTest {
  private static final Duration AWHILE = Duration.ofSeconds(60);

  /** A broker that stores nothing. */
  private record Failing(Reason reason) implements ChangePublisher {
    @Override
    public EncodedEvent encode(Change change) {
      return EventFormat.JSON.encode(change, "notes.changes", Instant.EPOCH, Map.of());
    }

    @Override
    public CompletableFuture<Outcome> send(EncodedEvent event) {
      return CompletableFuture.failedFuture(new PublishException(reason, "no", null));
    }
  }

  private static Outbox withOneChange(HikariDataSource db, Reason reason) throws Exception {
    Outbox outbox = Outbox.start(db, new Failing(reason));
    try (Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      outbox.add(tx, Change.of("note", "1", "create"));
      tx.commit();
    }
    outbox.wake();
    return outbox;
  }

  @Test
  void saysThatAChangeHasWaited(
      @Schema("dev/evalops/runtime/outbox/outbox.sql") HikariDataSource db) throws Exception {
    try (Outbox outbox = withOneChange(db, Reason.AWAY)) {
      HealthCheck patient = OutboxHealth.of(outbox, Duration.ofHours(1));
      patient.check();
      HealthCheck strict = OutboxHealth.of(outbox, Duration.ofMillis(1));
      await()
          .atMost(AWHILE)
          .untilAsserted(() -> assertThatThrownBy(strict::check)
              .isInstanceOf(UnhealthyException.class)
              .hasMessageStartingWith("outbox: a change has waited for "));
    }
  }

  @Test
  void saysThatChangesAreParked(
      @Schema("dev/evalops/runtime/outbox/outbox.sql") HikariDataSource db) throws Exception {
    try (Outbox outbox = withOneChange(db, Reason.REFUSED)) {
      HealthCheck check = OutboxHealth.of(outbox, Duration.ofHours(1));
      await()
          .atMost(AWHILE)
          .untilAsserted(() -> assertThatThrownBy(check::check)
              .isInstanceOf(UnhealthyException.class)
              .hasMessage("outbox: changes are parked"));
    }
  }

  @Test
  void isUnhealthyWithoutAnOutbox_andRefusesAnAgeOfZero() {
    assertThatThrownBy(OutboxHealth.of(null, Duration.ofMinutes(1))::check)
        .isInstanceOf(UnhealthyException.class)
        .hasMessage("outbox_not_configured");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> OutboxHealth.of(null, Duration.ZERO))
        .withMessage("maxAge must be more than zero: PT0S");
  }
}
