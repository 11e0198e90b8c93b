package dev.evalops.runtime.health.redis;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.health.HealthChecker;
import dev.evalops.runtime.health.HealthReport;
import dev.evalops.runtime.health.Paused;
import dev.evalops.runtime.testutil.RedisServer;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisClient;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.protocol.ProtocolVersion;
import java.time.Duration;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(120)
class RedisHealthTest {
  private RedisServer server;
  private RedisClient client;
  private StatefulRedisConnection<String, String> connection;
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
    connection.close();
    client.shutdown(Duration.ZERO, Duration.ofSeconds(5));
    server.close();
  }

  private HealthChecker checker(Duration timeout) {
    return HealthChecker.builder()
        .checkTimeout(timeout)
        .cacheFor(Duration.ZERO)
        .build()
        .add("redis", RedisHealth.of(connection));
  }

  private Optional<String> error() throws InterruptedException {
    HealthReport report = health.report();
    return report.checks().getFirst().error();
  }

  @Test
  void isHealthy() throws Exception {
    await().until(() -> health.report().healthy());
  }

  @Test
  void reportsWhatIsNotConfigured() {
    assertThatThrownBy(() -> RedisHealth.of(null).check()).hasMessage("redis_not_configured");
  }

  @Test
  void isTimedOut_whenTheServerIsKilled_andRecoversWithIt() throws Exception {
    await().until(() -> health.report().healthy());
    server.kill();

    assertThat(error()).contains("timed out");
    server.restart();

    await().until(() -> health.report().healthy());
  }

  @Test
  void doesNotNoticeAReconnectWithinTheTimeout() throws Exception {
    HealthChecker patient = checker(Duration.ofSeconds(60));
    assertThat(patient.report().healthy()).isTrue();
    server.kill();
    await().until(() -> !connection.isOpen());
    server.restart();

    assertThat(patient.report().healthy()).isTrue();
  }

  @Test
  void leavesOnePingOnTheWire_howeverOftenAHangingServerIsProbed() throws Exception {
    await().until(() -> health.report().healthy());
    connection.sync().configResetstat();

    try (Paused paused = Paused.tree(processId())) {
      for (int probe = 0; probe < 5; probe++) {
        assertThat(error()).contains("timed out");
      }
    }

    assertThat(connection.sync().ping()).isEqualTo("PONG");
    assertThat(connection.sync().info("commandstats")).contains("cmdstat_ping:calls=2,");
  }

  @Test
  void fails_whenTheConnectionIsClosed() throws Exception {
    connection.close();

    assertThat(error()).contains("check failed");
  }

  @Test
  void fails_whenTheServerWantsAPassword() throws Exception {
    connection.sync().configSet("requirepass", "secret");
    try (StatefulRedisConnection<String, String> unauthenticated = connectWithoutHandshake()) {
      HealthReport report =
          HealthChecker.create().add("redis", RedisHealth.of(unauthenticated)).report();

      assertThat(report.checks().getFirst().error()).contains("check failed");
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
