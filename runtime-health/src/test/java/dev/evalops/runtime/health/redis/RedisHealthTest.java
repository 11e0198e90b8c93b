package dev.evalops.runtime.health.redis;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.health.HealthCheck;
import dev.evalops.runtime.health.HealthChecker;
import dev.evalops.runtime.health.Paused;
import dev.evalops.runtime.testutil.RedisServer;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.protocol.ProtocolVersion;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(120)
class RedisHealthTest {
  private RedisServer server;
  private RedisClient client;
  private StatefulRedisConnection<String, String> connection;
  private final List<HealthChecker> opened = new ArrayList<>();
  private HealthChecker health;

  @BeforeEach
  void start() {
    server = RedisServer.start();
    client = RedisClient.create(server.url());
    connection = client.connect();
    health = checker(Duration.ofMillis(300));
  }

  @AfterEach
  void stop() {
    opened.forEach(HealthChecker::close);
    connection.close();
    client.shutdown(Duration.ZERO, Duration.ofSeconds(5));
    server.close();
  }

  private HealthChecker checker(Duration timeout) {
    HealthChecker checker = HealthChecker.builder()
        .checkTimeout(timeout)
        .checkEvery(Duration.ofMillis(20))
        .required("redis", RedisHealth.of(connection))
        .open();
    opened.add(checker);
    return checker;
  }

  private void awaitError(String error) {
    await()
        .untilAsserted(
            () -> assertThat(health.report().checks().getFirst().error()).contains(error));
  }

  @Test
  void isHealthy() throws Exception {
    await().until(() -> health.report().healthy());
  }

  @Test
  void reportsWhatIsNotConfigured() {
    assertThatThrownBy(
            () -> RedisHealth.of((StatefulRedisConnection<String, String>) null).check())
        .hasMessage("redis_not_configured");
  }

  @Test
  void isTimedOut_whenTheServerIsKilled_andRecoversWithIt() throws Exception {
    await().until(() -> health.report().healthy());
    server.kill();

    awaitError("timed out");
    server.restart();

    await().until(() -> health.report().healthy());
  }

  @Test
  void doesNotNoticeAReconnectWithinTheTimeout() throws Exception {
    health.close();
    RedisHealth.of(connection).check();
    server.kill();
    await().until(() -> !connection.isOpen());
    server.restart();

    HealthChecker patient = checker(Duration.ofSeconds(60));
    assertThat(patient.report().healthy()).isTrue();
  }

  @Test
  void leavesOnePingOnTheWire_howeverOftenAHangingServerIsProbed() throws Exception {
    health.close();
    await()
        .until(() -> Thread.getAllStackTraces().keySet().stream()
            .noneMatch(thread -> thread.getName().equals("health-check-redis")));
    connection.sync().configResetstat();

    try (Paused paused = Paused.tree(processId());
        HealthChecker impatient = HealthChecker.builder()
            .checkTimeout(Duration.ofMillis(100))
            .checkEvery(Duration.ofMillis(20))
            .required("redis", RedisHealth.of(connection))
            .open()) {
      for (int probe = 0; probe < 5; probe++) {
        Duration seen = impatient.report().checks().getFirst().latency();
        await().until(() -> !impatient.report().checks().getFirst().latency().equals(seen));
      }
      assertThat(impatient.report().checks().getFirst().error()).contains("timed out");
    }

    assertThat(connection.sync().ping()).isEqualTo("PONG");
    assertThat(connection.sync().info("commandstats")).contains("cmdstat_ping:calls=2,");
  }

  @Test
  void fails_whenTheConnectionIsClosed() throws Exception {
    connection.close();

    awaitError("check failed");
  }

  @Test
  void fails_whenTheServerWantsAPassword() throws Exception {
    connection.sync().configSet("requirepass", "secret");
    try (StatefulRedisConnection<String, String> unauthenticated = connectWithoutHandshake()) {
      HealthCheck check = RedisHealth.of(unauthenticated);

      assertThatThrownBy(check::check).hasRootCauseInstanceOf(RedisCommandExecutionException.class);
    }
  }

  private StatefulRedisConnection<String, String> connectWithoutHandshake() {
    client.setOptions(ClientOptions.builder()
        .pingBeforeActivateConnection(false)
        .protocolVersion(ProtocolVersion.RESP2)
        .build());
    return client.connect();
  }

  private long processId() {
    return connection
        .sync()
        .info("server")
        .lines()
        .filter(line -> line.startsWith("process_id:"))
        .mapToLong(line -> Long.parseLong(line.substring("process_id:".length())))
        .findFirst()
        .orElseThrow();
  }
}
