package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import com.google.protobuf.StringValue;
import dev.evalops.fixtures.FreePort;
import dev.evalops.runtime.errors.ErrorResponse;
import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.TestNats;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.nats.client.Connection;
import io.nats.client.Connection.Status;
import io.nats.client.Nats;
import io.nats.client.api.DeliverPolicy;
import io.nats.client.api.MessageInfo;
import io.nats.client.api.StorageType;
import io.nats.client.api.StreamConfiguration;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(120)
@ExtendWith(TestNats.class)
public class NatsBusTest {
  private static final Duration AWHILE = Duration.ofSeconds(30);
  private static final StringValue NOTE = StringValue.of("n-1");

  private static Change change(String id) {
    return Change.of("note", id, "create").organization("org-1").payload(NOTE);
  }

  @Test
  void staysAsItWasBuilt_whateverTheBuilderIsUsedForNext(NatsServer server) {
    NatsBus.Builder builder = Servers.bus(server);
    try (NatsBus bus = builder.open();
        NatsBus other = builder.stream("OTHER").subjectPrefix("other").open()) {
      EventConsumer.Builder reads = bus.consumer("notes.changes.>", "reader");
      EventConsumer consumer = reads.start(event -> {});
      reads.stream("ELSEWHERE");

      assertThat(bus).hasToString("NatsBus[NOTES]");
      assertThat(other).hasToString("NatsBus[OTHER]");
      assertThat(consumer).hasToString("EventConsumer[NOTES reader]");
    }
  }

  @ParameterizedTest
  @EnumSource(EventFormat.class)
  void storesWhatCanBeReadBack_inEveryForm(EventFormat format, NatsServer server) throws Exception {
    try (NatsBus bus = Servers.bus(server).format(format).open()) {
      UUID id = UUID.randomUUID();
      assertThat(bus.publish(change("1").eventId(id).sequence(3).version(2)))
          .isEqualTo(Outcome.STORED);

      MessageInfo stored = Servers.stored(bus.connection(), "NOTES").get(0);
      assertThat(stored.getSubject()).isEqualTo("notes.changes.note.create");
      Event event = Servers.event(stored);
      assertThat(event.id()).isEqualTo(id.toString());
      assertThat(event.sequence()).hasValue(3);
      assertThat(event.version()).hasValue(2);
      assertThat(event.payload(StringValue.getDefaultInstance())).isEqualTo(NOTE);
    }
  }

  @Test
  void storesAnIdOnce(NatsServer server) throws Exception {
    try (NatsBus bus = Servers.bus(server).open()) {
      Change change = change("1").eventId(UUID.randomUUID());
      bus.publish(change);
      assertThat(bus.publish(change)).isEqualTo(Outcome.STORED);
      assertThat(bus.duplicateWindow()).contains(Duration.ofMinutes(2));

      assertThat(Servers.stored(bus.connection(), "NOTES")).hasSize(1);
    }
  }

  @Test
  void makesTheStream_ifItIsNotThere(NatsServer server) throws Exception {
    try (NatsBus bus = Servers.bus(server).open()) {
      StreamConfiguration made =
          bus.connection().jetStreamManagement().getStreamInfo("NOTES").getConfiguration();
      assertThat(made.getSubjects()).containsExactly("notes.changes.>");
      assertThat(made.getMaxAge()).isEqualTo(Duration.ofDays(7));
      assertThat(made.getStorageType()).isEqualTo(StorageType.File);
      assertThat(made.getReplicas()).isEqualTo(1);
    }
  }

  @Test
  void leavesAStreamThatIsThereAsItIs_andTellsTheDifferenceOnce(NatsServer server)
      throws Exception {
    StreamConfiguration before;
    try (Connection operator = Nats.connect(server.url())) {
      before = operator
          .jetStreamManagement()
          .addStream(StreamConfiguration.builder()
              .name("NOTES")
              .subjects("notes.>", "other")
              .storageType(StorageType.Memory)
              .maxBytes(1_000_000)
              .duplicateWindow(Duration.ofSeconds(1))
              .maximumMessageSize(500_000)
              .maxAge(Duration.ofHours(1))
              .build())
          .getConfiguration();
    }
    try (Logs logs = new Logs();
        NatsBus bus = Servers.bus(server).open()) {
      bus.publish(change("1"));

      assertThat(bus.duplicateWindow()).as("that of the stream").contains(Duration.ofSeconds(1));
      assertThat(bus.connection()
              .jetStreamManagement()
              .getStreamInfo("NOTES")
              .getConfiguration()
              .toJson())
          .isEqualTo(before.toJson());
      assertThat(logs.lines().stream().filter(line -> line.startsWith("WARN")))
          .singleElement()
          .asString()
          .contains(
              "storage is memory instead of file",
              "max age is PT1H",
              "max bytes",
              "max message size is 500000",
              "duplicate window is PT1S instead of PT2M")
          .doesNotContain("subjects [");
    }
  }

  @Test
  void comparesWhatAClusterHas() {
    StreamConfiguration wanted = Streams.standard("NOTES", "notes.changes.>", 1).build();
    StreamConfiguration found = StreamConfiguration.builder(wanted)
        .replicas(3)
        .subjects("notes.>", "other")
        .duplicateWindow(Duration.ofMinutes(2))
        .noAck(true)
        .build();

    assertThat(Streams.differences(wanted, found))
        .containsExactly(
            "replicas is 3 instead of 1", "without acknowledgements is true instead of false");
  }

  @Test
  void tellsThatAStreamDoesNotTakeItsSubjects_andPublishingSaysSo(NatsServer server)
      throws Exception {
    try (Connection operator = Nats.connect(server.url())) {
      operator
          .jetStreamManagement()
          .addStream(StreamConfiguration.builder()
              .name("NOTES")
              .subjects("notes.other.>")
              .build());
    }
    try (Logs logs = new Logs();
        NatsBus bus = Servers.bus(server).publishTimeout(Duration.ofSeconds(3)).open()) {
      assertThat(logs.count("do not take everything on notes.changes.>")).isEqualTo(1);
      assertThatThrownBy(() -> bus.publish(change("1")))
          .isInstanceOf(PublishException.class)
          .hasMessageStartingWith("publish notes.changes.note.create: ")
          .hasMessageContaining("no stream takes this subject");
    }
  }

  @Test
  void makesOneStream_whenManyStartAtOnce(NatsServer server) throws Exception {
    List<CompletableFuture<NatsBus>> starting = new ArrayList<>();
    for (int i = 0; i < 6; i++) {
      long bytes = 1_000_000L + i; // they do not even agree
      starting.add(CompletableFuture.supplyAsync(
          () -> Servers.bus(server)
              .configureStream(stream -> stream.maxBytes(bytes))
              .open(),
          task -> Thread.ofPlatform().start(task)));
    }
    for (CompletableFuture<NatsBus> each : starting) {
      NatsBus bus = each.get(60, TimeUnit.SECONDS);
      assertThat(bus.publish(change("1"))).isEqualTo(Outcome.STORED);
      bus.close();
    }
    try (Connection operator = Nats.connect(server.url())) {
      assertThat(operator.jetStreamManagement().getStreamNames()).containsExactly("NOTES");
      assertThat(Servers.stored(operator, "NOTES")).hasSize(6);
    }
  }

  @Test
  void givesAChangeWithoutATimeThatOfItsClock_inUtc(NatsServer server) throws Exception {
    Instant now = Instant.parse("2026-02-03T04:05:06.789Z");
    try (NatsBus bus = Servers.bus(server).clock(() -> now).open()) {
      bus.publish(change("1"));

      MessageInfo stored = Servers.stored(bus.connection(), "NOTES").get(0);
      assertThat(new String(stored.getData(), StandardCharsets.UTF_8))
          .contains("\"time\":\"2026-02-03T04:05:06Z\"");
    }
  }

  @Test
  void saysNothing_whenAnotherInstanceHasMadeTheStream(NatsServer server) {
    try (NatsBus first = Servers.bus(server).open();
        Logs logs = new Logs();
        NatsBus second = Servers.bus(server).open()) {
      assertThat(logs.count("WARN")).isZero();
    }
  }

  @Test
  void namesEveryMissingParameter() {
    assertThatThrownBy(() -> NatsBus.builder(" ").open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("nats_url_required; stream_name_required; subject_prefix_required");
    assertThatThrownBy(() -> NatsBus.open(null, "NOTES", "notes.changes"))
        .hasMessage("nats_url_required");
    assertThatThrownBy(() -> NatsBus.builder("nats://127.0.0.1:1").stream("A.B")
            .subjectPrefix("a..b")
            .maxPending(0)
            .replicas(6)
            .publishTimeout(Duration.ZERO)
            .connectTimeout(Duration.ofSeconds(-1))
            .open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContainingAll(
            "stream",
            "subjectPrefix",
            "maxPending",
            "replicas must be 1 to 5: 6",
            "publishTimeout",
            "connectTimeout");
  }

  @Test
  void takesTimesBeyondALongOfNanoseconds(NatsServer server) throws Exception {
    Duration ever = Duration.ofSeconds(Long.MAX_VALUE);
    CompletableFuture<Event> handled = new CompletableFuture<>();
    AtomicInteger calls = new AtomicInteger();
    try (NatsBus bus =
        Servers.bus(server).connectTimeout(ever).publishTimeout(ever).open()) {
      assertThat(bus.publish(change("1"))).isEqualTo(Outcome.STORED);
      EventConsumer consumer = bus.consumer("notes.changes.>", "ever")
          .deliver(DeliverPolicy.All)
          .ackWait(ever)
          .redeliveryDelay(Duration.ZERO, ever)
          .drainTimeout(ever)
          .start(event -> {
            if (calls.incrementAndGet() == 1) {
              throw new IllegalStateException("once");
            }
            handled.complete(event);
          });
      assertThat(handled.get(30, TimeUnit.SECONDS).aggregateId()).contains("1");
      consumer.close();
      assertThat(consumer.held()).isZero();
    }
  }

  @Test
  void saysThatNatsIsNotThere_withoutThePasswordOfTheUrl() throws Exception {
    int port = FreePort.next();
    for (String url : List.of(
        "nats://bob:s3cr3t@127.0.0.1:" + port,
        "nats://s3cr3t@127.0.0.1:" + port,
        "nats://127.0.0.1:" + port + ",nats://bob:s3cr3t@127.0.0.1:" + port,
        "nats://bob:s3cr3t@",
        "bad scheme://bob:s3cr3t@host",
        "nats://bob:s3cr3t@host:port")) {
      try (Logs logs = new Logs()) {
        assertThatThrownBy(() -> NatsBus.builder(url).stream("S")
                .subjectPrefix("p")
                .connectTimeout(Duration.ZERO)
                .open())
            .as(url)
            .satisfies(failure -> {
              for (Throwable each = failure; each != null; each = each.getCause()) {
                assertThat(String.valueOf(each)).doesNotContain("s3cr3t").doesNotContain("bob");
              }
            });
        assertThat(logs.lines()).noneMatch(line -> line.contains("s3cr3t"));
      }
    }
    assertThatThrownBy(() -> NatsBus.builder("nats://127.0.0.1:" + port).stream("S")
            .subjectPrefix("p")
            .connectTimeout(Duration.ZERO)
            .open())
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("nats_connect: ");
  }

  @Test
  void waitsForAServerThatIsNotUpYet(NatsServer server) throws Exception {
    server.kill();
    CompletableFuture<NatsBus> connecting = CompletableFuture.supplyAsync(
        () -> Servers.bus(server).open(), task -> Thread.ofPlatform().start(task));
    try (Logs logs = new Logs()) {
      await().atMost(AWHILE).until(() -> logs.count("nats: not up yet") > 0);
    }
    server.restart();

    try (NatsBus bus = connecting.get(30, TimeUnit.SECONDS)) {
      assertThat(bus.publish(change("1"))).isEqualTo(Outcome.STORED);
    }
  }

  @Test
  void refusesAStreamThatTheServerRefuses(NatsServer server) throws Exception {
    try (Connection operator = Nats.connect(server.url())) {
      operator
          .jetStreamManagement()
          .addStream(
              StreamConfiguration.builder().name("OTHER").subjects("notes.>").build());
    }
    assertThatThrownBy(() -> Servers.bus(server).open())
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("create_stream: ");
  }

  @Test
  void failsWithinItsBound_whileDisconnected_andGoesOnWhenTheServerIsBack(NatsServer server) {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    try (Logs logs = new Logs();
        NatsBus bus = Servers.bus(server)
            .publishTimeout(Duration.ofMillis(500))
            .metrics(registry)
            .open()) {
      assertThat(registry.get("natsbus.connected").gauge().value()).isEqualTo(1);
      server.kill();
      await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);

      long begin = System.nanoTime();
      assertThatThrownBy(() -> bus.publish(change("1")))
          .isInstanceOfSatisfying(PublishException.class, failure -> {
            assertThat(failure.reason()).isEqualTo(PublishException.Reason.AWAY);
            assertThat(FailureKind.of(failure)).isEqualTo(FailureKind.UNAVAILABLE);
            assertThat(ErrorResponse.of(failure).status()).isEqualTo(503);
          })
          .hasMessageContaining("not connected");
      assertThat(Duration.ofNanos(System.nanoTime() - begin)).isLessThan(AWHILE);
      assertThat(registry.get("natsbus.connected").gauge().value()).isZero();
      assertThat(registry.get("natsbus.publish.failures").counter().count()).isEqualTo(1);

      server.restart();
      await()
          .atMost(AWHILE)
          .ignoreExceptions()
          .until(() -> bus.publish(change("1")) == Outcome.STORED);
      assertThat(logs.count("nats: connection lost")).isEqualTo(1);
      assertThat(logs.count("nats: connected again")).isEqualTo(1);
    }
  }

  @Test
  void storesNothingLate_thatItHasReportedAsFailed(NatsServer server) throws Exception {
    try (NatsBus bus =
        Servers.bus(server).publishTimeout(Duration.ofMillis(200)).open()) {
      server.kill();
      await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);
      for (int i = 0; i < 5; i++) {
        assertThatThrownBy(() -> bus.publish(change("1"))).isInstanceOf(PublishException.class);
      }
      server.restart();
      await()
          .atMost(AWHILE)
          .ignoreExceptions()
          .until(() -> bus.publish(change("last")) == Outcome.STORED);

      assertThat(Servers.stored(bus.connection(), "NOTES"))
          .extracting(each -> Servers.event(each).aggregateId().orElse(""))
          .containsOnly("last");
    }
  }

  @Test
  void keepsTheOrderOfEachAggregate_whilePublishingInAWindow(NatsServer server) throws Exception {
    try (NatsBus bus = Servers.bus(server).maxPending(64).open()) {
      List<CompletableFuture<Outcome>> all = new ArrayList<>();
      for (int i = 0; i < 2000; i++) {
        all.add(bus.publishAsync(change("n-" + i % 7).version(i)));
      }
      for (CompletableFuture<Outcome> each : all) {
        each.get(30, TimeUnit.SECONDS);
      }

      assertOrdered(Servers.stored(bus.connection(), "NOTES"), 2000);
    }
  }

  public static void assertOrdered(List<MessageInfo> stored, int size) {
    assertThat(stored).hasSize(size);
    Map<String, Long> last = new HashMap<>();
    for (MessageInfo message : stored) {
      Event event = Servers.event(message);
      String key = event.aggregateId().orElseThrow();
      long version = event.version().orElseThrow();
      assertThat(version).as(key).isGreaterThan(last.getOrDefault(key, -1L));
      last.put(key, version);
    }
  }

  @Test
  void failsWhatWaitsBehindAFailureOfTheSameAggregate_andNothingElse(NatsServer server) {
    try (NatsBus bus =
        Servers.bus(server).publishTimeout(Duration.ofMillis(700)).open()) {
      server.kill();
      await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);
      CompletableFuture<Outcome> first = bus.publishAsync(change("1").version(1));
      CompletableFuture<Outcome> second = bus.publishAsync(change("1").version(2));

      assertThatThrownBy(() -> first.get(10, TimeUnit.SECONDS))
          .isInstanceOf(ExecutionException.class);
      assertThatThrownBy(() -> second.get(10, TimeUnit.SECONDS))
          .hasMessageContaining("an earlier change of the same aggregate was not stored");
    }
  }

  @Test
  void triesAgain_whileTheStreamIsStoringTheSameId(NatsServer server) throws Exception {
    try (NatsBus bus =
            Servers.bus(server).configureStream(stream -> stream.noAck(true)).open();
        Connection stream = Nats.connect(server.url())) {
      AtomicInteger asked = new AtomicInteger();
      stream
          .createDispatcher(message -> stream.publish(
              message.getReplyTo(),
              (asked.incrementAndGet() < 3
                      ? "{\"error\":{\"code\":409,\"err_code\":10158,"
                          + "\"description\":\"duplicate message id is in process\"}}"
                      : "{\"stream\":\"NOTES\",\"seq\":1,\"duplicate\":true}")
                  .getBytes(StandardCharsets.UTF_8)))
          .subscribe("notes.changes.>");
      stream.flush(AWHILE);

      assertThat(bus.publish(change("1"))).isEqualTo(Outcome.STORED);
      assertThat(asked).hasValue(3);
    }
  }

  @Test
  void waitsForAPlaceInTheWindow_withinItsBound(NatsServer server) {
    try (NatsBus bus =
        Servers.bus(server).maxPending(1).publishTimeout(Duration.ofMillis(400)).open()) {
      server.kill();
      await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);
      CompletableFuture<Outcome> first = bus.publishAsync(change("1"));
      CompletableFuture<Outcome> second = bus.publishAsync(change("2"));
      await().atMost(AWHILE).until(() -> first.isDone() && second.isDone());
      assertThat(first).isCompletedExceptionally();
      assertThat(second).isCompletedExceptionally();
    }
  }

  @Test
  void refusesAMessageThatNoServerTakes(NatsServer server) {
    try (NatsBus bus = Servers.bus(server).open()) {
      Change big = change("1").payload(StringValue.of("x".repeat(1_100_000)));
      assertThatThrownBy(() -> bus.publish(big))
          .isInstanceOfSatisfying(PublishException.class, failure -> {
            assertThat(failure.reason()).isEqualTo(PublishException.Reason.REFUSED);
            assertThat(FailureKind.of(failure)).isEqualTo(FailureKind.INTERNAL);
          })
          .hasMessageContaining("the server takes at most");
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {3001, 4050, 100_000})
  void refusesAChange_whoseSubjectWouldEndTheConnection(int length, NatsServer server) {
    String rest = "notes.changes..create";
    try (NatsBus bus = Servers.bus(server).open()) {
      assertThatThrownBy(() ->
              bus.publish(Change.of("n".repeat(length - rest.length()), "1", "create")))
          .isInstanceOfSatisfying(
              PublishException.class,
              failure -> assertThat(failure.reason()).isEqualTo(PublishException.Reason.REFUSED))
          .hasMessageStartingWith("publish notes.changes.nnn")
          .hasMessageEndingWith(
              "nnn...: the subject has " + length + " characters, and the limit is 3000")
          .satisfies(failure -> assertThat(failure.getMessage()).hasSizeLessThan(300));
      assertThat(bus.publish(Change.of("n".repeat(3000 - rest.length()), "1", "create")))
          .isEqualTo(Outcome.STORED);
      assertThat(bus.connection().getStatistics().getReconnects()).isZero();
    }
  }

  @Test
  void storesAnEventThatWasEncodedBefore_onceHoweverOftenItIsSent(NatsServer server)
      throws Exception {
    EncodedEvent event;
    try (NatsBus bus = Servers.bus(server).open()) {
      event = bus.encode(change("1"));
      assertThat(bus.send(event).get(10, TimeUnit.SECONDS)).isEqualTo(Outcome.STORED);
    }
    try (NatsBus bus = NatsBus.open(server.url(), "NOTES", "notes.changes")) {
      assertThat(bus.send(event).get(10, TimeUnit.SECONDS)).isEqualTo(Outcome.STORED);

      List<MessageInfo> stored = Servers.stored(bus.connection(), "NOTES");
      assertThat(stored).hasSize(1);
      assertThat(stored.get(0).getHeaders().getFirst("Nats-Msg-Id")).isEqualTo(event.id());
      assertThat(stored.get(0).getData()).isEqualTo(event.body());
    }
  }

  @Test
  void refusesAnEventWithAHeaderThatCannotBeSent(NatsServer server) {
    try (NatsBus bus = Servers.bus(server).open()) {
      EncodedEvent bad = new EncodedEvent(
          "e-1",
          "notes.changes.note.create",
          Map.of("a b", List.of("1\n2")),
          new byte[0],
          "note/1");
      assertThatThrownBy(() -> bus.send(bad).get(10, TimeUnit.SECONDS))
          .cause()
          .isInstanceOfSatisfying(
              PublishException.class,
              failure -> assertThat(failure.reason()).isEqualTo(PublishException.Reason.REFUSED));
    }
  }

  @Test
  void stopsWaiting_whenInterrupted_andKeepsTheFlag(NatsServer server) throws Exception {
    try (NatsBus bus = Servers.bus(server).open()) {
      server.kill();
      await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);
      CompletableFuture<Boolean> flag = new CompletableFuture<>();
      CountDownLatch started = new CountDownLatch(1);
      Thread publishing = Thread.ofPlatform().start(() -> {
        started.countDown();
        try {
          bus.publish(change("1"));
        } catch (PublishException interrupted) {
          flag.complete(Thread.currentThread().isInterrupted());
        }
      });
      started.await();
      publishing.interrupt();

      assertThat(flag.get(4, TimeUnit.SECONDS)).isTrue();
    }
  }

  @Test
  void closesTwice_leavesNoThread_andFailsWhatComesAfter(NatsServer server) {
    NatsBus bus = Servers.bus(server).open();
    bus.consumer("notes.changes.>", "indexer").start(event -> {});
    bus.publish(change("1"));
    bus.close();
    bus.close();

    assertThat(bus.connection().getStatus()).isEqualTo(Status.CLOSED);
    assertThatThrownBy(() -> bus.publish(change("2")))
        .isInstanceOf(PublishException.class)
        .hasMessageContaining("closed");
    await()
        .atMost(AWHILE)
        .until(() -> Thread.getAllStackTraces().keySet().stream()
            .noneMatch(thread -> thread.getName().startsWith("natsbus")));
  }

  @Test
  void storesAllThatItAcknowledges_andNothingElse_whenItClosesUnderLoad(NatsServer server)
      throws Exception {
    List<CompletableFuture<Outcome>> all = Collections.synchronizedList(new ArrayList<>());
    NatsBus bus = Servers.bus(server).maxPending(256).open();
    CountDownLatch closed = new CountDownLatch(1);
    List<Thread> publishing = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      String writer = "w" + i;
      publishing.add(Thread.ofPlatform().start(() -> {
        for (long version = 0; closed.getCount() > 0; version++) {
          all.add(bus.publishAsync(change(writer + "-" + version % 50).version(version)));
        }
      }));
    }
    await().atMost(AWHILE).until(() -> all.size() > 2000);
    bus.close();
    closed.countDown();
    for (Thread each : publishing) {
      each.join();
    }
    CompletableFuture.allOf(all.toArray(CompletableFuture[]::new))
        .exceptionally(failure -> null)
        .get(30, TimeUnit.SECONDS);

    long acknowledged =
        all.stream().filter(each -> !each.isCompletedExceptionally()).count();
    assertThat(acknowledged).isPositive();
    try (NatsBus after = Servers.bus(server).open()) {
      assertThat(after
              .connection()
              .jetStreamManagement()
              .getStreamInfo("NOTES")
              .getStreamState()
              .getMsgCount())
          .isEqualTo(acknowledged);
    }
  }

  @Test
  void measuresTheBusesThatAreOpen_whenOneOfTheSameRegistryWasClosed(NatsServer server) {
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    Servers.bus(server).metrics(registry).open().close();
    assertThat(registry.get("natsbus.connected").gauge().value()).isZero();

    try (NatsBus bus = Servers.bus(server).metrics(registry).open()) {
      assertThat(bus.connection().getStatus()).isEqualTo(Status.CONNECTED);
      assertThat(registry.get("natsbus.connected").gauge().value()).isEqualTo(1);
    }
  }

  @Test
  void closesInBoundedTime_whenTheServerIsAway(NatsServer server) {
    NatsBus bus = Servers.bus(server).open();
    bus.consumer("notes.changes.>", "indexer").start(event -> {});
    server.kill();
    await().atMost(AWHILE).until(() -> bus.connection().getStatus() != Status.CONNECTED);
    CompletableFuture<Outcome> underWay = bus.publishAsync(change("1"));

    long begin = System.nanoTime();
    bus.close();

    assertThat(Duration.ofNanos(System.nanoTime() - begin)).isLessThan(Duration.ofSeconds(60));
    await().atMost(AWHILE).until(underWay::isDone);
  }
}
