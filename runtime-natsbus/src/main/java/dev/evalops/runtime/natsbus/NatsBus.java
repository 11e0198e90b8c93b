package dev.evalops.runtime.natsbus;

import static java.util.Objects.requireNonNull;
import static java.util.Objects.requireNonNullElse;

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
import io.opentelemetry.api.OpenTelemetry;
import java.time.Duration;
import java.time.InstantSource;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
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
 * NatsBus bus = life.add("nats", NatsBus.builder(natsUrl).stream("NOTES").subjectPrefix("notes.changes").open());
 *
 * bus.publish(Change.of("note", note.id(), "create").organization(org).version(1).payload(noteProto));
 * life.add("indexer", bus.consumer("notes.changes.>", "indexer").start(event -> index.apply(event)));
 * }</pre>
 *
 * <p>The subject of a change is {@code <prefix>.<aggregate type>.<operation>}. The stream is created if it does not
 * exist. An existing stream is compared, and never changed; a stream that a server has lost is created again after
 * reconnecting. A lost connection is restored in the background, however long it takes, even if logins are refused:
 * {@link #connection} stays the same. A publish meanwhile waits for {@link Builder#publishTimeout}, and then fails. For
 * changes that must not be lost use {@link dev.evalops.runtime.natsbus.spool.SpooledPublisher} or the outbox.
 *
 * <p>Delivery is at least once: the stream drops repeats within its {@linkplain #duplicateWindow duplicate window}, and
 * a consumer that must handle each event once keeps {@link Event#id()}, or the last {@link Event#version()} of each
 * {@link Event#aggregateId()}.
 *
 * <p>Thread-safe.
 */
public final class NatsBus implements ChangePublisher, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(NatsBus.class);
  private static final Duration CLOSE_BOUND = Duration.ofSeconds(2);

  private final Connection connection;
  private final BusSettings settings;
  private volatile Duration duplicateWindow;
  private final Publishing publishing;
  private final StreamKeeper streamKeeper;
  private final @Nullable Telemetry telemetry;
  private final Consumers consumers = new Consumers();
  private final AtomicBoolean closed = new AtomicBoolean();
  private @Nullable Rotation<Secret> rotation;

  private NatsBus(Connection connection, BusSettings settings, StreamConfiguration wanted) {
    this.connection = connection;
    this.settings = settings;
    this.duplicateWindow = Streams.duplicateWindow(wanted);
    this.streamKeeper = new StreamKeeper(connection, wanted, consumers::checkNow);
    this.telemetry = settings.openTelemetry == null ? null : new Telemetry(settings.openTelemetry);
    this.publishing = new Publishing(connection, settings, telemetry);
    Runnable reconnected = () -> {
      publishing.sender().reconnected();
      streamKeeper.reconnected();
    };
    connection.addConnectionListener(new ConnectionLog.Changes(reconnected, closed::get));
    if (connection.getOptions().getErrorListener() instanceof ConnectionLog log) {
      log.onError(publishing.sender()::error);
    }
  }

  /**
   * Returns a builder.
   *
   * @param url the URL of NATS, such as {@code nats://user:password@host:4222}, {@code tls://host}, or several with
   *     commas between them; user and password are percent-encoded; null, as of an environment variable that is not
   *     set, is refused by {@code open}
   * @return a builder with the defaults
   */
  public static Builder builder(@Nullable String url) {
    return new Builder(url);
  }

  /**
   * Opens a bus with the defaults of {@link Builder}.
   *
   * @param url the URL of NATS, as in {@link #builder}
   * @param stream the name of the stream
   * @param subjectPrefix the beginning of all subjects, such as {@code notes.changes}
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
   * @throws PublishException if the change is not known to be stored; also when interrupted, with the flag set again
   */
  @Override
  public Outcome publish(Change change) {
    return publishing.publish(change);
  }

  /**
   * Publishes a change without waiting for the acknowledgement. While {@link Builder#maxPending} events are pending, it
   * waits for one of them. The order is kept as by {@link #publish}.
   *
   * @param change what has happened
   * @return the outcome, or a {@link PublishException} within {@link Builder#publishTimeout}. It is completed by a
   *     thread of the NATS client: what is chained to it must not block
   * @throws IllegalArgumentException if the change cannot be written; the message names the parameter
   */
  public CompletableFuture<Outcome> publishAsync(Change change) {
    return publishing.publishAsync(change);
  }

  @Override
  public EncodedEvent encode(Change change) {
    return publishing.encode(change);
  }

  /**
   * {@inheritDoc}
   *
   * <p>Takes at most {@link Builder#publishTimeout}, waits while {@link Builder#maxPending} events are pending, and
   * keeps the order of each {@linkplain EncodedEvent#lane() lane}: when one fails, those that wait behind it fail, too.
   */
  @Override
  public CompletableFuture<Outcome> send(EncodedEvent event) {
    return publishing.send(event);
  }

  /**
   * {@inheritDoc}
   *
   * <p>Returns the window that the stream had when the bus was opened.
   */
  @Override
  public Optional<Duration> duplicateWindow() {
    return Optional.of(duplicateWindow);
  }

  Sender sender() {
    return publishing.sender();
  }

  /**
   * Returns the event of a message, for code with its own subscription. Consumers of this bus need no such call.
   *
   * @param message the message, in any format
   * @return the event
   * @throws IllegalArgumentException if it is not an event; the message says what is wrong
   */
  public static Event read(Message message) {
    byte[] body = message.getData();
    return Event.read(HeaderGuard.read(message.getHeaders()), body == null ? new byte[0] : body);
  }

  /**
   * Returns a builder of a consumer. When it starts for the first time, it gets the events that are stored from then
   * on; {@code deliver(DeliverPolicy.All)} gives it those that the stream already has, too.
   *
   * @param subject the subject of the events, such as {@code notes.changes.>}
   * @param durable the name under which the server remembers the position of the consumer; processes with the same
   *     name share the events
   * @return a builder with the defaults
   */
  public EventConsumer.Builder consumer(String subject, String durable) {
    return new EventConsumer.Builder(this, subject, durable);
  }

  /**
   * Returns the connection, for a health check or another use of NATS.
   *
   * @return the connection, always the same
   */
  public Connection connection() {
    return connection;
  }

  BusSettings settings() {
    return settings;
  }

  @Nullable
  Telemetry telemetry() {
    return telemetry;
  }

  Consumers consumers() {
    return consumers;
  }

  /**
   * Closes its consumers as {@link EventConsumer#close} does, all at the same time, accepts no more changes, waits up
   * to 2 s for those that are being published, and closes the connection. A second call does nothing.
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
      consumers.close();
      publishing.finish(CLOSE_BOUND);
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
    publishing.close();
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** Returns the name of the stream; the URL is left out, as it may hold a password. */
  @Override
  public String toString() {
    return "NatsBus[" + settings.stream + "]";
  }

  /** The settings of a bus. Not thread-safe. */
  public static final class Builder {
    private final BusSettings settings;

    private Builder(@Nullable String url) {
      this.settings = new BusSettings(requireNonNullElse(url, ""));
    }

    /**
     * Sets the name of the stream (required).
     *
     * @param name letters, digits, {@code -} and {@code _} are safe
     * @return this
     */
    public Builder stream(String name) {
      settings.stream = requireNonNull(name, "stream");
      return this;
    }

    /**
     * Sets the beginning of all subjects (required). The {@code source} of events is the prefix without a final {@code
     * .changes}.
     *
     * @param prefix tokens with dots between them, such as {@code notes.changes}; blanks around it and a dot at its end
     *     are removed
     * @return this
     */
    public Builder subjectPrefix(String prefix) {
      settings.subjectPrefix = requireNonNull(prefix, "subjectPrefix");
      return this;
    }

    /**
     * Sets the format in which events are written (JSON). Consumers read every format.
     *
     * @param format the format
     * @return this
     */
    public Builder format(EventFormat format) {
      settings.format = requireNonNull(format, "format");
      return this;
    }

    /**
     * Limits each publishing (5 s), including the waits for the connection and for a place among the pending events.
     *
     * @param timeout more than zero
     * @return this
     */
    public Builder publishTimeout(Duration timeout) {
      settings.publishTimeout = requireNonNull(timeout, "publishTimeout");
      return this;
    }

    /**
     * Limits how many events may be pending, that is sent but not acknowledged (1024). More calls to publish wait.
     *
     * @param events one or more
     * @return this
     */
    public Builder maxPending(int events) {
      settings.maxPending = events;
      return this;
    }

    /**
     * Sets how long {@link #open} waits for a NATS that is not up, in attempts 2 s apart (60 s).
     *
     * @param timeout zero for one attempt
     * @return this
     */
    public Builder connectTimeout(Duration timeout) {
      settings.connectTimeout = requireNonNull(timeout, "connectTimeout");
      return this;
    }

    /**
     * Logs in with the credentials of a supplier, which may change (default: those of the URL or the options; with a
     * supplier the URL must have none). With an empty user the password is a token. The supplier is called at each
     * login, and once more if the first login is refused. When the credentials change, the connection is replaced
     * {@linkplain #rotationTimeout within a minute}, after a login with the new credentials has succeeded; changes that
     * are being published wait for it.
     *
     * <p>While the supplier throws, returns null or takes more than 5 s, the open connection stays, and reconnects with
     * the last credentials.
     *
     * @param credentials such as {@link Credentials#fromFile}; called on threads of the client, one call at a time
     * @return this
     */
    public Builder credentials(Supplier<Credentials> credentials) {
      settings.credentials = requireNonNull(credentials, "credentials");
      return this;
    }

    /**
     * Connects with TLS of this context, such as that of {@code ClientTls} of runtime-mtls, and to no server without
     * TLS (default: no TLS with {@code nats://}, the JDK's context with {@code tls://}). Only the trust manager of the
     * context can check the server's name; the client does not.
     *
     * <p>When {@link SSLContext#getClientSessionContext} returns another object, as that of a {@code ClientTls} does
     * after its files have changed, the connection is replaced {@linkplain #rotationTimeout within a minute}.
     *
     * @param context the context
     * @return this
     */
    public Builder tls(SSLContext context) {
      settings.tls = requireNonNull(context, "tls");
      return this;
    }

    /**
     * Sets the time in which the connection is replaced after a change of {@linkplain #credentials credentials} or
     * {@linkplain #tls certificates} (1 minute). They are checked six times in this time.
     *
     * @param time more than zero
     * @return this
     */
    public Builder rotationTimeout(Duration time) {
      settings.rotationTimeout = requireNonNull(time, "rotationTimeout");
      return this;
    }

    /**
     * Changes the client's options, such as credentials, name or error listener. A token supplier and an authentication
     * handler (such as {@code Nats.credentials(file)}, which reads its file each time) are called at each login, so
     * they can rotate; a password in the URL or in {@code userInfo} cannot. Your own server pool, or a number of
     * reconnects, replaces that of this bus, which never gives up.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configure(Consumer<? super Options.Builder> change) {
      settings.configure.add(requireNonNull(change, "configure"));
      return this;
    }

    /**
     * Sets the number of replicas with which a missing stream, and its stream of dead letters, is created (1). With 3
     * replicas they survive the loss of one server. A stream without a majority of its replicas stores nothing.
     *
     * @param servers 1 to 5, and not more than the cluster has
     * @return this
     */
    public Builder replicas(int servers) {
      settings.replicas = servers;
      return this;
    }

    /**
     * Changes the configuration with which a missing stream is created (limits retention, 7 days, files, {@link
     * #replicas}), and with which an existing one is compared.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configureStream(Consumer<? super StreamConfiguration.Builder> change) {
      settings.configureStream.add(requireNonNull(change, "configureStream"));
      return this;
    }

    /**
     * Records spans {@code nats.publish} and {@code nats.process}, and adds the trace to events (default: none).
     *
     * @param openTelemetry records the spans; its propagators write the trace context, and W3C trace context is read
     * @return this
     */
    public Builder openTelemetry(OpenTelemetry openTelemetry) {
      settings.openTelemetry = requireNonNull(openTelemetry, "openTelemetry");
      return this;
    }

    /**
     * Registers {@code natsbus_publish_failures_total} and {@code natsbus_connected} (default: nothing).
     *
     * @param registry gets the meters
     * @return this
     */
    public Builder metrics(MeterRegistry registry) {
      settings.registry = requireNonNull(registry, "registry");
      return this;
    }

    /**
     * Sets the clock for changes without a time (the system's clock).
     *
     * @param clock the clock
     * @return this
     */
    public Builder clock(InstantSource clock) {
      settings.clock = requireNonNull(clock, "clock");
      return this;
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
      BusSettings now = new BusSettings(settings);
      Connecting connecting = new Connecting(now);
      StreamConfiguration wanted = now.streamConfiguration();
      Connection connection = connecting.connect();
      NatsBus bus = new NatsBus(connection, now, wanted);
      try {
        bus.duplicateWindow = Streams.duplicateWindow(connecting.prepare(connection, wanted));
        bus.rotation = connecting.watch(connection);
        return bus;
      } catch (RuntimeException | Error failure) {
        bus.close();
        throw failure;
      }
    }
  }
}
