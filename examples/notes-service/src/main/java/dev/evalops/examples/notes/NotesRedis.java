package dev.evalops.examples.notes;

import dev.evalops.runtime.health.HealthCheck;
import dev.evalops.runtime.health.redis.RedisHealth;
import dev.evalops.runtime.ratelimit.RateLimiter;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.redis.RedisCluster;
import io.lettuce.core.api.sync.RedisStringCommands;
import io.lettuce.core.event.command.CommandListener;
import io.lettuce.core.tracing.Tracing;
import java.util.function.UnaryOperator;

/**
 * What the service has of Redis, be it one server (by sentinels or not) or, where the URL names several, a cluster.
 *
 * @param commands for the cache
 * @param health for the readiness
 * @param limits gives the connection to the rate limiter
 * @param closing closes the connection
 */
record NotesRedis(
    RedisStringCommands<String, String> commands,
    HealthCheck health,
    UnaryOperator<RateLimiter.Builder> limits,
    Runnable closing)
    implements AutoCloseable {

  static NotesRedis open(Settings settings, Tracing tracing, CommandListener metrics) {
    String url = settings.redisUrl();
    if (url.contains(",") && !url.startsWith("redis-sentinel:")) {
      RedisCluster.Builder builder = RedisCluster.builder(url)
          .configureResources(resources -> resources.tracing(tracing))
          .commandListener(metrics);
      settings.redisLogin().ifPresent(builder::credentials);
      RedisCluster cluster = builder.open();
      return new NotesRedis(
          cluster.connection().sync(),
          RedisHealth.of(cluster.connection()),
          limiter -> limiter.redis(cluster.connection()),
          cluster::close);
    }
    Redis.Builder builder = Redis.builder(url)
        .configureResources(resources -> resources.tracing(tracing))
        .commandListener(metrics);
    settings.redisLogin().ifPresent(builder::credentials);
    Redis redis = builder.open();
    return new NotesRedis(
        redis.connection().sync(),
        RedisHealth.of(redis.connection()),
        limiter -> limiter.redis(redis.connection()),
        redis::close);
  }

  @Override
  public void close() {
    closing.run();
  }
}
