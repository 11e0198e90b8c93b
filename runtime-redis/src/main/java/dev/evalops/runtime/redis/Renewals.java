package dev.evalops.runtime.redis;

import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.startup.Credentials;
import dev.evalops.runtime.startup.Rotation;
import io.lettuce.core.AbstractRedisClient;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisChannelHandler;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisConnectionException;
import io.lettuce.core.RedisConnectionStateListener;
import io.lettuce.core.RedisCredentials;
import io.lettuce.core.RedisURI;
import io.lettuce.core.SslVerifyMode;
import io.lettuce.core.codec.StringCodec;
import io.lettuce.core.protocol.RedisCommand;
import io.lettuce.core.resource.ClientResources;
import io.lettuce.core.resource.NettyCustomizer;
import io.netty.channel.Channel;
import io.netty.handler.ssl.SslHandler;
import java.net.SocketAddress;
import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.WeakHashMap;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Supplier;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLParameters;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Mono;

/**
 * The secret of a client, and the connections that are replaced when it was replaced: one after the other, in half of
 * the time.
 */
final class Renewals {
  private static final Logger LOG = LoggerFactory.getLogger(Redis.class);

  /** Of the secret, within the time in which all connections are replaced. */
  private static final int READINGS = 6;

  private final @Nullable Supplier<Credentials> credentials;
  private final @Nullable SSLContext tls;
  private final Duration within;
  private final Rotation<Secret> rotation;
  private final Set<Renewable> connections =
      Collections.synchronizedSet(Collections.newSetFromMap(new WeakHashMap<>()));
  private final CountDownLatch closed = new CountDownLatch(1);
  private volatile int queueSize = Integer.MAX_VALUE;
  private volatile @Nullable ClientResources resources;
  private long refused;
  private long accepted;

  Renewals(@Nullable Supplier<Credentials> credentials, @Nullable SSLContext tls, Duration within) {
    this.credentials = credentials;
    this.tls = tls;
    this.within = within;
    this.rotation = Rotation.of("redis", this::secret);
  }

  private Secret secret() {
    return new Secret(
        credentials == null ? null : Objects.requireNonNull(credentials.get(), "credentials"),
        tls == null ? null : tls.getClientSessionContext());
  }

  /** Whether anything is given that may change. */
  boolean isUsed() {
    return credentials != null || tls != null;
  }

  long latest() {
    return rotation.latest().map(Rotation.Version::number).orElse(0L);
  }

  /**
   * Lets logins of this URI use what is given.
   *
   * @throws IllegalArgumentException if the URL says something else
   */
  void applyTo(RedisURI uri) {
    if (tls != null && (!uri.isSsl() || uri.getVerifyMode() == SslVerifyMode.NONE)) {
      throw new IllegalArgumentException("parse_redis_url: tls is given: the URL must begin with"
          + " rediss:// or rediss-sentinel://, and verifyPeer must not be NONE");
    }
    if (credentials != null) {
      RedisCredentials ofUrl = uri.getCredentialsProvider().resolveCredentials().block();
      if (ofUrl != null && (ofUrl.hasUsername() || ofUrl.hasPassword())) {
        throw new IllegalArgumentException(
            "parse_redis_url: credentials are given: the URL must not have user or password");
      }
      uri.setCredentialsProvider(() -> Mono.fromFuture(this::read));
    }
  }

  /** Apart from Lettuce's threads, which must not wait. */
  private CompletableFuture<RedisCredentials> read() {
    CompletableFuture<RedisCredentials> read = new CompletableFuture<>();
    Thread.ofVirtual().name("redis-credentials").start(() -> {
      try {
        Credentials given = Objects.requireNonNull(rotation.read().value().credentials());
        read.complete(
            RedisCredentials.just(given.user().isEmpty() ? null : given.user(), given.password()));
      } catch (Throwable failure) {
        read.completeExceptionally(failure);
      }
    });
    return read;
  }

  /** Lets connections use the context instead of the one that Lettuce makes of its options. */
  void applyTo(ClientResources.Builder builder) {
    if (tls == null) {
      return;
    }
    SSLContext context = tls;
    builder.nettyCustomizer(new NettyCustomizer() {
      @Override
      public void afterChannelInitialized(Channel channel) {
        SslHandler handler = channel.pipeline().get(SslHandler.class);
        if (handler == null) {
          return; // to a sentinel without TLS
        }
        SSLEngine options = handler.engine();
        SSLEngine engine = context.createSSLEngine(options.getPeerHost(), options.getPeerPort());
        engine.setUseClientMode(true);
        SSLParameters parameters = engine.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm(
            options.getSSLParameters().getEndpointIdentificationAlgorithm());
        engine.setSSLParameters(parameters);
        SslHandler ours = new SslHandler(engine);
        ours.setHandshakeTimeoutMillis(handler.getHandshakeTimeoutMillis());
        channel.pipeline().replace(handler, null, ours);
      }
    });
  }

  /** Keeps an eye on a connection that was just made. */
  Renewable follow(
      RedisChannelHandler<?, ?> connection,
      Consumer<RedisCommand<String, String, String>> send,
      Runnable cut) {
    Renewable renewable = new Renewable(this, connection, send, cut);
    connection.addListener(new RedisConnectionStateListener() {
      @Override
      public void onRedisConnected(RedisChannelHandler<?, ?> same, SocketAddress address) {
        renewable.connected();
      }

      @Override
      public void onRedisDisconnected(RedisChannelHandler<?, ?> same) {
        renewable.disconnected();
      }
    });
    connections.add(renewable);
    return renewable;
  }

  long withinNanos() {
    return TimeUnit.NANOSECONDS.convert(within);
  }

  int queueSize() {
    return queueSize;
  }

  /** Apart from the locks of who calls. */
  void later(Runnable work, long nanos) {
    ClientResources threads = resources;
    if (threads != null) {
      try {
        var unused = threads.eventExecutorGroup().schedule(work, nanos, TimeUnit.NANOSECONDS);
      } catch (RejectedExecutionException closed) {
        // each connection lets go by itself
      }
    }
  }

  /** Connects, and once more when that is refused and the secret was replaced in between. */
  <C> C connect(Callable<C> attempt) throws Exception {
    if (!isUsed()) {
      return attempt.call();
    }
    long before = readFirst();
    try {
      return attempt.call();
    } catch (RedisConnectionException refusal) {
      if (FailureKind.of(refusal) != FailureKind.PERMANENT || rotation.read().number() == before) {
        throw refusal;
      }
      return attempt.call();
    }
  }

  /** So that a connection, which Lettuce makes before it logs in, is not older than the first. */
  private long readFirst() {
    try {
      return rotation.read().number();
    } catch (IllegalStateException unreadable) {
      throw new RedisConnectionException("ping_redis: " + unreadable.getMessage(), unreadable);
    }
  }

  /**
   * Begins to look for what was replaced.
   *
   * @param uris the servers that must take the new secret before any connection is replaced
   */
  void start(
      AbstractRedisClient client,
      ClientOptions options,
      Supplier<List<RedisURI>> uris,
      Duration pingTimeout) {
    if (!isUsed()) {
      return;
    }
    resources = client.getResources();
    queueSize = options.getRequestQueueSize();
    rotation.watch(
        within.dividedBy(READINGS), version -> renew(version, options, uris, pingTimeout));
  }

  private boolean renew(
      Rotation.Version<Secret> wanted,
      ClientOptions options,
      Supplier<List<RedisURI>> uris,
      Duration pingTimeout) {
    List<Renewable> older = older(wanted.number());
    if (older.isEmpty()) {
      return true;
    }
    if (accepted != wanted.number()) {
      if (!isAccepted(wanted, options, uris.get(), pingTimeout)) {
        return false;
      }
      accepted = wanted.number();
      LOG.atInfo()
          .addKeyValue("connections", older.size())
          .log("redis: credentials or certificates changed; replacing connections");
    }
    long step = withinNanos() / Math.max(READINGS, 2 * older.size());
    try {
      for (Renewable each : older) {
        each.renew();
        if (closed.await(step, TimeUnit.NANOSECONDS)) {
          return false;
        }
      }
    } catch (InterruptedException somebodyElses) {
      return false;
    }
    return older(wanted.number()).isEmpty();
  }

  private List<Renewable> older(long version) {
    synchronized (connections) {
      return connections.stream().filter(each -> each.isOlderThan(version)).toList();
    }
  }

  /** Whether one server lets us in, and none refuses; those that are away do not count. */
  private boolean isAccepted(
      Rotation.Version<Secret> wanted,
      ClientOptions options,
      List<RedisURI> uris,
      Duration pingTimeout) {
    boolean isLetIn = false;
    @Nullable RedisConnectionException why = null;
    for (RedisURI uri : uris) {
      RedisClient client = RedisClient.create(Objects.requireNonNull(resources), uri);
      client.setOptions(options);
      try {
        Clients.pinged(
                client.connectAsync(StringCodec.UTF8, uri).toCompletableFuture(),
                connected -> connected.async().ping(),
                pingTimeout)
            .close();
        isLetIn = true;
      } catch (InterruptedException somebodyElses) {
        return false;
      } catch (RedisConnectionException failure) {
        why = failure;
        if (FailureKind.of(failure) == FailureKind.PERMANENT) {
          isLetIn = false;
          break;
        }
      } finally {
        var unused = client.shutdownAsync(0, 0, TimeUnit.SECONDS);
      }
    }
    if (!isLetIn && why != null && refused != wanted.number()) {
      refused = wanted.number();
      LOG.atWarn()
          .addKeyValue("error", why.getMessage())
          .log("redis: no login with the replaced credentials or certificates; open connections"
              + " stay");
    }
    return isLetIn;
  }

  void close() {
    rotation.close();
    closed.countDown();
  }
}
