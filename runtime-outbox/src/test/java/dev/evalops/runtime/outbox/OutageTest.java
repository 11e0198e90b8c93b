package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.natsbus.NatsBus;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The broker is away for long while changes are written. */
class OutageTest {
  private static final int PER_SECOND = 200;

  @Test
  @Timeout(300)
  void anOutageHoldsUpNoMutation_andIsDrained() throws Exception {
    outage(2 * PER_SECOND);
  }

  @Test
  @Tag("soak")
  void anOutageHoldsUpNoMutation_andIsDrained_soak() throws Exception {
    System.out.print(outage(Integer.getInteger("outbox.soak.minutes", 10) * 60 * PER_SECOND));
  }

  /** An outage that lasts for so many edits; returns the figures. */
  private static String outage(int edits) throws Exception {
    try (Notes notes = Notes.of(50);
        NatsBus bus = notes.bus();
        Outbox outbox = Outbox.start(notes.db, bus)) {
      Figures before;
      Figures meanwhile;
      long backlog;
      Instant back;
      Duration drained;
      try (Writers writers = Writers.start(notes, PER_SECOND)) {
        writers.awaitMore(2 * PER_SECOND);
        writers.edits(); // those that warmed up
        writers.awaitMore(Math.min(edits, 10 * PER_SECOND));
        before = writers.edits();
        notes.nats.kill();
        writers.awaitMore(edits);
        meanwhile = writers.edits();
        backlog = outbox.pending();
        assertThat(backlog).isGreaterThanOrEqualTo(edits / 2);
        assertThat(outbox.parked(1)).isEmpty();
        assertThat(notes.number("SELECT max(attempts) FROM change_outbox")).isZero();
        notes.nats.restart();
        back = Instant.now();
        await()
            .atMost(Notes.PATIENT.plusMillis(edits))
            .until(() -> outbox.pending() < PER_SECOND / 10);
        drained = Duration.between(back, Instant.now());
        writers.awaitMore(PER_SECOND);
      }
      notes.awaitAllSent();
      assertThat(outbox.parked(1)).isEmpty();
      List<Long> ofNewOnes = new ArrayList<>();
      List<Notes.Stored> stream = notes.assertStreamIsWhole();
      long first = 0;
      for (Notes.Stored stored : stream) {
        if (stored.at().isAfter(back) && first == 0) {
          first = Duration.between(back, stored.at()).toMillis();
        }
        if (stored.written().isAfter(back)) {
          ofNewOnes.add(stored.microsFromEdit());
        }
      }
      return String.format(
          "outbox: mutations before the outage: %s%noutbox: mutations in the outage: %s%n"
              + "outbox: backlog of %d changes: the first sent %d ms after NATS was back, the last %d ms%n"
              + "outbox: changes written while it was drained, and a second more: %s%n",
          before, meanwhile, backlog, first, drained.toMillis(), Figures.ofMicros(ofNewOnes));
    }
  }
}
