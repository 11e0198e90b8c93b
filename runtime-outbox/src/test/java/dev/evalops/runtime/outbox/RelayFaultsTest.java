package dev.evalops.runtime.outbox;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.natsbus.EventConsumer;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.testutil.FaultProxy;
import io.nats.client.Connection;
import io.nats.client.JetStreamManagement;
import io.nats.client.Nats;
import io.nats.client.PublishOptions;
import io.nats.client.api.DeliverPolicy;
import io.nats.client.api.DiscardPolicy;
import io.nats.client.api.StreamConfiguration;
import java.time.Duration;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What the relay makes of each fault, between a real database and a real broker. */
@Timeout(300)
class RelayFaultsTest {
  private Notes notes;

  @BeforeEach
  void start() throws Exception {
    notes = Notes.of(5);
  }

  @AfterEach
  void stop() {
    notes.close();
  }

  private long inStream(NatsBus bus) throws Exception {
    return bus.connection()
        .jetStreamManagement()
        .getStreamInfo(Notes.STREAM)
        .getStreamState()
        .getMsgCount();
  }

  private void refuseRemovals() throws Exception {
    notes.execute(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$"
            + " BEGIN RAISE EXCEPTION 'not removed'; END $$",
        "CREATE TRIGGER refuse BEFORE DELETE ON change_outbox EXECUTE FUNCTION refuse()");
  }

  private void allowRemovals() throws Exception {
    notes.execute("DROP TRIGGER refuse ON change_outbox");
  }

  @Test
  void aRelayThatWasStoppedForLongerThanItsLease_sendsNothingOutOfOrder_andRelaysAgain()
      throws Exception {
    try (NatsBus bus = notes.bus(); // makes the stream
        RelayProcess first = RelayProcess.start(notes.schema.url(), notes.nats.url())) {
      await().atMost(Notes.PATIENT).until(() -> first.acquired() > 0);
      int before;
      notes.editSome(20);
      try (RelayProcess second = RelayProcess.start(notes.schema.url(), notes.nats.url())) {
        notes.editSome(100);
        first.signal("STOP");
        notes.editSome(20);
        await().atMost(Notes.PATIENT).until(() -> second.acquired() > 0);
        notes.editSome(50);
        notes.awaitAllSent();
        before = first.acquired();
        first.signal("CONT");
        notes.editSome(50);
        notes.awaitAllSent();
      }
      notes.editSome(20);
      await().atMost(Notes.PATIENT).until(() -> first.acquired() > before);
      notes.awaitAllSent();
      assertThat(inStream(bus)).isEqualTo(260);
    }
    notes.assertStreamIsWhole();
  }

  @Test
  void whatCouldNotBeRemoved_isSentAgain_andStoredOnce() throws Exception {
    try (NatsBus bus = notes.bus()) {
      refuseRemovals();
      try (Outbox outbox = Outbox.start(notes.db, bus)) {
        notes.edit(1);
        notes.edit(1);
        outbox.wake();
        await().atMost(Notes.PATIENT).until(() -> inStream(bus) >= 1);
        assertThat(outbox.pending()).isEqualTo(2);
      }
      allowRemovals();
      try (Outbox outbox = Outbox.start(notes.db, bus)) {
        await().atMost(Notes.PATIENT).until(() -> outbox.pending() == 0);
        assertThat(outbox.parked(1)).isEmpty();
      }
    }
    notes.assertStreamIsWhole();
  }

  @Test
  void aRemovalThatFails_isTriedAgain() throws Exception {
    try (NatsBus bus = notes.bus();
        Outbox outbox = Outbox.start(notes.db, bus)) {
      refuseRemovals();
      notes.edit(1);
      outbox.wake();
      await().atMost(Notes.PATIENT).until(() -> inStream(bus) == 1);
      notes.edit(1);
      allowRemovals();
      notes.awaitAllSent();
    }
    notes.assertStreamIsWhole();
  }

  @Test
  void whatTheStreamStoresTwice_hasItsEffectOnce() throws Exception {
    try (NatsBus bus = NatsBus.builder(notes.nats.url()).stream(Notes.STREAM)
            .subjectPrefix("notes.changes")
            .configureStream(stream -> stream.duplicateWindow(Duration.ofSeconds(1)))
            .open();
        EventConsumer consumer = bus.consumer("notes.changes.>", "feed")
            .deliver(DeliverPolicy.All)
            .start(Inbox.of(notes.db).handler(Notes::apply))) {
      refuseRemovals();
      String id;
      try (Outbox outbox = Outbox.start(notes.db, bus)) {
        id = notes.edit(1);
        outbox.wake();
        await().atMost(Notes.PATIENT).until(() -> inStream(bus) > 0);
      }
      allowRemovals();
      awaitForgotten(bus);
      try (Outbox outbox = Outbox.start(notes.db, bus)) {
        await().atMost(Notes.PATIENT).until(() -> outbox.pending() == 0);
      }
      assertThat(notes.stream())
          .filteredOn(each -> each.event().id().equals(id))
          .hasSizeGreaterThan(1);
      notes.edit(2); // the last in the stream
      try (Outbox outbox = Outbox.start(notes.db, bus)) {
        await()
            .atMost(Notes.PATIENT)
            .until(() -> notes.number("SELECT count(*) FROM feed WHERE note = '2'") == 1);
      }
      await().atMost(Notes.PATIENT).until(() -> unacknowledged(bus) == 0);
    }
    notes.assertFeedIsWhole();
  }

  /** A later message under a fixed id is stored again, and so the window of those before it has passed. */
  private static void awaitForgotten(NatsBus bus) throws Exception {
    JetStreamManagement management = bus.connection().jetStreamManagement();
    management.addStream(StreamConfiguration.builder()
        .name("MARKS")
        .subjects("marks")
        .duplicateWindow(Duration.ofSeconds(1))
        .build());
    PublishOptions mark = PublishOptions.builder().messageId("mark").build();
    var stream = bus.connection().jetStream();
    stream.publish("marks", new byte[0], mark);
    await()
        .atMost(Notes.PATIENT)
        .until(() -> !stream.publish("marks", new byte[0], mark).isDuplicate());
  }

  private static long unacknowledged(NatsBus bus) throws Exception {
    var info = bus.connection().jetStreamManagement().getConsumerInfo(Notes.STREAM, "feed");
    return info.getNumPending() + info.getNumAckPending();
  }

  @Test
  void aFullStreamCostsNoAttempt_andParksNothing() throws Exception {
    try (NatsBus bus = NatsBus.builder(notes.nats.url()).stream(Notes.STREAM)
            .subjectPrefix("notes.changes")
            .configureStream(stream -> stream.maxMessages(10).discardPolicy(DiscardPolicy.New))
            .open();
        Outbox outbox = Outbox.start(notes.db, bus)) {
      for (int i = 0; i < 30; i++) {
        notes.edit(i % 2);
      }
      await().atMost(Notes.PATIENT).until(() -> outbox.pending() == 20);
      int beyondParking =
          2 * 3; // one of two lanes has then been tried more often than a refused one would be
      CountedPublishes tries = new CountedPublishes(notes.nats.url());
      try (tries) {
        await().atMost(Notes.PATIENT).until(() -> tries.count() > beyondParking);
      }
      assertThat(outbox.pending()).isEqualTo(20);
      assertThat(outbox.parked(1)).isEmpty();
      assertThat(notes.number("SELECT sum(attempts) FROM change_outbox")).isZero();

      JetStreamManagement management = bus.connection().jetStreamManagement();
      StreamConfiguration full = management.getStreamInfo(Notes.STREAM).getConfiguration();
      management.updateStream(
          StreamConfiguration.builder(full).maxMessages(1000).build());
      notes.awaitAllSent();
    }
    notes.assertStreamIsWhole();
  }

  /** Counts what is sent to the subjects of the stream, stored or not. */
  private static final class CountedPublishes implements AutoCloseable {
    private final Connection connection;
    private final io.nats.client.Subscription all;

    CountedPublishes(String url) throws Exception {
      connection = Nats.connect(url);
      all = connection.subscribe("notes.changes.>");
    }

    long count() {
      return all.getPendingMessageCount();
    }

    @Override
    public void close() throws InterruptedException {
      connection.close();
    }
  }

  @Test
  void anotherTakesOver_whenTheBrokerOfTheFirstIsABlackHole() throws Exception {
    try (FaultProxy hole = FaultProxy.start(notes.nats.port());
        NatsBus cut = Notes.bus(hole.url(notes.nats.url()));
        NatsBus good = notes.bus();
        Outbox first = Outbox.start(notes.db, cut)) {
      notes.editSome(10);
      notes.awaitAllSent();
      hole.blackHole();
      try (Outbox second = Outbox.start(notes.db, good)) {
        notes.editSome(20);
        await().atMost(Notes.PATIENT).until(() -> second.pending() == 0);
        hole.heal();
        notes.editSome(20);
        notes.awaitAllSent();
      }
      notes.edit(1);
      await().atMost(Notes.PATIENT).until(() -> first.pending() == 0);
    }
    notes.assertStreamIsWhole();
  }

  @Test
  void anotherTakesOver_whenTheDatabaseOfTheFirstIsABlackHole() throws Exception {
    try (FaultProxy hole = FaultProxy.start(notes.postgres.port());
        HikariDataSource cut = Postgres.builder(hole.url(notes.schema.url())).open();
        NatsBus bus = notes.bus();
        Outbox first = Outbox.start(cut, bus)) {
      notes.editSome(10);
      notes.awaitAllSent();
      hole.blackHole();
      try (Outbox second = Outbox.start(notes.db, bus)) {
        notes.editSome(20);
        await().atMost(Notes.PATIENT).until(() -> second.pending() == 0);
        hole.heal();
        notes.editSome(20);
        notes.awaitAllSent();
      }
      notes.edit(1);
      notes.awaitAllSent();
      assertThat(first.parked(1)).isEmpty();
    }
    notes.assertStreamIsWhole();
  }

  @Test
  void aChangeThatTheBrokerNeverTakes_parksItsLaneAlone() throws Exception {
    try (NatsBus bus = notes.bus();
        Outbox outbox = Outbox.start(notes.db, bus)) {
      String poison = notes.edit(0, "x".repeat(2 << 20));
      notes.edit(0);
      for (int i = 1; i < 5; i++) {
        notes.edit(i);
      }
      await().atMost(Notes.PATIENT).until(() -> !outbox.parked(10).isEmpty());
      await().atMost(Notes.PATIENT).until(() -> inStream(bus) == 4);
      assertThat(outbox.parked(10)).singleElement().satisfies(parked -> {
        assertThat(parked.id()).isEqualTo(poison);
        assertThat(parked.lane()).contains("note").contains("0");
        assertThat(parked.reason()).contains("the server takes at most");
      });
      assertThat(outbox.pending()).isEqualTo(1);

      assertThat(outbox.requeue(poison)).isTrue(); // it is still too large
      await().atMost(Notes.PATIENT).until(() -> !outbox.parked(10).isEmpty());
      assertThat(inStream(bus)).isEqualTo(4);
      assertThat(outbox.discard(poison)).isTrue();
      await().atMost(Notes.PATIENT).until(() -> outbox.pending() == 0);
      assertThat(inStream(bus)).isEqualTo(5);
    }
  }
}
