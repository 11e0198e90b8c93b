package dev.evalops.runtime.natsbus;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import dev.evalops.runtime.natsbus.Delivery.Place;
import io.nats.client.Connection;
import io.nats.client.Message;
import io.nats.client.impl.AckType;
import io.nats.client.impl.NatsJetStreamMetaData;
import java.time.Duration;
import java.time.Instant;
import java.time.ZonedDateTime;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;
import java.util.function.LongSupplier;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.MDC;

/**
 * What a consumer has in hand: the events of one aggregate one after the other, others at the same time, each in a
 * thread. Thread-safe.
 */
final class Lanes {
  private static final Logger LOG = LoggerFactory.getLogger(EventConsumer.class);
  private static final String KEY_IN_BODY = "\"partitionkey\"";
  private static final int REMEMBERED = 10_000;
  private static final int MAX_HELD = 10_000;
  private static final int GIVEN_BACK = 5;
  private static final boolean VIRTUAL = Runtime.version().feature() >= 24;

  private final Connection connection;
  private final String durable;
  private final int concurrency;
  private final Function<Runnable, Thread> threads;
  private final Predicate<Delivery> handler;
  private final Acknowledgements acknowledgements;
  private final LongSupplier maxDeliveries;

  private final ReentrantLock lock = new ReentrantLock();
  private final Condition idle = lock.newCondition();
  private final Condition room = lock.newCondition();
  // All guarded by the lock.
  private final Map<Place, Delivery> held = new HashMap<>();
  private final Map<String, Deque<Delivery>> lanes = new HashMap<>();
  private final Deque<Delivery> ready = new ArrayDeque<>();
  private final Set<Thread> running = new HashSet<>();
  private final Set<Place> finished = Collections.newSetFromMap(remembered());
  private final Set<Place> failed = Collections.newSetFromMap(remembered());
  private final Map<Place, Tries> alone = remembered();
  private @Nullable Place suspect;
  private long survived;
  private boolean stopping;
  private boolean shortOfThreads;

  /** How often an event has failed while others were handled, and how many of these there were the last time. */
  private record Tries(int failures, long handled) {}

  /** A thread for a delivery. */
  private final class Beginning implements Runnable {
    private final Delivery delivery;
    private final AtomicBoolean begun = new AtomicBoolean();
    private final Thread thread;

    Beginning(Delivery delivery) {
      this.delivery = delivery;
      this.thread = threads.apply(this);
    }

    @Override
    public void run() {
      if (begun.compareAndSet(false, true)) {
        handle(delivery);
      }
    }
  }

  /**
   * None yet.
   *
   * @param handler handles a delivery, and tells whether it must not be handled again
   * @param acknowledgements those of the handler, which are sent when it has left
   * @param maxDeliveries as many as an event gets
   */
  Lanes(
      Connection connection,
      ConsumerSettings settings,
      Predicate<Delivery> handler,
      Acknowledgements acknowledgements,
      LongSupplier maxDeliveries) {
    this(
        connection,
        settings.durable,
        settings.concurrency,
        task -> (VIRTUAL ? Thread.ofVirtual() : Thread.ofPlatform().daemon())
            .name("natsbus-" + settings.durable)
            .unstarted(task),
        handler,
        acknowledgements,
        maxDeliveries);
  }

  /** With threads of one's own, which are not started yet. */
  Lanes(
      Connection connection,
      String durable,
      int concurrency,
      Function<Runnable, Thread> threads,
      Predicate<Delivery> handler,
      Acknowledgements acknowledgements,
      LongSupplier maxDeliveries) {
    this.connection = connection;
    this.durable = durable;
    this.concurrency = concurrency;
    this.threads = threads;
    this.handler = handler;
    this.acknowledgements = acknowledgements;
    this.maxDeliveries = maxDeliveries;
  }

  private static <V> Map<Place, V> remembered() {
    return new LinkedHashMap<>() {
      private static final long serialVersionUID = 1L;

      @Override
      protected boolean removeEldestEntry(Map.Entry<Place, V> eldest) {
        return size() > REMEMBERED;
      }
    };
  }

  /** Called by one thread of the client, for one message at a time. */
  void received(Message message) {
    if (message.isStatusMessage()) {
      if (message.getReplyTo() != null) { // flow control, which asks for an answer
        connection.publish(message.getReplyTo(), null);
      }
      return;
    }
    if (!message.isJetStream()) {
      return;
    }
    NatsJetStreamMetaData meta = message.metaData();
    Place place = new Place(meta.streamSequence(), meta.timestamp().toInstant());
    boolean startable;
    lock.lock();
    try {
      Delivery known = held.get(place);
      if (known != null) {
        // The server has lost patience, or its memory: the message is in hand, here is its new
        // name.
        known.message = message;
        return;
      }
      if (finished.contains(place)) {
        Delivery.answer(connection, message, AckType.AckAck.bytes, "consumer ack failed");
        return;
      }
      // The server holds back itself, unless the durable says that it must not.
      while (held.size() >= MAX_HELD && !stopping) {
        room.awaitUninterruptibly();
      }
      if (stopping) {
        Delivery.answer(connection, message, AckType.AckNak.bytes, "consumer nak failed");
        return;
      }
      Delivery delivery =
          new Delivery(place, lane(message), isSuspect(place, meta.deliveredCount()), message);
      held.put(place, delivery);
      if (delivery.lane == null) {
        ready.add(delivery);
      } else {
        Deque<Delivery> waiting = lanes.get(delivery.lane);
        if (waiting == null) {
          lanes.put(delivery.lane, new ArrayDeque<>(2));
          ready.add(delivery);
        } else {
          waiting.add(delivery);
        }
      }
      startable = startable();
    } finally {
      lock.unlock();
    }
    if (startable) {
      startReady();
    }
  }

  /**
   * Tells the event that processes die of, which comes first, from those that were given back or were only in hand
   * then: these have as many deliveries. One in the life of a consumer, so that a service which cannot start for other
   * reasons keeps its events.
   */
  private boolean isSuspect(Place place, long deliveries) {
    if (suspect == null && deliveries > survived + 2 * maxDeliveries.getAsLong() + GIVEN_BACK) {
      suspect = place;
    }
    return place.equals(suspect);
  }

  private static @Nullable String lane(Message message) {
    String written = message.hasHeaders() ? message.getHeaders().getFirst("ce-partitionkey") : null;
    boolean plain = written == null ? !hasKeyInBody(message) : written.indexOf('%') < 0;
    String key = plain ? written : aggregateId(message).orElse(written);
    String subject = message.getSubject();
    // The subject without the operation.
    return key == null ? null : subject.substring(0, subject.lastIndexOf('.') + 1) + " " + key;
  }

  /** Other publishers may write the key into the JSON alone. */
  private static boolean hasKeyInBody(Message message) {
    byte[] body = message.getData();
    return body != null && new String(body, ISO_8859_1).contains(KEY_IN_BODY);
  }

  private static Optional<String> aggregateId(Message message) {
    try {
      return NatsBus.read(message).aggregateId();
    } catch (RuntimeException | StackOverflowError noEvent) { // it is dead-lettered
      return Optional.empty();
    }
  }

  private boolean startable() {
    return !stopping && running.size() < concurrency && !ready.isEmpty();
  }

  /** Starts threads for what is ready. Call it without the lock, for which a thread that runs at once would wait. */
  void startReady() {
    Beginning next = next(false);
    while (next != null) {
      next = start(next) ? next(true) : null;
    }
  }

  /** Returns what can be started; null if there is nothing, or no thread for it. */
  private @Nullable Beginning next(boolean started) {
    lock.lock();
    try {
      if (started) {
        logStart(null);
      }
      if (!startable()) {
        return null;
      }
      Delivery delivery = ready.remove();
      try {
        Beginning next = new Beginning(delivery);
        running.add(next.thread);
        return next;
      } catch (Throwable failure) { // such as no memory for it
        ready.addFirst(delivery);
        logStart(failure);
        return null;
      }
    } finally {
      lock.unlock();
    }
  }

  private boolean start(Beginning next) {
    try {
      next.thread.start();
      return true;
    } catch (Throwable failure) {
      // A virtual thread may run all the same.
      if (!next.begun.compareAndSet(false, true)) {
        return true;
      }
      lock.lock();
      try {
        ready.addFirst(next.delivery);
        ended(next.thread);
        logStart(failure);
      } finally {
        lock.unlock();
      }
      return false;
    }
  }

  private void ended(Thread thread) {
    running.remove(thread);
    if (running.isEmpty()) {
      idle.signalAll();
    }
  }

  /** Logs a start that failed, if the one before had not, and one that is good again. */
  private void logStart(@Nullable Throwable failure) {
    if (shortOfThreads == (failure != null)) {
      return;
    }
    shortOfThreads = failure != null;
    try {
      if (failure == null) {
        LOG.atInfo().addKeyValue("durable", durable).log("consumer threads start again");
      } else {
        LOG.atError()
            .setCause(failure)
            .addKeyValue("durable", durable)
            .log("consumer thread could not be started; will retry");
      }
    } catch (Throwable unlogged) {
      // Such as no memory: what is ready must be kept all the same.
    }
  }

  /** Handles a delivery, and then what is ready meanwhile: most events find a thread that runs already. */
  private void handle(Delivery first) {
    Delivery delivery = first;
    while (delivery != null) {
      boolean done = false;
      try {
        done = handler.test(delivery);
      } catch (Throwable failure) { // whatever it is, the thread lives, and the message comes again
        report(delivery, failure);
      }
      // A handler finds both as in a thread of its own.
      MDC.clear();
      Thread.interrupted();
      delivery = leave(delivery, done);
    }
  }

  private void report(Delivery delivery, Throwable failure) {
    try {
      LOG.atError()
          .setCause(failure)
          .addKeyValue("subject", delivery.message.getSubject())
          .addKeyValue("durable", durable)
          .log("consumer handler failed");
    } catch (Throwable unlogged) {
      // Such as no memory: the lane must be left all the same.
    }
  }

  /** Returns what this thread handles next; none if it ends. */
  private @Nullable Delivery leave(Delivery delivery, boolean done) {
    Delivery mine;
    boolean startable;
    int inHand;
    lock.lock();
    try {
      release(delivery);
      if (done) {
        finished.add(delivery.place);
      }
      Deque<Delivery> waiting = delivery.lane == null ? null : lanes.get(delivery.lane);
      if (waiting != null) {
        Delivery next = waiting.poll();
        if (next == null) {
          lanes.remove(delivery.lane);
        } else {
          ready.add(next);
        }
      }
      mine = stopping ? null : ready.poll();
      if (mine == null) {
        ended(Thread.currentThread());
      }
      startable = startable();
      inHand = held.size();
    } finally {
      lock.unlock();
    }
    acknowledgements.sendSoon(inHand);
    if (startable) {
      startReady();
    }
    return mine;
  }

  /** Lets go of it: it may be here again at once. */
  void release(Delivery delivery) {
    lock.lock();
    try {
      held.remove(delivery.place, delivery);
      room.signalAll();
    } finally {
      lock.unlock();
    }
  }

  /** Remembers that an event has failed here; returns whether it had before. */
  boolean failedBefore(Place place) {
    lock.lock();
    try {
      return !failed.add(place);
    } finally {
      lock.unlock();
    }
  }

  /**
   * Remembers that an event has failed because a dependency was away, and that no process died of it.
   *
   * @param handled how many events were handled so far
   * @return how often it has failed so after others were handled, for which the dependency was there
   */
  int failedAlone(Place place, long deliveries, long handled) {
    lock.lock();
    try {
      survived = Math.max(survived, deliveries);
      Tries before = alone.getOrDefault(place, new Tries(0, handled));
      int failures = before.failures + (handled > before.handled ? 1 : 0);
      alone.put(place, new Tries(failures, handled));
      return failures;
    } finally {
      lock.unlock();
    }
  }

  /** What is in hand of a stream that is gone is not acknowledged: it would be another event that is. */
  void lose(ZonedDateTime streamCreated) {
    Instant created = streamCreated.toInstant();
    held().forEach(delivery -> delivery.lose(created));
    acknowledgements.lose(created); // after what is in hand, from where they come
  }

  List<Delivery> held() {
    lock.lock();
    try {
      return new ArrayList<>(held.values());
    } finally {
      lock.unlock();
    }
  }

  int size() {
    lock.lock();
    try {
      return held.size();
    } finally {
      lock.unlock();
    }
  }

  boolean isStopping() {
    lock.lock();
    try {
      return stopping;
    } finally {
      lock.unlock();
    }
  }

  /** Takes nothing more: what comes is given back. */
  void stop() {
    lock.lock();
    try {
      stopping = true;
      room.signalAll();
    } finally {
      lock.unlock();
    }
  }

  /** Gives back what no handler has begun. */
  void giveBack() {
    List<Delivery> unstarted = new ArrayList<>();
    lock.lock();
    try {
      unstarted.addAll(ready);
      lanes.values().forEach(unstarted::addAll);
      ready.clear();
      lanes.clear();
      unstarted.forEach(delivery -> held.remove(delivery.place));
    } finally {
      lock.unlock();
    }
    for (Delivery delivery : unstarted) {
      if (!delivery.answer(connection, AckType.AckNak.bytes, "consumer nak failed")) {
        return; // The client waits for room with each.
      }
    }
  }

  boolean awaitIdle(Duration bound) throws InterruptedException {
    long left = bound.toNanos();
    lock.lock();
    try {
      while (!running.isEmpty()) {
        if (left <= 0) {
          return false;
        }
        left = idle.awaitNanos(left);
      }
      return true;
    } finally {
      lock.unlock();
    }
  }

  void interruptHandlers() {
    lock.lock();
    try {
      running.forEach(Thread::interrupt);
    } finally {
      lock.unlock();
    }
  }
}
