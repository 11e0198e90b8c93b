package dev.evalops.runtime.natsbus;

import io.nats.client.Connection;
import io.nats.client.impl.AckType;
import java.time.Instant;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

/**
 * The acknowledgements of a consumer. While other events are in hand they are sent together after a millisecond, so
 * that the client writes many at a time: each write costs this process and the server more than an event does.
 * Thread-safe.
 */
final class Acknowledgements {
  private static final long PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(1);

  private final Connection connection;
  private final Queue<Delivery> waiting = new ConcurrentLinkedQueue<>();
  private final ReentrantLock sending = new ReentrantLock();
  private final Thread thread;
  private volatile boolean idle;
  private volatile boolean closed;

  Acknowledgements(Connection connection, String durable) {
    this.connection = connection;
    this.thread =
        Thread.ofPlatform().daemon().name("natsbus-acks-" + durable).unstarted(this::keepSending);
  }

  void start() {
    thread.start();
  }

  /** Takes it; {@link #send} or {@link #sendSoon} must follow. */
  void add(Delivery delivery) {
    waiting.add(delivery);
  }

  /** Sends what is there. When it returns the client has all that was added before. */
  void send() {
    if (waiting.isEmpty() && !sending.isLocked()) {
      return;
    }
    sending.lock();
    try {
      Delivery delivery = waiting.poll();
      while (delivery != null) {
        if (!send(delivery) && closed) {
          waiting.clear(); // The client waits for room with each, and closing must end.
        }
        delivery = waiting.poll();
      }
    } finally {
      sending.unlock();
    }
  }

  private boolean send(Delivery delivery) {
    try {
      return delivery.answer(connection, AckType.AckAck.bytes, "consumer ack failed");
    } catch (
        Throwable failure) { // such as no memory: the event comes again, and is acknowledged then
      return true;
    }
  }

  /** Has it sent within a millisecond, unless the client is slow to take it. */
  void sendSoon() {
    if (closed) {
      send();
    } else if (idle && !waiting.isEmpty()) {
      idle = false;
      LockSupport.unpark(thread);
    }
  }

  /** Those of a stream that is gone are not sent. */
  void lose(Instant streamCreated) {
    waiting.forEach(delivery -> delivery.lose(streamCreated));
  }

  /** Sends what is there; what is added later is sent at once. */
  void close() {
    closed = true;
    LockSupport.unpark(thread);
    send();
  }

  private void keepSending() {
    while (!closed) {
      idle = true;
      if (waiting.isEmpty() && !closed) {
        LockSupport.park(this);
      }
      idle = false;
      LockSupport.parkNanos(this, PAUSE_NANOS);
      send();
    }
  }
}
