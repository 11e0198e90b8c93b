package dev.evalops.runtime.outbox;

import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher;
import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.PublishException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * A broker whose failures the test decides: it stores what it has not stored before, after a while, or fails before or
 * after storing.
 */
final class Broker implements ChangePublisher, AutoCloseable {
  final List<EncodedEvent> stored = new CopyOnWriteArrayList<>();
  final Set<String> refusedLanes = ConcurrentHashMap.newKeySet();
  final Set<String> awayLanes = ConcurrentHashMap.newKeySet();
  final AtomicInteger sent = new AtomicInteger();
  volatile boolean away;
  volatile int percentLost;
  private final Set<String> ids = ConcurrentHashMap.newKeySet();
  private final ScheduledExecutorService acknowledges =
      Executors.newSingleThreadScheduledExecutor();

  @Override
  public EncodedEvent encode(Change change) {
    throw new UnsupportedOperationException("the test makes the events");
  }

  static EncodedEvent event(String lane, int number) {
    return new EncodedEvent(
        UUID.randomUUID().toString(),
        "notes.changes",
        Map.of("ce-id", List.of("x"), "two", List.of("1", "2")),
        (lane + ":" + number).getBytes(StandardCharsets.UTF_8),
        lane);
  }

  @Override
  public CompletableFuture<Outcome> send(EncodedEvent event) {
    sent.incrementAndGet();
    CompletableFuture<Outcome> outcome = new CompletableFuture<>();
    boolean lost = ThreadLocalRandom.current().nextInt(100) < percentLost;
    boolean beforeStoring = ThreadLocalRandom.current().nextBoolean();
    if (away || awayLanes.contains(event.lane()) || (lost && beforeStoring)) {
      return CompletableFuture.failedFuture(
          new PublishException(PublishException.Reason.AWAY, "timeout", null));
    }
    if (refusedLanes.contains(event.lane())) {
      return CompletableFuture.failedFuture(
          new PublishException(PublishException.Reason.REFUSED, "maximum payload exceeded", null));
    }
    synchronized (stored) {
      if (ids.add(event.id())) {
        stored.add(event);
      }
    }
    var unused = acknowledges.schedule(
        () -> {
          if (lost) {
            outcome.completeExceptionally(
                new PublishException(PublishException.Reason.AWAY, "timeout", null));
          } else {
            outcome.complete(Outcome.STORED);
          }
        },
        ThreadLocalRandom.current().nextInt(500),
        TimeUnit.MICROSECONDS);
    return outcome;
  }

  List<String> bodies(String lane) {
    return stored.stream()
        .filter(event -> event.lane().equals(lane))
        .map(event -> new String(event.body(), StandardCharsets.UTF_8))
        .toList();
  }

  /** What it has stored. */
  void forget() {
    synchronized (stored) {
      stored.clear();
      ids.clear();
    }
  }

  @Override
  public void close() {
    acknowledges.shutdownNow();
  }
}
