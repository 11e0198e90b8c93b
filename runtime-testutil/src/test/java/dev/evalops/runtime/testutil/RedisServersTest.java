package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.api.StatefulRedisClusterConnection;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;

class RedisServersTest {
  private static final Duration SOON = Duration.ofSeconds(60);

  private static void awaitAnotherMaster(RedisServers servers, RedisServer replica) {
    await().atMost(SOON).until(() -> servers.masters().contains(replica));
  }

  @Test
  void aReplicaTakesThePlaceOfAMasterOfTheCluster() {
    try (RedisServers servers = RedisServers.startCluster()) {
      List<RedisServer> nodes = servers.servers();
      assertThat(servers.masters()).isEqualTo(nodes.subList(0, 3));
      assertThat(servers.sentinels()).isEmpty();
      List<RedisURI> uris = servers
          .url()
          .replace("redis://", "")
          .transform(hosts -> List.of(hosts.split(",")).stream()
              .map(host -> RedisURI.create("redis://" + host))
              .toList());
      try (RedisClusterClient client = RedisClusterClient.create(uris);
          StatefulRedisClusterConnection<String, String> connection = client.connect()) {
        for (int i = 0; i < 20; i++) {
          connection.sync().set("key-" + i, "x");
        }
        // What clients are told leads through the proxies.
        assertThat(connection.getPartitions()).hasSize(6);
        assertThat(connection.getPartitions())
            .allSatisfy(
                node -> assertThat(servers.url()).contains(":" + node.getUri().getPort()));
      }

      nodes.get(0).kill();
      awaitAnotherMaster(servers, nodes.get(3));
      nodes.get(0).restart();
      servers.awaitReady();
      assertThat(servers.masters()).containsExactly(nodes.get(1), nodes.get(2), nodes.get(3));
    }
  }

  @Test
  void sentinelsPutTheReplicaInThePlaceOfAMasterThatIsCutOff() {
    try (RedisServers servers = RedisServers.startSentinels()) {
      RedisServer master = servers.servers().getFirst();
      RedisServer replica = servers.servers().getLast();
      assertThat(servers.masters()).containsExactly(master);
      assertThat(servers.sentinels()).hasSize(3);
      try (RedisClient client = RedisClient.create(servers.url());
          StatefulRedisConnection<String, String> connection = client.connect()) {
        connection.sync().set("key", "x");
      }

      servers.cutOff(master);
      awaitAnotherMaster(servers, replica);
      servers.heal(master);
    }
  }
}
