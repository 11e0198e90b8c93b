package dev.evalops.runtime.natsbus.spool;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.natsbus.Servers;
import dev.evalops.runtime.testutil.NatsServer;
import io.nats.client.Connection.Status;
import io.nats.client.api.MessageInfo;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.UUID;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** A process is killed while it spools changes, again and again on the same directory. */
class CrashTest {
  private static final Pattern ID = Pattern.compile("[0-9a-f-]{36}");

  @TempDir
  Path temp;

  @Test
  @Timeout(120)
  void losesNothingThatWasAcknowledged_andReplaysPastWhatWasLeft() throws Exception {
    crashes(5);
  }

  @Test
  @Tag("soak")
  @Timeout(2400)
  void losesNothingThatWasAcknowledged_andReplaysPastWhatWasLeft_ahundredTimes() throws Exception {
    crashes(100);
  }

  private void crashes(int rounds) throws Exception {
    Set<String> acknowledged = new HashSet<>();
    Random random = new Random(rounds);
    try (NatsServer server = NatsServer.start()) {
      for (int round = 0; round < rounds; round++) {
        acknowledged.addAll(killedWriter(server, 1 + random.nextInt(60)));
      }
      try (NatsBus bus = Servers.bus(server).open();
          SpooledPublisher publisher = SpooledPublisher.builder(bus, temp)
              .replayEvery(Duration.ofMillis(200))
              .open()) {
        await().atMost(Duration.ofSeconds(90)).until(() -> publisher.size() == 0);
        Set<String> stored = new HashSet<>();
        List<MessageInfo> all = Servers.stored(bus.connection(), "NOTES");
        all.forEach(each -> stored.add(Servers.event(each).id()));
        System.out.printf(
            "%d kills: %d acknowledged, %d stored%n", rounds, acknowledged.size(), all.size());

        assertThat(acknowledged).isNotEmpty();
        assertThat(stored).containsAll(acknowledged);
        assertThat(stored).as("none twice").hasSize(all.size());
      }
    }
  }

  /** Starts a process that has lost NATS, reads what it acknowledges, and kills it in the middle. */
  private Set<String> killedWriter(NatsServer server, int enough) throws Exception {
    Process writer = new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            "-cp",
            System.getProperty("java.class.path"),
            Writer.class.getName(),
            server.url(),
            temp.toString())
        .redirectError(ProcessBuilder.Redirect.DISCARD)
        .start();
    Set<String> acknowledged = new HashSet<>();
    try (BufferedReader lines = new BufferedReader(
        new InputStreamReader(writer.getInputStream(), StandardCharsets.US_ASCII))) {
      String line = lines.readLine();
      while (line != null && acknowledged.size() < enough) {
        if (ID.matcher(line).matches()) { // and no line of the log
          acknowledged.add(line);
        }
        line = lines.readLine();
      }
      writer.toHandle().destroyForcibly(); // unlike that of Process it leaves the pipe open
      while (line != null) {
        // The last may be cut in the middle.
        if (ID.matcher(line).matches()) {
          acknowledged.add(line);
        }
        line = lines.readLine();
      }
    } finally {
      writer.destroyForcibly().waitFor();
    }
    return acknowledged;
  }

  /** The process: its connection is closed, so that everything goes to disk. */
  static final class Writer {
    private Writer() {}

    public static void main(String[] arguments) {
      NatsBus bus = NatsBus.builder(arguments[0]).stream("NOTES")
          .subjectPrefix("notes.changes")
          .open();
      try (SpooledPublisher publisher = SpooledPublisher.builder(bus, Path.of(arguments[1]))
          .maxAttempts(1)
          .replayEvery(Duration.ofHours(1))
          .open()) {
        closeConnection(bus);
        for (int i = 0; ; i++) {
          UUID id = UUID.randomUUID();
          Outcome outcome = publisher.publish(
              Change.of("note", "n-" + i % 5, "change").eventId(id).version(i));
          if (outcome == Outcome.SPOOLED) {
            System.out.println(id);
          }
        }
      }
    }

    private static void closeConnection(NatsBus bus) {
      try {
        bus.connection().close();
      } catch (InterruptedException interrupted) {
        Thread.currentThread().interrupt();
      }
      if (bus.connection().getStatus() != Status.CLOSED) {
        throw new IllegalStateException("not closed");
      }
    }
  }
}
