package dev.evalops.runtime.natsbus.spool;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.natsbus.EventConsumer;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.natsbus.NatsBusTest;
import dev.evalops.runtime.natsbus.Servers;
import dev.evalops.runtime.testutil.NatsServer;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import io.nats.client.api.MessageInfo;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** NATS is killed under load and comes back. */
class OutageTest {
  private static final int WRITERS = 4;
  private static final Duration BOUND = Duration.ofSeconds(1);

  @TempDir
  Path temp;

  @Test
  @Timeout(120)
  void losesDoublesAndReordersNothing_andBlocksNobody() throws Exception {
    outage(Duration.ofSeconds(4), 500);
  }

  @Test
  @Tag("soak")
  @Timeout(600)
  void losesDoublesAndReordersNothing_andBlocksNobody_inAnOutageOfAMinute() throws Exception {
    outage(Duration.ofSeconds(60), 500);
  }

  private void outage(Duration away, int perSecond) throws Exception {
    Map<String, Outcome> acknowledged = new ConcurrentHashMap<>();
    AtomicLong slowest = new AtomicLong();
    AtomicBoolean stop = new AtomicBoolean();
    Map<String, Integer> handled = new ConcurrentHashMap<>();
    SimpleMeterRegistry registry = new SimpleMeterRegistry();
    try (NatsServer server = NatsServer.start();
        NatsBus bus =
            Servers.bus(server).publishTimeout(BOUND).metrics(registry).open();
        EventConsumer consumer = bus.consumer("notes.changes.>", "indexer")
            .ackWait(Duration.ofSeconds(2))
            .start(event -> handled.merge(event.id(), 1, Integer::sum));
        SpooledPublisher publisher = SpooledPublisher.builder(bus, temp)
            .replayEvery(Duration.ofSeconds(1))
            .breakerOpen(Duration.ofSeconds(1))
            .open()) {
      List<Thread> writers = new ArrayList<>();
      for (int i = 0; i < WRITERS; i++) {
        String writer = "w" + i;
        writers.add(Thread.ofPlatform().start(() -> {
          for (long version = 0; !stop.get(); version++) {
            UUID id = UUID.randomUUID();
            Change change = Change.of("note", writer + "-" + version % 3, "create")
                .version(version)
                .eventId(id);
            long begin = System.nanoTime();
            acknowledged.put(id.toString(), publisher.publish(change));
            slowest.accumulateAndGet(System.nanoTime() - begin, Math::max);
            LockSupport.parkNanos(1_000_000_000L * WRITERS / perSecond);
          }
        }));
      }
      await().atMost(Duration.ofSeconds(30)).until(() -> acknowledged.size() > perSecond / 2);
      assertThat(registry.get("natsbus.connected").gauge().value()).isEqualTo(1);
      server.kill();
      await()
          .atMost(Duration.ofSeconds(30))
          .until(() -> registry.get("natsbus.connected").gauge().value() == 0);
      await().pollDelay(away).atMost(away.plusSeconds(30)).until(() -> true);
      server.restart();
      await()
          .atMost(Duration.ofSeconds(30))
          .until(() -> registry.get("natsbus.connected").gauge().value() == 1);
      int before = acknowledged.size();
      await().atMost(Duration.ofSeconds(30)).until(() -> acknowledged.size() > before + perSecond);
      stop.set(true);
      for (Thread writer : writers) {
        writer.join();
      }
      await().atMost(away.plusSeconds(90)).until(() -> publisher.size() == 0);

      await()
          .atMost(Duration.ofSeconds(30))
          .until(() -> handled.keySet().containsAll(acknowledged.keySet()));

      Map<String, Integer> stored = new HashMap<>();
      List<MessageInfo> all = Servers.stored(bus.connection(), "NOTES");
      for (MessageInfo message : all) {
        stored.merge(Servers.event(message).id(), 1, Integer::sum);
      }
      System.out.printf(
          "outage of %d s: %d acknowledged, %d of them spooled, %d stored, %d handled, %d of"
              + " them twice, slowest call %d ms%n",
          away.toSeconds(),
          acknowledged.size(),
          acknowledged.values().stream().filter(Outcome.SPOOLED::equals).count(),
          all.size(),
          handled.size(),
          handled.values().stream().filter(times -> times > 1).count(),
          slowest.get() / 1_000_000);
      assertThat(acknowledged).containsValue(Outcome.SPOOLED);
      assertThat(stored.keySet()).containsAll(acknowledged.keySet());
      assertThat(stored.values()).containsOnly(1);
      NatsBusTest.assertOrdered(all, acknowledged.size());
      // Ten times three attempts with their pauses, for a slow machine and disk.
      assertThat(Duration.ofNanos(slowest.get())).isLessThan(BOUND.multipliedBy(33));
    }
  }
}
