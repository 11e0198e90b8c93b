package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.natsbus.EventConsumer;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.testutil.FaultProxy;
import io.nats.client.api.DeliverPolicy;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Three processes relay the changes of a busy service; the one at work meets with a fault, again and again. */
class TakeoverTest {
  private static final int PER_SECOND = 200;
  private static final int NOTES = 50;

  private enum Fault {
    KILLED,
    STOPPED,
    CUT_OFF,
    CUT_OFF_FROM_NATS
  }

  /** A process with a network of its own. */
  private static final class Member implements AutoCloseable {
    private final Notes notes;
    private final FaultProxy toPostgres;
    private final FaultProxy toNats;
    private RelayProcess process;
    private int before;

    Member(Notes notes) throws IOException {
      this.notes = notes;
      toPostgres = FaultProxy.start(notes.postgres.port());
      toNats = FaultProxy.start(notes.nats.port());
      process = start();
    }

    private RelayProcess start() throws IOException {
      return RelayProcess.start(toPostgres.url(notes.schema.url()), toNats.url(notes.nats.url()));
    }

    void mark() {
      before = process.acquired();
    }

    boolean hasTakenOver() {
      return process.acquired() > before;
    }

    void meet(Fault fault) throws Exception {
      switch (fault) {
        case KILLED -> process.close();
        case STOPPED -> process.signal("STOP");
        case CUT_OFF -> {
          toPostgres.blackHole();
          toNats.blackHole();
        }
        case CUT_OFF_FROM_NATS -> toNats.blackHole();
      }
    }

    void recover(Fault fault) throws Exception {
      switch (fault) {
        case KILLED -> process = start();
        case STOPPED -> process.signal("CONT");
        case CUT_OFF, CUT_OFF_FROM_NATS -> {
          toPostgres.heal();
          toNats.heal();
        }
      }
    }

    @Override
    public void close() {
      process.close();
      toPostgres.close();
      toNats.close();
    }
  }

  private record Round(Fault fault, Instant at) {}

  @Test
  @Timeout(600)
  void everyChangeIsPublishedOnceAndInOrder_whicheverFaultTheRelayMeetsWith() throws Exception {
    takeovers(4, PER_SECOND);
  }

  @Test
  @Tag("soak")
  void everyChangeIsPublishedOnceAndInOrder_whicheverFaultTheRelayMeetsWith_soak()
      throws Exception {
    int minutes = Integer.getInteger("outbox.soak.minutes", 10);
    int faultFor = 30 * PER_SECOND; // edits; half a minute of them
    int rounds = Math.max(4, minutes * 60 * PER_SECOND / (faultFor + 5 * PER_SECOND));
    System.out.print(takeovers(rounds, faultFor));
  }

  /** Each fault lasts for so many edits; returns the figures. */
  private static String takeovers(int rounds, int faultFor) throws Exception {
    List<Round> met = new ArrayList<>();
    AtomicInteger failed = new AtomicInteger();
    Set<String> failedOnce = ConcurrentHashMap.newKeySet();
    try (Notes notes = Notes.of(NOTES);
        NatsBus bus = notes.bus()) {
      try (Member one = new Member(notes);
          Member two = new Member(notes);
          Member three = new Member(notes);
          EventConsumer consumer = bus.consumer("notes.changes.>", "feed")
              .deliver(DeliverPolicy.All)
              .redeliveryDelay(Duration.ofMillis(50), Duration.ofMillis(200))
              .start(Inbox.of(notes.db).handler((event, tx) -> {
                Notes.apply(event, tx);
                if (event.id().endsWith("7") && failedOnce.add(event.id())) {
                  failed.incrementAndGet();
                  throw new IllegalStateException("fails once, after its effect");
                }
              }))) {
        List<Member> members = List.of(one, two, three);
        awaitTakeover("a first leader", members);
        try (Writers writers = Writers.start(notes, PER_SECOND)) {
          for (int round = 0; round < rounds; round++) {
            writers.awaitMore(5 * faultFor / 30);
            Fault fault = Fault.values()[round % Fault.values().length];
            await("relays to take over")
                .atMost(Notes.PATIENT.multipliedBy(2))
                .until(() -> members.stream().allMatch(member -> member.process.isUp()));
            members.forEach(Member::mark);
            // A machine that stands still for a while may have made another the leader.
            Member victim = Collections.max(
                members, Comparator.comparingLong(each -> each.process.acquiredAt()));
            victim.meet(fault);
            met.add(new Round(fault, Instant.now()));
            awaitTakeover(
                "a takeover from one that is " + fault,
                members.stream().filter(member -> member != victim).toList());
            writers.awaitMore(faultFor);
            victim.recover(fault);
          }
        }
        notes.awaitAllSent();
        assertThat(notes.number("SELECT count(*) FROM change_outbox")).isZero();
        await()
            .atMost(Notes.PATIENT)
            .until(() -> notes.number("SELECT count(*) FROM event_inbox") == notes.edits());
      }
      List<Notes.Stored> stream = notes.assertStreamIsWhole();
      notes.assertFeedIsWhole();
      assertThat(failed.get()).as("events that came again").isPositive();
      return figures(notes, met, stream, failed.get());
    }
  }

  private static void awaitTakeover(String what, List<Member> members) {
    await(what).atMost(Notes.PATIENT).until(() -> members.stream().anyMatch(Member::hasTakenOver));
  }

  private static String figures(
      Notes notes, List<Round> met, List<Notes.Stored> stream, int cameAgain) throws Exception {
    Map<Fault, List<Long>> takeovers = new EnumMap<>(Fault.class);
    for (Round round : met) {
      stream.stream()
          .filter(stored -> !stored.written().isBefore(round.at()))
          .mapToLong(Notes.Stored::microsFromEdit)
          .findFirst()
          .ifPresent(micros -> takeovers
              .computeIfAbsent(round.fault(), fault -> new ArrayList<>())
              .add(micros));
    }
    StringBuilder lines = new StringBuilder(String.format(
        "outbox: %d changes, each in the stream once and in order, each with one effect; %d came again%n",
        notes.edits(), cameAgain));
    takeovers.forEach((fault, micros) -> lines.append(String.format(
        "outbox: takeover from one that is %s: %s%n", fault, Figures.ofMicros(micros))));
    return lines.toString();
  }
}
