package dev.evalops.runtime.redis;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Credentials;
import dev.evalops.runtime.startup.Retry;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.codec.StringCodec;
import io.lettuce.core.event.command.CommandListener;
import io.lettuce.core.resource.ClientResources;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.function.Supplier;
import javax.net.ssl.SSLContext;
import org.jspecify.annotations.Nullable;

/**
 * A Lettuce connection, which has answered a ping, and its client. Opening waits for a server that refuses connections,
 * is loading or has no DNS name yet; permanent failures (bad credentials or database, TLS refused, bad URL) are not
 * retried.
 *
 * <pre>{@code
 * try (Redis redis = Redis.open(redisUrl)) {
 *   redis.connection().sync().set("greeting", "hello");
 * }
 * }</pre>
 *
 * <p>The URL is read by Lettuce: {@code redis://user:password@host:6379/0}, {@code rediss://} for TLS, {@code
 * redis-sentinel://host1,host2/0#master}. An unknown parameter is an error. No exception and no log line holds a
 * password, except Lettuce's own wire log at level TRACE.
 *
 * <p>While the server is away, commands fail at once, and the connection is restored in the background. Commands that
 * were waiting for an answer fail and are never sent twice. A command without an answer fails after 3 s, or the time in
 * {@code ?timeout=}. If an answer tells that the server has become a replica ({@code READONLY}), the connection is
 * closed and opened again, at most once per second, with the address resolved again. The same happens, at the next
 * command, if the server has left commands unanswered for twice the command timeout, because it is stopped or cut off.
 * Use a separate connection for blocking commands, and send nothing else on it.
 *
 * <p>Thread-safe.
 */
public final class Redis implements AutoCloseable {
  private final ClientResources resources;
  private final RedisClient client;
  private final StatefulRedisConnection<String, String> connection;
  private final Renewals renewals;
  private final AtomicBoolean closed = new AtomicBoolean();

  private Redis(
      ClientResources resources,
      RedisClient client,
      StatefulRedisConnection<String, String> connection,
      Renewals renewals) {
    this.resources = resources;
    this.client = client;
    this.connection = connection;
    this.renewals = renewals;
  }

  /**
   * Opens a connection with the defaults of {@link #builder}.
   *
   * @param url the Redis URL; null, as of an environment variable that is not set, is refused by {@code open}
   * @return a connection that has answered; the caller closes it
   * @throws IllegalArgumentException if the URL is wrong ({@code parse_redis_url: ...}); the message does not hold it
   * @throws StartupException if Redis does not come up, or refuses the connection
   */
  public static Redis open(@Nullable String url) {
    return builder(url).open();
  }

  /**
   * Returns a builder.
   *
   * @param url the Redis URL; null, as of an environment variable that is not set, is refused by {@code open}
   * @return a builder with the defaults
   */
  public static Builder builder(@Nullable String url) {
    return new Builder(url);
  }

  /**
   * Returns the connection, which many threads may share. For blocking commands, transactions or subscriptions open
   * another one with {@link #client}.
   *
   * @return the connection, always the same
   */
  public StatefulRedisConnection<String, String> connection() {
    return connection;
  }

  /**
   * Returns the client, for more connections; they are closed with it.
   *
   * @return the client, always the same
   */
  public RedisClient client() {
    return client;
  }

  /**
   * Closes every connection of the client, and ends its threads, within 4 s. Commands under way fail. A second call
   * does nothing.
   */
  @Override
  public void close() {
    if (closed.compareAndSet(false, true)) {
      renewals.close();
      Clients.shutDown(client, resources);
    }
  }

  /** Describes a connection. Not thread-safe. */
  public static final class Builder {
    private final String url;
    private final List<Consumer<? super ClientOptions.Builder>> configure = new ArrayList<>();
    private final List<Consumer<? super ClientResources.Builder>> configureResources =
        new ArrayList<>();
    private final List<CommandListener> listeners = new ArrayList<>();
    private Duration pingTimeout = Duration.ofSeconds(5);
    private Duration rotationTimeout = Duration.ofMinutes(1);
    private @Nullable Supplier<Credentials> credentials;
    private @Nullable SSLContext tls;
    private Retry retry = Clients.retry();

    private Builder(@Nullable String url) {
      this.url = Objects.requireNonNullElse(url, "");
    }

    /**
     * Changes the client's options; TLS from PEM files is {@code
     * options.sslOptions(SslOptions.builder().trustManager(ca).keyManager(certificate, key, null).build())}.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configure(Consumer<? super ClientOptions.Builder> change) {
      configure.add(Objects.requireNonNull(change, "configure"));
      return this;
    }

    /**
     * Changes the client's resources: threads, command latency recorder, tracing. They belong to the connection and end
     * with it.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configureResources(Consumer<? super ClientResources.Builder> change) {
      configureResources.add(Objects.requireNonNull(change, "configureResources"));
      return this;
    }

    /**
     * Adds a listener that sees each command, such as for metrics. Lettuce wants it before a connection is made.
     *
     * @param listener called on the threads that send and receive; must not block
     * @return this
     */
    public Builder commandListener(CommandListener listener) {
      listeners.add(Objects.requireNonNull(listener, "commandListener"));
      return this;
    }

    /**
     * Logs in with the credentials of a supplier, which may change (default: those of the URL; with a supplier the URL
     * must have neither user nor password). An empty user is the default user of Redis. The supplier is called at each
     * login, and once more if the first login is refused. When the credentials change, connections from before are
     * replaced {@linkplain #rotationTimeout within a minute}, after a login with the new credentials has succeeded.
     * Commands that were sent before are answered, and new ones wait. A subscription misses what is published in
     * between.
     *
     * <p>If the supplier throws, returns null or takes more than 5 s, the login fails; open connections stay.
     *
     * @param credentials such as {@link Credentials#fromFile}; called on threads of the client, one call at a time
     * @return this
     */
    public Builder credentials(Supplier<Credentials> credentials) {
      this.credentials = Objects.requireNonNull(credentials, "credentials");
      return this;
    }

    /**
     * Connects with TLS of this context, such as that of {@code ClientTls} of runtime-mtls (default: Lettuce's own
     * options). The URL must ask for TLS. The context replaces a {@code nettyCustomizer} of the resources.
     *
     * <p>When {@link SSLContext#getClientSessionContext} returns another object, as that of a {@code ClientTls} does
     * after its files have changed, connections from before are replaced {@linkplain #rotationTimeout within a minute}.
     *
     * @param context the context
     * @return this
     */
    public Builder tls(SSLContext context) {
      this.tls = Objects.requireNonNull(context, "tls");
      return this;
    }

    /**
     * Sets the time in which the connections from before a change of {@linkplain #credentials credentials} or
     * {@linkplain #tls certificates} are replaced (1 minute). A connection in a transaction or a blocking command is
     * replaced after that; if other commands wait behind it, it is cut at the end of this time. Changes are checked for
     * six times in this time, and the connections are replaced one after the other over half of it.
     *
     * @param time more than zero
     * @return this
     */
    public Builder rotationTimeout(Duration time) {
      this.rotationTimeout = Objects.requireNonNull(time, "rotationTimeout");
      return this;
    }

    /**
     * Limits each attempt to connect and ping (5 s).
     *
     * @param timeout more than zero
     * @return this
     */
    public Builder pingTimeout(Duration timeout) {
      this.pingTimeout = Objects.requireNonNull(timeout, "pingTimeout");
      return this;
    }

    /**
     * Sets how often to try (30 times, 2 s apart; each failed attempt is logged as a warning, except the last, which is
     * thrown). Permanent failures (such as a wrong password) are not retried.
     *
     * @param retry attempts and delays; its own rules to stop still apply
     * @return this
     */
    public Builder retry(Retry retry) {
      this.retry = Objects.requireNonNull(retry, "retry");
      return this;
    }

    /**
     * Opens the connection. If it gives up or is interrupted, none of its threads is left.
     *
     * @return a connection that has answered; the caller closes it
     * @throws IllegalArgumentException naming what is wrong: the URL ({@code parse_redis_url: ...}; the message does
     *     not hold it), a setting
     * @throws StartupException if Redis does not come up, or refuses the connection; the message says why ({@code ...
     *     ping_redis: ...})
     */
    public Redis open() {
      Renewals renewals = new Renewals(credentials, tls, rotationTimeout);
      RedisURI uri = Clients.checked(pingTimeout, rotationTimeout, () -> parse(renewals));
      ClientOptions.Builder options = ClientOptions.builder();
      Clients.setDefaults(options);
      configure.forEach(change -> change.accept(options));
      ClientResources resources = Clients.resources(configureResources, renewals, uri.getTimeout());
      RedisClient client = new FailoverClient(resources, uri, renewals);
      AtomicInteger calls = new AtomicInteger();
      Supplier<RedisURI> servers = () -> inTurn(quickly(parse(renewals)), calls.getAndIncrement());
      boolean opened = false;
      try {
        client.setOptions(options.build());
        listeners.forEach(client::addListener);
        StatefulRedisConnection<String, String> connection = retry
            .stopWhen(Failures::isNotPermitted)
            .call(() -> renewals.connect(() -> connect(client, servers.get())));
        connection.setTimeout(uri.getTimeout());
        renewals.start(client, options.build(), () -> List.of(servers.get()), pingTimeout);
        opened = true;
        return new Redis(resources, client, connection, renewals);
      } finally {
        if (!opened) {
          Clients.shutDown(client, resources);
        }
      }
    }

    private RedisURI parse(Renewals renewals) {
      RedisURI uri = RedisUrl.parse(url);
      renewals.applyTo(uri);
      return uri;
    }

    /** Lettuce asks the sentinels one after the other, and one that is silent takes all the time of an attempt. */
    private static RedisURI inTurn(RedisURI uri, int call) {
      Collections.rotate(uri.getSentinels(), -call);
      return uri;
    }

    private StatefulRedisConnection<String, String> connect(RedisClient client, RedisURI uri)
        throws InterruptedException {
      return Clients.pinged(
          client.connectAsync(StringCodec.UTF8, uri).toCompletableFuture(),
          connected -> connected.async().ping(),
          pingTimeout);
    }

    private RedisURI quickly(RedisURI uri) {
      uri.setTimeout(Clients.bounded(
          pingTimeout)); // of the handshake, here and when the connection comes back
      uri.getSentinels().forEach(sentinel -> sentinel.setTimeout(Clients.bounded(pingTimeout)));
      return uri;
    }
  }
}
