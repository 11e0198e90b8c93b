package dev.evalops.runtime.natsbus;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.EventHandler;
import dev.evalops.runtime.natsbus.Delivery.Place;
import io.micrometer.core.instrument.MeterRegistry;
import io.nats.client.Connection;
import io.nats.client.JetStreamApiException;
import io.nats.client.Message;
import io.nats.client.api.ConsumerConfiguration;
import io.nats.client.api.DeliverPolicy;
import io.nats.client.impl.AckType;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A running consumer: a durable queue subscription whose handler gets each event at least once. An event is
 * acknowledged when the handler has returned, at most a millisecond later while others are in hand. When the handler
 * throws, the event is delivered again after a growing delay, for as long as a dependency of the handler is away or
 * refuses ({@link FailureKind}). After other failures, up to a number of deliveries, it goes to the dead-letter
 * subject, with its headers and the reason, and without its body if that would be more than the server accepts. An
 * event that cannot be read goes there at once.
 *
 * <p>A handler may take longer than the acknowledgement wait: the consumer tells the server that it is still at work.
 *
 * <p>Handlers run at the same time, up to a limit. Events with the same {@link Event#aggregateId()} are handled one
 * after the other, in the order of the stream. But an event that is delivered again comes after others that were
 * published later, and the processes that share a durable do not wait for each other. Where the order matters, compare
 * {@link Event#version()}.
 *
 * <p>A durable that was deleted, or that the server has lost, is created again within 10 seconds. It continues after
 * the last event that is known to be acknowledged, or from the first event if the stream is a new one.
 *
 * <p>Thread-safe.
 */
public final class EventConsumer implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(EventConsumer.class);
  private static final Duration AFTER_INTERRUPT = Duration.ofSeconds(1);

  private final NatsBus bus;
  private final Connection connection;
  private final ConsumerSettings settings;
  private final EventHandler handler;
  private final Acknowledgements acknowledgements;
  private final Lanes lanes;
  private final Durable durable;
  private final DeadLetters deadLetters;
  private final Keeper keeper;
  private final @Nullable ConsumerMetrics metrics;
  private final AtomicLong handledCount = new AtomicLong();
  private final AtomicBoolean closed = new AtomicBoolean();

  private EventConsumer(ConsumerSettings settings, EventHandler handler) {
    this.bus = settings.bus;
    this.connection = settings.bus.connection();
    this.settings = settings;
    this.handler = handler;
    this.acknowledgements = new Acknowledgements(connection, settings.durable, this::maxAckPending);
    this.lanes =
        new Lanes(connection, settings, this::handled, acknowledgements, this::maxDeliveries);
    this.durable = new Durable(connection, settings, lanes);
    this.deadLetters =
        new DeadLetters(bus, settings.stream, settings.durable, settings.deadLetterSubject);
    this.keeper = new Keeper(connection, settings.durable, durable, lanes, deadLetters);
    this.metrics = settings.registry == null
        ? null
        : new ConsumerMetrics(
            settings.registry, settings.stream, settings.durable, lanes::size, durable::lag);
  }

  private long maxDeliveries() {
    return durable.maxDeliveries();
  }

  private long maxAckPending() {
    return durable.maxAckPending();
  }

  private void start() throws IOException, JetStreamApiException {
    deadLetters.prepare();
    acknowledgements.start();
    durable.attach();
    keeper.start();
    bus.consumers().add(this);
  }

  /** Handles a message, and tells the server; true if it must not be handled again. */
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
    @Nullable Throwable failure = null;
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
      handledCount.incrementAndGet();
      if (metrics != null) {
        metrics.handled();
      }
      acknowledgements.add(delivery);
      return true;
    }
    if (metrics != null) {
      metrics.failed();
    }
    LOG.atWarn()
        .setCause(failure)
        .addKeyValue("subject", delivery.message.getSubject())
        .addKeyValue("durable", settings.durable)
        .addKeyValue("error", failure.toString())
        .addKeyValue("delivery", deliveries)
        .log("consumer handler failed");
    if (interrupted && lanes.isStopping()) {
      nak(delivery, Duration.ZERO);
      return false;
    }
    if (isLast(delivery.place, deliveries, failure)) {
      return deadLetter(delivery, deliveries, failure.toString());
    }
    nak(delivery, delay(deliveries));
    return false;
  }

  /** The server counts what was given back, too, and tells nobody why: the first failure here is not the end of it. */
  private boolean isLast(Place place, long deliveries, Throwable failure) {
    if (deliveries >= durable.serverMaxDeliveries()) {
      return true;
    }
    long most = durable.maxDeliveries();
    if (FailureKind.of(failure) != FailureKind.INTERNAL) {
      return lanes.failedAlone(place, deliveries, handledCount.get()) >= most;
    }
    boolean again = deliveries >= most - 1 && lanes.failedBefore(place);
    return deliveries >= most && (again || most == 1);
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
    lanes.release(delivery);
    delivery.answer(connection, AckType.AckNak.bodyBytes(delay.toNanos()), "consumer nak failed");
  }

  private boolean deadLetter(Delivery delivery, long deliveries, String reason) {
    if (!deadLetters.store(delivery, deliveries, reason)) {
      nak(delivery, settings.maxDelay);
      return false;
    }
    if (metrics != null) {
      metrics.deadLettered();
    }
    delivery.answer(connection, AckType.AckTerm.bytes, "consumer ack failed");
    return true;
  }

  /** Has the durable checked soon, without waiting for it. */
  void checkNow() {
    keeper.checkNow();
  }

  void reattach() throws IOException, JetStreamApiException {
    keeper.check();
  }

  int held() {
    return lanes.size();
  }

  /**
   * Stops the delivery, gives back events that no handler has begun, waits for the handlers (5 s, {@link
   * Builder#drainTimeout}), then interrupts them and waits another second. If the server can be reached, it has all
   * acknowledgements before this returns. The durable stays. A second call does nothing.
   */
  @Override
  public void close() {
    if (!closed.compareAndSet(false, true)) {
      return;
    }
    boolean interrupted = Thread.interrupted(); // else nothing would be waited for
    lanes.stop();
    try {
      try {
        durable.unsubscribe();
        lanes.giveBack();
        if (!lanes.awaitIdle(settings.drainTimeout)) {
          lanes.interruptHandlers();
          lanes.awaitIdle(AFTER_INTERRUPT);
        }
      } finally {
        acknowledgements.close();
      }
      if (connection.getStatus() == Connection.Status.CONNECTED) {
        connection.flush(AFTER_INTERRUPT);
      }
    } catch (InterruptedException again) {
      interrupted = true;
      lanes.interruptHandlers();
    } catch (TimeoutException | IllegalStateException lost) {
      LOG.atWarn()
          .addKeyValue("durable", settings.durable)
          .addKeyValue("error", Secrets.hide(lost.getMessage()))
          .log("consumer closed without an answer from the server");
    } finally {
      keeper.stop();
      bus.consumers().remove(this);
      if (metrics != null) {
        metrics.close();
      }
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /** Returns the names of the stream and the durable. */
  @Override
  public String toString() {
    return "EventConsumer[" + settings.stream + " " + settings.durable + "]";
  }

  /** The settings of a consumer. Not thread-safe. */
  public static final class Builder {
    private final ConsumerSettings settings;

    Builder(NatsBus bus, String subject, String durable) {
      this.settings = new ConsumerSettings(
          bus, requireNonNull(subject, "subject"), requireNonNull(durable, "durable"));
    }

    /**
     * Sets the stream (that of the bus).
     *
     * @param name the stream of another service, which must be there
     * @return this
     */
    public Builder stream(String name) {
      settings.stream = requireNonNull(name, "stream");
      return this;
    }

    /**
     * Sets the queue group whose members share the events (the durable's name).
     *
     * @param name the name; the same in every process that uses the durable
     * @return this
     */
    public Builder queue(String name) {
      settings.queue = requireNonNull(name, "queue");
      return this;
    }

    /**
     * Sets where a durable begins that does not exist yet: with events that are stored after its creation (default),
     * with all events of the stream, or with the last one. An existing durable continues where it is.
     *
     * @param policy {@code New}, {@code All} or {@code Last}
     * @return this
     */
    public Builder deliver(DeliverPolicy policy) {
      settings.deliver = requireNonNull(policy, "deliver");
      return this;
    }

    /**
     * Sets the time after which the server delivers an event again if it hears nothing, because the process is gone (30
     * s). While a handler is at work the consumer tells the server so three times in this time. The setting is used
     * when the durable is created.
     *
     * @param wait 100 ms or more
     * @return this
     */
    public Builder ackWait(Duration wait) {
      settings.ackWait = requireNonNull(wait, "ackWait");
      return this;
    }

    /**
     * Limits how many handlers run at the same time (16), each on its own thread, a virtual one on Java 24 and later.
     *
     * @param handlers one or more; with one, all first deliveries are handled in the order of the stream
     * @return this
     */
    public Builder concurrency(int handlers) {
      settings.concurrency = handlers;
      return this;
    }

    /**
     * Sets how often an event is delivered before it goes to the dead-letter subject (10). The server counts every
     * delivery, also one to a consumer that closes before handling, or whose process dies. So an event that was
     * delivered this often is dead-lettered when its handler fails for the second time in this process; with 1 at the
     * first failure. Failures of a dependency ({@link FailureKind#UNAVAILABLE} or {@link FailureKind#PERMANENT}) are
     * none of these while no event is handled: it comes again until the stream drops it. It is dead-lettered after this
     * many of them, each with others handled since the one before. At the durable's own {@code max_deliver} any failure
     * is the last. If an event was delivered more than twice this number plus five times, because processes die of it,
     * it is dead-lettered without being handled, at most one by each running consumer. A consumer that starts takes an
     * event for such a one, too, that came as often to others because a dependency was away.
     *
     * @param deliveries one or more
     * @return this
     */
    public Builder maxDeliveries(int deliveries) {
      settings.maxDeliveries = deliveries;
      return this;
    }

    /**
     * Sets the delay before an event is delivered again after its handler has thrown (1 s). It doubles with each
     * delivery, up to a limit (1 min), and is up to a fifth shorter at random.
     *
     * @param first zero or more
     * @param longest the limit, not less than the first
     * @return this
     */
    public Builder redeliveryDelay(Duration first, Duration longest) {
      settings.firstDelay = requireNonNull(first, "redeliveryDelay");
      settings.maxDelay = requireNonNull(longest, "redeliveryDelay");
      return this;
    }

    /**
     * Sets the subject of events that could not be handled (default {@code dead.<stream>.<durable>}, in a stream {@code
     * <stream>_DEAD} that is created if it does not exist and keeps them for 30 days).
     *
     * @param subject a subject of an existing stream, which this consumer does not receive
     * @return this
     */
    public Builder deadLetterSubject(String subject) {
      settings.deadLetterSubject = requireNonNull(subject, "deadLetterSubject");
      return this;
    }

    /**
     * Sets how long closing waits for handlers before it interrupts them (5 s).
     *
     * @param timeout zero or more
     * @return this
     */
    public Builder drainTimeout(Duration timeout) {
      settings.drainTimeout = requireNonNull(timeout, "drainTimeout");
      return this;
    }

    /**
     * Changes the configuration that a missing durable is created with, such as {@code maxAckPending}, the number of
     * events that all processes together hold in memory (1000, the server's default); set less where events are large.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configure(Consumer<? super ConsumerConfiguration.Builder> change) {
      settings.configure.add(requireNonNull(change, "configure"));
      return this;
    }

    /**
     * Registers {@code natsbus_consumer_handled_total}, {@code …_failed_total} and {@code …_dead_lettered_total}, and
     * the gauges {@code natsbus_consumer_in_hand} and {@code natsbus_consumer_lag}, the number of events that were not
     * delivered yet (default: nothing). They have the tags {@code stream} and {@code durable}.
     *
     * @param registry gets the meters
     * @return this
     */
    public Builder metrics(MeterRegistry registry) {
      settings.registry = requireNonNull(registry, "registry");
      return this;
    }

    Builder reader(Function<Message, Event> reader) {
      settings.reader = reader;
      return this;
    }

    /**
     * Starts the consumer. The durable is created if it does not exist. An existing durable is used as it is; it must
     * be a queue subscription for this subject and queue. Events are delivered to a subject under the inbox prefix of
     * the client's options.
     *
     * @param handler is given each event; {@link EventHandler#forConsumer} tells it the name of the durable
     * @return the running consumer; the caller closes it, or the bus does
     * @throws IllegalArgumentException if parameters are wrong; the message names all of them
     * @throws StartupException if the server refuses the durable or the subscription ({@code queue_subscribe: ...}) or
     *     does not answer
     */
    public EventConsumer start(EventHandler handler) {
      requireNonNull(handler, "handler");
      settings.check();
      EventConsumer consumer =
          new EventConsumer(new ConsumerSettings(settings), handler.forConsumer(settings.durable));
      boolean started = false;
      try {
        consumer.start();
        started = true;
        return consumer;
      } catch (IOException | JetStreamApiException | IllegalStateException failure) {
        throw Connecting.failed("queue_subscribe", failure);
      } finally {
        if (!started) {
          consumer.close();
        }
      }
    }
  }
}
