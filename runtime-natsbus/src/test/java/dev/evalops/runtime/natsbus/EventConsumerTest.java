package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.TestNats;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.nats.client.Connection.Status;
import io.nats.client.JetStreamManagement;
import io.nats.client.api.AckPolicy;
import io.nats.client.api.ConsumerConfiguration;
import io.nats.client.api.ConsumerInfo;
import io.nats.client.api.DeliverPolicy;
import io.nats.client.api.MessageInfo;
import io.nats.client.impl.Headers;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.slf4j.MDC;

@Timeout(120)
@ExtendWith(TestNats.class)
class EventConsumerTest {
  private static final Duration AWHILE = Duration.ofSeconds(30);
  private static final String ALL = "notes.changes.>";

  private NatsBus bus;
  private JetStreamManagement management;

  @BeforeEach
  void connect(NatsServer server) throws Exception {
    bus = Servers.bus(server).open();
    management = bus.connection().jetStreamManagement();
  }

  @AfterEach
  void close() {
    bus.close();
  }

  private static Change change(String id) {
    return Change.of("note", id, "create");
  }

  private void publish(int count) {
    for (int i = 0; i < count; i++) {
      bus.publish(change("n-" + i % 5).version(i));
    }
  }

  private ConsumerInfo info(String durable) throws Exception {
    return management.getConsumerInfo("NOTES", durable);
  }

  private void awaitAllAcknowledged(String durable) {
    await()
        .atMost(AWHILE)
        .until(() -> info(durable).getNumAckPending() == 0 && info(durable).getNumPending() == 0);
  }

  @Test
  void makesADurableQueueSubscription_andAcknowledgesWhatIsHandled() throws Exception {
    Set<String> seen = ConcurrentHashMap.newKeySet();
    bus.consumer(ALL, "indexer").start(event -> seen.add(event.id()));
    publish(20);

    await().atMost(AWHILE).until(() -> seen.size() == 20);
    awaitAllAcknowledged("indexer");
    ConsumerConfiguration made = info("indexer").getConsumerConfiguration();
    assertThat(made.getDurable()).isEqualTo("indexer");
    assertThat(made.getDeliverGroup()).isEqualTo("indexer");
    assertThat(made.getDeliverSubject()).isNotNull();
    assertThat(made.getFilterSubject()).isEqualTo(ALL);
    assertThat(made.getAckPolicy()).isEqualTo(AckPolicy.Explicit);
    assertThat(made.getDeliverPolicy()).isEqualTo(DeliverPolicy.New);
    assertThat(made.getAckWait()).isEqualTo(Duration.ofSeconds(30));
  }

  @Test
  void beginsWhereItIsTold() {
    publish(3);
    List<Long> all = Collections.synchronizedList(new ArrayList<>());
    List<Long> last = Collections.synchronizedList(new ArrayList<>());
    List<Long> fresh = Collections.synchronizedList(new ArrayList<>());
    bus.consumer(ALL, "all")
        .deliver(DeliverPolicy.All)
        .concurrency(1)
        .start(event -> all.add(event.version().orElseThrow()));
    bus.consumer(ALL, "last")
        .deliver(DeliverPolicy.Last)
        .concurrency(1)
        .start(event -> last.add(event.version().orElseThrow()));
    bus.consumer(ALL, "new")
        .concurrency(1)
        .start(event -> fresh.add(event.version().orElseThrow()));
    bus.publish(change("x").version(9));

    await().atMost(AWHILE).untilAsserted(() -> {
      assertThat(all).containsExactly(0L, 1L, 2L, 9L);
      assertThat(last).containsExactly(2L, 9L);
      assertThat(fresh).containsExactly(9L);
    });
  }

  @Test
  void logsWhereANewDurableBegins() {
    publish(3);
    try (Logs logs = new Logs()) {
      bus.consumer(ALL, "new").start(event -> {}).close();
      bus.consumer(ALL, "all").deliver(DeliverPolicy.All).start(event -> {}).close();
      bus.consumer(ALL, "all").deliver(DeliverPolicy.All).start(event -> {}).close();

      assertThat(logs.lines().stream().filter(line -> line.contains("durable created")))
          .containsExactly(
              "INFO durable created [stream=\"NOTES\", durable=\"new\", deliver=\"new\", from_sequence=\"4\"]",
              "INFO durable created [stream=\"NOTES\", durable=\"all\", deliver=\"all\", from_sequence=\"1\"]");
    }
  }

  @Test
  void leavesNothingOfAnEventToTheNext() {
    publish(20);
    List<String> found = Collections.synchronizedList(new ArrayList<>());
    bus.consumer(ALL, "logging").deliver(DeliverPolicy.All).concurrency(1).start(event -> {
      found.add(MDC.get("event") + " " + Thread.currentThread().isInterrupted());
      MDC.put("event", event.id());
      Thread.currentThread().interrupt();
    });

    await().atMost(AWHILE).until(() -> found.size() == 20);
    assertThat(found).containsOnly("null false");
  }

  @Test
  void sharesADurableThatSomebodyElseHasMade_andKeepsItWhenItCloses() throws Exception {
    management.addOrUpdateConsumer(
        "NOTES",
        ConsumerConfiguration.builder()
            .durable("shared")
            .deliverSubject("_INBOX.made.by.a.peer")
            .deliverGroup("shared")
            .filterSubject(ALL)
            .ackPolicy(AckPolicy.Explicit)
            .ackWait(Duration.ofSeconds(7))
            .build());
    AtomicInteger peer = new AtomicInteger();
    AtomicInteger ours = new AtomicInteger();
    bus.connection().createDispatcher().subscribe("_INBOX.made.by.a.peer", "shared", message -> {
      peer.incrementAndGet();
      message.ack();
    });
    EventConsumer consumer = bus.consumer(ALL, "shared").start(event -> ours.incrementAndGet());
    publish(100);
    await().atMost(AWHILE).until(() -> peer.get() + ours.get() == 100);
    assertThat(ours).hasPositiveValue();
    consumer.close();

    assertThat(info("shared").getConsumerConfiguration().getDeliverSubject())
        .isEqualTo("_INBOX.made.by.a.peer");
    publish(10);
    await().atMost(AWHILE).until(() -> peer.get() + ours.get() == 110);
  }

  @Test
  void goesOnWhereTheDurableIs_afterARestart() {
    AtomicInteger seen = new AtomicInteger();
    bus.consumer(ALL, "indexer").start(event -> seen.incrementAndGet()).close();
    publish(5);
    bus.consumer(ALL, "indexer").start(event -> seen.incrementAndGet());

    await().atMost(AWHILE).until(() -> seen.get() == 5);
  }

  @Test
  void refusesADurableOfAnotherKind() throws Exception {
    management.addOrUpdateConsumer(
        "NOTES",
        ConsumerConfiguration.builder()
            .durable("pulled")
            .ackPolicy(AckPolicy.Explicit)
            .build());
    management.addOrUpdateConsumer(
        "NOTES",
        ConsumerConfiguration.builder()
            .durable("counted")
            .deliverSubject("counted")
            .deliverGroup("counted")
            .filterSubject(ALL)
            .ackPolicy(AckPolicy.Explicit)
            .headersOnly(true)
            .build());
    bus.consumer(ALL, "mine").start(event -> {}).close();

    assertThatThrownBy(() -> bus.consumer(ALL, "pulled").start(event -> {}))
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("queue_subscribe: ")
        .hasMessageContaining("pull consumer");
    assertThatThrownBy(() -> bus.consumer(ALL, "counted").start(event -> {}))
        .hasMessageContaining("without the data of its events");
    assertThatThrownBy(() -> bus.consumer("notes.changes.note.*", "mine").start(event -> {}))
        .hasMessageContaining("for another subject: " + ALL);
    assertThatThrownBy(() -> bus.consumer(ALL, "mine").queue("other").start(event -> {}))
        .hasMessageContaining("for another queue: mine");
    assertThatThrownBy(() -> bus.consumer(ALL, "x").stream("NONE").start(event -> {}))
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("queue_subscribe: ");
  }

  @Test
  void namesEveryWrongParameter() {
    assertThatThrownBy(() -> bus.consumer(" ", " ").stream("").start(event -> {}))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(
            "consumer_subject_required; consumer_stream_required; consumer_durable_required");
    String tooLong = "notes.changes." + "n".repeat(2987);
    assertThatThrownBy(
            () -> bus.consumer(tooLong, "long").deadLetterSubject(tooLong).start(event -> {}))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContainingAll(
            "subject must have at most 3000 characters, and it has 3001",
            "deadLetterSubject must have at most 3000 characters, and it has 3001");
    assertThatThrownBy(() -> bus.consumer("a.>.b", "a b")
            .deliver(DeliverPolicy.LastPerSubject)
            .ackWait(Duration.ZERO)
            .concurrency(0)
            .maxDeliveries(0)
            .redeliveryDelay(Duration.ofSeconds(2), Duration.ofSeconds(1))
            .drainTimeout(Duration.ofSeconds(-1))
            .start(event -> {}))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContainingAll(
            "subject",
            "durable",
            "deliver",
            "ackWait",
            "concurrency",
            "maxDeliveries",
            "redeliveryDelay",
            "drainTimeout");
    assertThatThrownBy(
            () -> bus.consumer(ALL, "a").deadLetterSubject("notes.changes.dead").start(event -> {}))
        .hasMessageContaining("deadLetterSubject");
  }

  @Test
  void deliversAgainWithADelay_andDeadLettersAPoisonMessage_whileOthersFlow() throws Exception {
    AtomicInteger attempts = new AtomicInteger();
    Set<String> handled = ConcurrentHashMap.newKeySet();
    bus.consumer(ALL, "indexer")
        .maxDeliveries(3)
        .redeliveryDelay(Duration.ofMillis(100), Duration.ofSeconds(1))
        .start(event -> {
          if (event.aggregateId().orElseThrow().equals("poison")) {
            attempts.incrementAndGet();
            throw new AssertionError("cannot\nbe handled");
          }
          handled.add(event.id());
        });
    bus.publish(change("poison").organization("org-1"));
    publish(20);

    await().atMost(AWHILE).until(() -> handled.size() == 20);
    awaitAllAcknowledged("indexer");
    List<MessageInfo> dead = Servers.stored(bus.connection(), "NOTES_DEAD");
    assertThat(attempts).hasValue(3);
    assertThat(dead).hasSize(1);
    MessageInfo letter = dead.get(0);
    assertThat(letter.getSubject()).isEqualTo("dead.NOTES.indexer");
    assertThat(letter.getHeaders().getFirst("dead-letter-reason"))
        .isEqualTo("java.lang.AssertionError: cannot be handled");
    assertThat(letter.getHeaders().getFirst("dead-letter-subject"))
        .isEqualTo("notes.changes.note.create");
    assertThat(letter.getHeaders().getFirst("dead-letter-deliveries")).isEqualTo("3");
    assertThat(letter.getHeaders().getFirst("dead-letter-sequence")).isEqualTo("1");
    assertThat(letter.getHeaders().getFirst("ce-partitionkey")).isEqualTo("poison");
    assertThat(Servers.event(letter).organizationId()).contains("org-1");
  }

  @Test
  void keepsAnEvent_whileADependencyOfItsHandlerIsAway() throws Exception {
    AtomicInteger attempts = new AtomicInteger();
    bus.consumer(ALL, "indexer")
        .maxDeliveries(1)
        .redeliveryDelay(Duration.ofMillis(10), Duration.ofMillis(10))
        .start(event -> {
          // More often than an event is delivered of which processes die.
          if (attempts.incrementAndGet() <= 10) {
            throw new IllegalStateException(new SQLException("terminating connection", "57P01"));
          }
        });
    bus.publish(change("1"));

    await().atMost(AWHILE).until(() -> attempts.get() == 11);
    awaitAllAcknowledged("indexer");
    assertThat(Servers.stored(bus.connection(), "NOTES_DEAD")).isEmpty();
  }

  @Test
  void deadLettersAnEvent_forWhichADependencyIsAwayAlone() throws Exception {
    AtomicInteger attempts = new AtomicInteger();
    bus.consumer(ALL, "indexer")
        .maxDeliveries(2)
        .redeliveryDelay(Duration.ofMillis(10), Duration.ofMillis(10))
        .start(event -> {
          if (event.aggregateId().orElseThrow().equals("large")) {
            attempts.incrementAndGet();
            throw new SQLException("canceling statement due to statement timeout", "57014");
          }
        });
    bus.publish(change("large"));

    await().atMost(AWHILE).until(() -> {
      bus.publish(change("small"));
      return management.getStreamInfo("NOTES_DEAD").getStreamState().getMsgCount() == 1;
    });
    awaitAllAcknowledged("indexer");
    assertThat(attempts).hasValueGreaterThanOrEqualTo(3);
  }

  @Test
  void deadLettersAnEvent_atTheLastDeliveryOfTheServer_alsoIfADependencyIsAway() throws Exception {
    bus.consumer(ALL, "indexer")
        .configure(durable -> durable.maxDeliver(2))
        .redeliveryDelay(Duration.ofMillis(10), Duration.ofMillis(10))
        .start(event -> {
          throw new SQLException("terminating connection", "57P01");
        });
    bus.publish(change("1"));

    awaitAllAcknowledged("indexer");
    assertThat(Servers.stored(bus.connection(), "NOTES_DEAD"))
        .singleElement()
        .satisfies(letter ->
            assertThat(letter.getHeaders().getFirst("dead-letter-deliveries")).isEqualTo("2"));
  }

  @Test
  void deadLettersBeforeTheServerGivesUp() throws Exception {
    AtomicInteger attempts = new AtomicInteger();
    try (Logs logs = new Logs()) {
      bus.consumer(ALL, "indexer")
          .configure(durable -> durable.maxDeliver(2))
          .redeliveryDelay(Duration.ofMillis(10), Duration.ofMillis(10))
          .start(event -> {
            attempts.incrementAndGet();
            throw new IllegalStateException("no");
          });
      assertThat(logs.count("durable has a lower max_deliver")).isEqualTo(1);
    }
    bus.publish(change("1"));

    await()
        .atMost(AWHILE)
        .until(() -> management.getStreamInfo("NOTES_DEAD").getStreamState().getMsgCount() == 1);
    assertThat(attempts).hasValue(2);
  }

  /** Starts consumers that take all events and handle none to its end, and closes them. */
  private void takeAndGiveBack(int events, int times) throws Exception {
    for (int i = 0; i < times; i++) {
      EventConsumer consumer = bus.consumer(ALL, "indexer")
          .deliver(DeliverPolicy.All)
          .concurrency(1)
          .drainTimeout(Duration.ZERO)
          .start(event -> new CountDownLatch(1).await());
      await().atMost(AWHILE).until(() -> consumer.held() == events);
      consumer.close();
    }
  }

  @Test
  void triesAnEventAgain_thatFailsForTheFirstTime_howeverOftenItWasGivenBack() throws Exception {
    publish(3);
    takeAndGiveBack(3, 4);
    Map<String, Integer> attempts = new ConcurrentHashMap<>();
    bus.consumer(ALL, "indexer")
        .maxDeliveries(3)
        .redeliveryDelay(Duration.ofMillis(10), Duration.ofMillis(10))
        .start(event -> {
          if (attempts.merge(event.id(), 1, Integer::sum) == 1
              || event.version().orElseThrow() == 2) {
            throw new IllegalStateException("not yet");
          }
        });

    awaitAllAcknowledged("indexer");
    assertThat(attempts).hasSize(3);
    assertThat(attempts.values()).containsOnly(2);
    assertThat(Servers.stored(bus.connection(), "NOTES_DEAD")).singleElement().satisfies(letter -> {
      assertThat(letter.getHeaders().getFirst("dead-letter-sequence")).isEqualTo("3");
      assertThat(Integer.parseInt(letter.getHeaders().getFirst("dead-letter-deliveries")))
          .isGreaterThanOrEqualTo(6);
    });
  }

  @Test
  void deadLettersOneAtMost_ofManyThatWereDeliveredTooOften_andHandlesTheOthers() throws Exception {
    publish(20);
    takeAndGiveBack(20, 8);
    Set<Long> handled = ConcurrentHashMap.newKeySet();
    bus.consumer(ALL, "indexer")
        .maxDeliveries(1)
        .start(event -> handled.add(event.version().orElseThrow()));

    awaitAllAcknowledged("indexer");
    assertThat(handled).hasSize(19);
    assertThat(Servers.stored(bus.connection(), "NOTES_DEAD"))
        .extracting(letter -> letter.getHeaders().getFirst("dead-letter-reason"))
        .containsExactly("delivered too often without an end");
  }

  @Test
  void deadLettersTheEventThatProcessesDieOf_andHandlesTheOthers(NatsServer server)
      throws Exception {
    publish(10);
    Set<Long> handled = ConcurrentHashMap.newKeySet();
    int lives = 0;
    // The others may be handled before this one comes again.
    Callable<Boolean> done = () ->
        handled.size() == 9 && !Servers.stored(bus.connection(), "NOTES_DEAD").isEmpty();
    while (!done.call()) {
      assertThat(++lives).isLessThan(20);
      CountDownLatch died = new CountDownLatch(1);
      try (NatsBus process = Servers.bus(server).open()) {
        process
            .consumer(ALL, "indexer")
            .deliver(DeliverPolicy.All)
            .ackWait(Duration.ofMillis(300))
            .maxDeliveries(1)
            .concurrency(1)
            .drainTimeout(Duration.ZERO)
            .start(event -> {
              long version = event.version().orElseThrow();
              if (version == 0) {
                process.connection().close(); // as the server sees it
                died.countDown();
                new CountDownLatch(1).await();
              }
              handled.add(version);
            });
        await().atMost(AWHILE).until(() -> died.getCount() == 0 || done.call());
      }
    }
    bus.consumer(ALL, "indexer").start(event -> {});
    awaitAllAcknowledged("indexer");

    assertThat(handled).doesNotContain(0L);
    assertThat(Servers.stored(bus.connection(), "NOTES_DEAD")).singleElement().satisfies(letter -> {
      assertThat(letter.getHeaders().getFirst("dead-letter-sequence")).isEqualTo("1");
      assertThat(letter.getHeaders().getFirst("dead-letter-reason"))
          .isEqualTo("delivered too often without an end");
    });
  }

  @Test
  void waitsLonger_fromDeliveryToDelivery() {
    List<Long> times = Collections.synchronizedList(new ArrayList<>());
    bus.consumer(ALL, "indexer")
        .redeliveryDelay(Duration.ofMillis(200), Duration.ofMillis(500))
        .start(event -> {
          times.add(System.nanoTime());
          if (times.size() < 4) {
            throw new IllegalStateException("not yet");
          }
        });
    bus.publish(change("1"));
    await().atMost(AWHILE).until(() -> times.size() == 4);

    // Less the fifth that is left to chance.
    assertThat(times.get(1) - times.get(0)).isGreaterThan(160_000_000);
    assertThat(times.get(2) - times.get(1)).isGreaterThan(320_000_000);
    assertThat(times.get(3) - times.get(2)).isGreaterThan(400_000_000);
  }

  @Test
  void consumesTheStreamOfAnotherService_inAQueueOfItsOwnName(NatsServer server) throws Exception {
    Map<String, Integer> handled = new ConcurrentHashMap<>();
    try (NatsBus other = NatsBus.builder(server.url()).stream("ORDERS")
        .subjectPrefix("orders.changes")
        .open()) {
      for (int i = 0; i < 2; i++) {
        bus.consumer("orders.changes.>", "billing").stream("ORDERS")
            .queue("workers")
            .maxDeliveries(1)
            .start(event -> {
              handled.merge(event.id(), 1, Integer::sum);
              if (event.version().orElseThrow() == 0) {
                throw new IllegalStateException("no");
              }
            });
      }
      for (int i = 0; i < 20; i++) {
        other.publish(Change.of("order", "o-" + i, "change").version(i));
      }
      await().atMost(AWHILE).until(() -> handled.size() == 20);
      await()
          .atMost(AWHILE)
          .until(() -> management.getStreamInfo("ORDERS_DEAD").getStreamState().getMsgCount() == 1);
    }
    assertThat(handled.values()).containsOnly(1);
    assertThat(management
            .getConsumerInfo("ORDERS", "billing")
            .getConsumerConfiguration()
            .getDeliverGroup())
        .isEqualTo("workers");
  }

  @Test
  void holdsABoundedNumberOfEvents_whereTheServerWouldGiveMore() {
    CountDownLatch go = new CountDownLatch(1);
    Set<String> handled = ConcurrentHashMap.newKeySet();
    EventConsumer consumer = bus.consumer(ALL, "indexer")
        .configure(durable -> durable.maxAckPending(20_000))
        .ackWait(Duration.ofMinutes(2))
        .start(event -> {
          go.await();
          handled.add(event.id());
        });
    List<CompletableFuture<Outcome>> all = new ArrayList<>();
    for (int i = 0; i < 10_300; i++) {
      all.add(bus.publishAsync(Change.of("note", "n-" + i, "change")));
    }
    CompletableFuture.allOf(all.toArray(CompletableFuture[]::new)).join();
    await().atMost(AWHILE).until(() -> info("indexer").getNumAckPending() == 10_300);
    await().atMost(AWHILE).until(() -> consumer.held() >= 10_000);
    assertThat(consumer.held()).isEqualTo(10_000);

    go.countDown();
    await().atMost(AWHILE).until(() -> handled.size() == 10_300);
    awaitAllAcknowledged("indexer");
  }

  @Test
  void measuresWhatIsHandledFailedAndDeadLettered_andWhatIsInHandAndBehind() throws Exception {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    CountDownLatch go = new CountDownLatch(1);
    EventConsumer consumer = bus.consumer(ALL, "indexer")
        .configure(durable -> durable.maxAckPending(2))
        .maxDeliveries(1)
        .metrics(registry)
        .start(event -> {
          go.await();
          if (event.aggregateId().orElseThrow().equals("poison")) {
            throw new IllegalStateException("poison");
          }
        });
    for (String id : List.of("a", "poison", "c")) {
      bus.publish(change(id));
    }
    await()
        .atMost(AWHILE)
        .until(() -> registry.get("natsbus.consumer.in.hand").gauge().value() == 2);
    consumer.reattach(); // as it does every ten seconds
    assertThat(registry.get("natsbus.consumer.lag").gauge().value()).isEqualTo(1);

    go.countDown();
    awaitAllAcknowledged("indexer");
    assertThat(registry.get("natsbus.consumer.handled").counter().count()).isEqualTo(2);
    assertThat(registry.get("natsbus.consumer.failed").counter().count()).isEqualTo(1);
    assertThat(registry
            .get("natsbus.consumer.dead.lettered")
            .tags("stream", "NOTES", "durable", "indexer")
            .counter()
            .count())
        .isEqualTo(1);
    consumer.close();
    assertThat(registry.get("natsbus.consumer.in.hand").gauge().value()).isZero();
  }

  @Test
  void deadLettersAtOnce_whatIsNoEvent() throws Exception {
    AtomicInteger handled = new AtomicInteger();
    bus.consumer(ALL, "indexer").start(event -> handled.incrementAndGet());
    bus.connection().jetStream().publish("notes.changes.note.create", new byte[] {1, 2, 3});

    await()
        .atMost(AWHILE)
        .until(() -> management.getStreamInfo("NOTES_DEAD").getStreamState().getMsgCount() == 1);
    awaitAllAcknowledged("indexer");
    MessageInfo letter = Servers.stored(bus.connection(), "NOTES_DEAD").get(0);
    assertThat(letter.getHeaders().getFirst("dead-letter-reason")).startsWith("malformed event: ");
    assertThat(letter.getData()).containsExactly(1, 2, 3);
    assertThat(handled).hasValue(0);
  }

  @Test
  void deadLettersAtOnce_whatReadingFailsOn_howeverItFails() throws Exception {
    AtomicInteger read = new AtomicInteger();
    Set<String> handled = ConcurrentHashMap.newKeySet();
    try (Logs logs = new Logs()) {
      bus.consumer(ALL, "indexer")
          .reader(message -> {
            Event event = NatsBus.read(message);
            String key = event.aggregateId().orElseThrow();
            if (key.equals("sound")) {
              return event;
            }
            read.incrementAndGet();
            if (key.equals("deep")) {
              throw new StackOverflowError();
            }
            throw new IndexOutOfBoundsException("at 7");
          })
          .start(event -> handled.add(event.aggregateId().orElseThrow()));
      bus.publish(change("deep"));
      bus.publish(change("odd"));
      bus.publish(change("sound"));

      await()
          .atMost(AWHILE)
          .until(() -> management.getStreamInfo("NOTES_DEAD").getStreamState().getMsgCount() == 2);
      awaitAllAcknowledged("indexer");
      assertThat(Servers.stored(bus.connection(), "NOTES_DEAD"))
          .extracting(letter -> letter.getHeaders().getFirst("dead-letter-reason"))
          .containsExactlyInAnyOrder(
              "malformed event: java.lang.StackOverflowError",
              "malformed event: java.lang.IndexOutOfBoundsException: at 7");
      assertThat(read).hasValue(2);
      assertThat(handled).containsExactly("sound");
      assertThat(logs.count("ERROR event could not be read")).isEqualTo(2);
    }
  }

  @Test
  void deadLettersWithoutItsBody_whatIsTooLargeWithTheReason() throws Exception {
    bus.consumer(ALL, "indexer").start(event -> {});
    int size = Math.toIntExact(bus.connection().getMaxPayload()) - 10;
    bus.connection().jetStream().publish("notes.changes.note.create", new byte[size]);

    await()
        .atMost(AWHILE)
        .until(() -> management.getStreamInfo("NOTES_DEAD").getStreamState().getMsgCount() == 1);
    awaitAllAcknowledged("indexer");
    MessageInfo letter = Servers.stored(bus.connection(), "NOTES_DEAD").get(0);
    assertThat(letter.getHeaders().getFirst("dead-letter-body-omitted"))
        .isEqualTo(Integer.toString(size));
    assertThat(letter.getHeaders().getFirst("dead-letter-sequence")).isEqualTo("1");
    assertThat(letter.getHeaders().getFirst("dead-letter-reason")).startsWith("malformed event: ");
  }

  @Test
  void keepsAMessage_thatNoDeadLetterStreamTakes() throws Exception {
    assertThatThrownBy(
            () -> bus.consumer(ALL, "x").deadLetterSubject("graves.x").start(e -> {}))
        .isInstanceOf(StartupException.class)
        .hasMessageContaining("graves.x");

    management.addStream(Streams.standard("GRAVES", "graves.>", 1).build());
    AtomicInteger handled = new AtomicInteger();
    bus.consumer(ALL, "y")
        .deadLetterSubject("graves.y")
        .maxDeliveries(1)
        .redeliveryDelay(Duration.ofMillis(50), Duration.ofMillis(100))
        .start(event -> {
          handled.incrementAndGet();
          throw new IllegalStateException("no");
        });
    management.deleteStream("GRAVES");
    bus.publish(change("1"));
    await().atMost(AWHILE).until(() -> handled.get() > 0);
    assertThat(info("y").getNumAckPending() + info("y").getNumPending()).isEqualTo(1);
    management.addStream(Streams.standard("GRAVES", "graves.>", 1).build());

    awaitAllAcknowledged("y");
    assertThat(Servers.stored(bus.connection(), "GRAVES")).hasSize(1);
  }

  @Test
  void doesNotGetAgain_whatItsHandlerStillHas() throws Exception {
    AtomicInteger handled = new AtomicInteger();
    CountDownLatch go = new CountDownLatch(1);
    bus.consumer(ALL, "slow").ackWait(Duration.ofMillis(600)).concurrency(1).start(event -> {
      handled.incrementAndGet();
      go.await();
    });
    bus.publish(change("1"));
    bus.publish(change("2")); // waits behind it, and is in hand too
    await().atMost(AWHILE).until(() -> handled.get() == 1);

    await()
        .pollDelay(Duration.ofMillis(2400)) // four times the wait
        .atMost(AWHILE)
        .until(() -> info("slow").getRedelivered() == 0);
    assertThat(info("slow").getNumAckPending()).isEqualTo(2);
    go.countDown();
    awaitAllAcknowledged("slow");
    assertThat(handled).hasValue(2);
  }

  @Test
  void handlesManyAtATime_andEachAggregateInOrder() {
    AtomicInteger running = new AtomicInteger();
    AtomicInteger most = new AtomicInteger();
    Map<String, List<Long>> seen = new ConcurrentHashMap<>();
    AtomicBoolean overlap = new AtomicBoolean();
    Set<String> busy = ConcurrentHashMap.newKeySet();
    CountDownLatch four = new CountDownLatch(4);
    bus.consumer(ALL, "indexer").concurrency(4).start(event -> {
      String key = event.aggregateId().orElseThrow();
      if (!busy.add(key)) {
        overlap.set(true);
      }
      most.accumulateAndGet(running.incrementAndGet(), Math::max);
      four.countDown();
      four.await(10, TimeUnit.SECONDS);
      seen.computeIfAbsent(key, k -> Collections.synchronizedList(new ArrayList<>()))
          .add(event.version().orElseThrow());
      running.decrementAndGet();
      busy.remove(key);
    });
    publish(200);

    awaitAllAcknowledged("indexer");
    assertThat(most).hasValue(4);
    assertThat(overlap).isFalse();
    assertThat(seen.values()).hasSize(5).allSatisfy(versions -> {
      assertThat(versions).hasSize(40);
      assertThat(versions).isSorted();
    });
  }

  /** As the CloudEvents SDKs write it in their structured mode, and in between as we do. */
  @Test
  void handlesEachAggregateInOrder_whoseIdIsInTheBodyAlone() {
    AtomicBoolean overlap = new AtomicBoolean();
    AtomicInteger running = new AtomicInteger();
    List<Long> seen = Collections.synchronizedList(new ArrayList<>());
    CountDownLatch two = new CountDownLatch(2);
    bus.consumer(ALL, "indexer").start(event -> {
      overlap.compareAndSet(false, running.incrementAndGet() > 1);
      two.countDown();
      two.await(1, TimeUnit.SECONDS); // where one is handled after the other, nobody comes
      seen.add(event.sequence().orElseThrow());
      running.decrementAndGet();
    });
    for (int i = 0; i < 20; i++) {
      String json = "{\"specversion\":\"1.0\",\"id\":\"e-" + i
          + "\",\"type\":\"t\",\"source\":\"s\",\"sequence\":\"" + i
          + (i % 3 == 0 ? "" : "\",\"partitionkey\":\"n 1") + "\",\"data\":null}";
      Headers ours = i % 3 == 0 ? new Headers().add("ce-partitionkey", "n%201") : null;
      bus.connection()
          .publish("notes.changes.note.create", ours, json.getBytes(StandardCharsets.UTF_8));
    }

    await().atMost(AWHILE).until(() -> seen.size() == 20);
    assertThat(overlap).isFalse();
    assertThat(seen).isSorted();
  }

  @Test
  void finishesItsHandlers_andAcknowledges_beforeItCloses() throws Exception {
    CountDownLatch begun = new CountDownLatch(1);
    CountDownLatch go = new CountDownLatch(1);
    AtomicInteger handled = new AtomicInteger();
    EventConsumer consumer = bus.consumer(ALL, "indexer").concurrency(1).start(event -> {
      begun.countDown();
      go.await();
      handled.incrementAndGet();
    });
    publish(3);
    begun.await();
    Thread closing = Thread.ofPlatform().start(consumer::close);
    await().atMost(AWHILE).until(() -> closing.getState() == Thread.State.TIMED_WAITING);
    go.countDown();
    closing.join();

    assertThat(handled).hasValue(1);
    // The server has the acknowledgement, and takes it into account in its own time.
    await().atMost(AWHILE).until(() -> info("indexer").getAckFloor().getStreamSequence() == 1);
    // The two that were given back come at once to whoever is next.
    AtomicInteger next = new AtomicInteger();
    bus.consumer(ALL, "indexer").start(event -> next.incrementAndGet());
    await().atMost(Duration.ofSeconds(20)).until(() -> next.get() == 2);
    awaitAllAcknowledged("indexer");
  }

  @Test
  void acknowledges_whileAnotherHandlerIsAtWork() throws Exception {
    CountDownLatch begun = new CountDownLatch(1);
    CountDownLatch end = new CountDownLatch(1);
    CountDownLatch others = new CountDownLatch(20);
    bus.consumer(ALL, "indexer").start(event -> {
      if (event.aggregateId().orElseThrow().equals("slow")) {
        begun.countDown();
        end.await();
      } else {
        others.countDown();
      }
    });
    bus.publish(change("slow"));
    begun.await();
    publish(20);
    others.await();

    await().atMost(AWHILE).until(() -> info("indexer").getNumAckPending() == 1);
    end.countDown();
    awaitAllAcknowledged("indexer");
  }

  @Test
  void interruptsAHandlerThatDoesNotEnd_andGivesItsEventBack() {
    CountDownLatch begun = new CountDownLatch(1);
    AtomicBoolean interrupted = new AtomicBoolean();
    EventConsumer consumer = bus.consumer(ALL, "indexer")
        .drainTimeout(Duration.ofMillis(100))
        .start(event -> {
          begun.countDown();
          try {
            new CountDownLatch(1).await();
          } catch (InterruptedException stop) {
            interrupted.set(true);
            throw stop;
          }
        });
    bus.publish(change("1"));
    await().atMost(AWHILE).until(() -> begun.getCount() == 0);
    consumer.close();
    await().atMost(AWHILE).untilTrue(interrupted);

    AtomicInteger next = new AtomicInteger();
    bus.consumer(ALL, "indexer").start(event -> next.incrementAndGet());
    await().atMost(Duration.ofSeconds(20)).until(() -> next.get() == 1);
  }

  @Test
  void losesAndDoublesNothing_whenItClosesUnderLoad() {
    Map<String, Integer> handled = new ConcurrentHashMap<>();
    Thread publishing = Thread.ofPlatform().start(() -> publish(600));
    for (int i = 0; i < 6; i++) {
      EventConsumer consumer = bus.consumer(ALL, "indexer")
          .deliver(DeliverPolicy.All)
          .start(event -> handled.merge(event.id(), 1, Integer::sum));
      int before = handled.size();
      int enough = Math.min(before + 60, 600);
      await().atMost(AWHILE).until(() -> handled.size() >= enough);
      consumer.close();
    }
    bus.consumer(ALL, "indexer").start(event -> handled.merge(event.id(), 1, Integer::sum));

    await().atMost(AWHILE).until(() -> !publishing.isAlive());
    awaitAllAcknowledged("indexer");
    assertThat(handled).hasSize(600);
    assertThat(handled.values()).containsOnly(1);
  }

  @Test
  void goesOnAfterAServerRestart_andHandlesNothingTwiceThatItHasHandled(NatsServer server) {
    Map<String, Integer> handled = new ConcurrentHashMap<>();
    bus.consumer(ALL, "indexer")
        .ackWait(Duration.ofSeconds(1))
        .start(event -> handled.merge(event.id(), 1, Integer::sum));
    publish(50);
    server.kill();
    await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);
    server.restart();
    await().atMost(AWHILE).until(() -> bus.connection().getStatus() == Status.CONNECTED);
    publish(50);

    await().atMost(AWHILE).until(() -> handled.size() == 100);
    awaitAllAcknowledged("indexer");
    assertThat(handled.values()).containsOnly(1);
  }

  @Test
  void missesNothingThatComesAtOnce_whenItStartsOrGivesBack() {
    Map<String, Integer> attempts = new ConcurrentHashMap<>();
    publish(50);
    for (int i = 0; i < 20; i++) {
      String durable = "d" + i;
      bus.consumer(ALL, durable)
          .deliver(DeliverPolicy.All)
          .ackWait(Duration.ofMinutes(5))
          .redeliveryDelay(Duration.ZERO, Duration.ZERO)
          .start(event -> {
            if (attempts.merge(durable + event.id(), 1, Integer::sum) < 3) {
              throw new IllegalStateException("not yet");
            }
          });
    }
    await()
        .atMost(AWHILE)
        .until(() ->
            attempts.size() == 1000 && attempts.values().stream().allMatch(count -> count == 3));
  }

  @Test
  void livesOnAfterAnyThrowable() {
    AtomicInteger handled = new AtomicInteger();
    bus.consumer(ALL, "indexer").redeliveryDelay(Duration.ZERO, Duration.ZERO).start(event -> {
      switch (handled.incrementAndGet()) {
        case 1 -> throw new OutOfMemoryError("not really");
        case 2 -> throw new StackOverflowError();
        case 3 -> throw new Exception("checked");
        default -> Thread.currentThread().interrupt(); // left behind
      }
    });
    bus.publish(change("1"));
    bus.publish(change("2"));

    awaitAllAcknowledged("indexer");
    assertThat(handled).hasValue(5);
  }
}
