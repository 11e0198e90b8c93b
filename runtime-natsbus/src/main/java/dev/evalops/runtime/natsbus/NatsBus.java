package dev.evalops.runtime.natsbus;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher;
import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.startup.Credentials;
import dev.evalops.runtime.startup.Rotation;
import io.micrometer.core.instrument.MeterRegistry;
import io.nats.client.Connection;
import io.nats.client.Message;
import io.nats.client.Options;
import io.nats.client.api.StreamConfiguration;
import io.nats.client.impl.Headers;
import io.opentelemetry.api.OpenTelemetry;
import io.opentelemetry.context.Context;
import java.time.Duration;
import java.time.InstantSource;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
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
import java.util.function.Supplier;
import javax.net.ssl.SSLContext;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A connection to NATS that publishes the changes of a service to a JetStream stream as CloudEvents, and consumes
 * events.
 *
 * <pre>{@code
 * NatsBus bus = life.add("nats", NatsBus.open(natsUrl, "NOTES", "notes.changes"));
 *
 * bus.publish(Change.of("note", note.id(), "create").organization(org).version(1).payload(noteProto));
 * life.add("indexer", bus.consumer("notes.changes.>", "indexer").start(event -> index.apply(event)));
 * }</pre>
 *
 * <p>The subject of a change is {@code <prefix>.<aggregate type>.<operation>}. The stream is created if it does not
 * exist; an existing one is compared, and never changed; one that a server has lost is created again after
 * reconnecting. A lost connection is restored in the background, however long it takes, refused logins included: {@link
 * #connection} stays the same. What is published meanwhile waits for it within {@link Builder#publishTimeout}, and then
 * fails: for changes that must not be lost there are {@link dev.evalops.runtime.natsbus.spool.SpooledPublisher} and the
 * outbox.
 *
 * <p>Delivery is at least once: the stream drops repeats within its {@linkplain #duplicateWindow duplicate window}, and
 * a consumer that must not do things twice remembers {@link Event#id()}, or the last {@link Event#version()} of each
 * {@link Event#aggregateId()}.
 *
 * <p>Thread-safe.
 */
public final class NatsBus implements ChangePublisher, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(NatsBus.class);
  private static final Duration CLOSE_BOUND = Duration.ofSeconds(2);
  private static final long GRACE_SECONDS = 1;
  private static final int MAX_REPLICAS = 5;

  /** Of the secret, within the time in which the connection is replaced. */
  private static final int READINGS = 6;

  static final String MESSAGE_ID = "Nats-Msg-Id";

  private final Connection connection;
  private final String stream;
  private final String subjectPrefix;
  private final int replicas;
  private final EventFormat format;
  private final InstantSource clock;
  private volatile Duration duplicateWindow;
  private final Sender sender;
  private final StreamKeeper streamKeeper;
  private final Duration publishTimeout;
  private final ScheduledExecutorService timer;
  private final @Nullable Telemetry telemetry;
  private final @Nullable BusMetrics metrics;
  private final Set<EventConsumer> consumers = ConcurrentHashMap.newKeySet();
  private final AtomicBoolean closed = new AtomicBoolean();
  private @Nullable Rotation<Secret> rotation;

  private NatsBus(Connection connection, Builder builder, StreamConfiguration wanted) {
    this.connection = connection;
    BooleanSupplier connected = () -> connection.getStatus() == Connection.Status.CONNECTED;
    this.stream = builder.stream;
    this.publishTimeout = builder.publishTimeout;
    this.subjectPrefix = Subjects.prefix(builder.subjectPrefix);
    this.replicas = builder.replicas;
    this.format = builder.format;
    this.clock = builder.clock;
    this.duplicateWindow = Streams.duplicateWindow(wanted);
    this.timer = Executors.newSingleThreadScheduledExecutor(
        Thread.ofPlatform().daemon().name("natsbus-timer").factory());
    this.sender = new Sender(connection, builder.maxPending, timer);
    this.streamKeeper =
        new StreamKeeper(connection, wanted, () -> consumers.forEach(EventConsumer::checkNow));
    this.telemetry = builder.openTelemetry == null ? null : new Telemetry(builder.openTelemetry);
    this.metrics = builder.registry == null ? null : new BusMetrics(builder.registry, connected);
  }

  /**
   * Returns a builder.
   *
   * @param url where NATS is, such as {@code nats://user:password@host:4222}, {@code tls://host}, or several with
   *     commas between them; in user and password {@code /} is written as {@code %2F}, and so on; null, as
   *     an environment variable that is not set, is refused by {@code open}
   * @return a builder with the defaults
   */
  public static Builder builder(@Nullable String url) {
    return new Builder(url);
  }

  /**
   * Opens a bus with the defaults of {@link Builder}.
   *
   * @param url where NATS is, as {@link #builder} takes it
   * @param stream the name of the stream
   * @param subjectPrefix how all subjects begin, such as {@code notes.changes}
   * @return the connected bus; the caller closes it
   * @throws IllegalArgumentException if settings are wrong; the message names all of them
   * @throws StartupException as {@link Builder#open} throws it
   */
  public static NatsBus open(@Nullable String url, String stream, String subjectPrefix) {
    return builder(url).stream(stream).subjectPrefix(subjectPrefix).open();
  }

  /**
   * Publishes a change, and waits for the acknowledgement of the stream, at most {@link Builder#publishTimeout}.
   * Changes of the same aggregate are stored in the order of the calls; when one fails, those that wait behind it fail,
   * too.
   *
   * @param change what has happened
   * @return {@link ChangePublisher.Outcome#STORED}
   * @throws IllegalArgumentException if the change cannot be written; the message names the parameter
   * @throws PublishException if it is not stored, as far as is known; also when interrupted, with the flag set again
   */
  @Override
  public Outcome publish(Change change) {
    Outcome outcome = await(publishAsync(change), subject(change), publishTimeout);
    LOG.atDebug()
        .addKeyValue("seq", change.sequence().isPresent() ? change.sequence().getAsLong() : 0)
        .addKeyValue("subject", subject(change))
        .log("published change event");
    return outcome;
  }

  /**
   * Publishes a change without waiting for the acknowledgement, while fewer than {@link Builder#maxPending} are
   * pending; else waits for one of those. The order is kept as {@link #publish} keeps it.
   *
   * @param change what has happened
   * @return the outcome, or a {@link PublishException} within {@link Builder#publishTimeout}. It is completed by a
   *     thread of the NATS client: what is chained to it must not block
   * @throws IllegalArgumentException if the change cannot be written; the message names the parameter
   */
  public CompletableFuture<Outcome> publishAsync(Change change) {
    if (telemetry == null) {
      return send(encode(change));
    }
    Telemetry.Running span = telemetry.publish(subject(change));
    EncodedEvent event;
    try {
      event = encode(change, telemetry.inject(span));
    } catch (RuntimeException | Error failure) {
      span.end(failure);
      throw failure;
    }
    return send(event, span);
  }

  private String subject(Change change) {
    return subjectPrefix + "." + change.aggregateType() + "." + change.operation();
  }

  @Override
  public EncodedEvent encode(Change change) {
    return encode(change, telemetry == null ? Map.of() : telemetry.inject());
  }

  private EncodedEvent encode(Change change, Map<String, String> trace) {
    return format.encode(change, subjectPrefix, clock.instant(), trace);
  }

  /**
   * {@inheritDoc}
   *
   * <p>Takes at most {@link Builder#publishTimeout}, waits while {@link Builder#maxPending} events are pending, and
   * keeps the order of each {@linkplain EncodedEvent#lane() lane}: when one fails, those that wait behind it fail, too.
   */
  @Override
  public CompletableFuture<Outcome> send(EncodedEvent event) {
    return send(event, telemetry == null ? null : telemetry.publish(event));
  }

  private CompletableFuture<Outcome> send(EncodedEvent event, Telemetry.@Nullable Running span) {
    CompletableFuture<Outcome> outcome;
    try {
      Headers headers = new Headers();
      event.headers().forEach(headers::put);
      headers.put(MESSAGE_ID, event.id());
      outcome = sender.send(event.subject(), headers, event.body(), event.lane(), publishTimeout);
    } catch (IllegalArgumentException malformed) {
      outcome = CompletableFuture.failedFuture(new PublishException(
          PublishException.Reason.REFUSED,
          "publish " + event.subject() + ": " + malformed.getMessage(),
          malformed));
    }
    if (span != null || metrics != null) {
      var unused = outcome.whenComplete((stored, failure) -> {
        if (span != null) {
          span.end(failure);
        }
        if (failure != null && metrics != null) {
          metrics.publishFailed();
        }
      });
    }
    return outcome;
  }

  /**
   * {@inheritDoc}
   *
   * <p>It is that of the stream as it was found at the start.
   */
  @Override
  public Optional<Duration> duplicateWindow() {
    return Optional.of(duplicateWindow);
  }

  Sender sender() {
    return sender;
  }

  int replicas() {
    return replicas;
  }

  /** Waits for an outcome that is bounded already, and a little more. */
  static Outcome await(CompletableFuture<Outcome> outcome, String what, Duration bound) {
    try {
      return outcome.get(bound.plusSeconds(GRACE_SECONDS).toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new PublishException(
          PublishException.Reason.AWAY, "publish " + what + ": interrupted", interrupted);
    } catch (TimeoutException late) {
      throw new PublishException(
          PublishException.Reason.AWAY, "publish " + what + ": no acknowledgement in time", late);
    } catch (ExecutionException failure) {
      if (failure.getCause() instanceof PublishException known) {
        throw known;
      }
      throw new PublishException(
          PublishException.Reason.AWAY, "publish " + what + ": failed", failure.getCause());
    }
  }

  /**
   * Returns the event of a message, for code that subscribes by itself. Consumers of this bus do it already.
   *
   * @param message the message, in any format
   * @return the event
   * @throws IllegalArgumentException if it is no event; the message says what is wrong
   */
  public static Event read(Message message) {
    String malformed = HeaderGuard.reason(message.getHeaders());
    if (malformed != null) {
      throw new IllegalArgumentException("headers: " + malformed);
    }
    Map<String, List<String>> headers = new HashMap<>();
    if (message.hasHeaders()) {
      message.getHeaders().forEach(headers::put);
    }
    return Event.read(headers, message.getData() == null ? new byte[0] : message.getData());
  }

  /**
   * Returns the trace that an event was published in (W3C trace context and baggage), for code that reads events by
   * itself. Handlers of a bus with an {@link Builder#openTelemetry OpenTelemetry} run in a span of it already.
   *
   * @param context what the event's own is added to, such as {@code Context.root()}
   * @param event the event
   * @return the context with the span and baggage of the publisher; the given one where the event has none
   */
  public static Context extractContext(Context context, Event event) {
    return Telemetry.extract(context, event);
  }

  /**
   * Returns a builder of a consumer.
   *
   * @param subject which events, such as {@code notes.changes.>}
   * @param durable the name under which the server remembers how far the consumer is; processes that give the same
   *     share the events
   * @return a builder with the defaults
   */
  public EventConsumer.Builder consumer(String subject, String durable) {
    return new EventConsumer.Builder(this, subject, durable);
  }

  /**
   * Returns the connection, for a health check or whatever else NATS can do.
   *
   * @return the connection, always the same
   */
  public Connection connection() {
    return connection;
  }

  String stream() {
    return stream;
  }

  @Nullable
  Telemetry telemetry() {
    return telemetry;
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
   * Closes its consumers, each as {@link EventConsumer#close} does it but all at the same time, takes no more changes,
   * waits up to 2 s for what is being published, and closes the connection. A second call does nothing.
   */
  @Override
  public void close() {
    if (!closed.compareAndSet(false, true)) {
      return;
    }
    if (rotation != null) {
      rotation.close();
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
          .log("nats: closed without an answer from the server");
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
      metrics.close();
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** Returns the name of the stream; the URL is left out, as it may hold a password. */
  @Override
  public String toString() {
    return "NatsBus[" + stream + "]";
  }

  /** The settings of a bus. Not thread-safe. */
  public static final class Builder {
    private final String url;
    private String stream = "";
    private String subjectPrefix = "";
    private EventFormat format = EventFormat.JSON;
    private Duration publishTimeout = Duration.ofSeconds(5);
    private Duration connectTimeout = Duration.ofSeconds(60);
    private Duration rotationTimeout = Duration.ofMinutes(1);
    private @Nullable Supplier<Credentials> credentials;
    private @Nullable SSLContext tls;
    private int maxPending = 1024;
    private int replicas = 1;
    private InstantSource clock = InstantSource.system();
    private final List<Consumer<? super Options.Builder>> configure = new ArrayList<>();
    private final List<Consumer<? super StreamConfiguration.Builder>> configureStream =
        new ArrayList<>();
    private @Nullable OpenTelemetry openTelemetry;
    private @Nullable MeterRegistry registry;

    private Builder(@Nullable String url) {
      this.url = Objects.requireNonNullElse(url, "");
    }

    /**
     * Sets the name of the stream (required).
     *
     * @param name letters, digits, {@code -} and {@code _} are safe
     * @return this
     */
    public Builder stream(String name) {
      this.stream = requireNonNull(name, "stream");
      return this;
    }

    /**
     * Sets how all subjects begin (required). The {@code source} of events is the prefix without a last {@code
     * .changes}.
     *
     * @param prefix tokens with dots between them, such as {@code notes.changes}; blanks around it and one dot at its
     *     end do not count
     * @return this
     */
    public Builder subjectPrefix(String prefix) {
      this.subjectPrefix = requireNonNull(prefix, "subjectPrefix");
      return this;
    }

    /**
     * Sets how events are written (JSON). Every format is read.
     *
     * @param format the format
     * @return this
     */
    public Builder format(EventFormat format) {
      this.format = requireNonNull(format, "format");
      return this;
    }

    /**
     * Limits each publishing (5 s), including the waits for the connection and for a place among the pending events.
     *
     * @param timeout more than zero
     * @return this
     */
    public Builder publishTimeout(Duration timeout) {
      this.publishTimeout = requireNonNull(timeout, "publishTimeout");
      return this;
    }

    /**
     * Limits how many events may be pending, which are sent and not acknowledged (1024); who publishes more waits.
     *
     * @param events one or more
     * @return this
     */
    public Builder maxPending(int events) {
      this.maxPending = events;
      return this;
    }

    /**
     * Sets how long to wait for a NATS that is not up, in attempts 2 s apart (60 s).
     *
     * @param timeout zero for one attempt
     * @return this
     */
    public Builder connectTimeout(Duration timeout) {
      this.connectTimeout = requireNonNull(timeout, "connectTimeout");
      return this;
    }

    /**
     * Logs in with what this gives, which may change (default: what the URL or the options say; the URL then must not).
     * An empty user makes the password a token. It is read at each login, and once more when the first login is
     * refused. A connection that was made with what was given before is replaced {@linkplain #rotationTimeout within a
     * minute}, after a login with the new was good; what is being published waits for it. Servers that were told the
     * new password end older connections by themselves.
     *
     * <p>While it throws, gives null or takes more than 5 s, the open connection stays, and reconnects with what was
     * given last.
     *
     * @param credentials such as {@link Credentials#fromFile}; called on threads of the client, one call at a time
     * @return this
     */
    public Builder credentials(Supplier<Credentials> credentials) {
      this.credentials = requireNonNull(credentials, "credentials");
      return this;
    }

    /**
     * Connects by TLS of this context, such as that of {@code ClientTls} of runtime-mtls (default: none with {@code
     * nats://}, the JDK's with {@code tls://}), and to no server without TLS. Its trust manager checks the server's
     * name, or nobody does.
     *
     * <p>When {@link SSLContext#getClientSessionContext} gives another object, as that of a {@code ClientTls} does
     * after its files have changed, the connection is replaced {@linkplain #rotationTimeout within a minute}.
     *
     * @param context the context
     * @return this
     */
    public Builder tls(SSLContext context) {
      this.tls = requireNonNull(context, "tls");
      return this;
    }

    /**
     * Sets within which time after a change of {@linkplain #credentials credentials} or {@linkplain #tls certificates}
     * the connection is replaced (1 minute). A sixth of it is the time between two looks.
     *
     * @param time more than zero
     * @return this
     */
    public Builder rotationTimeout(Duration time) {
      this.rotationTimeout = requireNonNull(time, "rotationTimeout");
      return this;
    }

    /**
     * Changes the client's options, such as credentials, name or error listener. A token supplier and an authentication
     * handler (such as {@code Nats.credentials(file)}, which reads its file each time) are asked at each login, so that
     * they can give what has been rotated; a password in the URL or in {@code userInfo} stays what it is. A server pool
     * of one's own, or a number of reconnects, takes the place of this bus's, which never gives up.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configure(Consumer<? super Options.Builder> change) {
      configure.add(requireNonNull(change, "configure"));
      return this;
    }

    /**
     * Sets on how many servers a missing stream is kept, and that of its dead letters (1). With 3 of a cluster both
     * outlive the loss of one server; what has no majority takes nothing.
     *
     * @param servers 1 to 5, and not more than the cluster has
     * @return this
     */
    public Builder replicas(int servers) {
      this.replicas = servers;
      return this;
    }

    /**
     * Changes the configuration that a missing stream is created with (limits retention, 7 days, files, {@link
     * #replicas}), and that an existing one is compared with.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configureStream(Consumer<? super StreamConfiguration.Builder> change) {
      configureStream.add(requireNonNull(change, "configureStream"));
      return this;
    }

    /**
     * Records spans {@code nats.publish} and {@code nats.process}, and sends the trace along (default: none).
     *
     * @param openTelemetry makes the spans; its propagators write, W3C trace context is read
     * @return this
     */
    public Builder openTelemetry(OpenTelemetry openTelemetry) {
      this.openTelemetry = requireNonNull(openTelemetry, "openTelemetry");
      return this;
    }

    /**
     * Registers {@code natsbus_publish_failures_total} and {@code natsbus_connected} (default: nothing).
     *
     * @param registry gets the meters
     * @return this
     */
    public Builder metrics(MeterRegistry registry) {
      this.registry = requireNonNull(registry, "registry");
      return this;
    }

    /**
     * Sets the clock for changes without a time (the system's clock).
     *
     * @param clock the clock
     * @return this
     */
    public Builder clock(InstantSource clock) {
      this.clock = requireNonNull(clock, "clock");
      return this;
    }

    private Secret secret() {
      return new Secret(
          credentials == null ? null : requireNonNull(credentials.get(), "credentials"),
          tls == null ? null : tls.getClientSessionContext());
    }

    private List<String> servers() {
      List<String> problems = new ArrayList<>();
      List<String> servers = List.of();
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
        problems.add("publishTimeout must be more than zero: " + publishTimeout);
      }
      if (connectTimeout.isNegative()) {
        problems.add("connectTimeout must be zero or more: " + connectTimeout);
      }
      if (replicas < 1 || replicas > MAX_REPLICAS) {
        problems.add("replicas must be 1 to " + MAX_REPLICAS + ": " + replicas);
      }
      if (!rotationTimeout.isPositive()) {
        problems.add("rotationTimeout must be more than zero: " + rotationTimeout);
      }
      if (credentials != null && servers.stream().anyMatch(server -> server.contains("@"))) {
        problems.add("credentials are given: the url must not have user or password");
      }
      if (maxPending < 1) {
        problems.add("maxPending must be one or more: " + maxPending);
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      return servers;
    }

    private StreamConfiguration streamConfiguration() {
      StreamConfiguration.Builder wanted =
          Streams.standard(stream, Subjects.filter(Subjects.prefix(subjectPrefix)), replicas);
      configureStream.forEach(change -> change.accept(wanted));
      return wanted.build();
    }

    /**
     * Connects, and creates the stream if it does not exist. Waits for a NATS that is not up; refused credentials are
     * not retried.
     *
     * @return the connected bus; the caller closes it
     * @throws IllegalArgumentException if settings are missing or wrong; the message names all of them
     * @throws StartupException if NATS does not come up ({@code nats_connect: ...}), has no JetStream ({@code
     *     jetstream_connect: ...}) or refuses the stream ({@code create_stream: ...}); also when interrupted, with the
     *     flag set again
     */
    public NatsBus open() {
      List<String> servers = servers();
      Rotation<Secret> rotation =
          credentials == null && tls == null ? null : Rotation.of("nats", this::secret);
      Connecting connecting = new Connecting(servers, configure, tls, rotation, connectTimeout);
      StreamConfiguration wanted = streamConfiguration();
      Connection connection = connecting.connect();
      NatsBus bus = new NatsBus(connection, this, wanted);
      boolean ready = false;
      try {
        bus.watch();
        bus.duplicateWindow = Streams.duplicateWindow(connecting.prepare(connection, wanted));
        if (rotation != null) {
          bus.rotation = rotation;
          rotation.watch(
              rotationTimeout.dividedBy(READINGS),
              version -> connecting.renew(connection, version));
        }
        ready = true;
        return bus;
      } finally {
        if (!ready) {
          bus.close();
        }
      }
    }
  }

  private void watch() {
    Runnable reconnected = () -> {
      sender.reconnected();
      streamKeeper.reconnected();
    };
    connection.addConnectionListener(new ConnectionLog.Changes(reconnected, closed::get));
  }
}
