package dev.evalops.runtime.redis;

import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisChannelWriter;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import io.lettuce.core.StatefulRedisConnectionImpl;
import io.lettuce.core.codec.RedisCodec;
import io.lettuce.core.output.CommandOutput;
import io.lettuce.core.protocol.CompleteableCommand;
import io.lettuce.core.protocol.DefaultEndpoint;
import io.lettuce.core.protocol.PushHandler;
import io.lettuce.core.protocol.RedisCommand;
import io.lettuce.core.pubsub.PubSubEndpoint;
import io.lettuce.core.pubsub.StatefulRedisPubSubConnectionImpl;
import io.lettuce.core.resource.ClientResources;
import io.netty.channel.Channel;
import java.time.Duration;
import java.util.Collection;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A client that leaves a server which has become a replica. After a failover the old master keeps its connections; only
 * its answers tell that writes go elsewhere now. Closing the connection makes Lettuce resolve the address, or ask the
 * sentinels, and reconnect.
 */
final class FailoverClient extends RedisClient {
  private static final Logger LOG = LoggerFactory.getLogger(FailoverClient.class);

  /** The name may go on leading to the replica for a while, and reads work there. */
  private static final long RECONNECT_EVERY_NANOS = TimeUnit.SECONDS.toNanos(1);

  private final Renewals renewals;

  FailoverClient(ClientResources resources, RedisURI uri, Renewals renewals) {
    super(resources, uri);
    this.renewals = renewals;
  }

  @Override
  protected DefaultEndpoint createEndpoint() {
    return new FailoverEndpoint(getOptions(), getResources());
  }

  @Override
  protected <K, V> StatefulRedisConnectionImpl<K, V> newStatefulRedisConnection(
      RedisChannelWriter channelWriter,
      PushHandler pushHandler,
      RedisCodec<K, V> codec,
      Duration timeout) {
    if (!renewals.isUsed()) {
      return super.newStatefulRedisConnection(channelWriter, pushHandler, codec, timeout);
    }
    RenewableWriter writer = new RenewableWriter(channelWriter, getCommandListeners());
    StatefulRedisConnectionImpl<K, V> connection =
        super.newStatefulRedisConnection(writer, pushHandler, codec, timeout);
    writer.of(renewals.follow(connection, writer::writeNow, writer::cut));
    return connection;
  }

  @Override
  protected <K, V> StatefulRedisPubSubConnectionImpl<K, V> newStatefulRedisPubSubConnection(
      PubSubEndpoint<K, V> endpoint,
      RedisChannelWriter channelWriter,
      RedisCodec<K, V> codec,
      Duration timeout) {
    if (!renewals.isUsed()) {
      return super.newStatefulRedisPubSubConnection(endpoint, channelWriter, codec, timeout);
    }
    RenewableWriter writer = new RenewableWriter(channelWriter, getCommandListeners());
    StatefulRedisPubSubConnectionImpl<K, V> connection =
        super.newStatefulRedisPubSubConnection(endpoint, writer, codec, timeout);
    writer.of(renewals.follow(connection, writer::writeNow, writer::cut));
    return connection;
  }

  /** Whether an answer comes from a server that is no master, or is none any more. */
  static boolean isFromReplica(@Nullable String error) {
    return error != null
        && (error.startsWith("READONLY")
            || error.startsWith("MASTERDOWN")
            || error.startsWith("UNBLOCKED") // a blocking command, when the master steps down
            || (error.startsWith("ERR Error running script") // Redis 6
                && error.contains("-READONLY ")));
  }

  private static final class FailoverEndpoint extends DefaultEndpoint {
    private final AtomicLong leftAt = new AtomicLong(System.nanoTime() - RECONNECT_EVERY_NANOS);

    FailoverEndpoint(ClientOptions options, ClientResources resources) {
      super(options, resources);
    }

    @Override
    public <K, V, T> RedisCommand<K, V, T> write(RedisCommand<K, V, T> command) {
      watch(command);
      return super.write(command);
    }

    @Override
    public <K, V> Collection<RedisCommand<K, V, ?>> write(
        Collection<? extends RedisCommand<K, V, ?>> commands) {
      commands.forEach(this::watch);
      return super.write(commands);
    }

    private <K, V, T> void watch(RedisCommand<K, V, T> command) {
      if (command instanceof CompleteableCommand<?> completeable) {
        Channel sentOn = channel;
        completeable.onComplete((result, failure) -> {
          CommandOutput<K, V, T> output = command.getOutput();
          if (output != null && output.hasError() && isFromReplica(output.getError())) {
            leave(sentOn);
          }
        });
      }
    }

    private void leave(@Nullable Channel replica) {
      long last = leftAt.get();
      long now = System.nanoTime();
      if (replica == null
          || !replica.isOpen()
          || now - last < RECONNECT_EVERY_NANOS
          || !leftAt.compareAndSet(last, now)) {
        return;
      }
      LOG.atWarn()
          .addKeyValue("server", replica.remoteAddress())
          .log("redis: server is a replica; reconnecting");
      // Later, so that the answers that were read together with this one still arrive.
      replica.eventLoop().execute(() -> {
        var unused = replica.close();
      });
    }
  }
}
