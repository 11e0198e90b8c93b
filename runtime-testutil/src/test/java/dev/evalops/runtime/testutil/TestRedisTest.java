package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;

import io.lettuce.core.RedisClient;
import io.lettuce.core.api.StatefulRedisConnection;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(TestRedis.class)
class TestRedisTest {
  private RedisServer inBeforeEach;

  @BeforeEach
  void remember(RedisServer redis) {
    inBeforeEach = redis;
  }

  @RepeatedTest(2)
  void everyTestHasItsOwnServer_emptyAtFirst(RedisServer redis) {
    assertThat(redis).isSameAs(inBeforeEach);
    try (RedisClient client = RedisClient.create(redis.url());
        StatefulRedisConnection<String, String> connection = client.connect()) {
      assertThat(connection.sync().dbsize()).isZero();
      connection.sync().set("key", "value");
      assertThat(connection.sync().get("key")).isEqualTo("value");
    }
  }

  @Test
  void isEmptyAfterACrash(RedisServer redis) {
    try (RedisClient client = RedisClient.create(redis.url());
        StatefulRedisConnection<String, String> connection = client.connect()) {
      connection.sync().set("key", "value");
      redis.kill();
      redis.restart();
      assertThat(connection.sync().get("key")).isNull();
    }
  }
}
