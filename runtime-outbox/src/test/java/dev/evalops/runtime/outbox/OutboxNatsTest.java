package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.natsbus.EventConsumer;
import dev.evalops.runtime.natsbus.NatsBus;
import io.nats.client.api.DeliverPolicy;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** From the commit to the effect, on real servers that are killed. */
class OutboxNatsTest {
  private static final int NOTES = 10;
  private static final int PER_SECOND = 200;

  @Test
  @Timeout(300)
  void everyChangeHasItsEffectOnce_whenTheBrokerIsKilledAndEventsComeAgain() throws Exception {
    Set<String> failedOnce = ConcurrentHashMap.newKeySet();
    try (Notes notes = Notes.of(NOTES)) {
      try (NatsBus bus = notes.bus();
          Outbox outbox = Outbox.start(notes.db, bus);
          EventConsumer consumer = bus.consumer("notes.changes.>", "feed")
              .deliver(DeliverPolicy.All)
              .redeliveryDelay(Duration.ofMillis(50), Duration.ofMillis(200))
              .start(Inbox.of(notes.db).handler((event, tx) -> {
                Notes.apply(event, tx);
                if (failedOnce.size() < 10 && failedOnce.add(event.id())) {
                  throw new IllegalStateException("fails once, after its effect");
                }
              }))) {
        for (int i = 0; i < 200; i++) {
          if (i == 60) {
            notes.nats.kill();
          }
          if (i == 120) {
            notes.nats.restart();
          }
          notes.edit(notes.anyNote());
          outbox.wake();
        }
        await().atMost(Notes.PATIENT).until(() -> outbox.pending() == 0);
        await()
            .atMost(Notes.PATIENT)
            .until(() ->
                notes.number("SELECT count(*) FROM event_inbox WHERE consumer = 'feed'") == 200);
        assertThat(outbox.parked(1)).isEmpty();
      }
      notes.assertFeedIsWhole();
      notes.assertStreamIsWhole();
    }
  }

  @Test
  @Timeout(300)
  void theOrderHolds_whateverIsKilled() throws Exception {
    killed(6);
  }

  @Test
  @Tag("soak")
  void theOrderHolds_whateverIsKilled_soak() throws Exception {
    System.out.print(killed(Integer.getInteger("outbox.soak.kills", 200)));
  }

  /**
   * Two processes relay what is written all the time; the one at work or a server is killed in each round, at a random
   * point.
   */
  private static String killed(int rounds) throws Exception {
    try (Notes notes = Notes.withPostgres(NOTES)) {
      notes.bus().close(); // has made the stream
      RelayProcess[] relays = {relay(notes), relay(notes)};
      Map<String, List<Long>> recoveries = new TreeMap<>();
      try (Writers writers = Writers.throughFailures(notes, PER_SECOND)) {
        for (int round = 0; round < rounds; round++) {
          int leader = awaitLeader(relays);
          writers.awaitMore(ThreadLocalRandom.current().nextInt(1, 50));
          String victim;
          switch (round % 3) {
            case 0 -> {
              victim = "a relay";
              relays[leader].close();
              relays[leader] = relay(notes);
            }
            case 1 -> {
              victim = "NATS";
              notes.nats.kill();
              writers.awaitMore(ThreadLocalRandom.current().nextInt(1, 50));
              notes.nats.restart();
            }
            default -> {
              victim = "Postgres";
              notes.postgres.kill();
              notes.postgres.restart();
            }
          }
          long begin = System.nanoTime();
          String last = editOnce(notes);
          await()
              .atMost(Notes.PATIENT)
              .ignoreExceptions()
              .until(
                  () -> notes.number("SELECT count(*) FROM change_outbox WHERE id = '" + last + "'")
                      == 0);
          recoveries
              .computeIfAbsent(victim, of -> new ArrayList<>())
              .add((System.nanoTime() - begin) / 1000);
        }
        writers.awaitMore(30);
      } finally {
        try {
          notes.awaitAllSent();
        } finally {
          for (RelayProcess relay : relays) {
            relay.close();
          }
        }
      }
      assertThat(notes.number("SELECT count(*) FROM change_outbox")).isZero();
      notes.assertStreamIsWhole();
      StringBuilder figures = new StringBuilder(String.format(
          "outbox: %d kills of a relaying process, NATS or Postgres at random points, %d changes,"
              + " each in the stream once and in order%n",
          rounds, notes.edits()));
      recoveries.forEach((victim, micros) -> figures.append(String.format(
          "outbox: until a change that was written after the kill of %s, or after its restart, is sent: %s%n",
          victim, Figures.ofMicros(micros))));
      return figures.toString();
    }
  }

  /** Writes a change, and returns its id. */
  private static String editOnce(Notes notes) {
    String[] id = new String[1];
    await().atMost(Notes.PATIENT).ignoreExceptions().until(() -> {
      id[0] = notes.edit(notes.anyNote());
      return true;
    });
    return id[0];
  }

  private static RelayProcess relay(Notes notes) throws Exception {
    return RelayProcess.start(notes.schema.url(), notes.nats.url());
  }

  /** The one that has acquired the lease last, once the other is there to take over. */
  private static int awaitLeader(RelayProcess[] relays) {
    await()
        .atMost(Notes.PATIENT)
        .until(() -> relays[0].isUp()
            && relays[1].isUp()
            && relays[0].acquired() + relays[1].acquired() > 0);
    return relays[0].acquiredAt() > relays[1].acquiredAt() ? 0 : 1;
  }
}
