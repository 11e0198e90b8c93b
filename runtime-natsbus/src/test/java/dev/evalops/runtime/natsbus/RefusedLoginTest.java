package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.natsbus.spool.SpooledPublisher;
import io.nats.client.Connection;
import io.nats.client.Connection.Status;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** A server refuses the login for a while: a rotated password, a removed user, an account server that is away. */
@Timeout(180)
class RefusedLoginTest {
  private static final Duration AWHILE = Duration.ofSeconds(60);
  private static final String REFUSED = "authentication error";
  private static final String BOB = "authorization { users: [ {user: bob, password: s3cr3t} ] }";
  private static final String OTHER = "authorization { users: [ {user: bob, password: other} ] }";
  private static final String NO_BOB = "authorization { users: [ {user: eve, password: other} ] }";

  @TempDir
  Path temp;

  private static NatsBus.Builder bus(String url) {
    return NatsBus.builder(url).stream("NOTES")
        .subjectPrefix("notes.changes")
        .publishTimeout(Duration.ofSeconds(2))
        .configure(options -> options
            .reconnectWait(Duration.ofMillis(50))
            .reconnectJitter(Duration.ofMillis(10))
            .connectionTimeout(Duration.ofMillis(250))); // which a refusal takes
  }

  private static Change change(String id, long version) {
    return Change.of("note", id, "create").version(version);
  }

  private static void awaitRefusals(ConfiguredNats server, int count) throws Exception {
    long before = server.logged(REFUSED);
    await().atMost(AWHILE).until(() -> server.logged(REFUSED) >= before + count);
  }

  @Test
  void goesOnWithTheSameConnection_whenThePasswordIsAcceptedAgain() throws Exception {
    refused("127.0.0.1", 3, List.of(OTHER));
  }

  @Test
  void goesOnWithTheSameConnection_whenTheUserIsBack_onAServerThatHasAName() throws Exception {
    refused("localhost", 3, List.of(NO_BOB));
  }

  @Test
  @Tag("soak")
  @Timeout(1200)
  void goesOnWithTheSameConnection_afterHundredsOfRefusals() throws Exception {
    refused("127.0.0.1", 60, List.of(OTHER, NO_BOB, OTHER, NO_BOB, OTHER));
  }

  private void refused(String host, int times, List<String> configurations) throws Exception {
    Set<Long> handled = ConcurrentHashMap.newKeySet();
    try (ConfiguredNats server = new ConfiguredNats(temp, BOB);
        Logs logs = new Logs();
        NatsBus bus = bus("nats://bob:s3cr3t@" + host + ":" + server.port()).open();
        EventConsumer consumer = bus.consumer("notes.changes.>", "indexer")
            .start(event -> handled.add(event.version().orElseThrow()));
        SpooledPublisher spooled = SpooledPublisher.builder(bus, temp.resolve("spool"))
            .maxAttempts(1)
            .replayEvery(Duration.ofMillis(200))
            .open()) {
      Connection connection = bus.connection();
      long version = 0;
      for (String configuration : configurations) {
        long first = ++version;
        assertThat(bus.publish(change("a", first))).isEqualTo(Outcome.STORED);
        server.reload(configuration);
        awaitRefusals(server, times);

        assertThatThrownBy(() -> bus.publish(change("a", 1_000_000)))
            .isInstanceOf(PublishException.class)
            .hasMessageContaining("not connected, the server's last error: Authorization Violation")
            .hasMessageNotContainingAny("s3cr3t", "bob");
        long kept = ++version;
        assertThat(spooled.publish(change("b", kept))).isEqualTo(Outcome.SPOOLED);

        server.reload(BOB);
        await().atMost(AWHILE).until(() -> handled.contains(kept));
        long last = ++version;
        assertThat(bus.publish(change("a", last))).isEqualTo(Outcome.STORED);
        await().atMost(AWHILE).until(() -> handled.containsAll(List.of(first, kept, last)));
        assertThat(bus.connection()).isSameAs(connection);
      }
      System.out.printf(
          "login refused %d times in %d outages, %d changes handled%n",
          server.logged(REFUSED), configurations.size(), handled.size());
      assertThat(handled).hasSize(3 * configurations.size());
      assertThat(logs.count("WARN nats: server reported an error"))
          // A refusal may be told when the connection is back already.
          .isBetween((long) configurations.size(), 2L * configurations.size());
      assertThat(logs.lines()).noneMatch(line -> line.contains("s3cr3t"));
    }
  }

  @Test
  void ends_whenTheTokenSupplierGivesTheNewOne() throws Exception {
    AtomicReference<String> token = new AtomicReference<>("one");
    try (ConfiguredNats server = new ConfiguredNats(temp, "authorization { token: one }");
        NatsBus bus = bus("nats://" + server.address())
            .configure(options -> options.tokenSupplier(() -> token.get().toCharArray()))
            .open()) {
      assertThat(bus.publish(change("a", 1))).isEqualTo(Outcome.STORED);
      server.reload("authorization { token: two }");
      awaitRefusals(server, 3);
      token.set("two");

      await()
          .atMost(AWHILE)
          .ignoreExceptions()
          .until(() -> bus.publish(change("a", 2)) == Outcome.STORED);
    }
  }

  @Test
  void isTheEnd_whenItIsTheFirst() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, OTHER);
        Logs logs = new Logs()) {
      assertThatThrownBy(() -> bus("nats://bob:s3cr3t@" + server.address()).open())
          .isInstanceOf(StartupException.class)
          .hasMessageStartingWith("nats_connect: ")
          .hasMessageContaining("Authorization Violation")
          .satisfies(failure -> {
            for (Throwable each = failure; each != null; each = each.getCause()) {
              assertThat(String.valueOf(each)).doesNotContain("s3cr3t").doesNotContain("bob");
            }
          });
      assertThat(server.logged(REFUSED)).isEqualTo(1);
      assertThat(logs.lines()).noneMatch(line -> line.contains("s3cr3t"));
    }
  }

  @Test
  void doesNotKeepABusFromClosing() throws Exception {
    try (ConfiguredNats server = new ConfiguredNats(temp, BOB)) {
      NatsBus bus = bus("nats://bob:s3cr3t@" + server.address()).open();
      server.reload(OTHER);
      awaitRefusals(server, 3);
      bus.close();
      assertThat(bus.connection().getStatus()).isEqualTo(Status.CLOSED);
      assertThatThrownBy(() -> bus.publish(change("a", 1)))
          .isInstanceOf(PublishException.class)
          .hasMessageContaining("closed");
      await()
          .atMost(AWHILE)
          .until(() -> Thread.getAllStackTraces().keySet().stream()
              .noneMatch(thread -> thread.getName().startsWith("natsbus")));
    }
  }
}
