package dev.evalops.runtime.natsbus;

import static java.util.Objects.requireNonNull;

import io.nats.client.Connection;
import io.nats.client.Dispatcher;
import io.nats.client.JetStreamApiException;
import io.nats.client.JetStreamManagement;
import io.nats.client.Message;
import io.nats.client.Options;
import io.nats.client.api.AckPolicy;
import io.nats.client.api.ConsumerConfiguration;
import io.nats.client.api.ConsumerInfo;
import io.nats.client.api.DeliverPolicy;
import io.nats.client.api.PublishAck;
import io.nats.client.api.StreamConfiguration;
import io.nats.client.api.StreamInfo;
import io.nats.client.impl.AckType;
import io.nats.client.impl.Headers;
import io.nats.client.impl.NatsJetStreamMetaData;
import java.io.IOException;
import java.time.Duration;
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
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A running consumer: a durable queue subscription whose handler sees each event at least once. An event is acknowledged when the
 * handler returns, and delivered again, after a delay that grows, when it throws anything. After the last delivery it goes to the
 * dead-letter subject, with its headers and the reason, and without its body where both together are more than the server takes. What
 * cannot be read goes there at once.
 *
 * <p>While an event is here the server is told so: a handler may take longer than the acknowledgement wait.
 *
 * <p>Handlers run at the same time, up to a limit; those of the same {@link Event#partitionKey()} one after the other, in the order of
 * the stream. An event that is delivered again comes after others that were published later, and the processes that share a durable do
 * not wait for each other: where the order matters, look at {@link Event#version()}.
 *
 * <p>A durable that somebody deletes, or that the server has lost, is made again within seconds, from behind the last event that is known
 * to be acknowledged; where its stream is a new one, from the first event.
 *
 * <p>Thread-safe.
 */
public final class EventConsumer implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(EventConsumer.class);
  private static final int CONSUMER_NOT_FOUND = 10_014;
  private static final int REMEMBERED = 10_000;
  private static final int MOST_HELD = 10_000;
  private static final int GIVEN_BACK = 5;
  private static final Duration CHECK_EVERY = Duration.ofSeconds(10);
  private static final Duration RETRY_CHECK = Duration.ofSeconds(1);
  private static final Duration SUBSCRIBE_TIMEOUT = Duration.ofSeconds(5);
  private static final Duration AFTER_INTERRUPT = Duration.ofSeconds(1);
  private static final Duration DEAD_LETTER_BOUND = Duration.ofSeconds(5);
  private static final int MAX_REASON = 1000;
  private static final int MAX_HEADERS = 65_535; // of JetStream
  private static final byte[] NOTHING = {};
  private static final boolean VIRTUAL = Runtime.version().feature() >= 24;

  private final NatsBus bus;
  private final Connection connection;
  private final Builder settings;
  private final Handler handler;
  private final AtomicBoolean closed = new AtomicBoolean();

  private final ReentrantLock lock = new ReentrantLock();
  private final Condition idle = lock.newCondition();
  private final Condition room = lock.newCondition();
  // All guarded by the lock.
  private final Map<Place, Delivery> held = new HashMap<>();
  private final Map<String, Deque<Delivery>> lanes = new HashMap<>();
  private final Deque<Delivery> ready = new ArrayDeque<>();
  private final Set<Thread> running = new HashSet<>();
  private final Set<Place> finished = remembered();
  private final Set<Place> failed = remembered();
  private @Nullable Place suspect;
  private @Nullable StreamPosition position;
  private @Nullable ZonedDateTime durableCreated;
  private boolean stopping;
  private @Nullable Dispatcher dispatcher;
  private @Nullable String deliverSubject;
  private Duration ackWait;
  private long maxDeliveries;
  private long serverMaxDeliveries = Long.MAX_VALUE;
  private @Nullable Thread keeper;
  private final Semaphore checks = new Semaphore(0);

  /** What a service does with an event. */
  @FunctionalInterface
  public interface Handler {
    /**
     * Handles an event. It is acknowledged when this returns, and delivered again later when it throws.
     *
     * @param event the event, perhaps one that was seen before
     * @throws Exception anything, for another try
     */
    void handle(Event event) throws Exception;
  }

  /** Where a message is in the stream; the time tells it from one in a stream that was made anew. */
  private record Place(long sequence, ZonedDateTime time) {}

  private static final class Delivery {
    final Place place;
    final @Nullable String lane;
    final boolean suspect;
    volatile Message message; // the newest, whose acknowledgement counts
    volatile boolean lost; // its stream is gone, and its acknowledgement would be that of another

    Delivery(Place place, @Nullable String lane, boolean suspect, Message message) {
      this.place = place;
      this.lane = lane;
      this.suspect = suspect;
      this.message = message;
    }
  }

  private static Set<Place> remembered() {
    return Collections.newSetFromMap(new LinkedHashMap<>() {
      private static final long serialVersionUID = 1L;

      @Override
      protected boolean removeEldestEntry(Map.Entry<Place, Boolean> eldest) {
        return size() > REMEMBERED;
      }
    });
  }

  private EventConsumer(Builder settings, Handler handler) {
    this.bus = settings.bus;
    this.connection = settings.bus.connection();
    this.settings = settings;
    this.handler = handler;
    this.ackWait = settings.ackWait;
    this.maxDeliveries = settings.maxDeliveries;
  }

  private void start() throws IOException, JetStreamApiException {
    prepareDeadLetters();
    attach();
    Thread thread = Thread.ofPlatform()
        .daemon()
        .name("natsbus-keeper-" + settings.durable)
        .unstarted(this::keep);
    keeper = thread;
    thread.start();
    bus.started(this);
  }

  private StreamConfiguration deadLetterStream() {
    return Streams.standard(settings.stream + "_DEAD", Subjects.filter("dead." + settings.stream))
        .maxAge(Duration.ofDays(30))
        .build();
  }

  private void prepareDeadLetters() throws IOException, JetStreamApiException {
    JetStreamManagement management = connection.jetStreamManagement();
    if (settings.deadLetterSubject == null) {
      Streams.ensure(management, deadLetterStream());
    } else if (management.getStreamNames(settings.deadLetterSubject).isEmpty()) {
      throw new IOException(
          "no stream takes the dead-letter subject " + settings.deadLetterSubject);
    }
  }

  private String deadLetterSubject() {
    return settings.deadLetterSubject == null
        ? "dead." + settings.stream + "." + settings.durable
        : settings.deadLetterSubject;
  }

  /** Makes the durable if it is not there, and listens to it. */
  private void attach() throws IOException, JetStreamApiException {
    JetStreamManagement management = connection.jetStreamManagement();
    ConsumerInfo info = find(management);
    if (info == null) {
      info = create(management);
    }
    locate(management, info);
    ConsumerConfiguration found = info.getConsumerConfiguration();
    String subject = check(found);
    lock.lock();
    try {
      if (found.getAckWait() != null && found.getAckWait().isPositive()) {
        ackWait = found.getAckWait();
      }
      maxDeliveries = maxDeliveries(found);
      if (subject.equals(deliverSubject) || stopping) {
        return;
      }
      // The handler is the dispatcher's: one that is given to subscribe() misses what comes at
      // once.
      Dispatcher current =
          dispatcher == null ? connection.createDispatcher(this::received) : dispatcher;
      if (deliverSubject != null) {
        current.unsubscribe(deliverSubject);
      }
      dispatcher = current;
      deliverSubject = subject;
    } finally {
      lock.unlock();
    }
    subscribe(subject);
  }

  private @Nullable ConsumerInfo find(JetStreamManagement management)
      throws IOException, JetStreamApiException {
    try {
      return management.getConsumerInfo(settings.stream, settings.durable);
    } catch (JetStreamApiException failure) {
      if (failure.getApiErrorCode() != CONSUMER_NOT_FOUND) {
        throw failure;
      }
      return null;
    }
  }

  private ConsumerInfo create(JetStreamManagement management)
      throws IOException, JetStreamApiException {
    ConsumerConfiguration.Builder wanted = settings.configuration(connection.getOptions());
    StreamPosition before = position();
    boolean sameStream = false;
    long next = 1;
    if (before != null) {
      StreamInfo stream = management.getStreamInfo(settings.stream);
      sameStream = before.isOf(stream.getCreateTime(), stream.getStreamState().getLastSequence());
      if (sameStream) {
        next = before.next();
        wanted.deliverPolicy(DeliverPolicy.ByStartSequence).startSequence(next);
      } else {
        wanted.deliverPolicy(DeliverPolicy.All);
        loseOlderThan(stream); // before anything of the new one can be here
      }
    }
    ConsumerInfo made;
    try {
      made = management.addOrUpdateConsumer(settings.stream, wanted.build());
    } catch (JetStreamApiException failure) {
      ConsumerInfo others = find(management); // made by another process meanwhile
      if (others == null) {
        throw failure;
      }
      return others;
    }
    if (before != null) {
      LOG.atWarn()
          .addKeyValue("stream", settings.stream)
          .addKeyValue("durable", settings.durable)
          .addKeyValue("from_sequence", next)
          .log(
              sameStream
                  ? "durable was deleted; created again where this process was"
                  : "stream was created anew; durable created again, from the first event");
    }
    return made;
  }

  /** Learns where the durable is, and whether it or its stream are others than before. */
  private void locate(JetStreamManagement management, ConsumerInfo info)
      throws IOException, JetStreamApiException {
    long floor = info.getNumAckPending() == 0
        ? info.getDelivered().getStreamSequence() // of a new one there is no floor
        : info.getAckFloor().getStreamSequence();
    lock.lock();
    try {
      if (position != null && info.getCreationTime().equals(durableCreated)) {
        position = position.at(floor);
        return;
      }
    } finally {
      lock.unlock();
    }
    StreamInfo stream = management.getStreamInfo(settings.stream);
    lock.lock();
    try {
      durableCreated = info.getCreationTime();
      if (position != null
          && !position.isOf(stream.getCreateTime(), stream.getStreamState().getLastSequence())) {
        loseOlderThan(stream);
      }
      position = new StreamPosition(stream.getCreateTime(), floor);
    } finally {
      lock.unlock();
    }
  }

  /** What is in hand of a stream that is gone is not acknowledged: it would be another event that is. */
  private void loseOlderThan(StreamInfo stream) {
    lock.lock();
    try {
      for (Delivery delivery : held.values()) {
        delivery.lost |= delivery.place.time().isBefore(stream.getCreateTime());
      }
    } finally {
      lock.unlock();
    }
  }

  private @Nullable StreamPosition position() {
    lock.lock();
    try {
      return position;
    } finally {
      lock.unlock();
    }
  }

  /** The server says that a subscription is not allowed before it answers a ping that was sent after it, and never says more. */
  private void subscribe(String subject) throws IOException {
    String refused = "Permissions Violation for Subscription to \"" + subject + '"';
    if (String.valueOf(connection.getLastError()).contains(refused)) {
      connection.clearLastError(); // of another attempt
    }
    boolean confirmed = false;
    try {
      requireNonNull(dispatcher).subscribe(subject, settings.queue);
      connection.flush(SUBSCRIBE_TIMEOUT);
      String error = String.valueOf(connection.getLastError());
      if (error.contains(refused)) {
        throw new IOException(error);
      }
      confirmed = true;
    } catch (TimeoutException | IllegalStateException late) {
      if (connection.getStatus() == Connection.Status.CONNECTED) {
        throw new IOException("the server does not answer", late);
      }
      confirmed = true; // the client subscribes anew when it is connected again
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", interrupted);
    } finally {
      if (!confirmed) {
        forgetSubscription(subject);
      }
    }
  }

  private void forgetSubscription(String subject) {
    Dispatcher current;
    lock.lock();
    try {
      deliverSubject = null;
      current = dispatcher;
    } finally {
      lock.unlock();
    }
    if (current != null && current.isActive()) {
      current.unsubscribe(subject);
    }
  }

  /** The server knows no dead letters, and drops what it has delivered as often as it may. */
  private long maxDeliveries(ConsumerConfiguration found) {
    long server = found.getMaxDeliver();
    serverMaxDeliveries = server < 1 ? Long.MAX_VALUE : server;
    if (server < 1 || server > settings.maxDeliveries) {
      return settings.maxDeliveries;
    }
    if (deliverSubject == null) {
      LOG.atWarn()
          .addKeyValue("durable", settings.durable)
          .addKeyValue("max_deliver", server)
          .log("the server stops delivering an event before the consumer does: one whose process"
              + " dies the last time is lost");
    }
    return server;
  }

  /** Returns what it delivers to. */
  private String check(ConsumerConfiguration found) throws IOException {
    String durable = "the durable " + settings.durable + " is there, ";
    String subject = found.getDeliverSubject();
    if (subject == null) {
      throw new IOException(durable + "but one that is pulled");
    }
    if (!settings.queue.equals(found.getDeliverGroup())) {
      throw new IOException(durable + "but for the queue " + found.getDeliverGroup());
    }
    if (!settings.subject.equals(found.getFilterSubject())) {
      throw new IOException(durable + "but for the subject " + found.getFilterSubject());
    }
    if (found.getAckPolicy() != AckPolicy.Explicit) {
      throw new IOException(durable + "but without explicit acknowledgements");
    }
    return subject;
  }

  /** Called by one thread of the client, for one message at a time. */
  private void received(Message message) {
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
    Place place = new Place(meta.streamSequence(), meta.timestamp());
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
        answer(message, AckType.AckAck.bytes, "consumer ack failed");
        return;
      }
      // The server holds back itself, unless the durable says that it must not.
      while (held.size() >= MOST_HELD && !stopping) {
        room.awaitUninterruptibly();
      }
      if (stopping) {
        answer(message, AckType.AckNak.bytes, "consumer nak failed");
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
      runReady();
    } finally {
      lock.unlock();
    }
  }

  /**
   * Tells the event that processes die of, which comes first, from those that were given back or were only in hand then: these have as
   * many deliveries. One in the life of a consumer, so that a service which cannot start for other reasons keeps its events.
   */
  private boolean isSuspect(Place place, long deliveries) {
    if (suspect == null && deliveries > 2 * maxDeliveries + GIVEN_BACK) {
      suspect = place;
    }
    return place.equals(suspect);
  }

  private static @Nullable String lane(Message message) {
    String key = message.hasHeaders() ? message.getHeaders().getFirst("ce-partitionkey") : null;
    return key == null ? null : Encoder.lane(Subjects.aggregateType(message.getSubject()), key);
  }

  private void runReady() {
    while (!stopping && running.size() < settings.concurrency && !ready.isEmpty()) {
      Delivery delivery = ready.remove();
      Thread thread = (VIRTUAL ? Thread.ofVirtual() : Thread.ofPlatform().daemon())
          .name("natsbus-" + settings.durable)
          .unstarted(() -> run(delivery));
      running.add(thread);
      thread.start();
    }
  }

  private void run(Delivery delivery) {
    boolean done = false;
    try {
      done = handled(delivery);
    } catch (Throwable failure) { // whatever it is, the loop goes on, and the message comes again
      LOG.atError()
          .setCause(failure)
          .addKeyValue("subject", delivery.message.getSubject())
          .addKeyValue("durable", settings.durable)
          .log("consumer handler failed");
    } finally {
      leave(delivery, done);
    }
  }

  private void leave(Delivery delivery, boolean done) {
    lock.lock();
    try {
      letGo(delivery);
      if (done) {
        finished.add(delivery.place);
      }
      running.remove(Thread.currentThread());
      Deque<Delivery> waiting = delivery.lane == null ? null : lanes.get(delivery.lane);
      if (waiting != null) {
        Delivery next = waiting.poll();
        if (next == null) {
          lanes.remove(delivery.lane);
        } else {
          ready.add(next);
        }
      }
      runReady();
      if (running.isEmpty()) {
        idle.signalAll();
      }
    } finally {
      lock.unlock();
    }
  }

  /** Handles a message, and tells the server; true if the message must not be handled again. */
  private boolean handled(Delivery delivery) {
    long deliveries = delivery.message.metaData().deliveredCount();
    Event event;
    try {
      event = settings.reader.apply(delivery.message);
    } catch (IllegalArgumentException malformed) {
      return deadLetter(delivery, deliveries, "malformed event: " + malformed.getMessage());
    } catch (RuntimeException | StackOverflowError unreadable) {
      // A defect here or in a library, which would be met at every delivery.
      LOG.atError()
          .setCause(unreadable)
          .addKeyValue("subject", delivery.message.getSubject())
          .addKeyValue("durable", settings.durable)
          .log("event could not be read");
      return deadLetter(delivery, deliveries, "malformed event: " + unreadable);
    }
    if (delivery.suspect) {
      return deadLetter(delivery, deliveries, "delivered too often without an end");
    }
    Telemetry telemetry = bus.telemetry();
    Telemetry.Running span = telemetry == null
        ? null
        : telemetry.process(event, delivery.message.getSubject(), settings.queue);
    Throwable failure = null;
    try {
      handler.handle(event);
    } catch (Throwable thrown) {
      failure = thrown;
    } finally {
      if (span != null) {
        span.end(failure);
      }
    }
    // An interrupt that a handler leaves behind must not reach the client's calls below.
    boolean interrupted = Thread.interrupted() || failure instanceof InterruptedException;
    if (failure == null) {
      return answer(delivery, AckType.AckAck.bytes, "consumer ack failed");
    }
    LOG.atWarn()
        .setCause(failure)
        .addKeyValue("subject", delivery.message.getSubject())
        .addKeyValue("durable", settings.durable)
        .addKeyValue("error", failure.toString())
        .addKeyValue("delivery", deliveries)
        .log("consumer handler failed");
    if (interrupted && isStopping()) {
      nak(delivery, Duration.ZERO);
      return false;
    }
    if (isLast(delivery.place, deliveries)) {
      return deadLetter(delivery, deliveries, failure.toString());
    }
    nak(delivery, delay(deliveries));
    return false;
  }

  /** The server counts what was given back, too, and tells nobody why: the first failure here is not the end of it. */
  private boolean isLast(Place place, long deliveries) {
    lock.lock();
    try {
      boolean again = deliveries >= maxDeliveries - 1 && !failed.add(place);
      return deliveries >= serverMaxDeliveries
          || (deliveries >= maxDeliveries && (again || maxDeliveries == 1));
    } finally {
      lock.unlock();
    }
  }

  private boolean isStopping() {
    lock.lock();
    try {
      return stopping;
    } finally {
      lock.unlock();
    }
  }

  /** Doubles from delivery to delivery, less up to a fifth. */
  private Duration delay(long deliveries) {
    Duration delay = settings.firstDelay;
    for (long i = 1; i < deliveries && i < 60 && delay.compareTo(settings.maxDelay) < 0; i++) {
      delay = delay.multipliedBy(2);
    }
    long nanos = (delay.compareTo(settings.maxDelay) < 0 ? delay : settings.maxDelay).toNanos();
    return Duration.ofNanos(nanos - ThreadLocalRandom.current().nextLong(nanos / 5 + 1));
  }

  /** Lets go of it first: it may be here again before this returns. */
  private void nak(Delivery delivery, Duration delay) {
    letGo(delivery);
    answer(delivery, AckType.AckNak.bodyBytes(delay.toNanos()), "consumer nak failed");
  }

  private void letGo(Delivery delivery) {
    lock.lock();
    try {
      held.remove(delivery.place, delivery);
      room.signalAll();
    } finally {
      lock.unlock();
    }
  }

  private boolean answer(Delivery delivery, byte[] answer, String failed) {
    return delivery.lost || answer(delivery.message, answer, failed);
  }

  private boolean answer(Message message, byte[] answer, String failed) {
    try {
      connection.publish(message.getReplyTo(), answer);
      return true;
    } catch (RuntimeException failure) {
      LOG.atWarn()
          .addKeyValue("subject", message.getSubject())
          .addKeyValue("durable", settings.durable)
          .addKeyValue("error", Secrets.hide(failure.getMessage()))
          .log(failed);
      // It was handled all the same: when it comes again it is only acknowledged.
      return true;
    }
  }

  private boolean deadLetter(Delivery delivery, long deliveries, String reason) {
    Message message = delivery.message;
    String subject = deadLetterSubject();
    Headers own = new Headers();
    if (HeaderGuard.reason(message.getHeaders()) != null) {
      own.put("dead-letter-raw-headers", HeaderGuard.raw(message.getHeaders()));
    } else if (message.hasHeaders()) {
      message.getHeaders().forEach((name, values) -> {
        if (!name.regionMatches(true, 0, "Nats-", 0, 5)) { // instructions to the server
          own.put(name, values);
        }
      });
    }
    Headers headers = new Headers();
    headers.put(
        Encoder.MESSAGE_ID,
        settings.stream + ":" + settings.durable + ":" + delivery.place.sequence() + ":"
            + delivery.place.time().toInstant());
    headers.put("dead-letter-reason", printable(reason));
    headers.put("dead-letter-subject", message.getSubject());
    headers.put("dead-letter-stream", settings.stream);
    headers.put("dead-letter-sequence", Long.toString(delivery.place.sequence()));
    headers.put("dead-letter-durable", settings.durable);
    headers.put("dead-letter-deliveries", Long.toString(deliveries));
    byte[] body = message.getData() == null ? new byte[0] : message.getData();
    try {
      NatsBus.await(sendDeadLetter(subject, headers, own, body), subject, DEAD_LETTER_BOUND);
    } catch (NatsBusException | IllegalArgumentException failure) {
      LOG.atError()
          .addKeyValue("subject", message.getSubject())
          .addKeyValue("durable", settings.durable)
          .addKeyValue("error", failure.getMessage())
          .log("event could not be dead-lettered and will be delivered again");
      nak(delivery, settings.maxDelay);
      return false;
    }
    LOG.atError()
        .addKeyValue("subject", message.getSubject())
        .addKeyValue("durable", settings.durable)
        .addKeyValue("sequence", delivery.place.sequence())
        .addKeyValue("dead_letter_subject", subject)
        .addKeyValue("reason", reason)
        .log("event dead-lettered");
    return answer(delivery, AckType.AckTerm.bytes, "consumer ack failed");
  }

  /** Without its body, or even its headers, if the server does not take as much with the new ones; the stream has them. */
  private CompletableFuture<PublishAck> sendDeadLetter(
      String subject, Headers headers, Headers own, byte[] body) {
    Headers all = new Headers();
    own.forEach(all::put);
    headers.forEach(all::put);
    byte[] sent = body;
    if (!bus.fits(all, body)) {
      headers.put("dead-letter-body-omitted", Integer.toString(body.length));
      all.put("dead-letter-body-omitted", Integer.toString(body.length));
      sent = NOTHING;
    }
    if (all.serializedLength() > MAX_HEADERS || !bus.fits(all, sent)) {
      headers.put("dead-letter-headers-omitted", Integer.toString(own.serializedLength()));
      all = headers;
    }
    return bus.send(subject, all, sent, null, DEAD_LETTER_BOUND);
  }

  private static String printable(String text) {
    String bounded = text.length() > MAX_REASON ? text.substring(0, MAX_REASON) : text;
    return bounded.replaceAll("\\s+", " ").replaceAll("[^ -~]", "?");
  }

  /** Tells the server that messages are in hand, and looks whether it still knows the durable. */
  private void keep() {
    Duration pause = CHECK_EVERY; // until the next look
    Duration retry = RETRY_CHECK;
    long checked = System.nanoTime();
    boolean told = false;
    while (!closed.get()) {
      try {
        Duration wait = shorter(progressInterval(), pause);
        boolean now = checks.tryAcquire(wait.toNanos(), TimeUnit.NANOSECONDS);
        checks.drainPermits();
        progress();
        if ((now || System.nanoTime() - checked >= pause.toNanos())
            && connection.getStatus() == Connection.Status.CONNECTED) {
          checked = System.nanoTime();
          pause = retry;
          retry = shorter(retry.multipliedBy(2), CHECK_EVERY);
          reattach();
          pause = CHECK_EVERY;
          retry = RETRY_CHECK;
          told = false;
        }
      } catch (InterruptedException closing) {
        return;
      } catch (Throwable failure) {
        (told ? LOG.atDebug() : LOG.atWarn())
            .addKeyValue("durable", settings.durable)
            .addKeyValue("error", Secrets.hide(failure.toString()))
            .log("consumer check failed; will retry");
        told = true;
      }
    }
  }

  private static Duration shorter(Duration a, Duration b) {
    return a.compareTo(b) < 0 ? a : b;
  }

  /** Looks whether the server still knows the durable, without waiting for it. */
  void checkNow() {
    checks.release();
  }

  void reattach() throws IOException, JetStreamApiException {
    String before = deliverSubject();
    if (settings.deadLetterSubject == null) {
      Streams.restore(connection.jetStreamManagement(), deadLetterStream());
    }
    attach();
    if (before != null && !before.equals(deliverSubject())) {
      LOG.atWarn().addKeyValue("durable", settings.durable).log("consumer subscribed anew");
    }
  }

  private @Nullable String deliverSubject() {
    lock.lock();
    try {
      return deliverSubject;
    } finally {
      lock.unlock();
    }
  }

  int held() {
    lock.lock();
    try {
      return held.size();
    } finally {
      lock.unlock();
    }
  }

  private Duration progressInterval() {
    lock.lock();
    try {
      return ackWait.dividedBy(3);
    } finally {
      lock.unlock();
    }
  }

  private void progress() {
    List<Delivery> all;
    lock.lock();
    try {
      all = new ArrayList<>(held.values());
    } finally {
      lock.unlock();
    }
    if (connection.getStatus() == Connection.Status.CONNECTED) {
      for (Delivery delivery : all) {
        answer(delivery, AckType.AckProgress.bytes, "consumer progress failed");
      }
    }
  }

  /**
   * Stops taking events, gives back those that no handler has begun, waits for the handlers (5 s, {@link Builder#drainTimeout}), then
   * interrupts them and waits another second. The server has their answers before this returns, if it can be reached. The durable stays.
   * A second call does nothing.
   */
  @Override
  public void close() {
    if (!closed.compareAndSet(false, true)) {
      return;
    }
    boolean interrupted = Thread.interrupted(); // else nothing would be waited for
    Dispatcher current;
    lock.lock();
    try {
      stopping = true;
      room.signalAll();
      current = dispatcher;
    } finally {
      lock.unlock();
    }
    try {
      drain(current);
      giveBack();
      if (!awaitIdle(settings.drainTimeout)) {
        interruptHandlers();
        awaitIdle(AFTER_INTERRUPT);
      }
      if (connection.getStatus() == Connection.Status.CONNECTED) {
        connection.flush(AFTER_INTERRUPT);
      }
    } catch (InterruptedException again) {
      interrupted = true;
      interruptHandlers();
    } catch (TimeoutException | IllegalStateException lost) {
      LOG.atWarn()
          .addKeyValue("durable", settings.durable)
          .addKeyValue("error", Secrets.hide(lost.getMessage()))
          .log("consumer closed without an answer of the server");
    } finally {
      Thread thread = keeper;
      if (thread != null) {
        thread.interrupt();
      }
      bus.stopped(this);
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /** Messages that are on their way still come to {@link #received}, which gives them back. */
  private static void drain(@Nullable Dispatcher current) throws InterruptedException {
    if (current == null || !current.isActive()) {
      return;
    }
    CompletableFuture<Boolean> drained = current.drain(AFTER_INTERRUPT);
    try {
      drained.get(AFTER_INTERRUPT.toMillis() * 2, TimeUnit.MILLISECONDS);
    } catch (ExecutionException | TimeoutException late) {
      LOG.atDebug().log("consumer subscription did not end in time");
    }
  }

  private void giveBack() {
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
      answer(delivery, AckType.AckNak.bytes, "consumer nak failed");
    }
  }

  private boolean awaitIdle(Duration bound) throws InterruptedException {
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

  private void interruptHandlers() {
    lock.lock();
    try {
      running.forEach(Thread::interrupt);
    } finally {
      lock.unlock();
    }
  }

  /** Names the durable. */
  @Override
  public String toString() {
    return "EventConsumer[" + settings.stream + " " + settings.durable + "]";
  }

  /** Describes a consumer. Not thread-safe. */
  public static final class Builder {
    private final NatsBus bus;
    private final String subject;
    private final String durable;
    private String stream;
    private String queue;
    private DeliverPolicy deliver = DeliverPolicy.New;
    private Duration ackWait = Duration.ofSeconds(30);
    private int concurrency = 16;
    private int maxDeliveries = 10;
    private Duration firstDelay = Duration.ofSeconds(1);
    private Duration maxDelay = Duration.ofMinutes(1);
    private Duration drainTimeout = Duration.ofSeconds(5);
    private @Nullable String deadLetterSubject;
    private Function<Message, Event> reader = Event::read;
    private final List<Consumer<? super ConsumerConfiguration.Builder>> configure =
        new ArrayList<>();

    Builder(NatsBus bus, String subject, String durable) {
      this.bus = bus;
      this.subject = requireNonNull(subject, "subject");
      this.durable = requireNonNull(durable, "durable");
      this.stream = bus.stream();
      this.queue = durable;
    }

    /**
     * Names the stream (that of the bus).
     *
     * @param name the stream of another service, which must be there
     * @return this
     */
    public Builder stream(String name) {
      this.stream = requireNonNull(name, "stream");
      return this;
    }

    /**
     * Names the queue group whose members share the events (the durable's name).
     *
     * @param name the name; the same in every process that uses the durable
     * @return this
     */
    public Builder queue(String name) {
      this.queue = requireNonNull(name, "queue");
      return this;
    }

    /**
     * Says where a durable begins that is not there yet: with what comes from now on (default), with all that the stream has, or with
     * the last event.
     *
     * @param policy {@code New}, {@code All} or {@code Last}
     * @return this
     */
    public Builder deliver(DeliverPolicy policy) {
      this.deliver = requireNonNull(policy, "deliver");
      return this;
    }

    /**
     * Says when the server delivers an event again of which it hears nothing, because its process is gone (30 s). That a handler is at
     * work is told to it three times in this time. It counts when the durable is made.
     *
     * @param wait more than zero
     * @return this
     */
    public Builder ackWait(Duration wait) {
      this.ackWait = requireNonNull(wait, "ackWait");
      return this;
    }

    /**
     * Limits how many handlers run at the same time (16); each has a thread, a virtual one on Java 24 and later.
     *
     * @param handlers one or more; one keeps the order of everything that is delivered for the first time
     * @return this
     */
    public Builder concurrency(int handlers) {
      this.concurrency = handlers;
      return this;
    }

    /**
     * Says how often an event is delivered before it goes to the dead-letter subject (10). The server counts each delivery, whatever
     * comes of it: also those to a consumer that closes before it has begun, or whose process dies. So an event that has come this often
     * is dead-lettered when its handler fails for the second time in this process (with 1, or where the durable's own {@code
     * max_deliver} is reached: the first time). One that has come more often than twice this number and five, as processes die of it,
     * is dead-lettered without being handled, at most one by each running consumer.
     *
     * @param deliveries one or more
     * @return this
     */
    public Builder maxDeliveries(int deliveries) {
      this.maxDeliveries = deliveries;
      return this;
    }

    /**
     * Says how long an event waits after its handler has thrown: the first time this long, then twice as long each time (1 s, up to 1
     * min; up to a fifth less at random).
     *
     * @param first zero or more
     * @param longest not less than the first
     * @return this
     */
    public Builder redeliveryDelay(Duration first, Duration longest) {
      this.firstDelay = requireNonNull(first, "redeliveryDelay");
      this.maxDelay = requireNonNull(longest, "redeliveryDelay");
      return this;
    }

    /**
     * Says where events go that nobody could handle ({@code dead.<stream>.<durable>}, in a stream {@code <stream>_DEAD} that is made
     * if it is not there and keeps them 30 days).
     *
     * @param subject a subject that a stream takes, and that this consumer does not listen to
     * @return this
     */
    public Builder deadLetterSubject(String subject) {
      this.deadLetterSubject = requireNonNull(subject, "deadLetterSubject");
      return this;
    }

    /**
     * Says how long closing waits for handlers before it interrupts them (5 s).
     *
     * @param timeout zero or more
     * @return this
     */
    public Builder drainTimeout(Duration timeout) {
      this.drainTimeout = requireNonNull(timeout, "drainTimeout");
      return this;
    }

    /**
     * Changes what the durable is made with where it is not there, such as {@code maxAckPending}, the number of events that all
     * processes together hold (1000, the server's default).
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configure(Consumer<? super ConsumerConfiguration.Builder> change) {
      configure.add(requireNonNull(change, "configure"));
      return this;
    }

    Builder reader(Function<Message, Event> reader) {
      this.reader = reader;
      return this;
    }

    private ConsumerConfiguration.Builder configuration(Options options) {
      ConsumerConfiguration.Builder configuration = ConsumerConfiguration.builder();
      configure.forEach(change -> change.accept(configuration));
      return configuration
          .durable(durable)
          // The same from every process, so that two that start at once make the same durable.
          .deliverSubject(options.getInboxPrefix() + stream + "." + durable)
          .deliverGroup(queue)
          .filterSubject(subject)
          .deliverPolicy(deliver)
          .ackPolicy(AckPolicy.Explicit)
          .ackWait(ackWait);
    }

    private void check(@Nullable Handler handler) {
      List<String> problems = new ArrayList<>();
      if (subject.isBlank()) {
        problems.add("consumer_subject_required");
      } else {
        Subjects.checkSubject("subject", subject, true, problems);
      }
      if (stream.isBlank()) {
        problems.add("consumer_stream_required");
      } else {
        Subjects.checkName("stream", stream, problems);
      }
      if (durable.isBlank()) {
        problems.add("consumer_durable_required");
      } else {
        Subjects.checkName("durable", durable, problems);
      }
      if (!durable.isBlank()) {
        Subjects.checkName("queue", queue, problems);
      }
      if (handler == null) {
        problems.add("consumer_handler_nil");
      }
      if (deliver != DeliverPolicy.New
          && deliver != DeliverPolicy.All
          && deliver != DeliverPolicy.Last) {
        problems.add("deliver must be New, All or Last");
      }
      if (ackWait.compareTo(Duration.ofMillis(100)) < 0) {
        problems.add("ackWait must be 100 ms or more");
      }
      if (concurrency < 1) {
        problems.add("concurrency must be one or more");
      }
      if (maxDeliveries < 1) {
        problems.add("maxDeliveries must be one or more");
      }
      if (firstDelay.isNegative() || maxDelay.compareTo(firstDelay) < 0) {
        problems.add("redeliveryDelay must not be negative, nor its longest less than its first");
      }
      if (drainTimeout.isNegative()) {
        problems.add("drainTimeout must not be negative");
      }
      if (deadLetterSubject != null) {
        Subjects.checkSubject("deadLetterSubject", deadLetterSubject, false, problems);
        if (Subjects.covers(subject, deadLetterSubject)) {
          problems.add("deadLetterSubject is one that this consumer listens to");
        }
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
    }

    /**
     * Starts the consumer. The durable is made if it is not there; one that is there is used as it is, if it is a queue subscription
     * for this subject and queue. It delivers to a subject under the inbox prefix of the client's options.
     *
     * @param handler sees each event
     * @return the running consumer; the caller closes it, or the bus does
     * @throws IllegalArgumentException if parameters are wrong; the message names all of them
     * @throws NatsBusException if the server refuses the durable or the subscription ({@code queue_subscribe: ...}) or does not answer
     */
    public EventConsumer start(Handler handler) {
      check(handler);
      EventConsumer consumer = new EventConsumer(this, handler);
      boolean started = false;
      try {
        consumer.start();
        started = true;
        return consumer;
      } catch (IOException | JetStreamApiException | IllegalStateException failure) {
        throw new NatsBusException(
            "queue_subscribe: " + Secrets.hide(failure.getMessage()), Secrets.harmless(failure));
      } finally {
        if (!started) {
          consumer.close();
        }
      }
    }
  }
}
