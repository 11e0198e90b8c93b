package dev.evalops.runtime.natsbus;

import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.natsbus.Delivery.Place;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.TestNats;
import io.nats.client.JetStreamSubscription;
import io.nats.client.PushSubscribeOptions;
import java.time.Duration;
import java.time.Instant;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;

@Timeout(60)
@ExtendWith(TestNats.class)
class AcknowledgementsTest {
  private NatsBus bus;
  private JetStreamSubscription subscription;
  private Acknowledgements acknowledgements;

  @BeforeEach
  void subscribe(NatsServer server) throws Exception {
    bus = Servers.bus(server).open();
    acknowledgements = new Acknowledgements(bus.connection(), "indexer");
    subscription = bus.connection()
        .jetStream()
        .subscribe(
            "notes.changes.>",
            PushSubscribeOptions.builder().stream("NOTES").durable("indexer").build());
  }

  @AfterEach
  void close() {
    bus.close();
  }

  /** Publishes an event, and has it delivered. */
  private Delivery delivery() throws InterruptedException {
    bus.publish(Change.of("note", "n-1", "create"));
    return new Delivery(
        new Place(1, Instant.EPOCH), null, false, subscription.nextMessage(Duration.ofSeconds(20)));
  }

  private void awaitAcknowledged(long sequence) {
    await()
        .atMost(Duration.ofSeconds(20))
        .until(() -> subscription.getConsumerInfo().getAckFloor().getStreamSequence() == sequence);
  }

  @Test
  void leaveSoon() throws Exception {
    acknowledgements.start();
    for (int sequence = 1; sequence <= 3; sequence++) {
      acknowledgements.add(delivery());
      acknowledgements.sendSoon();

      awaitAcknowledged(sequence);
    }
    acknowledgements.close();
  }

  @Test
  void leaveAtOnce() throws Exception {
    acknowledgements.add(delivery());
    acknowledgements.send();

    awaitAcknowledged(1);
  }

  @Test
  void leaveWhenItCloses_andAtOnceAfterThat() throws Exception {
    acknowledgements.add(delivery());
    acknowledgements.sendSoon();
    acknowledgements.close();
    awaitAcknowledged(1);

    acknowledgements.add(delivery());
    acknowledgements.sendSoon();
    awaitAcknowledged(2);
  }
}
