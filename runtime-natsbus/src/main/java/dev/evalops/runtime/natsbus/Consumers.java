package dev.evalops.runtime.natsbus;

import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** The running consumers of a bus, which end with it. Thread-safe. */
final class Consumers {
  private final Set<EventConsumer> running = ConcurrentHashMap.newKeySet();
  private volatile boolean closed;

  void add(EventConsumer consumer) {
    running.add(consumer);
    if (closed) {
      throw new IllegalStateException("the bus is closed");
    }
  }

  void remove(EventConsumer consumer) {
    running.remove(consumer);
  }

  /** Has their durables checked soon, without waiting for it. */
  void checkNow() {
    running.forEach(EventConsumer::checkNow);
  }

  /** Closes all at the same time. */
  void close() throws InterruptedException {
    closed = true;
    List<Thread> closing = running.stream()
        .map(consumer -> Thread.ofPlatform().daemon().name("natsbus-close").start(consumer::close))
        .toList();
    for (Thread each : closing) {
      each.join();
    }
  }
}
