package dev.evalops.runtime.redis;

import io.lettuce.core.CommandListenerWriter;
import io.lettuce.core.RedisChannelWriter;
import io.lettuce.core.event.command.CommandListener;
import io.lettuce.core.protocol.DefaultEndpoint;
import io.lettuce.core.protocol.RedisCommand;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;

/**
 * Writes to a {@link Renewable}. It stands for Lettuce's writer for listeners, which is the one that Lettuce looks
 * behind.
 */
final class RenewableWriter extends CommandListenerWriter {
  private final boolean listened;
  private @Nullable Renewable connection;

  RenewableWriter(RedisChannelWriter writer, List<CommandListener> listeners) {
    super(writer instanceof CommandListenerWriter outer ? outer.getDelegate() : writer, listeners);
    this.listened = !listeners.isEmpty();
  }

  void of(Renewable connection) {
    this.connection = connection;
  }

  @Override
  public <K, V, T> RedisCommand<K, V, T> write(RedisCommand<K, V, T> command) {
    if (connection == null) {
      return writeNow(command);
    }
    connection.write(List.of(command), () -> writeNow(command));
    return command;
  }

  @Override
  public <K, V> Collection<RedisCommand<K, V, ?>> write(
      Collection<? extends RedisCommand<K, V, ?>> commands) {
    if (connection == null) {
      return writeNow(commands);
    }
    connection.write(commands, () -> writeNow(commands));
    return List.copyOf(commands);
  }

  @Override
  public void close() {
    super.close();
    release();
  }

  @Override
  public CompletableFuture<Void> closeAsync() {
    CompletableFuture<Void> closing = super.closeAsync();
    release();
    return closing;
  }

  private void release() {
    if (connection != null) {
      connection.release();
    }
  }

  void cut() {
    if (unwrap() instanceof DefaultEndpoint endpoint) {
      endpoint.disconnect();
    }
  }

  <K, V, T> RedisCommand<K, V, T> writeNow(RedisCommand<K, V, T> command) {
    return listened ? super.write(command) : getDelegate().write(command);
  }

  private <K, V> Collection<RedisCommand<K, V, ?>> writeNow(
      Collection<? extends RedisCommand<K, V, ?>> commands) {
    return listened ? super.write(commands) : getDelegate().write(commands);
  }
}
