package dev.evalops.runtime.natsbus;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.TestNats;
import io.nats.client.Connection;
import io.nats.client.JetStreamManagement;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.api.MessageInfo;
import java.io.ByteArrayOutputStream;
import java.time.Duration;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.provider.Arguments;

/** Messages whose headers no client should send, and servers deliver. */
@Timeout(120)
@ExtendWith(TestNats.class)
class PoisonTest {
  private static final Duration AWHILE = Duration.ofSeconds(30);
  private static final String SUBJECT = "notes.changes.note.create";
  private static final byte[] BODY =
      "{\"specversion\":\"1.0\",\"id\":\"p\",\"type\":\"t\",\"source\":\"s\",\"time\":\"2026-04-15T12:00:00Z\"}"
          .getBytes(UTF_8);

  /** The kinds that the client's parser throws at. */
  static Stream<Arguments> poisons() {
    return Stream.of(
        arguments("value in UTF-8", block("ce-tenantid: café\r\n\r\n")),
        arguments(
            "value with 0x7f and above", concat(block("a: "), 0xFF, 0xFE, 0x7F, 13, 10, 13, 10)),
        arguments("name in UTF-8", block("tenänt: a\r\n\r\n")),
        arguments("name with a blank", block("ce tenant: a\r\n\r\n")),
        arguments("no name", block(": a\r\n\r\n")),
        arguments("no colon", block("ce-tenantid\r\n\r\n")),
        arguments("no colon, and a line with one", block("ce-tenantid\r\na: b\r\n\r\n")),
        arguments("line feeds alone", block("a: b\n\n")),
        arguments("a line feed in a value", block("a: b\nc: d\r\n\r\n")),
        arguments("folded line", block("a: b\r\n c\r\n\r\n")),
        arguments("no end", block("a: b\r\n")),
        arguments("no version", "a: b\r\n\r\n".getBytes(UTF_8)),
        arguments("another version", "NATS/2.0\r\na: b\r\n\r\n".getBytes(UTF_8)),
        arguments("a status that is no number", "NATS/1.0 abc\r\n\r\n".getBytes(UTF_8)),
        arguments("half a version", "NATS".getBytes(UTF_8)));
  }

  private static byte[] block(String lines) {
    return ("NATS/1.0\r\n" + lines).getBytes(UTF_8);
  }

  private static byte[] concat(byte[] first, int... more) {
    ByteArrayOutputStream all = new ByteArrayOutputStream();
    all.writeBytes(first);
    Arrays.stream(more).forEach(all::write);
    return all.toByteArray();
  }

  private static Change change(long version) {
    return Change.of("note", "n-" + version % 50, "create").version(version);
  }

  @Test
  void goesToTheDeadLetters_andNothingElseNotices(NatsServer server) throws Exception {
    run(server, 300, 2);
  }

  @Test
  @Tag("soak")
  @Timeout(600)
  void goesToTheDeadLetters_andNothingElseNotices_inLargeNumbers(NatsServer server)
      throws Exception {
    run(server, 9900, 10);
  }

  private static void run(NatsServer server, int good, int ofEachKind) throws Exception {
    // Newer servers take a status line away, and deliver the rest.
    List<byte[]> poisons = poisons()
        .filter(each -> !each.get()[0].toString().contains("status"))
        .map(each -> (byte[]) each.get()[1])
        .limit(good > 1000 ? 10 : 14)
        .toList();
    Map<Long, Integer> handled = new ConcurrentHashMap<>();
    try (NatsBus bus = Servers.bus(server).open();
        RawNats raw = new RawNats(server.url())) {
      bus.consumer("notes.changes.>", "indexer")
          .start(event -> handled.merge(event.version().orElseThrow(), 1, Integer::sum));
      int poisoned = poisons.size() * ofEachKind;
      CompletableFuture<?>[] published = new CompletableFuture<?>[good];
      for (int i = 0; i < good; i++) {
        if (i % (good / poisoned) == 0 && i / (good / poisoned) < poisoned) {
          raw.publish(SUBJECT, poisons.get(i / (good / poisoned) % poisons.size()), BODY);
        }
        published[i] = bus.publishAsync(change(i));
        if (i % 100 == 0) {
          raw.flush();
          // Within the two seconds that a publisher has.
          Sender.await(bus.publishAsync(change(good + i)), SUBJECT, Duration.ofSeconds(2));
        }
      }
      raw.flush();
      CompletableFuture.allOf(published).get(AWHILE.toSeconds(), TimeUnit.SECONDS);
      int all = good + (good + 99) / 100;
      await().atMost(AWHILE).until(() -> handled.size() == all);
      JetStreamManagement management = bus.connection().jetStreamManagement();
      await().atMost(AWHILE).until(() -> {
        var info = management.getConsumerInfo("NOTES", "indexer");
        return info.getNumAckPending() == 0 && info.getNumPending() == 0;
      });

      assertThat(handled.values()).containsOnly(1);
      Map<String, Integer> dead = new HashMap<>();
      for (MessageInfo letter : Servers.stored(bus.connection(), "NOTES_DEAD")) {
        assertThat(letter.getHeaders().getFirst("dead-letter-reason"))
            .startsWith("malformed event: headers: ");
        assertThat(letter.getHeaders().getFirst("dead-letter-deliveries")).isEqualTo("1");
        assertThat(letter.getData()).isEqualTo(BODY);
        dead.merge(letter.getHeaders().getFirst("dead-letter-raw-headers"), 1, Integer::sum);
      }
      assertThat(dead).hasSize(poisons.size()).allSatisfy((headers, count) -> {
        assertThat(poisons).contains(Base64.getDecoder().decode(headers));
        assertThat(count).isEqualTo(ofEachKind);
      });
      assertThat(bus.connection().getStatistics().getReconnects()).isZero();
      System.out.printf(
          "%d events handled once, %d of %d kinds dead-lettered, no reconnect%n",
          handled.size(), poisoned, poisons.size());
    }
  }

  @Test
  void isDeadLettered_whereItPassesForAMessageOfTheServer_orHasMoreHeadersThanADeadLetterCan(
      NatsServer server) throws Exception {
    try (NatsBus bus = Servers.bus(server).open();
        RawNats raw = new RawNats(server.url())) {
      bus.consumer("notes.changes.>", "indexer").start(event -> {});
      raw.publish(SUBJECT, "NATS/1.0 100 Idle Heartbeat\r\n\r\n".getBytes(UTF_8), new byte[1]);
      raw.publish(SUBJECT, block("a: " + "é".repeat(32_000) + "\r\n\r\n"), BODY);
      raw.publish(
          SUBJECT, block("a: " + "b".repeat(65_500) + "\r\n\r\n"), "no event".getBytes(UTF_8));
      raw.flush();

      JetStreamManagement management = bus.connection().jetStreamManagement();
      await()
          .atMost(AWHILE)
          .until(() -> management.getStreamInfo("NOTES_DEAD").getStreamState().getMsgCount() == 3);
      List<MessageInfo> dead = Servers.stored(bus.connection(), "NOTES_DEAD");
      dead.sort((a, b) -> sequence(a).compareTo(sequence(b)));
      assertThat(dead.get(0).getHeaders().getFirst("dead-letter-reason"))
          .startsWith("malformed event: ");
      assertThat(dead.get(1).getHeaders().getFirst("dead-letter-headers-omitted"))
          .isNotBlank();
      assertThat(dead.get(1).getData()).isEqualTo(BODY);
      assertThat(dead.get(2).getHeaders().getFirst("dead-letter-headers-omitted"))
          .isNotBlank();
      assertThat(dead.get(2).getHeaders().getFirst("a")).isNull();
    }
  }

  /** The server takes any bytes in a subject, and lines of up to 4096 bytes, to which its own add some more. */
  @Test
  void isDeadLettered_whateverItsSubjectIs(NatsServer server) throws Exception {
    List<String> subjects = List.of(
        "notes.changes.nöte.create",
        "notes.changes." + "n".repeat(4050),
        "notes.changes.note." + "ö".repeat(2000));
    CompletableFuture<Event> next = new CompletableFuture<>();
    try (NatsBus bus = Servers.bus(server).open();
        RawNats raw = new RawNats(server.url())) {
      bus.consumer("notes.changes.>", "indexer").start(next::complete);
      for (String subject : subjects) {
        String bytes = new String(subject.getBytes(UTF_8), ISO_8859_1); // as the test writes them
        raw.publish(bytes, block("a: b\r\n\r\n"), "no event".getBytes(UTF_8));
      }
      raw.flush();
      bus.publish(change(1));

      assertThat(next.get(AWHILE.toSeconds(), TimeUnit.SECONDS).version()).hasValue(1);
      JetStreamManagement management = bus.connection().jetStreamManagement();
      await()
          .atMost(AWHILE)
          .until(() -> management.getStreamInfo("NOTES_DEAD").getStreamState().getMsgCount() == 3);
      assertThat(Servers.stored(bus.connection(), "NOTES_DEAD"))
          .extracting(letter -> letter.getHeaders().getFirst("dead-letter-subject"))
          .containsExactlyInAnyOrder(
              "notes.changes.n??te.create",
              "notes.changes." + "n".repeat(4050),
              "notes.changes.note." + "?".repeat(4000));
      assertThat(bus.connection().getStatistics().getReconnects()).isZero();
    }
  }

  private static String sequence(MessageInfo letter) {
    return String.valueOf(letter.getHeaders().getFirst("dead-letter-sequence"));
  }

  @Test
  void comesToWhoeverListensByHimself_orAsks_andIsNoEvent(NatsServer server) throws Exception {
    try (NatsBus bus = Servers.bus(server).open();
        RawNats raw = new RawNats(server.url())) {
      var listening = bus.connection().subscribe("plain");
      bus.connection().flush(AWHILE);
      CompletableFuture<String> replyTo = new CompletableFuture<>();
      bus.connection()
          .createDispatcher(message -> replyTo.complete(message.getReplyTo()))
          .subscribe("questions");
      CompletableFuture<Message> answer = bus.connection().request("questions", new byte[0]);
      raw.publish(replyTo.get(AWHILE.toSeconds(), TimeUnit.SECONDS), block("a: é\r\n\r\n"), BODY);
      raw.publish("plain", block("a: é\r\n\r\n"), BODY);
      raw.publish("plain", block("a: b\r\n\r\n"), BODY);
      raw.flush();

      Message poisoned = listening.nextMessage(AWHILE);
      assertThat(poisoned.getData()).isEqualTo(BODY);
      assertThatThrownBy(() -> NatsBus.read(poisoned))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageStartingWith("headers: ");
      assertThat(listening.nextMessage(AWHILE).getHeaders().getFirst("a")).isEqualTo("b");
      assertThat(answer.get(AWHILE.toSeconds(), TimeUnit.SECONDS).getData()).isEqualTo(BODY);
    }
  }

  /** The same with the client alone: when this fails, see whether the guard is still needed. */
  @Test
  void endsTheReaderOfThePlainClient(NatsServer server) throws Exception {
    Options options = Options.builder().server(server.url()).build();
    try (Connection plain = Nats.connect(options);
        RawNats raw = new RawNats(server.url())) {
      plain.subscribe("plain");
      plain.flush(AWHILE);
      raw.publish("plain", block("a: é\r\n\r\n"), BODY);
      raw.flush();

      assertThatThrownBy(() -> plain.flush(Duration.ofMillis(300)))
          .isInstanceOf(TimeoutException.class);
      assertThat(plain.getStatus()).isEqualTo(Connection.Status.CONNECTED);
    }
  }

  @Test
  void isStored_whilePoisonIsOnTheWay(NatsServer server) throws Exception {
    try (NatsBus bus =
            Servers.bus(server).publishTimeout(Duration.ofSeconds(30)).open();
        RawNats raw = new RawNats(server.url())) {
      CompletableFuture<Event> next = new CompletableFuture<>();
      bus.consumer("notes.changes.>", "indexer").start(next::complete);
      raw.publish(SUBJECT, block("ce-tenantid: café\r\n\r\n"), BODY);
      raw.flush();

      assertThat(bus.publish(change(1))).isEqualTo(Outcome.STORED);
      assertThat(next.get(AWHILE.toSeconds(), TimeUnit.SECONDS).version()).hasValue(1);
    }
  }
}
