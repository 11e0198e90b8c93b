package dev.evalops.runtime.health.nats;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import dev.evalops.runtime.health.HealthCheck;
import dev.evalops.runtime.health.HealthChecker;
import dev.evalops.runtime.health.Paused;
import dev.evalops.runtime.health.UnhealthyException;
import dev.evalops.runtime.testutil.NatsServer;
import io.nats.client.Connection;
import io.nats.client.Connection.Status;
import io.nats.client.ErrorListener;
import io.nats.client.Nats;
import io.nats.client.Options;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(120)
class NatsHealthTest {
  private final AtomicLong clock = new AtomicLong();
  private NatsServer server;
  private Connection connection;
  private HealthCheck check;

  @BeforeEach
  void start() throws IOException, InterruptedException {
    server = NatsServer.start();
    connection = Nats.connect(options().build());
    check = NatsHealth.of(connection, clock::get);
  }

  @AfterEach
  void stop() throws InterruptedException {
    connection.close();
    server.close();
  }

  private Options.Builder options() {
    return Options.builder()
        .server(server.url())
        .maxReconnects(-1)
        .errorListener(new ErrorListener() {})
        .reconnectWait(Duration.ofMillis(20))
        .reconnectJitter(Duration.ofMillis(1));
  }

  @Test
  void isHealthy() throws Exception {
    check.check();
  }

  @Test
  void reportsWhatIsNotConfigured() {
    assertThatThrownBy(() -> NatsHealth.of(null).check())
        .isInstanceOf(UnhealthyException.class)
        .hasMessage("nats_not_configured");
  }

  @Test
  void namesTheStatus_whenClosed() throws Exception {
    check.check();
    connection.close();

    assertThatThrownBy(check::check).hasMessage("nats_not_ready: CLOSED");
  }

  @Test
  void bearsAReconnectForAWhile_thenNamesTheStatus_andRecovers() throws Exception {
    check.check();
    server.kill();
    await().until(() -> connection.getStatus() == Status.RECONNECTING);

    check.check();
    clock.addAndGet(NatsHealth.RECONNECT_GRACE.toNanos() - 1);
    check.check();
    clock.incrementAndGet();
    assertThatThrownBy(check::check).hasMessage("nats_not_ready: RECONNECTING");

    server.restart();
    await().until(() -> connection.getStatus() == Status.CONNECTED);
    check.check();
  }

  @Test
  void startsANewGrace_whenItWasConnectedInBetween() throws Exception {
    check.check();
    server.kill();
    await().until(() -> connection.getStatus() != Status.CONNECTED);
    check.check();
    server.restart();
    await().until(() -> connection.getStatus() == Status.CONNECTED);
    check.check();

    clock.addAndGet(NatsHealth.RECONNECT_GRACE.toNanos());
    server.kill();
    await().until(() -> connection.getStatus() != Status.CONNECTED);
    check.check();
  }

  @Test
  void hasNoGrace_beforeItWasEverConnected() throws Exception {
    server.kill();
    CompletableFuture<Connection> tried = new CompletableFuture<>();
    Nats.connectAsynchronously(
        options().connectionListener((c, event) -> tried.complete(c)).build(), true);
    try (Connection never = tried.get()) {
      assertThatThrownBy(() -> NatsHealth.of(never).check())
          .hasMessageStartingWith("nats_not_ready: ");
    }
  }

  @Test
  void isTimedOut_whenTheServerHangs_andRecoversWithIt() throws Exception {
    try (HealthChecker health = HealthChecker.builder()
        .checkTimeout(Duration.ofMillis(300))
        .checkEvery(Duration.ofMillis(20))
        .required("nats", check)
        .open()) {
      await().until(() -> health.report().healthy());

      try (Paused paused = pause()) {
        await()
            .untilAsserted(() ->
                assertThat(health.report().checks().getFirst().error()).contains("timed out"));
      }

      await().until(() -> health.report().healthy());
    }
  }

  @Test
  void isTimedOut_whenTheClientGivesUpFirst() throws Exception {
    try (Connection impatient =
        Nats.connect(options().connectionTimeout(Duration.ofSeconds(5)).build())) {
      HealthCheck bounded = NatsHealth.of(impatient);
      bounded.check();
      try (Paused paused = pause()) {
        assertThatThrownBy(bounded::check).isInstanceOf(TimeoutException.class);
      }
    }
  }

  @Test
  void bearsALossDuringTheRoundTrip() throws Exception {
    check.check();
    CompletableFuture<Void> result = new CompletableFuture<>();
    try (Paused paused = pause()) {
      Thread checking = Thread.ofPlatform().start(() -> {
        try {
          check.check();
          result.complete(null);
        } catch (Throwable e) {
          result.completeExceptionally(e);
        }
      });
      await().until(() -> checking.getState() == Thread.State.TIMED_WAITING);
      server.kill();
    }

    result.get();
  }

  private Paused pause() throws IOException, InterruptedException {
    return Paused.startedWith(Integer.toString(server.port()));
  }
}
