package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.natsbus.EventConsumer;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.testutil.NatsCluster;
import dev.evalops.runtime.testutil.NatsServer;
import io.nats.client.api.DeliverPolicy;
import java.lang.module.ModuleDescriptor.Version;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import org.awaitility.core.ConditionTimeoutException;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** From the commit to the effect, on three NATS servers whose leader goes. */
class ClusterTest {
  private static final int NOTES = 10;
  private static final int PER_SECOND = 100;

  private enum Fault {
    KILLED,
    STOPPED,
    CUT_OFF
  }

  @Test
  @Timeout(300)
  void everyChangeIsSentOnceAndInOrder_whenTheLeaderGoes() throws Exception {
    run(List.of(Fault.KILLED));
  }

  @Test
  @Tag("soak")
  void everyChangeIsSentOnceAndInOrder_whenTheLeaderGoes_soak() throws Exception {
    List<Fault> faults = new ArrayList<>();
    for (int i = 0; i < Integer.getInteger("outbox.soak.rounds", 10); i++) {
      faults.addAll(List.of(Fault.values()));
    }
    System.out.print(run(faults));
  }

  private static String run(List<Fault> faults) throws Exception {
    Map<Fault, List<Long>> recoveries = new EnumMap<>(Fault.class);
    try (NatsCluster nats = NatsCluster.start();
        Notes notes = Notes.on(nats, NOTES)) {
      try (NatsBus bus = NatsBus.builder(nats.url()).stream(Notes.STREAM)
              .subjectPrefix("notes.changes")
              .replicas(3)
              .open();
          Outbox outbox = Outbox.start(notes.db, bus);
          EventConsumer consumer = bus.consumer("notes.changes.>", "feed")
              .deliver(DeliverPolicy.All)
              .start(Inbox.of(notes.db).handler(Notes::apply))) {
        try (Writers writers = Writers.start(notes, PER_SECOND)) {
          for (Fault fault : faults) {
            writers.awaitMore(PER_SECOND);
            await().atMost(Notes.PATIENT).until(() -> nats.leader(Notes.STREAM).isPresent());
            long begin = System.nanoTime();
            meet(fault, nats);
            String last = notes.edit(notes.anyNote());
            await()
                .atMost(Notes.PATIENT)
                .until(() ->
                    notes.number("SELECT count(*) FROM change_outbox WHERE id = '" + last + "'")
                        == 0);
            recoveries
                .computeIfAbsent(fault, of -> new ArrayList<>())
                .add((System.nanoTime() - begin) / 1000);
            nats.awaitReady();
          }
        }
        notes.awaitAllSent();
        assertThat(outbox.parked(1)).isEmpty();
        if (losesEvents(nats)) {
          return "outbox: everything is sent; nats-server " + nats.version()
              + " need not keep it\n";
        }
        long edits = notes.edits();
        try {
          notes.assertStreamIsWhole();
          await()
              .atMost(Notes.PATIENT)
              .until(() -> notes.number("SELECT count(*) FROM event_inbox") == edits);
        } catch (ConditionTimeoutException | AssertionError missing) {
          throw new AssertionError("something is missing:\n" + nats.report(), missing);
        }
      }
      notes.assertFeedIsWhole();
      return figures(nats, notes, recoveries);
    }
  }

  /** Whether its replicas may come to differ, for which an outbox can do nothing. */
  private static boolean losesEvents(NatsCluster nats) {
    return Version.parse(nats.version()).compareTo(Version.parse("2.10.23")) < 0;
  }

  /** The former leader comes back when there is another. */
  private static void meet(Fault fault, NatsCluster nats) {
    NatsServer leader = nats.leader(Notes.STREAM).orElseThrow();
    switch (fault) {
      case KILLED -> leader.kill();
      case STOPPED -> leader.pause();
      case CUT_OFF -> nats.cutOff(leader);
    }
    await()
        .atMost(Notes.PATIENT)
        .until(() -> nats.leader(Notes.STREAM).filter(now -> now != leader).isPresent());
    switch (fault) {
      case KILLED -> leader.restart();
      case STOPPED -> leader.resume();
      case CUT_OFF -> nats.heal(leader);
    }
  }

  private static String figures(NatsCluster nats, Notes notes, Map<Fault, List<Long>> recoveries)
      throws Exception {
    StringBuilder figures = new StringBuilder(String.format(
        "outbox: three nats-server %s, %d changes, each in the stream once and in order, and once"
            + " in the feed%n",
        nats.version(), notes.edits()));
    recoveries.forEach((fault, micros) -> figures.append(String.format(
        "outbox: leader %s, until a change that was written under a new one is sent: %s%n",
        fault, Figures.ofMicros(micros))));
    return figures.toString();
  }
}
