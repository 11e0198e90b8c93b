package dev.evalops.runtime.redis;

import io.lettuce.core.RedisChannelWriter;
import io.lettuce.core.RedisURI;
import io.lettuce.core.StatefulRedisConnectionImpl;
import io.lettuce.core.cluster.ClusterPushHandler;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.StatefulRedisClusterConnectionImpl;
import io.lettuce.core.codec.RedisCodec;
import io.lettuce.core.json.JsonParser;
import io.lettuce.core.protocol.PushHandler;
import io.lettuce.core.protocol.RedisCommand;
import io.lettuce.core.resource.ClientResources;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/**
 * A client whose connections are replaced when the secret was replaced: those to the nodes, and the one for what has
 * no key.
 */
final class ClusterClient extends RedisClusterClient {
  private final Renewals renewals;

  ClusterClient(ClientResources resources, List<RedisURI> nodes, Renewals renewals) {
    super(resources, nodes);
    this.renewals = renewals;
  }

  @Override
  protected <K, V> StatefulRedisConnectionImpl<K, V> newStatefulRedisConnection(
      RedisChannelWriter channelWriter,
      PushHandler pushHandler,
      RedisCodec<K, V> codec,
      Duration timeout,
      Supplier<JsonParser> parser) {
    RenewableWriter writer = new RenewableWriter(channelWriter, getCommandListeners());
    StatefulRedisConnectionImpl<K, V> connection =
        super.newStatefulRedisConnection(writer, pushHandler, codec, timeout, parser);
    writer.of(renewals.follow(connection, writer::writeNow, writer::cut));
    return connection;
  }

  @Override
  protected <V, K> StatefulRedisClusterConnectionImpl<K, V> newStatefulRedisClusterConnection(
      RedisChannelWriter channelWriter,
      ClusterPushHandler pushHandler,
      RedisCodec<K, V> codec,
      Duration timeout,
      Supplier<JsonParser> parser) {
    return new ClusterConnection<>(channelWriter, pushHandler, codec, timeout, parser, renewals);
  }

  private static final class ClusterConnection<K, V>
      extends StatefulRedisClusterConnectionImpl<K, V> {
    private final @Nullable Renewable renewable;

    ClusterConnection(
        RedisChannelWriter writer,
        ClusterPushHandler pushHandler,
        RedisCodec<K, V> codec,
        Duration timeout,
        Supplier<JsonParser> parser,
        Renewals renewals) {
      super(writer, pushHandler, codec, timeout, parser);
      // What has no key goes to the connection of the cluster's own.
      this.renewable = renewals.follow(this, writer::write, () -> {}); // Lettuce hides the channel
    }

    @Override
    public CompletableFuture<Void> closeAsync() {
      CompletableFuture<Void> closing = super.closeAsync();
      if (renewable != null) {
        renewable.release();
      }
      return closing;
    }

    @Override
    public <T> RedisCommand<K, V, T> dispatch(RedisCommand<K, V, T> command) {
      if (renewable == null) {
        return super.dispatch(command);
      }
      renewable.write(List.of(command), () -> super.dispatch(command));
      return command;
    }

    @Override
    public Collection<RedisCommand<K, V, ?>> dispatch(
        Collection<? extends RedisCommand<K, V, ?>> commands) {
      if (renewable == null) {
        return super.dispatch(commands);
      }
      renewable.write(commands, () -> super.dispatch(commands));
      return List.copyOf(commands);
    }
  }
}
