package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.natsbus.spool.SpooledPublisher;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.TestNats;
import io.nats.client.Connection.Status;
import io.nats.client.JetStreamManagement;
import io.nats.client.api.AckPolicy;
import io.nats.client.api.ConsumerConfiguration;
import io.nats.client.api.DeliverPolicy;
import io.nats.client.api.RetentionPolicy;
import io.nats.client.api.StreamConfiguration;
import io.nats.client.api.StreamState;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** Durables, streams and servers that are there no more, or not as they were. */
@Timeout(120)
@ExtendWith(TestNats.class)
class LostDataTest {
  private static final Duration AWHILE = Duration.ofSeconds(30);
  private static final String ALL = "notes.changes.>";

  @TempDir
  Path temp;

  private static Change change(long version) {
    return Change.of("note", "n-" + version, "create").version(version);
  }

  private static void publish(NatsBus bus, long from, long to) {
    for (long i = from; i <= to; i++) {
      assertThat(bus.publish(change(i))).isEqualTo(Outcome.STORED);
    }
  }

  /** As a caller does it: what was under way when a leader died is published again, with its id. */
  private static void publishUntilStored(NatsBus bus, long from, long to) {
    for (long i = from; i <= to; i++) {
      Change change = change(i).eventId(UUID.randomUUID());
      await()
          .atMost(AWHILE)
          .ignoreExceptionsMatching(failure ->
              failure instanceof PublishException e && e.reason() == PublishException.Reason.AWAY)
          .until(() -> bus.publish(change) == Outcome.STORED);
    }
  }

  @Test
  void consumesWithoutAStreamOfDeadLetters_thatCannotBeMadeAgain() throws Exception {
    Set<Long> handled = ConcurrentHashMap.newKeySet();
    try (ConfiguredNats server = new ConfiguredNats(temp, account(2));
        NatsBus bus = NatsBus.builder("nats://notes:x@" + server.address()).stream("NOTES")
            .subjectPrefix("notes.changes")
            .open()) {
      bus.consumer(ALL, "indexer").start(event -> handled.add(event.version().orElseThrow()));
      server.stop();
      delete(temp.resolve("store"));
      server.start(account(1));

      publishUntilStored(bus, 1, 1);
      await().atMost(AWHILE).until(() -> handled.contains(1L));
    }
  }

  private String account(int streams) {
    return "jetstream { store_dir: \"" + temp.resolve("store") + "\" }\n"
        + "accounts { A { jetstream: { max_file: 100MB, max_streams: " + streams
        + " }, users: [ { user: notes, password: x } ] } }";
  }

  private static void awaitAcknowledged(NatsBus bus) throws Exception {
    JetStreamManagement management = bus.connection().jetStreamManagement();
    await().atMost(AWHILE).until(() -> {
      var info = management.getConsumerInfo("NOTES", "indexer");
      return info.getNumAckPending() == 0 && info.getNumPending() == 0;
    });
  }

  @Test
  void goesOnWhereItWas_whenTheDurableIsDeleted(NatsServer server) throws Exception {
    Map<Long, Integer> handled = new ConcurrentHashMap<>();
    AtomicInteger failures = new AtomicInteger();
    try (Logs logs = new Logs();
        NatsBus bus = Servers.bus(server).open()) {
      JetStreamManagement management = bus.connection().jetStreamManagement();
      publish(bus, 1, 3); // before the consumer, which begins with what is new
      EventConsumer consumer = bus.consumer(ALL, "indexer")
          .redeliveryDelay(Duration.ofSeconds(20), Duration.ofSeconds(20))
          .start(event -> {
            long version = event.version().orElseThrow();
            if (version == 8 && failures.incrementAndGet() == 1) {
              throw new IllegalStateException("not yet");
            }
            handled.merge(version, 1, Integer::sum);
          });
      publish(bus, 4, 10);
      await().atMost(AWHILE).until(() -> handled.size() == 6 && failures.get() == 1);
      management.deleteConsumer("NOTES", "indexer");
      publish(bus, 11, 20);
      consumer.reattach(); // as it does every ten seconds

      await().atMost(AWHILE).until(() -> handled.size() == 17);
      awaitAcknowledged(bus);
      assertThat(handled).doesNotContainKeys(1L, 2L, 3L);
      assertThat(handled.values()).containsOnly(1);
      assertThat(logs.count("WARN durable was deleted; created again where this process was"))
          .isEqualTo(1);
    }
  }

  @Test
  void goesOn_whenTheDurableOfAWorkQueueIsDeleted(NatsServer server) throws Exception {
    Map<Long, Integer> handled = new ConcurrentHashMap<>();
    try (NatsBus bus = Servers.bus(server)
        .configureStream(stream -> stream.retentionPolicy(RetentionPolicy.WorkQueue))
        .open()) {
      EventConsumer consumer = bus.consumer(ALL, "indexer")
          .deliver(DeliverPolicy.All)
          .start(event -> handled.merge(event.version().orElseThrow(), 1, Integer::sum));
      publish(bus, 1, 3);
      awaitAcknowledged(bus);
      bus.connection().jetStreamManagement().deleteConsumer("NOTES", "indexer");
      publish(bus, 4, 6);
      consumer.reattach(); // as it does every ten seconds

      await().atMost(AWHILE).until(() -> handled.size() == 6);
      awaitAcknowledged(bus);
      assertThat(handled.values()).containsOnly(1);
    }
  }

  /** As where there is no memory, neither for the check nor for its log line. */
  @Test
  void makesTheDurableAgain_whenACheckHasFailedThatCouldNotEvenBeLogged(NatsServer server)
      throws Exception {
    AtomicInteger checks = new AtomicInteger();
    Set<Long> handled = ConcurrentHashMap.newKeySet();
    try (NatsBus bus = Servers.bus(server).open()) {
      EventConsumer consumer = bus.consumer(ALL, "indexer")
          .configure(durable -> {
            if (checks.incrementAndGet() == 2) {
              throw new IllegalStateException() {
                @Override
                public String getMessage() {
                  throw new Error("no memory for the log line");
                }
              };
            }
          })
          .start(event -> handled.add(event.version().orElseThrow()));
      bus.connection().jetStreamManagement().deleteConsumer("NOTES", "indexer");
      publish(bus, 1, 3);
      consumer.checkNow();
      await().atMost(AWHILE).until(() -> handled.size() == 3);
      assertThat(checks).hasValue(3);
    }
  }

  @Test
  void beginsWithTheFirst_whenTheStreamIsMadeAnew(NatsServer server) throws Exception {
    Map<Long, Integer> handled = new ConcurrentHashMap<>();
    CountDownLatch release = new CountDownLatch(1);
    try (Logs logs = new Logs();
        NatsBus bus = Servers.bus(server).open()) {
      JetStreamManagement management = bus.connection().jetStreamManagement();
      StreamConfiguration stream = management.getStreamInfo("NOTES").getConfiguration();
      EventConsumer consumer = bus.consumer(ALL, "indexer")
          .redeliveryDelay(Duration.ofMillis(10), Duration.ofMillis(10))
          .start(event -> {
            long version = event.version().orElseThrow();
            if (version == 5) {
              release.await();
            }
            if (handled.merge(version, 1, Integer::sum) == 1 && version == 15) {
              // The old event of the same sequence ends here, and acknowledges no other.
              release.countDown();
              await().atMost(AWHILE).until(() -> handled.containsKey(5L));
              throw new IllegalStateException("not yet");
            }
          });
      publish(bus, 1, 5);
      await().atMost(AWHILE).until(() -> handled.size() == 4 && consumer.held() == 1);
      management.deleteStream("NOTES");
      management.addStream(stream);
      publish(bus, 11, 16);
      consumer.reattach();

      await().atMost(AWHILE).until(() -> handled.size() == 11 && handled.get(15L) == 2);
      awaitAcknowledged(bus);
      assertThat(logs.count("WARN stream was recreated; durable created again")).isEqualTo(1);
    }
  }

  @Test
  void isMadeAgain_whenTheServerComesBackWithoutItsData() throws Exception {
    Map<Long, Integer> handled = new ConcurrentHashMap<>();
    try (ConfiguredNats server = new ConfiguredNats(temp, "");
        Logs logs = new Logs();
        NatsBus bus = NatsBus.builder("nats://" + server.address()).stream("NOTES")
            .subjectPrefix("notes.changes")
            .configureStream(stream -> stream.maxAge(Duration.ofDays(3)))
            .publishTimeout(Duration.ofSeconds(3))
            .configure(options ->
                options.reconnectWait(Duration.ofMillis(50)).reconnectJitter(Duration.ofMillis(10)))
            .open();
        SpooledPublisher spooled = SpooledPublisher.builder(bus, temp.resolve("spool"))
            .maxAttempts(1)
            .replayEvery(Duration.ofMillis(200))
            .open()) {
      bus.consumer(ALL, "indexer").maxDeliveries(1).start(event -> {
        if (event.version().orElseThrow() == 13) {
          throw new IllegalStateException("poison");
        }
        handled.merge(event.version().orElseThrow(), 1, Integer::sum);
      });
      publish(bus, 1, 10);
      await().atMost(AWHILE).until(() -> handled.size() == 10);
      server.stop();
      delete(temp.resolve("store"));
      assertThat(spooled.publish(change(11))).isEqualTo(Outcome.SPOOLED);
      server.start("");

      await().atMost(AWHILE).until(() -> handled.containsKey(11L));
      publish(bus, 12, 20);
      await().atMost(AWHILE).until(() -> handled.size() == 19);
      awaitAcknowledged(bus);
      JetStreamManagement management = bus.connection().jetStreamManagement();
      assertThat(management.getStreamInfo("NOTES").getConfiguration().getMaxAge())
          .isEqualTo(Duration.ofDays(3));
      assertThat(management.getStreamInfo("NOTES_DEAD").getStreamState().getMsgCount())
          .isEqualTo(1);
      assertThat(handled.values()).containsOnly(1);
      // The stream, and that of dead letters.
      assertThat(logs.count("WARN stream was gone; created again, empty")).isEqualTo(2);
      assertThat(logs.count("WARN stream was recreated; durable created again")).isEqualTo(1);
    }
  }

  private static void delete(Path directory) throws IOException {
    try (Stream<Path> files = Files.walk(directory)) {
      for (Path each : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(each);
      }
    }
  }

  @Test
  void goesOn_whenTheLeaderOfAClusterIsGone() throws Exception {
    int[] ports = {FreePort.next(), FreePort.next(), FreePort.next()};
    int[] routes = {FreePort.next(), FreePort.next(), FreePort.next()};
    List<ConfiguredNats> servers = new ArrayList<>();
    Map<Long, Integer> handled = new ConcurrentHashMap<>();
    try {
      for (int i = 0; i < 3; i++) {
        Path own = Files.createDirectory(temp.resolve("server" + i));
        servers.add(new ConfiguredNats(
            own, ports[i], """
            server_name: n%d
            cluster { name: c, listen: "127.0.0.1:%d", routes: [ "nats://127.0.0.1:%d",
              "nats://127.0.0.1:%d", "nats://127.0.0.1:%d" ] }
            """.formatted(i, routes[i], routes[0], routes[1], routes[2])));
      }
      String urls = "nats://127.0.0.1:%d,nats://127.0.0.1:%d,nats://127.0.0.1:%d"
          .formatted(ports[0], ports[1], ports[2]);
      try (NatsBus bus = NatsBus.builder(urls).stream("NOTES")
              .subjectPrefix("notes.changes")
              .configureStream(stream -> stream.replicas(3))
              .publishTimeout(Duration.ofSeconds(3))
              .configure(options -> options
                  .reconnectWait(Duration.ofMillis(50))
                  .reconnectJitter(Duration.ofMillis(10)))
              .open();
          EventConsumer consumer = bus.consumer(ALL, "indexer")
              .configure(durable -> durable.numReplicas(3))
              .start(event -> handled.merge(event.version().orElseThrow(), 1, Integer::sum))) {
        publish(bus, 1, 50);
        await().atMost(AWHILE).until(() -> handled.size() == 50);
        String leader = bus.connection()
            .jetStreamManagement()
            .getStreamInfo("NOTES")
            .getClusterInfo()
            .getLeader();
        servers.get(Integer.parseInt(leader.substring(1))).signal("KILL");

        publishUntilStored(bus, 51, 100);
        await().atMost(AWHILE).until(() -> handled.size() == 100);
        assertThat(bus.connection().jetStreamManagement().getStreamInfo("NOTES").getStreamState())
            .as("each stored once")
            .extracting(StreamState::getMsgCount)
            .isEqualTo(100L);
        assertThat(bus.connection().getStatus()).isEqualTo(Status.CONNECTED);
      }
    } finally {
      for (ConfiguredNats each : servers) {
        each.stop();
      }
    }
  }

  @Test
  void listensUnderTheInboxPrefix_andDoesNotStartWhereItMayNotListen() throws Exception {
    String users = "authorization { users: [ {user: bob, password: pw, permissions: {"
        + " subscribe: [\"bobs.inbox.>\"] } } ] }";
    try (ConfiguredNats server = new ConfiguredNats(temp, users);
        NatsBus bus = NatsBus.builder("nats://bob:pw@" + server.address()).stream("NOTES")
            .subjectPrefix("notes.changes")
            .configure(options -> options.inboxPrefix("bobs.inbox"))
            .open()) {
      CountDownLatch handled = new CountDownLatch(1);
      bus.consumer(ALL, "indexer").start(event -> handled.countDown());
      publish(bus, 1, 1);
      assertThat(handled.await(AWHILE.toSeconds(), TimeUnit.SECONDS)).isTrue();

      // Made by a peer with another prefix.
      bus.connection()
          .jetStreamManagement()
          .addOrUpdateConsumer(
              "NOTES",
              ConsumerConfiguration.builder()
                  .durable("other")
                  .deliverSubject("_INBOX.other")
                  .deliverGroup("other")
                  .filterSubject(ALL)
                  .ackPolicy(AckPolicy.Explicit)
                  .build());
      for (int i = 0; i < 2; i++) {
        assertThatThrownBy(() -> bus.consumer(ALL, "other").start(event -> {}))
            .isInstanceOf(StartupException.class)
            .hasMessageStartingWith(
                "queue_subscribe: Permissions Violation for Subscription to \"_INBOX.other\"");
      }
      server.reload(users.replace("bobs.inbox.>\"", "bobs.inbox.>\", \"_INBOX.>\""));
      CountDownLatch allowed = new CountDownLatch(1);
      bus.consumer(ALL, "other").start(event -> allowed.countDown());
      assertThat(allowed.await(AWHILE.toSeconds(), TimeUnit.SECONDS)).isTrue();
    }
  }
}
