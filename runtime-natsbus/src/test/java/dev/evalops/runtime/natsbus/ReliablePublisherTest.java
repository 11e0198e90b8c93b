package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.natsbus.ChangePublisher.Outcome;
import dev.evalops.runtime.natsbus.notes.Note;
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
class ReliablePublisherTest {
  private static final Duration AWHILE = Duration.ofSeconds(30);
  private static final Duration NEVER = Duration.ofNanos(1);

  @TempDir
  Path temp;

  private final SimpleMeterRegistry registry = new SimpleMeterRegistry();
  private NatsBus bus;
  private Path directory;

  @BeforeEach
  void connect(NatsServer server) {
    bus = Servers.bus(server).metrics(registry).connect();
    directory = temp.resolve("letters");
  }

  @AfterEach
  void close() {
    bus.close();
  }

  private ReliablePublisher.Builder publisher() {
    return bus.reliable(directory)
        .attempts(2)
        .attemptTimeout(Duration.ofMillis(200))
        .replayInterval(Duration.ofHours(1));
  }

  private static Change change(String id, long version) {
    return Change.of("note", id).operation("create").version(version);
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
        .map(each -> Event.read(each.getHeaders(), each.getData()))
        .map(event -> event.partitionKey().orElse("-") + ":" + event.version().orElse(-1))
        .toList();
  }

  @Test
  void stores_whatTheStreamTakes() throws Exception {
    try (ReliablePublisher publisher = publisher().open()) {
      assertThat(publisher.publish(change("a", 1))).isEqualTo(Outcome.STORED);
      assertThat(files()).isEmpty();
      assertThat(stored()).containsExactly("a:1");
    }
  }

  @Test
  void keepsAndReplaysTheSameMessage_whenNatsWasAway(NatsServer server) throws Exception {
    try (Logs logs = new Logs();
        ReliablePublisher publisher = publisher().open()) {
      UUID id = UUID.randomUUID();
      away(server);
      assertThat(publisher.publish(
              change("a", 1).eventId(id).payload(Note.newBuilder().setTitle("x").build())))
          .isEqualTo(Outcome.DEAD_LETTERED);
      assertThat(registry.get("natsbus.publish.failures").counter().count()).isEqualTo(1);
      assertThat(registry.get("natsbus.dead.letter.size").gauge().value()).isEqualTo(1);
      DeadLetter letter = DeadLetter.parse(Files.readAllBytes(files().get(0)));
      assertThat(letter.lastError()).contains("not connected");
      assertThat(logs.count("publish notes.changes.note.create failed after retries and was"
              + " dead-lettered: "))
          .isEqualTo(1);

      back(server);
      await().atMost(AWHILE).until(() -> publisher.replay() == 1);

      MessageInfo stored = Servers.stored(bus.connection(), "NOTES").get(0);
      assertThat(stored.getData()).isEqualTo(letter.data());
      assertThat(stored.getHeaders().getFirst("Nats-Msg-Id")).isEqualTo(id.toString());
      assertThat(files()).isEmpty();
      assertThat(publisher.size()).isZero();
      assertThat(registry.get("natsbus.dead.letter.size").gauge().value()).isZero();
      assertThat(logs.count("replayed natsbus dead letter")).isEqualTo(1);
    }
  }

  @Test
  void letsNothingOvertakeADeadLetterOfTheSameAggregate(NatsServer server) throws Exception {
    try (ReliablePublisher publisher = publisher().open()) {
      away(server);
      publisher.publish(change("a", 1));
      back(server);
      await().atMost(AWHILE).ignoreExceptions().until(() -> bus.publish(change("z", 0)) != null);
      assertThat(publisher.publish(change("a", 2))).isEqualTo(Outcome.DEAD_LETTERED);
      assertThat(publisher.publish(change("b", 1))).isEqualTo(Outcome.STORED);
      publisher.replay();
      assertThat(publisher.publish(change("a", 3))).isEqualTo(Outcome.STORED);

      assertThat(stored()).containsExactly("z:0", "b:1", "a:1", "a:2", "a:3");
    }
  }

  @Test
  void letsNoCallOvertakeAnEarlierOneOfTheSameAggregate_whileThatIsTriedAgain(NatsServer server)
      throws Exception {
    try (ReliablePublisher publisher = publisher()
        .attempts(8)
        .attemptTimeout(Duration.ofMillis(50))
        .breakerOpen(NEVER)
        .open()) {
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
              .until(() -> call.getState() == Thread.State.TIMED_WAITING || !call.isAlive());
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
    try (ReliablePublisher publisher =
        publisher().attemptTimeout(Duration.ofSeconds(20)).open()) {
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
    try (ReliablePublisher publisher =
        publisher().attemptTimeout(Duration.ofSeconds(20)).open()) {
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

  /** The first of two calls for the same aggregate, which is tried while the second is on disk. */
  private static Thread startedBeforeOneThatIsKept(ReliablePublisher publisher) {
    Thread first = Thread.ofPlatform().start(() -> publisher.publish(change("a", 1)));
    await()
        .pollInterval(Duration.ofMillis(5))
        .atMost(AWHILE)
        .until(() -> first.getState() == Thread.State.TIMED_WAITING);
    Thread.currentThread().interrupt(); // it does not wait for the first
    assertThat(publisher.publish(change("a", 2))).isEqualTo(Outcome.DEAD_LETTERED);
    assertThat(Thread.interrupted()).isTrue();
    assertThat(first.isAlive()).isTrue();
    return first;
  }

  @Test
  void replaysTheOthers_whileNobodyTakesSomeSubjects(NatsServer server) throws Exception {
    StreamConfiguration found =
        bus.connection().jetStreamManagement().getStreamInfo("NOTES").getConfiguration();
    bus.connection()
        .jetStreamManagement()
        .updateStream(
            StreamConfiguration.builder(found).subjects("notes.changes.note.>").build());
    try (Logs logs = new Logs();
        ReliablePublisher publisher = publisher().attempts(1).open()) {
      for (int i = 0; i < 25; i++) {
        assertThat(publisher.publish(Change.of("tag", "t-" + i).operation("create")))
            .isEqualTo(Outcome.DEAD_LETTERED);
      }
      assertThat(publisher.publish(change("a", 1)))
          .as("circuit_open")
          .isEqualTo(Outcome.DEAD_LETTERED);

      assertThat(publisher.replay()).isEqualTo(1);
      assertThat(stored()).containsExactly("a:1");
      assertThat(publisher.size()).isEqualTo(25);
      assertThat(logs.lines().stream()
              .filter(line -> line.startsWith("WARN natsbus dead-letter replay failed")))
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
        ReliablePublisher publisher = publisher().attempts(1).breakerOpen(NEVER).open()) {
      String warning = "WARN failed to publish reliable change event";
      Change nobodyTakes = Change.of("tag", "t").operation("create");
      assertThat(publisher.publish(nobodyTakes)).isEqualTo(Outcome.DEAD_LETTERED);
      assertThat(logs.count(warning)).isEqualTo(1);

      for (int outage = 2; outage <= 3; outage++) {
        String id = "n-" + outage;
        await()
            .atMost(AWHILE)
            .until(
                () -> publisher.publish(change(UUID.randomUUID().toString(), 1)) == Outcome.STORED);
        assertThat(publisher.publish(nobodyTakes)).isEqualTo(Outcome.DEAD_LETTERED);
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
        ReliablePublisher publisher = publisher().attempts(1).open()) {
      away(server);
      publisher.publish(change("a", 1));
      Files.writeString(directory.resolve("20200101T000000.000000000Z-half.json"), "{");
      Files.delete(directory.resolve("quarantine"));
      Path inTheWay = Files.createFile(directory.resolve("quarantine"));
      back(server);

      await().atMost(AWHILE).until(() -> publisher.replay() == 1);
      assertThat(stored()).containsExactly("a:1");
      assertThat(publisher.size()).isEqualTo(1);
      assertThat(logs.count("cannot be set aside")).isPositive();

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
    try (ReliablePublisher publisher =
        publisher().attempts(1).nanoTime(nanoTime::get).open()) {
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
          .isEqualTo(Outcome.DEAD_LETTERED);
      await().atMost(AWHILE).until(() -> {
        nanoTime.addAndGet(Duration.ofSeconds(30).toNanos());
        return publisher.publish(change(UUID.randomUUID().toString(), 1)) == Outcome.STORED;
      });
    }
  }

  @Test
  void replaysByItself_manyBatchesInARow(NatsServer server) throws Exception {
    try (ReliablePublisher publisher =
        publisher().attempts(1).replayInterval(Duration.ofMillis(300)).open()) {
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
        ReliablePublisher publisher = publisher().attempts(1).open()) {
      away(server);
      publisher.publish(change("a", 1));
      publisher.publish(change("b", 1));
      Path half = directory.resolve(
          DeadLetter.fileName(Instant.EPOCH, "00000000-0000-4000-8000-000000000001"));
      Files.writeString(half, "{\"id\":\"1\",\"subj");
      Path empty = directory.resolve(
          DeadLetter.fileName(Instant.EPOCH, "00000000-0000-4000-8000-000000000002"));
      Files.write(empty, new byte[0]);
      Path big = directory.resolve(
          DeadLetter.fileName(Instant.EPOCH, "00000000-0000-4000-8000-000000000003"));
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
      assertThat(logs.count("natsbus dead letter set aside")).isEqualTo(3);
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
    try (ReliablePublisher publisher = publisher().open()) {
      Change big =
          change("a", 1).payload(Note.newBuilder().setTitle("x".repeat(2000)).build());
      assertThat(publisher.publish(big)).isEqualTo(Outcome.DEAD_LETTERED);
      assertThat(publisher.publish(change("a", 2))).isEqualTo(Outcome.DEAD_LETTERED);
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
    try (ReliablePublisher one = publisher().attempts(1).open()) {
      away(server);
      for (int i = 0; i < 50; i++) {
        one.publish(change("a", i));
      }
      back(server);
      try (NatsBus other = Servers.bus(server).connect();
          ReliablePublisher two =
              other.reliable(directory).replayInterval(Duration.ofHours(1)).open()) {
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
  void replaysWhatWasThereBeforeItsStart_andWhatPeersWrote(NatsServer server) throws Exception {
    away(server);
    try (ReliablePublisher before = publisher().attempts(1).open()) {
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
    try (ReliablePublisher after = publisher().open()) {
      assertThat(after.size()).isEqualTo(2);
      assertThat(after.publish(change("a", 2))).isEqualTo(Outcome.DEAD_LETTERED);
      await().atMost(AWHILE).until(() -> after.replay() > 0);

      assertThat(stored()).containsExactly("-:-1", "a:1", "a:2");
      assertThat(
              Servers.stored(bus.connection(), "NOTES").get(0).getHeaders().getFirst("Nats-Msg-Id"))
          .isEqualTo("e-9");
    }
  }

  @Test
  void keepsTheChange_whenInterrupted(NatsServer server) throws Exception {
    try (ReliablePublisher publisher =
        publisher().attemptTimeout(Duration.ofSeconds(20)).open()) {
      away(server);
      CompletableFuture<String> result = new CompletableFuture<>();
      Thread publishing = Thread.ofPlatform().start(() -> {
        Outcome outcome = publisher.publish(change("a", 1));
        result.complete(outcome + " " + Thread.currentThread().isInterrupted());
      });
      publishing.interrupt();

      assertThat(result.get(10, TimeUnit.SECONDS)).isEqualTo("DEAD_LETTERED true");
      assertThat(files()).hasSize(1);
    }
  }

  @Test
  void throws_whenNeitherNatsNorTheDiskTakesIt(NatsServer server) {
    try (ReliablePublisher publisher = publisher().attempts(1).limit(1).open()) {
      away(server);
      publisher.publish(change("a", 1));
      assertThatThrownBy(() -> publisher.publish(change("b", 1)))
          .isInstanceOf(NatsBusException.class)
          .hasMessageContaining("could not be dead-lettered")
          .hasMessageContaining("1 records");
      assertThatThrownBy(() -> publisher.publish(change("c", 1)
              .payload(Note.newBuilder().setTitle("x".repeat(1_100_000)).build())))
          .isInstanceOf(IllegalArgumentException.class);
    }
  }

  @Test
  void showsTheSumOfAllPublishers_andNotThoseThatAreClosed(NatsServer server) {
    ReliablePublisher one = publisher().attempts(1).open();
    ReliablePublisher two = bus.reliable(temp.resolve("two"))
        .attempts(1)
        .attemptTimeout(Duration.ofMillis(100))
        .open();
    away(server);
    one.publish(change("a", 1));
    two.publish(change("a", 1));
    two.publish(change("a", 2));
    assertThat(registry.get("natsbus.dead.letter.size").gauge().value()).isEqualTo(3);
    one.close();
    one.close();
    assertThat(registry.get("natsbus.dead.letter.size").gauge().value()).isEqualTo(2);
    two.close();
  }

  @Test
  void namesEveryWrongParameter() {
    assertThatThrownBy(() -> bus.reliable(Path.of(""))
            .attempts(0)
            .attemptTimeout(Duration.ZERO)
            .replayInterval(Duration.ZERO)
            .limit(0)
            .open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContainingAll(
            "dead_letter_dir_required", "attempts", "attemptTimeout", "replayInterval", "limit");
  }
}
