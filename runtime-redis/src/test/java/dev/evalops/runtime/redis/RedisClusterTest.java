package dev.evalops.runtime.redis;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.testutil.RedisServer;
import dev.evalops.runtime.testutil.RedisServers;
import io.lettuce.core.RedisCommandTimeoutException;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisURI;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What needs no cluster; see TopologyTest of runtime-ratelimit for what does. */
class RedisClusterTest {
  @Test
  void readsEveryNode_withWhatTheUrlSaysOfAll() {
    List<RedisURI> nodes = RedisUrl.parseNodes("rediss://app:S3cret@h1:1,h2:2,h3/0?timeout=5s");

    assertThat(nodes).extracting(RedisURI::getHost).containsExactly("h1", "h2", "h3");
    assertThat(nodes).extracting(RedisURI::getPort).containsExactly(1, 2, 6379);
    assertThat(nodes).allSatisfy(node -> {
      assertThat(node.isSsl()).isTrue();
      assertThat(node.getTimeout()).isEqualTo(Duration.ofSeconds(5));
      assertThat(node.getCredentialsProvider().resolveCredentials().block().getUsername())
          .isEqualTo("app");
    });
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "redis-sentinel://h1,h2#main | must begin with redis:// or rediss://",
        "redis://h1,h2/1 | a cluster has database 0 alone",
        "redis://h1,,h2 | the host is missing",
        "redis://h1:0 | the port must be 1 to 65535",
        "redis://h1?databse=1 | unknown parameter",
        "redis://user:S3cret@ | name a host",
      })
  void refusesWhatIsNoClustersUrl(String url, String why) {
    assertThatThrownBy(() -> RedisCluster.open(url))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("parse_redis_url: ")
        .hasMessageContaining(why)
        .hasMessageNotContaining("S3cret");
  }

  @Test
  void namesEveryWrongSetting() {
    assertThatThrownBy(
            () -> RedisCluster.builder("http://h").pingTimeout(Duration.ZERO).open())
        .hasMessageContaining("parse_redis_url: ")
        .hasMessageContaining("pingTimeout must be more than zero: PT0S");
  }

  @Test
  void saysSo_whenTheServerIsNoneOfACluster() {
    assertThatThrownBy(() -> RedisCluster.builder(RedisServer.shared().url())
            .retry(Retry.builder().maxAttempts(2).delay(Duration.ZERO).build())
            .open())
        .isInstanceOf(StartupException.class)
        .hasMessageContaining("ping_redis: ");
    assertThat(Thread.getAllStackTraces().keySet())
        .noneMatch(thread -> thread.getName().startsWith("lettuce-nioEventLoop-cluster"));
  }

  /** Such as those of machines that have lost power. */
  @Test
  void opensWhileANodeOfTheUrlIsSilent() throws IOException {
    try (ServerSocket silent = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        RedisServers servers = RedisServers.startCluster()) {
      String first = "redis://127.0.0.1:" + silent.getLocalPort() + ",";
      servers.servers().getLast().pause(); // a replica
      try (RedisCluster redis = RedisCluster.builder(servers.url().replace("redis://", first))
          .pingTimeout(Duration.ofSeconds(2))
          .retry(Retry.builder().maxAttempts(1).build())
          .open()) {
        assertThat(redis.connection().sync().set("key", "x")).isEqualTo("OK");
      }
    }
  }

  /** Such as one whose connection a firewall has forgotten. */
  @Test
  void leavesANodeThatAnswersNothing() {
    try (RedisServers servers = RedisServers.startCluster();
        RedisCluster redis = RedisCluster.open(servers.url() + "?timeout=500ms")) {
      RedisServer node = servers.masters().getFirst();
      servers.cutOff(node);

      await().atMost(Duration.ofSeconds(20)).untilAsserted(() -> {
        for (int i = 0; i < 20; i++) {
          String key = "key-" + i;
          assertThat(
                  catchThrowable(() -> redis.connection().sync().set(key, "x"))
                      instanceof RedisCommandTimeoutException)
              .isFalse();
        }
      });
      servers.heal(node);
      await()
          .atMost(Duration.ofSeconds(20))
          .ignoreExceptionsInstanceOf(RedisException.class)
          .until(() -> {
            for (int i = 0; i < 20; i++) {
              redis.connection().sync().set("key-" + i, "x");
            }
            return true;
          });
    }
  }
}
