package dev.evalops.runtime.natsbus.spool;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.google.protobuf.StringValue;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.natsbus.Logs;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.natsbus.NatsBusTest;
import dev.evalops.runtime.natsbus.Servers;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.TestNats;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.nats.client.Connection.Status;
import io.nats.client.api.MessageInfo;
import io.nats.client.api.StreamConfiguration;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

@Timeout(120)
@ExtendWith(TestNats.class)
class SpooledPublisherTest {
  private static final Duration AWHILE = Duration.ofSeconds(30);
  private static final Duration NEVER = Duration.ofNanos(1);

  @TempDir
  Path temp;

  private final SimpleMeterRegistry registry = new SimpleMeterRegistry();
  private NatsBus bus;
  private Path directory;

  @BeforeEach
  void connect(NatsServer server) {
    bus = Servers.bus(server)
        .publishTimeout(Duration.ofSeconds(1)) // what is away takes so long, what is there must not
        .metrics(registry)
        .open();
    directory = temp.resolve("spool");
  }

  @AfterEach
  void close() {
    bus.close();
  }

  private SpooledPublisher.Builder publisher() {
    return publisher(bus);
  }

  private SpooledPublisher.Builder publisher(NatsBus bus) {
    return SpooledPublisher.builder(bus, directory)
        .maxAttempts(2)
        .metrics(registry)
        .replayEvery(Duration.ofHours(1));
  }

  private static Change change(String id, long version) {
    return Change.of("note", id, "create").version(version);
  }

  private void away(NatsServer server) {
    server.kill();
    await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);
  }

  private void back(NatsServer server) {
    server.restart();
    await().atMost(AWHILE).until(() -> bus.connection().getStatus() == Status.CONNECTED);
  }

  private List<Path> files() throws Exception {
    try (Stream<Path> files = Files.list(directory)) {
      return files.filter(file -> file.toString().endsWith(".json")).sorted().toList();
    }
  }

  private List<String> stored() throws Exception {
    return Servers.stored(bus.connection(), "NOTES").stream()
        .map(each -> Servers.event(each))
        .map(event -> event.aggregateId().orElse("-") + ":" + event.version().orElse(-1))
        .toList();
  }

  @Test
  void survivesAnIntervalThatIsForEver() throws Exception {
    List<Throwable> uncaught = new CopyOnWriteArrayList<>();
    Thread.UncaughtExceptionHandler before = Thread.getDefaultUncaughtExceptionHandler();
    Thread.setDefaultUncaughtExceptionHandler((thread, failure) -> uncaught.add(failure));
    try {
      publisher().replayEvery(Duration.ofSeconds(Long.MAX_VALUE)).open().close();
    } finally {
      Thread.setDefaultUncaughtExceptionHandler(before);
    }
    assertThat(uncaught).isEmpty();
  }

  @Test
  void stores_whatTheStreamTakes() throws Exception {
    try (SpooledPublisher publisher = publisher().open()) {
      assertThat(publisher.publish(change("a", 1))).isEqualTo(Outcome.STORED);
      assertThat(files()).isEmpty();
      assertThat(stored()).containsExactly("a:1");
    }
  }

  @Test
  void keepsAndReplaysTheSameMessage_whenNatsWasAway(NatsServer server) throws Exception {
    try (Logs logs = new Logs();
        SpooledPublisher publisher = publisher().open()) {
      UUID id = UUID.randomUUID();
      away(server);
      assertThat(publisher.publish(change("a", 1).eventId(id).payload(StringValue.of("x"))))
          .isEqualTo(Outcome.SPOOLED);
      assertThat(registry.get("natsbus.publish.failures").counter().count()).isEqualTo(2);
      assertThat(registry.get("natsbus.spool.spooled").counter().count()).isEqualTo(1);
      assertThat(registry.get("natsbus.spool.size").gauge().value()).isEqualTo(1);
      SpooledEvent letter = SpooledEvent.parse(Files.readAllBytes(files().get(0)));
      assertThat(letter.lastError()).contains("not connected");
      assertThat(logs.count("WARN change spooled")).isEqualTo(1);

      back(server);
      await().atMost(AWHILE).until(() -> publisher.replay() == 1);

      MessageInfo stored = Servers.stored(bus.connection(), "NOTES").get(0);
      assertThat(stored.getData()).isEqualTo(letter.data());
      assertThat(stored.getHeaders().getFirst("Nats-Msg-Id")).isEqualTo(id.toString());
      assertThat(files()).isEmpty();
      assertThat(publisher.size()).isZero();
      assertThat(registry.get("natsbus.spool.size").gauge().value()).isZero();
      assertThat(registry.get("natsbus.spool.replayed").counter().count()).isEqualTo(1);
      assertThat(registry.get("natsbus.spool.dead.lettered").counter().count()).isZero();
      assertThat(logs.count("spooled change replayed")).isEqualTo(1);
    }
  }

  @Test
  void letsNothingOvertakeASpooledChangeOfTheSameAggregate(NatsServer server) throws Exception {
    try (SpooledPublisher publisher = publisher().open()) {
      away(server);
      publisher.publish(change("a", 1));
      back(server);
      await().atMost(AWHILE).ignoreExceptions().until(() -> bus.publish(change("z", 0)) != null);
      assertThat(publisher.publish(change("a", 2))).isEqualTo(Outcome.SPOOLED);
      assertThat(publisher.publish(change("b", 1))).isEqualTo(Outcome.STORED);
      publisher.replay();
      assertThat(publisher.publish(change("a", 3))).isEqualTo(Outcome.STORED);

      assertThat(stored()).containsExactly("z:0", "b:1", "a:1", "a:2", "a:3");
    }
  }

  @Test
  void letsNoCallOvertakeAnEarlierOneOfTheSameAggregate_whileThatIsTriedAgain(NatsServer server)
      throws Exception {
    try (SpooledPublisher publisher =
        publisher().maxAttempts(8).breakerOpen(NEVER).open()) {
      int version = 0;
      for (int round = 0; round < 3; round++) {
        away(server);
        List<Thread> calls = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
          Change change = change("a", version++);
          Thread call = Thread.ofPlatform().start(() -> publisher.publish(change));
          await()
              .pollInterval(Duration.ofMillis(5))
              .atMost(AWHILE)
              .until(() -> waits(call) || !call.isAlive());
          calls.add(call);
        }
        back(server);
        for (Thread call : calls) {
          call.join();
        }
        await().atMost(AWHILE).until(() -> {
          publisher.replay();
          return publisher.size() == 0;
        });
      }
      NatsBusTest.assertOrdered(Servers.stored(bus.connection(), "NOTES"), version);
    }
  }

  @Test
  void replaysACallThatBeganEarlierFirst_howeverLongItWasTried(NatsServer server) throws Exception {
    try (NatsBus patient =
            Servers.bus(server).publishTimeout(Duration.ofSeconds(20)).open();
        SpooledPublisher publisher = publisher(patient).open()) {
      away(server);
      Thread first = startedBeforeOneThatIsKept(publisher);
      first.interrupt();
      first.join();
      assertThat(publisher.size()).isEqualTo(2);
      back(server);
      await().atMost(AWHILE).until(() -> {
        publisher.replay();
        return publisher.size() == 0;
      });

      assertThat(stored()).containsExactly("a:1", "a:2");
    }
  }

  @Test
  void replaysNothingOfAnAggregate_whileAnEarlierCallIsTried(NatsServer server) throws Exception {
    try (NatsBus patient =
            Servers.bus(server).publishTimeout(Duration.ofSeconds(20)).open();
        SpooledPublisher publisher = publisher(patient).open()) {
      away(server);
      Thread first = startedBeforeOneThatIsKept(publisher);
      back(server);
      publisher.replay();
      first.join();
      await().atMost(AWHILE).until(() -> {
        publisher.replay();
        return publisher.size() == 0;
      });

      assertThat(stored()).containsExactly("a:1", "a:2");
    }
  }

  private static boolean waits(Thread thread) {
    Thread.State state = thread.getState();
    return state == Thread.State.WAITING || state == Thread.State.TIMED_WAITING;
  }

  /** The first of two calls for the same aggregate, which is tried while the second is on disk. */
  private static Thread startedBeforeOneThatIsKept(SpooledPublisher publisher) {
    Thread first = Thread.ofPlatform().start(() -> publisher.publish(change("a", 1)));
    await().pollInterval(Duration.ofMillis(5)).atMost(AWHILE).until(() -> waits(first));
    Thread.currentThread().interrupt(); // it does not wait for the first
    assertThat(publisher.publish(change("a", 2))).isEqualTo(Outcome.SPOOLED);
    assertThat(Thread.interrupted()).isTrue();
    assertThat(first.isAlive()).isTrue();
    return first;
  }

  @Test
  void replaysTheOthers_whileNobodyTakesSomeSubjects() throws Exception {
    StreamConfiguration found =
        bus.connection().jetStreamManagement().getStreamInfo("NOTES").getConfiguration();
    bus.connection()
        .jetStreamManagement()
        .updateStream(
            StreamConfiguration.builder(found).subjects("notes.changes.note.>").build());
    try (Logs logs = new Logs();
        SpooledPublisher publisher = publisher().maxAttempts(1).open()) {
      for (int i = 0; i < 25; i++) {
        assertThat(publisher.publish(Change.of("tag", "t-" + i, "create")))
            .isEqualTo(Outcome.SPOOLED);
      }
      assertThat(publisher.publish(change("a", 1))).as("circuit_open").isEqualTo(Outcome.SPOOLED);

      assertThat(publisher.replay()).isEqualTo(1);
      assertThat(stored()).containsExactly("a:1");
      assertThat(publisher.size()).isEqualTo(25);
      assertThat(logs.lines().stream().filter(line -> line.startsWith("WARN spool replay failed")))
          .hasSize(1);
    }
  }

  @Test
  void warnsOfEveryOutageOnce_alsoWhileARecordStaysOnDisk(NatsServer server) throws Exception {
    StreamConfiguration found =
        bus.connection().jetStreamManagement().getStreamInfo("NOTES").getConfiguration();
    bus.connection()
        .jetStreamManagement()
        .updateStream(
            StreamConfiguration.builder(found).subjects("notes.changes.note.>").build());
    try (Logs logs = new Logs();
        SpooledPublisher publisher =
            publisher().maxAttempts(1).breakerOpen(NEVER).open()) {
      String warning = "WARN change spooled";
      Change nobodyTakes = Change.of("tag", "t", "create");
      assertThat(publisher.publish(nobodyTakes)).isEqualTo(Outcome.SPOOLED);
      assertThat(logs.count(warning)).isEqualTo(1);

      for (int outage = 2; outage <= 3; outage++) {
        String id = "n-" + outage;
        await()
            .atMost(AWHILE)
            .until(
                () -> publisher.publish(change(UUID.randomUUID().toString(), 1)) == Outcome.STORED);
        assertThat(publisher.publish(nobodyTakes)).isEqualTo(Outcome.SPOOLED);
        long before = logs.count(warning);
        away(server);
        publisher.publish(change(id, 1));
        publisher.publish(change(id, 2));
        publisher.publish(change(id + "-b", 1));
        assertThat(logs.count(warning) - before).as("outage %d", outage).isEqualTo(1);
        back(server);
      }
      assertThat(publisher.size()).isGreaterThan(1);
    }
  }

  @Test
  void replaysTheOthers_whenARecordCannotBeSetAside(NatsServer server) throws Exception {
    try (Logs logs = new Logs();
        SpooledPublisher publisher = publisher().maxAttempts(1).open()) {
      away(server);
      publisher.publish(change("a", 1));
      Files.writeString(directory.resolve("20200101T000000.000000000Z-half.json"), "{");
      Files.delete(directory.resolve("quarantine"));
      Path inTheWay = Files.createFile(directory.resolve("quarantine"));
      back(server);

      await().atMost(AWHILE).until(() -> publisher.replay() == 1);
      assertThat(stored()).containsExactly("a:1");
      assertThat(publisher.size()).isEqualTo(1);
      assertThat(logs.count("cannot be moved to quarantine")).isPositive();

      Files.delete(inTheWay);
      publisher.replay();
      assertThat(publisher.size()).isZero();
      assertThat(directory.resolve("quarantine/20200101T000000.000000000Z-half.json"))
          .exists();
    }
  }

  @Test
  void goesToDiskAtOnce_whileTheCircuitIsOpen_andProbesLater(NatsServer server) {
    AtomicLong nanoTime = new AtomicLong();
    try (SpooledPublisher publisher =
        publisher().maxAttempts(1).nanoTime(nanoTime::get).open()) {
      away(server);
      for (int i = 0; i < 5; i++) {
        publisher.publish(change("a" + i, 1));
      }
      try (Logs logs = new Logs()) {
        publisher.publish(change("b", 1));
        assertThat(logs.count("circuit_open")).isEqualTo(1);
      }
      back(server);
      assertThat(publisher.publish(change("c", 1)))
          .as("the circuit is open")
          .isEqualTo(Outcome.SPOOLED);
      await().atMost(AWHILE).until(() -> {
        nanoTime.addAndGet(Duration.ofSeconds(30).toNanos());
        return publisher.publish(change(UUID.randomUUID().toString(), 1)) == Outcome.STORED;
      });
    }
  }

  @Test
  void replaysByItself_manyBatchesInARow(NatsServer server) throws Exception {
    try (SpooledPublisher publisher =
        publisher().maxAttempts(1).replayEvery(Duration.ofMillis(300)).open()) {
      away(server);
      for (int i = 0; i < 137; i++) {
        publisher.publish(change("n-" + i % 4, i));
      }
      assertThat(publisher.size()).isEqualTo(137);
      back(server);

      await().atMost(AWHILE).until(() -> publisher.size() == 0);
      NatsBusTest.assertOrdered(Servers.stored(bus.connection(), "NOTES"), 137);
    }
  }

  @Test
  void setsAsideWhatCannotBeReadOrSent_andGoesOn(NatsServer server) throws Exception {
    try (Logs logs = new Logs();
        SpooledPublisher publisher = publisher().maxAttempts(1).open()) {
      away(server);
      publisher.publish(change("a", 1));
      publisher.publish(change("b", 1));
      Path half = directory.resolve(
          SpooledEvent.fileName(Instant.EPOCH, "00000000-0000-4000-8000-000000000001"));
      Files.writeString(half, "{\"id\":\"1\",\"subj");
      Path empty = directory.resolve(
          SpooledEvent.fileName(Instant.EPOCH, "00000000-0000-4000-8000-000000000002"));
      Files.write(empty, new byte[0]);
      Path big = directory.resolve(
          SpooledEvent.fileName(Instant.EPOCH, "00000000-0000-4000-8000-000000000003"));
      Files.writeString(
          big,
          "{\"id\":\"3\",\"subject\":\"notes.changes.note.create\",\"created_at\":"
              + "\"1970-01-01T00:00:00Z\",\"data\":\"" + "AAAA".repeat(500_000) + "\"}");
      back(server);

      await().atMost(AWHILE).until(() -> {
        publisher.replay();
        return publisher.size() == 0;
      });

      assertThat(stored()).containsExactly("a:1", "b:1");
      try (Stream<Path> aside = Files.list(directory.resolve("quarantine"))) {
        assertThat(aside.map(Path::getFileName))
            .containsExactlyInAnyOrder(half.getFileName(), empty.getFileName(), big.getFileName());
      }
      assertThat(logs.count("spooled change dead-lettered")).isEqualTo(3);
    }
  }

  @Test
  void setsAsideWhatTheServerRefusesThreeTimes() throws Exception {
    bus.connection()
        .jetStreamManagement()
        .updateStream(StreamConfiguration.builder(
                bus.connection().jetStreamManagement().getStreamInfo("NOTES").getConfiguration())
            .maximumMessageSize(1000)
            .build());
    try (SpooledPublisher publisher = publisher().open()) {
      Change big = change("a", 1).payload(StringValue.of("x".repeat(2000)));
      assertThat(publisher.publish(big)).isEqualTo(Outcome.SPOOLED);
      assertThat(publisher.publish(change("a", 2))).isEqualTo(Outcome.SPOOLED);
      assertThat(publisher.publish(change("b", 1)))
          .as("the circuit is closed")
          .isEqualTo(Outcome.STORED);

      assertThat(publisher.replay()).isZero();
      assertThat(publisher.replay()).isZero();
      assertThat(publisher.replay()).isEqualTo(1);
      assertThat(stored()).containsExactly("b:1", "a:2");
    }
  }

  @Test
  void publishesOnce_whenTwoReplayTheSameDirectory(NatsServer server) throws Exception {
    try (SpooledPublisher one = publisher().maxAttempts(1).open()) {
      away(server);
      for (int i = 0; i < 50; i++) {
        one.publish(change("a", i));
      }
      back(server);
      try (NatsBus other = Servers.bus(server).open();
          SpooledPublisher two = SpooledPublisher.builder(other, directory)
              .replayEvery(Duration.ofHours(1))
              .open()) {
        assertThat(two.size()).isEqualTo(50);
        List<CompletableFuture<Integer>> replays = Stream.of(one, two, one, two)
            .map(each -> CompletableFuture.supplyAsync(
                each::replay, task -> Thread.ofPlatform().start(task)))
            .toList();
        int sum = 0;
        for (CompletableFuture<Integer> each : replays) {
          sum += each.get(30, TimeUnit.SECONDS);
        }
        assertThat(sum).isEqualTo(50);
        two.replay();
        assertThat(two.size()).isZero();
      }
      NatsBusTest.assertOrdered(Servers.stored(bus.connection(), "NOTES"), 50);
    }
  }

  @Test
  void keepsTheOrderBehindRecordsThatDoNotSayTheirLane_asEarlierVersionsWroteThem(NatsServer server)
      throws Exception {
    away(server);
    try (SpooledPublisher before = publisher().maxAttempts(1).open()) {
      before.publish(change("a", 1));
    }
    Path file = files().get(0);
    String record = Files.readString(file);
    Files.writeString(file, record.replace(",\"lane\":\"note/a\"", ""));
    assertThat(Files.readString(file)).isNotEqualTo(record);
    back(server);
    try (SpooledPublisher after = publisher().open()) {
      assertThat(after.publish(change("a", 2))).isEqualTo(Outcome.SPOOLED);
      await().atMost(AWHILE).until(() -> after.replay() == 2);
      assertThat(stored()).containsExactly("a:1", "a:2");
    }
  }

  @Test
  void replaysWhatWasThereBeforeItsStart_andWhatPeersWrote(NatsServer server) throws Exception {
    away(server);
    try (SpooledPublisher before = publisher().maxAttempts(1).open()) {
      before.publish(change("a", 1));
    }
    byte[] body = ("{\"specversion\":\"1.0\",\"id\":\"e-9\",\"type\":\"t\",\"source\":\"s\","
            + "\"time\":\"2026-04-15T12:00:00Z\",\"data\":null}")
        .getBytes(StandardCharsets.UTF_8);
    Files.writeString(
        directory.resolve("20200101T000000.000000000Z-00000000-0000-4000-8000-000000000009.json"),
        "{\"id\":\"9\",\"created_at\":\"2020-01-01T00:00:00Z\",\"subject\":\"notes.changes.x.y\","
            + "\"header\":{},\"data\":\"" + Base64.getEncoder().encodeToString(body)
            + "\",\"last_error\":\"nats: timeout\"}");
    back(server);
    try (SpooledPublisher after = publisher().open()) {
      assertThat(after.size()).isEqualTo(2);
      assertThat(after.publish(change("a", 2))).isEqualTo(Outcome.SPOOLED);
      await().atMost(AWHILE).until(() -> after.replay() > 0);

      assertThat(stored()).containsExactly("-:-1", "a:1", "a:2");
      assertThat(
              Servers.stored(bus.connection(), "NOTES").get(0).getHeaders().getFirst("Nats-Msg-Id"))
          .isEqualTo("e-9");
    }
  }

  @Test
  void keepsTheChange_whenInterrupted(NatsServer server) throws Exception {
    try (NatsBus patient =
            Servers.bus(server).publishTimeout(Duration.ofSeconds(20)).open();
        SpooledPublisher publisher = publisher(patient).open()) {
      away(server);
      CompletableFuture<String> result = new CompletableFuture<>();
      Thread publishing = Thread.ofPlatform().start(() -> {
        Outcome outcome = publisher.publish(change("a", 1));
        result.complete(outcome + " " + Thread.currentThread().isInterrupted());
      });
      publishing.interrupt();

      assertThat(result.get(10, TimeUnit.SECONDS)).isEqualTo("SPOOLED true");
      assertThat(files()).hasSize(1);
    }
  }

  @Test
  void throws_whenNeitherNatsNorTheDiskTakesIt(NatsServer server) {
    try (SpooledPublisher publisher = publisher().maxAttempts(1).maxSpooled(1).open()) {
      away(server);
      publisher.publish(change("a", 1));
      assertThatThrownBy(() -> publisher.publish(change("b", 1)))
          .isInstanceOf(PublishException.class)
          .hasMessageContaining("could not be spooled")
          .hasMessageContaining("1 records");
    }
  }

  @Test
  void showsTheSumOfAllPublishers_andNotThoseThatAreClosed(NatsServer server) {
    SpooledPublisher one = publisher().maxAttempts(1).open();
    SpooledPublisher two = SpooledPublisher.builder(bus, temp.resolve("two"))
        .maxAttempts(1)
        .metrics(registry)
        .open();
    away(server);
    one.publish(change("a", 1));
    two.publish(change("a", 1));
    two.publish(change("a", 2));
    assertThat(registry.get("natsbus.spool.size").gauge().value()).isEqualTo(3);
    one.close();
    one.close();
    assertThat(registry.get("natsbus.spool.size").gauge().value()).isEqualTo(2);
    two.close();
  }

  @Test
  void namesEveryWrongParameter() {
    assertThatThrownBy(() -> SpooledPublisher.builder(bus, Path.of(""))
            .maxAttempts(0)
            .replayEvery(Duration.ZERO)
            .maxSpooled(0)
            .open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(
            "dead_letter_dir_required; maxAttempts must be 1 or more: 0; replayEvery must be more"
                + " than zero: PT0S; maxSpooled must be 1 or more: 0");
  }
}
