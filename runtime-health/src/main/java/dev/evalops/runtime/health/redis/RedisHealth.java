package dev.evalops.runtime.health.redis;

import dev.evalops.runtime.health.HealthCheck;
import dev.evalops.runtime.health.UnhealthyException;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.api.StatefulRedisConnection;
import org.jspecify.annotations.Nullable;

/** The check of a Redis connection. Thread-safe. */
public final class RedisHealth {
  private RedisHealth() {}

  /**
   * Sends a {@code PING} on the connection that the service uses. While Lettuce reconnects, a connection that
   * queues commands (Lettuce's default) waits within the checker's timeout; one that rejects them, as those of
   * {@code runtime-redis} do, is {@code check failed} at once.
   *
   * @param connection the connection, or null, which is reported as {@code redis_not_configured}
   * @return the check
   */
  public static HealthCheck of(@Nullable StatefulRedisConnection<?, ?> connection) {
    if (connection == null) {
      return () -> {
        throw new UnhealthyException("redis_not_configured");
      };
    }
    return new PingCheck(connection);
  }

  /** Waits again for a PING that is unanswered: an outage must not fill the client's queue with them. */
  private static final class PingCheck implements HealthCheck {
    private final StatefulRedisConnection<?, ?> connection;
    private volatile @Nullable RedisFuture<String> last;

    PingCheck(StatefulRedisConnection<?, ?> connection) {
      this.connection = connection;
    }

    @Override
    public void check() throws Exception {
      RedisFuture<String> ping = last;
      if (ping == null || ping.isDone()) {
        ping = connection.async().ping();
        last = ping;
      }
      ping.get();
    }
  }
}
