package dev.evalops.runtime.natsbus.spool;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import com.google.protobuf.StringValue;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.natsbus.ConfiguredNats;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.natsbus.Servers;
import io.nats.client.api.DiscardPolicy;
import io.nats.client.api.StreamConfiguration;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** A stream or account that takes nothing for a while. */
@Timeout(120)
class FullStreamTest {
  private static final Duration AWHILE = Duration.ofSeconds(30);

  @TempDir
  Path temp;

  private static NatsBus bus(
      ConfiguredNats server, String user, Consumer<StreamConfiguration.Builder> change) {
    return NatsBus.builder("nats://" + user + server.address()).stream("NOTES")
        .subjectPrefix("notes.changes")
        .configureStream(change)
        .publishTimeout(Duration.ofSeconds(2))
        .open();
  }

  private SpooledPublisher publisher(NatsBus bus) {
    return SpooledPublisher.builder(bus, temp.resolve("spool"))
        .maxAttempts(1)
        .breakerOpen(Duration.ofNanos(1))
        .replayEvery(Duration.ofHours(1))
        .open();
  }

  private static Change change(String type, String id, long version) {
    return Change.of(type, id, "create").version(version);
  }

  private static Change large(String id, long version) {
    return change("note", id, version).payload(StringValue.of("x".repeat(20_000)));
  }

  private static List<String> stored(NatsBus bus) throws Exception {
    return Servers.stored(bus.connection(), "NOTES").stream()
        .map(each -> Servers.event(each))
        .map(event -> event.aggregateId().orElse("-") + ":" + event.version().orElse(-1))
        .toList();
  }

  private List<Path> setAside() throws Exception {
    try (Stream<Path> files = Files.list(temp.resolve("spool/quarantine"))) {
      return files.toList();
    }
  }

  /** As many as it has room for, then more that wait, in order. */
  private void fillAndEmpty(NatsBus bus, String error) throws Exception {
    try (SpooledPublisher publisher = publisher(bus)) {
      int version = 1;
      while (publisher.publish(large("a", version)) == Outcome.STORED) {
        assertThat(++version).isLessThan(100);
      }
      int firstOnDisk = version;
      for (int i = 0; i < 3; i++) {
        assertThat(publisher.publish(large("a", ++version))).isEqualTo(Outcome.SPOOLED);
      }
      for (int i = 0; i < 5; i++) {
        assertThat(publisher.replay()).isZero();
      }
      assertThat(setAside()).isEmpty();
      assertThat(lastError()).contains(error);

      bus.connection().jetStreamManagement().purgeStream("NOTES");
      assertThat(publisher.publish(large("a", ++version))).isEqualTo(Outcome.SPOOLED);
      await().atMost(AWHILE).until(() -> publisher.replay() >= 0 && publisher.size() <= 2);
      List<String> taken = stored(bus);
      assertThat(taken).hasSizeGreaterThanOrEqualTo(3);
      assertThat(taken)
          .isEqualTo(IntStream.range(firstOnDisk, firstOnDisk + taken.size())
              .mapToObj(each -> "a:" + each)
              .toList());
    }
  }

  private String lastError() throws Exception {
    try (Stream<Path> files = Files.list(temp.resolve("spool"))) {
      Path first = files
          .filter(each -> each.toString().endsWith(".json"))
          .sorted()
          .toList()
          .get(0);
      return SpooledEvent.parse(Files.readAllBytes(first)).lastError();
    }
  }

  @Test
  void letsChangesWait_whenItHasAsManyAsItMay() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, "");
        NatsBus bus =
            bus(server, "", stream -> stream.maxMessages(3).discardPolicy(DiscardPolicy.New))) {
      fillAndEmpty(bus, "maximum messages exceeded [10077]");
    }
  }

  @Test
  void letsChangesWait_whenTheAccountHasAsMuchAsItMay() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, """
            jetstream { store_dir: "%s" }
            accounts { A { jetstream { max_store: 90000, max_mem: 0 },
              users: [ {user: bob, password: pw} ] } }
            """.formatted(temp.resolve("store")));
        NatsBus bus = bus(server, "bob:pw@", stream -> {})) {
      fillAndEmpty(bus, "resource limits exceeded for account [10002]");
    }
  }

  @Test
  void letsChangesWait_whenTheServerHasAsMuchAsItMay() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(
            temp,
            "jetstream { store_dir: \"" + temp.resolve("store") + "\", max_file_store: 90000 }");
        NatsBus bus = bus(server, "", stream -> {})) {
      fillAndEmpty(bus, "insufficient resources [10023]");
    }
  }

  @Test
  void takesOthers_whenItHasAsManyOfOneSubjectAsItMay() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, "");
        NatsBus bus = bus(
            server,
            "",
            stream -> stream
                .maxMessagesPerSubject(1)
                .discardPolicy(DiscardPolicy.New)
                .discardNewPerSubject(true));
        SpooledPublisher publisher = publisher(bus)) {
      assertThat(publisher.publish(change("full", "a", 1))).isEqualTo(Outcome.STORED);
      for (int i = 0; i < 20; i++) { // more than a batch
        assertThat(publisher.publish(change("full", "b-" + i, 1))).isEqualTo(Outcome.SPOOLED);
      }
      server.stop();
      assertThat(publisher.publish(change("other", "c", 1))).isEqualTo(Outcome.SPOOLED);
      server.start("");

      await().atMost(AWHILE).until(() -> publisher.replay() == 1);
      for (int i = 0; i < 4; i++) {
        assertThat(publisher.replay()).isZero();
      }
      assertThat(stored(bus)).containsExactly("a:1", "c:1");
      assertThat(publisher.size()).isEqualTo(20);
      assertThat(setAside()).isEmpty();
    }
  }

  @Test
  void setsAsideWhatItNeverTakes() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, "");
        NatsBus bus = bus(server, "", stream -> stream.maximumMessageSize(10_000));
        SpooledPublisher publisher = publisher(bus)) {
      assertThat(publisher.publish(large("a", 1))).isEqualTo(Outcome.SPOOLED);
      assertThat(publisher.publish(change("note", "a", 2))).isEqualTo(Outcome.SPOOLED);
      assertThat(lastError()).contains("[10054]");
      for (int i = 0; i < 3; i++) {
        publisher.replay();
      }
      assertThat(setAside()).hasSize(1);
      assertThat(stored(bus)).containsExactly("a:2");
    }
  }
}
