package dev.evalops.runtime.redis;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Credentials;
import dev.evalops.runtime.startup.Retry;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisURI;
import io.lettuce.core.cluster.ClusterClientOptions;
import io.lettuce.core.cluster.ClusterTopologyRefreshOptions;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.SlotHash;
import io.lettuce.core.cluster.api.StatefulRedisClusterConnection;
import io.lettuce.core.cluster.models.partitions.RedisClusterNode;
import io.lettuce.core.codec.StringCodec;
import io.lettuce.core.event.command.CommandListener;
import io.lettuce.core.resource.ClientResources;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import java.util.function.Supplier;
import javax.net.ssl.SSLContext;
import org.jspecify.annotations.Nullable;

/**
 * A Lettuce connection to a Redis Cluster, which has answered a ping. Opening waits in the same way as {@link Redis}.
 *
 * <pre>{@code
 * try (RedisCluster redis = RedisCluster.open("redis://host1:6379,host2:6379,host3:6379")) {
 *   redis.connection().sync().set("greeting", "hello");
 * }
 * }</pre>
 *
 * <p>The URL is that of {@link Redis}, with one or more nodes and no database; the first node that answers names the
 * others. The topology is read every 5 s, and at once (at most once per second) when a node redirects or cannot be
 * reached. As with {@link Redis}, commands to a node that is away fail at once, none is sent twice, and the connection
 * to a node that has left commands unanswered for twice the command timeout is opened again.
 *
 * <p>Thread-safe.
 */
public final class RedisCluster implements AutoCloseable {
  private static final long CONNECT_MASTERS_NANOS = TimeUnit.SECONDS.toNanos(1);

  /** Of an attempt: Lettuce waits for all nodes of the URL, then for all that these name, then connects. */
  private static final int STEPS = 3;

  private final ClientResources resources;
  private final RedisClusterClient client;
  private final StatefulRedisClusterConnection<String, String> connection;
  private final Renewals renewals;
  private final AtomicBoolean closed = new AtomicBoolean();

  private RedisCluster(
      ClientResources resources,
      RedisClusterClient client,
      StatefulRedisClusterConnection<String, String> connection,
      Renewals renewals) {
    this.resources = resources;
    this.client = client;
    this.connection = connection;
    this.renewals = renewals;
  }

  /**
   * Opens a connection with the defaults of {@link #builder}.
   *
   * @param url the URL of one or more nodes; null, as an environment variable that is not set, is refused by {@code
   *     open}
   * @return a connection that has answered; the caller closes it
   * @throws IllegalArgumentException if the URL is wrong ({@code parse_redis_url: ...}); the message does not hold it
   * @throws StartupException if no node comes up, or refuses, or is none of a cluster
   */
  public static RedisCluster open(@Nullable String url) {
    return builder(url).open();
  }

  /**
   * Returns a builder.
   *
   * @param url the URL of one or more nodes; null, as an environment variable that is not set, is refused by {@code
   *     open}
   * @return a builder with the defaults
   */
  public static Builder builder(@Nullable String url) {
    return new Builder(url);
  }

  /**
   * Returns the connection, which many threads may share.
   *
   * @return the connection, always the same
   */
  public StatefulRedisClusterConnection<String, String> connection() {
    return connection;
  }

  /**
   * Returns the client, for more connections; they are closed with it.
   *
   * @return the client, always the same
   */
  public RedisClusterClient client() {
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
    private final List<Consumer<? super ClusterClientOptions.Builder>> configure =
        new ArrayList<>();
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
     * Changes the client's options.
     *
     * @param change what to change; a further call adds to it
     * @return this
     */
    public Builder configure(Consumer<? super ClusterClientOptions.Builder> change) {
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
     * Adds a listener that sees each command, such as for metrics.
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
     * Commands that were sent before are answered, and new ones wait.
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
     * Limits each step of an attempt to connect (5 s): to the nodes of the URL, to those that they name, and the ping.
     * While a node is silent, such as one whose machine has lost power, the step with it takes all of this time.
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
     * @throws StartupException if no node comes up, if the nodes refuse the connection, or are not of a cluster; the
     *     message says why ({@code ... ping_redis: ...})
     */
    public RedisCluster open() {
      Renewals renewals = new Renewals(credentials, tls, rotationTimeout);
      List<RedisURI> nodes = Clients.checked(pingTimeout, rotationTimeout, () -> parse(renewals));
      Duration commandTimeout = nodes.getFirst().getTimeout();
      nodes.forEach(node -> node.setTimeout(Clients.bounded(pingTimeout))); // of the handshake
      ClusterClientOptions.Builder options = ClusterClientOptions.builder()
          .topologyRefreshOptions(ClusterTopologyRefreshOptions.builder()
              .adaptiveRefreshTriggersTimeout(Duration.ofSeconds(1))
              .enablePeriodicRefresh(Duration.ofSeconds(5))
              .build());
      Clients.setDefaults(options);
      configure.forEach(change -> change.accept(options));
      ClientResources resources = Clients.resources(configureResources, renewals, commandTimeout);
      RedisClusterClient client = renewals.isUsed()
          ? new ClusterClient(resources, nodes, renewals)
          : RedisClusterClient.create(resources, nodes);
      boolean opened = false;
      try {
        client.setOptions(options.build());
        listeners.forEach(client::addListener);
        StatefulRedisClusterConnection<String, String> connection = retry
            .stopWhen(Failures::isNotPermitted)
            .call(() -> renewals.connect(() -> connect(client)));
        connection.setTimeout(commandTimeout);
        renewals.start(client, options.build(), () -> each(client, nodes.getFirst()), pingTimeout);
        opened = true;
        return new RedisCluster(resources, client, connection, renewals);
      } finally {
        if (!opened) {
          Clients.shutDown(client, resources);
        }
      }
    }

    private List<RedisURI> parse(Renewals renewals) {
      List<RedisURI> nodes = RedisUrl.parseNodes(url);
      nodes.forEach(renewals::applyTo);
      return nodes;
    }

    /** The nodes that are known at the moment. */
    private static List<RedisURI> each(RedisClusterClient client, RedisURI seed) {
      return client.getPartitions().stream()
          .map(node -> RedisURI.builder(seed)
              .withHost(node.getUri().getHost())
              .withPort(node.getUri().getPort())
              .build())
          .toList();
    }

    private StatefulRedisClusterConnection<String, String> connect(RedisClusterClient client)
        throws InterruptedException {
      CompletableFuture<StatefulRedisClusterConnection<String, String>> connecting = client
          .refreshPartitionsAsync()
          .toCompletableFuture()
          .thenCompose(refreshed -> client.connectAsync(StringCodec.UTF8));
      StatefulRedisClusterConnection<String, String> connected = Clients.pinged(
          connecting,
          connection -> connection.async().ping(),
          Clients.bounded(pingTimeout).multipliedBy(STEPS));
      long deadline = System.nanoTime() + CONNECT_MASTERS_NANOS;
      for (RedisClusterNode node : connected.getPartitions()) {
        if (node.is(RedisClusterNode.NodeFlag.UPSTREAM) && !node.getSlots().isEmpty()) {
          connect(connected, node, deadline);
        }
      }
      return connected;
    }

    /**
     * Lettuce rejects the first command to a node, and connects for the next ones. A node that is away is left for
     * later.
     */
    private static void connect(
        StatefulRedisClusterConnection<String, String> connected,
        RedisClusterNode node,
        long deadline)
        throws InterruptedException {
      int i = 0;
      while (!node.hasSlot(SlotHash.getSlot("open-" + i))) {
        i++;
      }
      boolean done = false;
      while (!done && System.nanoTime() - deadline < 0) {
        try {
          connected.sync().exists("open-" + i);
          done = true;
        } catch (RedisException notYet) {
          Thread.sleep(10);
        }
      }
    }
  }
}
