package dev.evalops.runtime.testutil;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import io.nats.client.Connection;
import io.nats.client.JetStreamApiException;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.api.StreamConfiguration;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.Callable;
import org.junit.jupiter.api.Test;

class NatsClusterTest {
  private static final Duration SOON = Duration.ofSeconds(60);

  private static Connection connect(String url) throws Exception {
    return Nats.connect(
        Options.builder().servers(url.split(",")).maxReconnects(-1).build());
  }

  /** Until a leader answers. */
  private static void eventually(Callable<?> call) {
    await()
        .atMost(SOON)
        .ignoreExceptionsMatching(
            failure -> failure instanceof IOException || failure instanceof JetStreamApiException)
        .until(() -> {
          call.call();
          return true;
        });
  }

  private static void publish(Connection connection) {
    eventually(
        () -> connection.jetStream().publish("stream.a", "x".getBytes(StandardCharsets.US_ASCII)));
  }

  @Test
  void aStreamOutlivesTheServerThatLeadsIt_cutOffOrKilled() throws Exception {
    try (NatsCluster cluster = NatsCluster.start();
        Connection connection = connect(cluster.url())) {
      eventually(() -> connection
          .jetStreamManagement()
          .addStream(StreamConfiguration.builder()
              .name("STREAM")
              .subjects("stream.>")
              .replicas(3)
              .build()));
      await().atMost(SOON).until(() -> cluster.leader("STREAM").isPresent());
      publish(connection);
      NatsServer leader = cluster.leader("STREAM").orElseThrow();

      cluster.cutOff(leader);
      await()
          .atMost(SOON)
          .until(() -> cluster.leader("STREAM").filter(now -> now != leader).isPresent());
      cluster.heal(leader);
      leader.kill();
      publish(connection);
      leader.restart();
      cluster.awaitReady();

      assertThat(cluster.leader("ABSENT")).isEmpty();
      assertThatThrownBy(() -> cluster.cutOff(NatsServer.shared()))
          .isInstanceOf(IllegalArgumentException.class);
    }
  }
}
