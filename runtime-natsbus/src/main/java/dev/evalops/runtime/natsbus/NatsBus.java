package dev.evalops.runtime.natsbus;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.natsbus.Encoder.Outgoing;
import io.micrometer.core.instrument.MeterRegistry;
import io.nats.client.AuthenticationException;
import io.nats.client.Connection;
import io.nats.client.JetStreamApiException;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.api.PublishAck;
import io.nats.client.api.StreamConfiguration;
import io.nats.client.impl.Headers;
import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.context.Context;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.InstantSource;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A connection to NATS that publishes the changes of a service to a JetStream stream as CloudEvents, and consumes events.
 *
 * <pre>{@code
 * NatsBus bus = life.add("nats", NatsBus.builder(natsUrl).stream("NOTES").subjectPrefix("notes.changes").connect());
 *
 * bus.publish(Change.of("note", note.id()).operation("create").tenant(org).version(1).payload(noteProto));
 * life.add("consumer", bus.consume("notes.changes.>", "indexer", event -> index.apply(event)));
 * }</pre>
 *
 * <p>The subject of a change is {@code <prefix>.<aggregate type>.<operation>}. The stream is made if it is not there; one that is
 * there is compared, and never changed; one that a server has lost is made again when the connection comes back. A lost connection comes back by itself, however long it takes, and whatever the server says
 * meanwhile, a refused login included: {@link #connection} stays the same. What is published meanwhile waits for it within the bound of
 * a publishing, and then fails: see {@link #reliable} for changes that must not be lost.
 *
 * <p>Delivery is at least once: the stream drops what it has within its duplicate window (two minutes), and a consumer that must not do
 * things twice remembers {@link Event#id()}, or the last {@link Event#version()} of each {@link Event#partitionKey()}.
 *
 * <p>Thread-safe.
 */
public final class NatsBus implements ChangePublisher, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(NatsBus.class);
  private static final Duration CLOSE_BOUND = Duration.ofSeconds(2);
  private static final long GRACE_SECONDS = 1;

  /** How an event is written. Every form is read, whatever is written. */
  public enum WireFormat {
    /** A JSON object with the attributes and, as {@code data}, the proto JSON of the payload's {@code google.protobuf.Any}. */
    JSON,
    /** The bytes of the message {@link EventEnvelope}. */
    PROTO,
    /** The attributes as NATS headers {@code ce-...}, and the bytes of the payload's {@code google.protobuf.Any} as the body. */
    PROTO_HEADERS
  }

  private final Connection connection;
  private final String stream;
  private final Encoder encoder;
  private final Sender sender;
  private final StreamKeeper streamKeeper;
  private final Duration publishTimeout;
  private final ScheduledExecutorService timer;
  private final @Nullable Telemetry telemetry;
  private final @Nullable BusMetrics metrics;
  private final Set<EventConsumer> consumers = ConcurrentHashMap.newKeySet();
  private final AtomicBoolean closed = new AtomicBoolean();
  private final BooleanSupplier connected;

  private NatsBus(Connection connection, Builder builder, StreamConfiguration wanted) {
    this.connection = connection;
    this.connected = () -> connection.getStatus() == Connection.Status.CONNECTED;
    this.stream = builder.stream;
    this.publishTimeout = builder.publishTimeout;
    this.encoder =
        new Encoder(Subjects.prefix(builder.subjectPrefix), builder.wireFormat, builder.clock);
    this.timer = Executors.newSingleThreadScheduledExecutor(
        Thread.ofPlatform().daemon().name("natsbus-timer").factory());
    this.sender = new Sender(connection, builder.window, timer);
    this.streamKeeper =
        new StreamKeeper(connection, wanted, () -> consumers.forEach(EventConsumer::checkNow));
    this.telemetry = builder.openTelemetry == null ? null : new Telemetry(builder.openTelemetry);
    this.metrics = builder.registry == null ? null : new BusMetrics(builder.registry);
  }

  /**
   * Starts to describe a bus.
   *
   * @param url where NATS is, such as {@code nats://user:password@host:4222}, {@code tls://host}, or several with commas between them;
   *     in user and password {@code /} is written as {@code %2F}, and so on
   * @return a builder with the defaults
   */
  public static Builder builder(String url) {
    return new Builder(url);
  }

  /**
   * Publishes a change, and waits for the acknowledgement of the stream, at most as long as {@link Builder#publishTimeout} says.
   * Changes of the same aggregate are stored in the order of the calls; when one fails, those that wait behind it fail, too.
   *
   * @param change what has happened
   * @return {@link ChangePublisher.Outcome#STORED}
   * @throws IllegalArgumentException {@inheritDoc}
   * @throws NatsBusException {@inheritDoc}
   */
  @Override
  public Outcome publish(Change change) {
    CompletableFuture<PublishAck> acknowledged = publishAsync(change);
    await(acknowledged, encoder.subject(change), publishTimeout);
    LOG.atDebug()
        .addKeyValue("seq", sequence(change))
        .addKeyValue("subject", encoder.subject(change))
        .log("published change event");
    return Outcome.STORED;
  }

  /**
   * Publishes a change without waiting for the acknowledgement, as long as fewer than {@link Builder#window} are under way; else it
   * waits for a place. The order is kept as {@link #publish} keeps it.
   *
   * @param change what has happened
   * @return the acknowledgement, or a {@link NatsBusException} in the time of {@link Builder#publishTimeout}. It is completed by a
   *     thread of the NATS client: what is chained to it must not block
   * @throws IllegalArgumentException if the change cannot be written, whenever it is tried
   */
  public CompletableFuture<PublishAck> publishAsync(Change change) {
    Telemetry.@Nullable Running span =
        telemetry == null ? null : telemetry.publish(encoder.subject(change));
    CompletableFuture<PublishAck> acknowledged;
    try {
      Outgoing message = encode(change, span);
      acknowledged = send(message, publishTimeout);
    } catch (RuntimeException | Error failure) {
      end(span, failure);
      throw failure;
    }
    if (span != null || metrics != null) {
      var unused = acknowledged.whenComplete((ack, failure) -> {
        end(span, failure);
        if (failure != null && metrics != null) {
          metrics.publishFailed();
        }
      });
    }
    return acknowledged;
  }

  private static void end(Telemetry.@Nullable Running span, @Nullable Throwable failure) {
    if (span != null) {
      span.end(failure);
    }
  }

  Outgoing encode(Change change, Telemetry.@Nullable Running span) {
    return encoder.encode(
        change, telemetry == null || span == null ? Map.of() : telemetry.inject(span));
  }

  CompletableFuture<PublishAck> send(Outgoing message, Duration bound) {
    return sender.send(message.subject(), message.headers(), message.body(), message.lane(), bound);
  }

  CompletableFuture<PublishAck> send(
      String subject, Headers headers, byte[] body, @Nullable String lane, Duration bound) {
    return sender.send(subject, headers, body, lane, bound);
  }

  boolean fits(Headers headers, byte[] body) {
    return sender.fits(headers, body);
  }

  void checkSize(Outgoing message) {
    sender.checkSize(message.headers(), message.body());
  }

  /** Waits for an acknowledgement that is bounded already, and a little more. */
  static PublishAck await(
      CompletableFuture<PublishAck> acknowledged, String subject, Duration bound) {
    try {
      return acknowledged.get(bound.plusSeconds(GRACE_SECONDS).toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new NatsBusException("publish " + subject + ": interrupted", interrupted);
    } catch (TimeoutException late) {
      throw new NatsBusException("publish " + subject + ": no acknowledgement in time", late);
    } catch (ExecutionException failure) {
      if (failure.getCause() instanceof NatsBusException known) {
        throw known;
      }
      throw new NatsBusException("publish " + subject + ": failed", failure.getCause());
    }
  }

  static long sequence(Change change) {
    return change.sequence().isPresent() ? change.sequence().getAsLong() : 0;
  }

  /**
   * Reads the trace that an event was published in (W3C trace context and baggage), for code that reads events by itself. Handlers of
   * a bus with an {@link Builder#openTelemetry OpenTelemetry} run in a span of it already.
   *
   * @param context what the event's own is added to, such as {@code Context.root()}
   * @param event the event
   * @return the context with the span and baggage of the publisher; the given one where the event has none
   */
  public static Context extractContext(Context context, Event event) {
    return Telemetry.extract(context, event);
  }

  /**
   * Consumes the events of this bus's stream with the defaults of {@link #consumer}.
   *
   * @param subject which events, such as {@code notes.changes.>}
   * @param durable the name under which the server remembers how far the consumer is; processes that give the same share the events
   * @param handler sees each event
   * @return the running consumer; closing the bus closes it
   * @throws IllegalArgumentException if a parameter is wrong
   * @throws NatsBusException if the server refuses ({@code queue_subscribe: ...}) or does not answer
   */
  public EventConsumer consume(String subject, String durable, EventConsumer.Handler handler) {
    return consumer(subject, durable).start(handler);
  }

  /**
   * Starts to describe a consumer.
   *
   * @param subject which events, such as {@code notes.changes.>}
   * @param durable the name under which the server remembers how far the consumer is; processes that give the same share the events
   * @return a builder with the defaults
   */
  public EventConsumer.Builder consumer(String subject, String durable) {
    return new EventConsumer.Builder(this, subject, durable);
  }

  /**
   * Starts to describe a publisher that keeps on disk what NATS does not take now.
   *
   * @param directory where it keeps it; made if it is not there. It must survive a restart of the process
   * @return a builder with the defaults
   */
  public ReliablePublisher.Builder reliable(Path directory) {
    return new ReliablePublisher.Builder(this, directory);
  }

  /**
   * The connection, for a health check or whatever else NATS can do.
   *
   * @return the connection, always the same
   */
  public Connection connection() {
    return connection;
  }

  String stream() {
    return stream;
  }

  Encoder encoder() {
    return encoder;
  }

  @Nullable
  Telemetry telemetry() {
    return telemetry;
  }

  @Nullable
  BusMetrics metrics() {
    return metrics;
  }

  ScheduledExecutorService timer() {
    return timer;
  }

  void started(EventConsumer consumer) {
    consumers.add(consumer);
    if (closed.get()) {
      throw new IllegalStateException("the bus is closed");
    }
  }

  void stopped(EventConsumer consumer) {
    consumers.remove(consumer);
  }

  /**
   * Closes its consumers, each as {@link EventConsumer#close} does it but all at the same time, takes no more changes, waits up to 2
   * s for what is being published, and closes the connection. A second call does nothing.
   */
  @Override
  public void close() {
    if (!closed.compareAndSet(false, true)) {
      return;
    }
    boolean interrupted = Thread.interrupted(); // else nothing would be waited for
    try {
      List<Thread> closing = consumers.stream()
          .map(
              consumer -> Thread.ofPlatform().daemon().name("natsbus-close").start(consumer::close))
          .toList();
      for (Thread each : closing) {
        each.join();
      }
      sender.stop();
      sender.await(CLOSE_BOUND);
      if (connection.getStatus() == Connection.Status.CONNECTED) {
        connection.flush(CLOSE_BOUND);
      }
    } catch (InterruptedException again) {
      interrupted = true;
    } catch (TimeoutException | IllegalStateException lost) {
      LOG.atWarn()
          .addKeyValue("error", Secrets.hide(lost.getMessage()))
          .log("nats: closing without an answer of the server");
    }
    try {
      connection.close();
    } catch (InterruptedException again) {
      interrupted = true;
    }
    streamKeeper.close();
    timer.shutdownNow();
    sender.close();
    if (metrics != null) {
      metrics.removeConnected(connected);
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** Names the stream; the URL is left out, as it may hold a password. */
  @Override
  public String toString() {
    return "NatsBus[" + stream + "]";
  }

  /** Describes a bus. Not thread-safe. */
  public static final class Builder {
    private static final Duration RECONNECT_WAIT = Duration.ofSeconds(2);
    private static final Duration ATTEMPT_WAIT = Duration.ofSeconds(2);
    private static final int UNAVAILABLE = 503;
    private static final int NO_PEERS = 10_005; // as long as a cluster is not complete

    private final String url;
    private List<String> servers = List.of();
    private String stream = "";
    private String subjectPrefix = "";
    private WireFormat wireFormat = WireFormat.JSON;
    private Duration publishTimeout = Duration.ofSeconds(5);
    private Duration connectTimeout = Duration.ofSeconds(60);
    private int window = 1024;
    private InstantSource clock = InstantSource.system();
    private final List<Consumer<? super Options.Builder>> configure = new ArrayList<>();
    private final List<Consumer<? super StreamConfiguration.Builder>> configureStream =
        new ArrayList<>();
    private @Nullable OpenTelemetry openTelemetry;
    private @Nullable MeterRegistry registry;

    private Builder(String url) {
      this.url = requireNonNull(url, "url");
    }

    /**
     * Names the stream (required).
     *
     * @param name letters, digits, {@code -} and {@code _} are safe
     * @return this
     */
    public Builder stream(String name) {
      this.stream = requireNonNull(name, "stream");
      return this;
    }

    /**
     * Says how all subjects begin (required). The {@code source} of events is the prefix without a last {@code .changes}.
     *
     * @param prefix tokens with dots between them, such as {@code notes.changes}; blanks around it and one dot at its end do not count
     * @return this
     */
    public Builder subjectPrefix(String prefix) {
      this.subjectPrefix = requireNonNull(prefix, "subjectPrefix");
      return this;
    }

    /**
     * Says how events are written (JSON).
     *
     * @param format the form
     * @return this
     */
    public Builder wireFormat(WireFormat format) {
      this.wireFormat = requireNonNull(format, "wireFormat");
      return this;
    }

    /**
     * Limits each publishing, the waits for the connection and for a place in the window included (5 s).
     *
     * @param timeout more than zero
     * @return this
     */
    public Builder publishTimeout(Duration timeout) {
      this.publishTimeout = requireNonNull(timeout, "publishTimeout");
      return this;
    }

    /**
     * Limits how many messages are published at the same time (1024).
     *
     * @param messages one or more
     * @return this
     */
    public Builder window(int messages) {
      this.window = messages;
      return this;
    }

    /**
     * Says how long to wait for a NATS that is not up, in attempts 2 s apart (60 s).
     *
     * @param timeout zero for one attempt
     * @return this
     */
    public Builder connectTimeout(Duration timeout) {
      this.connectTimeout = requireNonNull(timeout, "connectTimeout");
      return this;
    }

    /**
     * Changes the client's options, such as TLS, credentials, name or error listener. A token supplier and an authentication handler
     * (such as {@code Nats.credentials(file)}, which reads its file anew) are asked at each login, so that they can give what has been
     * rotated; a password in the URL or in {@code userInfo} stays what it is. A server pool of one's own, or a number of reconnects, takes
     * the place of this bus's, which never gives up.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configure(Consumer<? super Options.Builder> change) {
      configure.add(requireNonNull(change, "configure"));
      return this;
    }

    /**
     * Changes what the stream is made with, where it is not there (limits retention, 7 days, files, 1 replica), and compared to where
     * it is.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configureStream(Consumer<? super StreamConfiguration.Builder> change) {
      configureStream.add(requireNonNull(change, "configureStream"));
      return this;
    }

    /**
     * Makes spans {@code nats.publish} and {@code nats.process}, and sends the trace along (without: none).
     *
     * @param openTelemetry makes the spans; its propagators write, W3C trace context is read
     * @return this
     */
    public Builder openTelemetry(OpenTelemetry openTelemetry) {
      this.openTelemetry = requireNonNull(openTelemetry, "openTelemetry");
      return this;
    }

    /**
     * Counts {@code natsbus_publish_failures_total}, and measures {@code natsbus_connected} and {@code natsbus_dead_letter_size}
     * (without: nothing).
     *
     * @param registry gets the meters
     * @return this
     */
    public Builder metrics(MeterRegistry registry) {
      this.registry = requireNonNull(registry, "registry");
      return this;
    }

    /**
     * Gives the time for changes that have none (the system's clock).
     *
     * @param clock the clock
     * @return this
     */
    public Builder clock(InstantSource clock) {
      this.clock = requireNonNull(clock, "clock");
      return this;
    }

    private void check() {
      List<String> problems = new ArrayList<>();
      if (url.isBlank()) {
        problems.add("nats_url_required");
      } else {
        servers = NatsUrl.servers(url, problems);
      }
      if (stream.isBlank()) {
        problems.add("stream_name_required");
      } else {
        Subjects.checkName("stream", stream, problems);
      }
      if (Subjects.prefix(subjectPrefix).isEmpty()) {
        problems.add("subject_prefix_required");
      } else {
        Subjects.checkSubject("subjectPrefix", Subjects.prefix(subjectPrefix), false, problems);
      }
      if (!publishTimeout.isPositive()) {
        problems.add("publishTimeout must be more than zero");
      }
      if (connectTimeout.isNegative()) {
        problems.add("connectTimeout must not be negative");
      }
      if (window < 1) {
        problems.add("window must be one or more");
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
    }

    /**
     * Connects, and makes the stream if it is not there. Waits for a NATS that is not up; stops at once when it refuses the
     * credentials.
     *
     * @return the connected bus; the caller closes it
     * @throws IllegalArgumentException if parameters are missing or wrong; the message names all of them
     * @throws NatsBusException if NATS does not come up ({@code nats_connect: ...}), has no JetStream ({@code jetstream_connect:
     *     ...}) or refuses the stream ({@code create_stream: ...}); also when interrupted, with the flag set again
     */
    public NatsBus connect() {
      check();
      long deadline = System.nanoTime() + connectTimeout.toNanos();
      Connection connection = open(options(), deadline);
      StreamConfiguration wanted = streamConfiguration();
      NatsBus bus = new NatsBus(connection, this, wanted);
      boolean ready = false;
      try {
        bus.watch();
        prepareStream(connection, wanted, deadline);
        ready = true;
        return bus;
      } finally {
        if (!ready) {
          bus.close();
        }
      }
    }

    private Options options() {
      ConnectionLog listener = new ConnectionLog();
      try {
        Options.Builder options = Options.builder()
            .servers(servers.toArray(String[]::new))
            .maxReconnects(-1)
            .reconnectWait(RECONNECT_WAIT)
            .reconnectJitter(Duration.ofMillis(500))
            .reconnectJitterTls(Duration.ofSeconds(1))
            .connectionTimeout(Duration.ofSeconds(5))
            // A peer that is silent is found after half a minute.
            .pingInterval(Duration.ofSeconds(10))
            .maxPingsOut(2)
            .socketWriteTimeout(Duration.ofSeconds(10))
            .requestCleanupInterval(Duration.ofMillis(250))
            .reportNoResponders()
            .serverPool(new PatientServers())
            .dataPortType(HeaderGuard.Port.class.getName())
            .errorListener(listener);
        configure.forEach(change -> change.accept(options));
        return options.build();
      } catch (IllegalArgumentException | IllegalStateException invalid) {
        throw new IllegalArgumentException(
            "url: " + Secrets.hide(invalid.getMessage()), Secrets.harmless(invalid));
      }
    }

    private Connection open(Options options, long deadline) {
      while (true) {
        try {
          return Nats.connect(options);
        } catch (AuthenticationException refused) {
          throw failed("nats_connect", refused);
        } catch (IOException | RuntimeException notYet) {
          waitFor("nats_connect", notYet, deadline);
        } catch (InterruptedException interrupted) {
          Thread.currentThread().interrupt();
          throw new NatsBusException("nats_connect: interrupted", interrupted);
        }
      }
    }

    private StreamConfiguration streamConfiguration() {
      StreamConfiguration.Builder wanted =
          Streams.standard(stream, Subjects.filter(Subjects.prefix(subjectPrefix)));
      configureStream.forEach(change -> change.accept(wanted));
      return wanted.build();
    }

    private void prepareStream(Connection connection, StreamConfiguration wanted, long deadline) {
      while (true) {
        try {
          Streams.ensure(connection.jetStreamManagement(), wanted);
          return;
        } catch (IOException notYet) {
          waitFor("jetstream_connect", notYet, deadline);
        } catch (JetStreamApiException refused) {
          if (refused.getErrorCode() != UNAVAILABLE && refused.getApiErrorCode() != NO_PEERS) {
            throw failed("create_stream", refused);
          }
          waitFor("jetstream_connect", refused, deadline);
        }
      }
    }

    private static void waitFor(String step, Exception failure, long deadline) {
      if (System.nanoTime() + ATTEMPT_WAIT.toNanos() - deadline > 0) {
        throw failed(step, failure);
      }
      String why = Secrets.hide(failure.getMessage());
      LOG.atWarn().addKeyValue("step", step).addKeyValue("error", why).log("nats: not up yet");
      try {
        Thread.sleep(ATTEMPT_WAIT);
      } catch (InterruptedException interrupted) {
        Thread.currentThread().interrupt();
        throw new NatsBusException(step + ": interrupted; before: " + why, interrupted);
      }
    }

    private static NatsBusException failed(String step, Exception cause) {
      return new NatsBusException(
          step + ": " + Secrets.hide(cause.getMessage()), Secrets.harmless(cause));
    }
  }

  private void watch() {
    Runnable reconnected = () -> {
      sender.reconnected();
      streamKeeper.reconnected();
    };
    connection.addConnectionListener(new ConnectionLog.Changes(reconnected, closed::get));
    if (metrics != null) {
      metrics.addConnected(connected);
    }
  }
}
