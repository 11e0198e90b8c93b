package dev.evalops.runtime.health.redis;

import dev.evalops.runtime.health.HealthCheck;
import dev.evalops.runtime.health.UnhealthyException;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.cluster.api.StatefulRedisClusterConnection;
import java.util.concurrent.ExecutionException;
import java.util.function.Supplier;
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
      return notConfigured();
    }
    Question ping = new Question(() -> connection.async().ping());
    return ping::answer;
  }

  /**
   * Asks a node of the cluster for its state: unhealthy with {@code redis_cluster_down} unless every slot is served.
   *
   * @param connection the connection, or null, which is reported as {@code redis_not_configured}
   * @return the check
   */
  public static HealthCheck of(@Nullable StatefulRedisClusterConnection<?, ?> connection) {
    if (connection == null) {
      return notConfigured();
    }
    Question info = new Question(() -> connection.async().clusterInfo());
    return () -> {
      if (!info.answer().contains("cluster_state:ok")) {
        throw new UnhealthyException("redis_cluster_down");
      }
    };
  }

  private static HealthCheck notConfigured() {
    return () -> {
      throw new UnhealthyException("redis_not_configured");
    };
  }

  /** Waits again for an answer that is due: an outage must not fill the client's queue with questions. */
  private static final class Question {
    private final Supplier<RedisFuture<String>> ask;
    private volatile @Nullable RedisFuture<String> last;

    Question(Supplier<RedisFuture<String>> ask) {
      this.ask = ask;
    }

    String answer() throws InterruptedException, ExecutionException {
      RedisFuture<String> asked = last;
      if (asked == null || asked.isDone()) {
        asked = ask.get();
        last = asked;
      }
      return asked.get();
    }
  }
}
