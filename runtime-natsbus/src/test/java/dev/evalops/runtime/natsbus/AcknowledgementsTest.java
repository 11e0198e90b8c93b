package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.TestNats;
import io.nats.client.Connection;
import io.nats.client.Connection.Status;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.Subscription;
import io.nats.client.api.DeliverPolicy;
import io.nats.client.impl.NatsJetStreamMetaData;
import io.nats.client.impl.NatsMessage;
import java.time.Duration;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;

@Timeout(120)
@ExtendWith(TestNats.class)
class AcknowledgementsTest {
  private static final Duration AWHILE = Duration.ofSeconds(30);
  private static final String ACKNOWLEDGEMENTS = "$JS.ACK.GONE.indexer.>";

  private static final int MANY = 1000;

  private Connection connection;
  private Subscription subscription;
  private Acknowledgements acknowledgements;

  @BeforeEach
  void connect(NatsServer server) throws Exception {
    connection = Nats.connect(server.url());
    subscription = connection.subscribe(ACKNOWLEDGEMENTS);
    acknowledgements = new Acknowledgements(connection, "indexer", () -> MANY);
  }

  @AfterEach
  void close() throws InterruptedException {
    acknowledgements.close();
    connection.close();
  }

  private static String reply(long sequence) {
    return "$JS.ACK.GONE.indexer.1." + sequence + "." + sequence + ".1600000000000000000.0";
  }

  private static Message message(long sequence) {
    return Servers.delivered(reply(sequence));
  }

  private static Delivery delivery(Message message) {
    NatsJetStreamMetaData meta = message.metaData();
    return new Delivery(
        new Delivery.Place(meta.streamSequence(), meta.timestamp().toInstant()),
        null,
        false,
        message);
  }

  private List<String> published() throws InterruptedException {
    connection.publish("$JS.ACK.GONE.indexer.end", null);
    List<String> subjects = new ArrayList<>();
    Message message = subscription.nextMessage(AWHILE);
    while (!message.getSubject().endsWith(".end")) {
      subjects.add(message.getSubject());
      message = subscription.nextMessage(AWHILE);
    }
    return subjects;
  }

  @Test
  void sendsSoon() throws Exception {
    acknowledgements.start();
    for (int sequence = 1; sequence <= 3; sequence++) {
      acknowledgements.add(delivery(message(sequence)));
      acknowledgements.sendSoon(MANY);
      assertThat(subscription.nextMessage(AWHILE).getSubject()).isEqualTo(reply(sequence));
    }
    acknowledgements.close();
  }

  @Test
  void sendsAtOnce_whatTheServerWouldWaitFor() throws Exception {
    Acknowledgements few = new Acknowledgements(connection, "indexer", () -> 2);
    few.add(delivery(message(1)));
    few.sendSoon(1);
    // The thread that sends these later is not started here.
    acknowledgements.add(delivery(message(2)));
    acknowledgements.sendSoon(1);
    assertThat(published()).containsExactly(reply(1));

    acknowledgements.add(delivery(message(3)));
    acknowledgements.sendSoon(0);
    assertThat(published()).containsExactly(reply(2), reply(3));
  }

  @Test
  void sendsWhenItCloses_andAtOnceAfterThat() throws Exception {
    acknowledgements.add(delivery(message(1)));
    acknowledgements.sendSoon(MANY);
    acknowledgements.close();
    assertThat(subscription.nextMessage(AWHILE).getSubject()).isEqualTo(reply(1));

    acknowledgements.add(delivery(message(2)));
    acknowledgements.sendSoon(MANY);
    assertThat(subscription.nextMessage(AWHILE).getSubject()).isEqualTo(reply(2));
  }

  @Test
  void sendsWhatAnInterruptedThreadSends_andKeepsTheInterrupt() throws Exception {
    acknowledgements.add(delivery(message(1)));
    acknowledgements.add(delivery(message(2)));

    Thread.currentThread().interrupt();
    acknowledgements.sendSoon(0);

    assertThat(Thread.interrupted()).isTrue();
    assertThat(published()).containsExactly(reply(1), reply(2));
  }

  @Test
  void sendsNothing_toAStreamThatWasMadeAfterwards() throws Exception {
    CountDownLatch begun = new CountDownLatch(2);
    CountDownLatch end = new CountDownLatch(1);
    Lanes lanes = new Lanes(
        connection,
        "indexer",
        2,
        Thread::new,
        delivery -> {
          begun.countDown();
          if (delivery.place.sequence() == 1) {
            await().atMost(AWHILE).until(() -> end.getCount() == 0);
          }
          acknowledgements.add(delivery);
          return true;
        },
        acknowledgements,
        () -> 10);
    lanes.received(message(1));
    lanes.received(message(2));
    assertThat(begun.await(30, TimeUnit.SECONDS)).isTrue();
    await().atMost(AWHILE).until(() -> lanes.size() == 1);
    lanes.lose(ZonedDateTime.now(ZoneOffset.UTC));
    end.countDown();
    assertThat(lanes.awaitIdle(AWHILE)).isTrue();
    acknowledgements.close();

    assertThat(published()).isEmpty();
  }

  @Test
  void sendsTheNext_whenThereWasNoMemoryForOne() throws Exception {
    acknowledgements.start();
    CountDownLatch failed = new CountDownLatch(1);
    Delivery failing = delivery(message(1));
    failing.message = new NatsMessage("notes.changes.note.create", reply(1), new byte[0]) {
      @Override
      public String getReplyTo() {
        failed.countDown();
        throw new OutOfMemoryError("Java heap space");
      }
    };
    acknowledgements.add(failing);
    acknowledgements.sendSoon(MANY);
    assertThat(failed.await(30, TimeUnit.SECONDS)).isTrue();
    Delivery next = delivery(message(2));
    acknowledgements.add(next);
    await().atMost(AWHILE).until(() -> {
      acknowledgements.sendSoon(MANY);
      return subscription.getPendingMessageCount() > 0;
    });
    assertThat(subscription.nextMessage(AWHILE).getSubject()).isEqualTo(reply(2));
    acknowledgements.close();
  }

  @Test
  void closesInTime_whenTheClientHasNoRoom() {
    int events = 300;
    CountDownLatch end = new CountDownLatch(1);
    try (NatsServer own = NatsServer.start();
        NatsBus bus = Servers.bus(own)
            .configure(options -> options.maxMessagesInOutgoingQueue(10))
            .open()) {
      for (int i = 0; i < events; i++) {
        bus.publish(Change.of("note", "n-" + i, "create"));
      }
      EventConsumer consumer = bus.consumer("notes.changes.>", "indexer")
          .deliver(DeliverPolicy.All)
          .start(event -> end.await());
      await().atMost(AWHILE).until(() -> consumer.held() == events);
      own.kill();
      await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);
      end.countDown();
      await().atMost(AWHILE).until(() -> consumer.held() == 0);

      Thread closing = Thread.ofPlatform().start(consumer::close);
      await().atMost(Duration.ofSeconds(15)).until(() -> !closing.isAlive());
    }
  }
}
