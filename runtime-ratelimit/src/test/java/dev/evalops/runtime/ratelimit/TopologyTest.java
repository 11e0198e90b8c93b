package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.health.HealthCheck;
import dev.evalops.runtime.health.redis.RedisHealth;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.redis.RedisCluster;
import io.lettuce.core.RedisException;
import io.lettuce.core.SetArgs;
import io.lettuce.core.api.sync.RedisCommands;
import io.lettuce.core.cluster.SlotHash;
import io.lettuce.core.codec.StringCodec;
import io.lettuce.core.output.StatusOutput;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Redis Cluster and Redis Sentinel: real ones, whose masters are killed and stopped. */
@Timeout(180)
class TopologyTest {
  private static final Duration SOON = Duration.ofSeconds(60);

  @TempDir
  private Path folder;

  private final List<RedisNode> nodes = new ArrayList<>();

  @AfterEach
  void stop() {
    nodes.forEach(RedisNode::close);
  }

  private RedisNode start(String... arguments) throws Exception {
    RedisNode node = RedisNode.start(folder, arguments);
    nodes.add(node);
    return node;
  }

  /** Three masters, each with a replica. */
  private void startCluster() throws Exception {
    for (int i = 0; i < 6; i++) {
      start(
          "--cluster-enabled",
          "yes",
          "--cluster-port",
          Integer.toString(RedisNode.freePort()),
          "--cluster-node-timeout",
          "1000",
          "--cluster-replica-validity-factor",
          "0");
    }
    RedisNode first = nodes.getFirst();
    for (int i = 0; i < 3; i++) {
      int[] slots = IntStream.range(i * SlotHash.SLOT_COUNT / 3, (i + 1) * SlotHash.SLOT_COUNT / 3)
          .toArray();
      nodes.get(i).call(redis -> redis.clusterAddSlots(slots));
    }
    for (RedisNode node : nodes.subList(1, 6)) {
      String bus = node.call(redis -> redis.configGet("cluster-port")).get("cluster-port");
      first.call(redis -> redis.dispatch(
          CommandType.CLUSTER,
          new StatusOutput<>(StringCodec.UTF8),
          new CommandArgs<>(StringCodec.UTF8)
              .add("MEET")
              .add("127.0.0.1")
              .add(node.port)
              .add(bus)));
    }
    for (int i = 0; i < 3; i++) {
      String master = nodes.get(i).call(redis -> redis.clusterMyId());
      RedisNode replica = nodes.get(i + 3);
      await()
          .atMost(SOON)
          .ignoreExceptionsInstanceOf(RedisException.class)
          .until(() -> replica.call(redis -> redis.clusterReplicate(master)).equals("OK"));
    }
    for (RedisNode node : nodes) {
      await().atMost(SOON).until(() -> {
        String info = node.call(redis -> redis.clusterInfo());
        return info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6");
      });
    }
    for (RedisNode replica : nodes.subList(3, 6)) {
      await()
          .atMost(SOON)
          .until(() ->
              replica.call(redis -> redis.info("replication")).contains("master_link_status:up"));
    }
  }

  private String nodeUrl(List<RedisNode> some) {
    return some.stream()
        .map(node -> "127.0.0.1:" + node.port)
        .collect(Collectors.joining(",", "redis://", "?timeout=1s"));
  }

  @Test
  void aClusterDecidesAndSurvivesTheLossOfMasters() throws Exception {
    startCluster();
    try (RedisCluster redis = RedisCluster.open(nodeUrl(nodes.subList(0, 2)));
        RateLimiter one = limiter(redis);
        RateLimiter other = limiter(redis)) {
      for (int i = 0; i < 50; i++) {
        assertThat(one.decide("key-" + i).remaining()).isEqualTo(4);
        assertThat(other.decide("key-" + i).remaining()).as("key " + i).isEqualTo(3);
      }
      HealthCheck health = RedisHealth.of(redis.connection());
      health.check();

      RedisNode killed = nodes.get(0);
      killed.kill();
      awaitWrites(redis);
      await().atMost(SOON).untilAsserted(health::check);

      RedisNode stopped = nodes.get(1);
      stopped.pause();
      awaitWrites(redis);
      stopped.resume();
      await()
          .atMost(SOON)
          .until(() -> stopped.call(info -> info.info("replication")).contains("role:slave"));
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
    startCluster();
    try (RedisCluster redis = RedisCluster.open(nodeUrl(nodes))) {
      HealthCheck health = RedisHealth.of(redis.connection());
      health.check();

      nodes.get(3).kill();
      nodes.get(0).kill();

      await()
          .atMost(SOON)
          .untilAsserted(() -> assertThatThrownBy(health::check).hasMessage("redis_cluster_down"));
    }
  }

  @Test
  void sentinelsLeadToTheNewMaster() throws Exception {
    RedisNode master = start();
    RedisNode replica = start("--replicaof", "127.0.0.1 " + master.port);
    await()
        .atMost(SOON)
        .until(() ->
            replica.call(redis -> redis.info("replication")).contains("master_link_status:up"));
    for (int i = 0; i < 3; i++) {
      RedisNode sentinel = start("--sentinel");
      sentinel.call(redis ->
          sentinel(redis, "MONITOR", "main", "127.0.0.1", Integer.toString(master.port), "2"));
      sentinel.call(redis -> sentinel(redis, "SET", "main", "down-after-milliseconds", "1000"));
      sentinel.call(redis -> sentinel(redis, "SET", "main", "failover-timeout", "5000"));
    }
    List<RedisNode> sentinels = nodes.subList(2, 5);
    for (RedisNode sentinel : sentinels) {
      await().atMost(SOON).until(() -> {
        String known = sentinel.call(redis -> redis.info("sentinel"));
        return known.contains("slaves=1,sentinels=3");
      });
    }
    String url = sentinels.stream()
        .map(node -> "127.0.0.1:" + node.port)
        .collect(Collectors.joining(",", "redis-sentinel://", "/0?timeout=1s#main"));
    try (Redis redis = Redis.open(url)) {
      redis.connection().sync().set("before", "x");

      master.pause();
      await()
          .atMost(SOON)
          .ignoreExceptionsInstanceOf(RedisException.class)
          .until(() -> redis.connection().sync().set("after", "x").equals("OK")
              && replica.call(now -> now.info("replication")).contains("role:master"));
      master.resume();
      await()
          .atMost(SOON)
          .until(() -> master.call(now -> now.info("replication")).contains("role:slave"));

      await()
          .atMost(SOON)
          .ignoreExceptionsInstanceOf(RedisException.class)
          .until(() -> redis.connection().sync().set("later", "x").equals("OK"));
      assertThat(replica.<String>call(now -> now.get("later"))).isEqualTo("x");
    }
  }

  private static String sentinel(RedisCommands<String, String> redis, String... arguments) {
    CommandArgs<String, String> args = new CommandArgs<>(StringCodec.UTF8);
    for (String argument : arguments) {
      args.add(argument);
    }
    return redis.dispatch(CommandType.SENTINEL, new StatusOutput<>(StringCodec.UTF8), args);
  }
}
