package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.health.HealthCheck;
import dev.evalops.runtime.health.redis.RedisHealth;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.redis.RedisCluster;
import dev.evalops.runtime.testutil.RedisServer;
import dev.evalops.runtime.testutil.RedisServers;
import io.lettuce.core.RedisException;
import io.lettuce.core.SetArgs;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Redis Cluster and Redis Sentinel: real ones, whose masters are killed and stopped. */
@Timeout(180)
class TopologyTest {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final String TIMEOUT = "?timeout=1s";

  @Test
  void aClusterDecidesAndSurvivesTheLossOfMasters() throws Exception {
    try (RedisServers servers = RedisServers.startCluster();
        RedisCluster redis = RedisCluster.open(servers.url() + TIMEOUT);
        RateLimiter one = limiter(redis);
        RateLimiter other = limiter(redis)) {
      for (int i = 0; i < 50; i++) {
        assertThat(one.decide("key-" + i).remaining()).isEqualTo(4);
        assertThat(other.decide("key-" + i).remaining()).as("key " + i).isEqualTo(3);
      }
      HealthCheck health = RedisHealth.of(redis.connection());
      health.check();

      List<RedisServer> nodes = servers.servers();
      nodes.get(0).kill();
      awaitWrites(redis);
      await().atMost(SOON).untilAsserted(health::check);

      nodes.get(1).pause();
      awaitWrites(redis);
      nodes.get(1).resume();
      await().atMost(SOON).until(() -> !servers.masters().contains(nodes.get(1)));
      awaitWrites(redis);
      await().atMost(SOON).untilAsserted(() -> {
        int before = one.decide("after").remaining();
        assertThat(other.decide("after").remaining()).isLessThan(before);
      });
    }
  }

  private static RateLimiter limiter(RedisCluster redis) {
    return RateLimiter.builder()
        .perSecond(0.001)
        .burst(5)
        .redisTimeout(Duration.ofSeconds(5))
        .redis(redis.connection())
        .service("topology")
        .open();
  }

  /** Writes to many slots, until all of them are served. */
  private static void awaitWrites(RedisCluster redis) {
    await().atMost(SOON).ignoreExceptionsInstanceOf(RedisException.class).until(() -> {
      for (int i = 0; i < 100; i++) {
        redis.connection().sync().set("written-" + i, "x", SetArgs.Builder.ex(60));
      }
      return true;
    });
  }

  @Test
  void healthOfACluster_saysThatSlotsAreLost() throws Exception {
    try (RedisServers servers = RedisServers.startCluster();
        RedisCluster redis = RedisCluster.open(servers.url() + TIMEOUT)) {
      HealthCheck health = RedisHealth.of(redis.connection());
      health.check();

      servers.servers().get(3).kill();
      servers.servers().get(0).kill();

      await()
          .atMost(SOON)
          .untilAsserted(() -> assertThatThrownBy(health::check).hasMessage("redis_cluster_down"));
    }
  }

  @Test
  void sentinelsLeadToTheNewMaster() {
    try (RedisServers servers = RedisServers.startSentinels();
        Redis redis = Redis.open(servers.url().replace("#", TIMEOUT + "#"))) {
      RedisServer master = servers.servers().getFirst();
      RedisServer replica = servers.servers().getLast();
      redis.connection().sync().set("before", "x");

      master.pause();
      await()
          .atMost(SOON)
          .ignoreExceptionsInstanceOf(RedisException.class)
          .until(() -> redis.connection().sync().set("after", "x").equals("OK")
              && servers.masters().contains(replica));
      master.resume();
      await().atMost(SOON).until(() -> servers.masters().equals(List.of(replica)));

      await()
          .atMost(SOON)
          .ignoreExceptionsInstanceOf(RedisException.class)
          .until(() -> redis.connection().sync().set("later", "x").equals("OK"));
      try (Redis direct = Redis.open(replica.url())) {
        assertThat(direct.connection().sync().get("later")).isEqualTo("x");
      }
    }
  }
}
