package dev.evalops.runtime.natsbus;

import io.nats.client.Connection;
import io.nats.client.impl.AckType;
import java.time.Instant;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;

/**
 * The acknowledgements of a consumer. While other events are in hand they are sent together after a millisecond, so
 * that the client writes many at a time: each write costs this process and the server more than an event does.
 * Thread-safe.
 */
final class Acknowledgements {
  private static final long PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(1);
  private static final int FEW = 256; // about as many as are handled in the pause

  private final Connection connection;
  private final LongSupplier maxPending;
  private final Queue<Delivery> waiting = new ConcurrentLinkedQueue<>();
  private final ReentrantLock sending = new ReentrantLock();
  private final Thread thread;
  private volatile boolean idle;
  private volatile boolean closed;

  /**
   * None yet.
   *
   * @param maxPending as many as the server leaves unacknowledged
   */
  Acknowledgements(Connection connection, String durable, LongSupplier maxPending) {
    this.connection = connection;
    this.maxPending = maxPending;
    this.thread =
        Thread.ofPlatform().daemon().name("natsbus-acks-" + durable).unstarted(this::keepSending);
  }

  void start() {
    thread.start();
  }

  /** Takes it; {@link #sendSoon} must follow. */
  void add(Delivery delivery) {
    waiting.add(delivery);
  }

  /**
   * Has them sent within a millisecond, unless the client is slow to take them; at once if no event is in hand, or the
   * server gives so few at a time that it would wait for them.
   */
  void sendSoon(int inHand) {
    if (closed || inHand == 0 || maxPending.getAsLong() < FEW) {
      send();
    } else if (idle && !waiting.isEmpty()) {
      idle = false;
      LockSupport.unpark(thread);
    }
  }

  /** When it returns the client has all that was added before. */
  private void send() {
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
    } catch (Throwable failure) {
      // Such as no memory: the event comes again, and is acknowledged then.
      return true;
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
