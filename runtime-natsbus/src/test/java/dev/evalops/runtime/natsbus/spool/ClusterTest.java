package dev.evalops.runtime.natsbus.spool;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.natsbus.EventConsumer;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.natsbus.Servers;
import dev.evalops.runtime.testutil.NatsCluster;
import dev.evalops.runtime.testutil.NatsServer;
import io.nats.client.JetStreamManagement;
import io.nats.client.api.MessageInfo;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.awaitility.core.ConditionTimeoutException;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Three servers and a stream with as many replicas, whose leader goes. */
@Timeout(300)
class ClusterTest {
  private static final Duration SOON = Duration.ofSeconds(60);

  @TempDir
  private Path folder;

  private enum Fault {
    STEPPED_DOWN,
    KILLED,
    STOPPED,
    CUT_OFF,
    ALL_RESTARTED,
    GONE_FOR_GOOD // the last: two are left
  }

  @Test
  void nothingIsLostOrDoubled_whenTheLeaderGoes() throws Exception {
    faults(List.of(Fault.STEPPED_DOWN, Fault.KILLED));
  }

  @Test
  @Tag("soak")
  void nothingIsLostOrDoubled_whenTheLeaderGoes_soak() throws Exception {
    faults(List.of(Fault.values()));
  }

  private void faults(List<Fault> faults) throws Exception {
    Map<String, Integer> handled = new ConcurrentHashMap<>();
    try (NatsCluster nats = NatsCluster.start();
        NatsBus bus = NatsBus.builder(nats.url()).stream("NOTES")
            .subjectPrefix("notes.changes")
            .replicas(3)
            .open();
        EventConsumer consumer = bus.consumer("notes.changes.>", "indexer")
            .start(event -> handled.merge(event.id(), 1, Integer::sum));
        SpooledPublisher spooled = SpooledPublisher.builder(bus, folder)
            .replayEvery(Duration.ofSeconds(1))
            .breakerOpen(Duration.ofSeconds(1))
            .open();
        Publishers publishers = new Publishers(List.of(bus, spooled))) {
      for (String stream : List.of("NOTES", "NOTES_DEAD")) {
        assertThat(bus.connection()
                .jetStreamManagement()
                .getStreamInfo(stream)
                .getConfiguration()
                .getReplicas())
            .isEqualTo(3);
      }
      for (Fault fault : faults) {
        await().atMost(SOON).until(() -> nats.leader("NOTES").isPresent());
        publishers.awaitMore(100);
        publishers.longestPause();
        meet(fault, nats, bus);
        publishers.awaitMore(100);
        Set<String> before = Set.copyOf(publishers.published);
        await().atMost(SOON).until(() -> spooled.size() == 0);
        awaitHandled(handled.keySet(), before, fault, nats, bus);
        System.out.printf(
            "nats %s: leader %s, longest time without an acknowledgement %d ms%n",
            nats.version(), fault, publishers.longestPause().toMillis());
      }
      Set<String> published = publishers.stop();
      await().atMost(SOON).until(() -> spooled.size() == 0);
      List<String> stored = stored(bus);
      assertThat(stored)
          .as(nats::report)
          .doesNotHaveDuplicates()
          .containsExactlyInAnyOrderElementsOf(published);
      awaitHandled(handled.keySet(), Set.copyOf(stored), "in the end", nats, bus);
    }
  }

  private static void awaitHandled(
      Set<String> handled, Set<String> expected, Object when, NatsCluster nats, NatsBus bus)
      throws Exception {
    try {
      await().atMost(SOON).until(() -> handled.containsAll(expected));
    } catch (ConditionTimeoutException late) {
      throw new AssertionError(
          "not everything was handled, " + when + ":\n" + missing(handled, expected, nats, bus),
          late);
    }
  }

  /** What tells whose fault it is. */
  private static String missing(
      Set<String> handled, Set<String> expected, NatsCluster nats, NatsBus bus) throws Exception {
    StringBuilder report = new StringBuilder();
    for (MessageInfo message : Servers.stored(bus.connection(), "NOTES")) {
      String id = Servers.event(message).id();
      if (expected.contains(id) && !handled.contains(id)) {
        report.append("missing: ").append(id).append(", sequence ").append(message.getSeq());
        report.append(", stored at ").append(message.getTime()).append('\n');
      }
    }
    for (MessageInfo message : Servers.stored(bus.connection(), "NOTES_DEAD")) {
      report.append("dead: ").append(message.getHeaders()).append('\n');
    }
    JetStreamManagement management = bus.connection().jetStreamManagement();
    report.append(management.getConsumerInfo("NOTES", "indexer")).append('\n');
    report.append(management.getStreamInfo("NOTES")).append('\n');
    return report.append(nats.report()).toString();
  }

  private static List<String> stored(NatsBus bus) throws Exception {
    return Servers.stored(bus.connection(), "NOTES").stream()
        .map(message -> Servers.event(message).id())
        .toList();
  }

  private static void meet(Fault fault, NatsCluster nats, NatsBus bus) throws Exception {
    NatsServer leader = nats.leader("NOTES").orElseThrow();
    switch (fault) {
      case STEPPED_DOWN -> {
        var unused = bus.connection()
            .request("$JS.API.STREAM.LEADER.STEPDOWN.NOTES", new byte[0], Duration.ofSeconds(10));
        awaitAnother(nats, leader);
      }
      case KILLED -> {
        leader.kill();
        awaitAnother(nats, leader);
        leader.restart();
        nats.awaitReady();
      }
      case STOPPED -> {
        leader.pause();
        awaitAnother(nats, leader);
        leader.resume();
        nats.awaitReady();
      }
      case CUT_OFF -> {
        nats.cutOff(leader);
        awaitAnother(nats, leader);
        nats.heal(leader);
        nats.awaitReady();
      }
      case ALL_RESTARTED -> {
        for (NatsServer each : nats.servers()) {
          each.kill();
          each.restart();
          nats.awaitReady();
        }
      }
      case GONE_FOR_GOOD -> {
        leader.close();
        awaitAnother(nats, leader);
      }
    }
  }

  private static void awaitAnother(NatsCluster nats, NatsServer former) {
    await()
        .atMost(SOON)
        .until(() -> nats.leader("NOTES").filter(now -> now != former).isPresent());
  }

  /** Publishes by each publisher until it is stopped; what is not acknowledged is published again, with the same id. */
  private static final class Publishers implements AutoCloseable {
    private final ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor();
    private final List<Future<?>> running = new ArrayList<>();
    private final Set<String> published = ConcurrentHashMap.newKeySet();
    private final AtomicLong last = new AtomicLong(System.nanoTime());
    private final AtomicLong longestPause = new AtomicLong();
    private volatile boolean stopping;

    Publishers(List<ChangePublisher> publishers) {
      publishers.forEach(publisher -> running.add(threads.submit(() -> publish(publisher))));
    }

    private void publish(ChangePublisher publisher) {
      while (!stopping) {
        UUID id = UUID.randomUUID();
        Change change = Change.of("note", id.toString(), "create").version(1).eventId(id);
        while (!isPublished(publisher, change)) {
          LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(100));
        }
        published.add(id.toString());
        LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(5));
      }
    }

    private boolean isPublished(ChangePublisher publisher, Change change) {
      try {
        if (publisher.publish(change) == ChangePublisher.Outcome.STORED) {
          long now = System.nanoTime();
          longestPause.accumulateAndGet(now - last.getAndSet(now), Math::max);
        }
        return true;
      } catch (PublishException failure) {
        assertThat(failure.reason()).isEqualTo(PublishException.Reason.AWAY);
        return false;
      }
    }

    void awaitMore(int changes) {
      int until = published.size() + changes;
      await()
          .atMost(SOON)
          .until(() -> published.size() >= until || running.stream().anyMatch(Future::isDone));
    }

    /** Since it was asked for the last time. */
    Duration longestPause() {
      return Duration.ofNanos(longestPause.getAndSet(0));
    }

    Set<String> stop() throws Exception {
      stopping = true;
      for (Future<?> each : running) {
        each.get(SOON.toSeconds(), TimeUnit.SECONDS);
      }
      return published;
    }

    @Override
    public void close() {
      stopping = true;
      threads.shutdownNow();
    }
  }
}
