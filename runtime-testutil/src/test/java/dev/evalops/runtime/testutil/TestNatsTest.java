package dev.evalops.runtime.testutil;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import io.nats.client.Connection;
import io.nats.client.Nats;
import io.nats.client.api.StreamConfiguration;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(TestNats.class)
class TestNatsTest {
  private static final StreamConfiguration STREAM =
      StreamConfiguration.builder().name("NOTES").subjects("notes.>").build();

  @RepeatedTest(2)
  void everyTestHasItsOwnJetStream_emptyAtFirst(NatsServer nats) throws Exception {
    try (Connection connection = Nats.connect(nats.url())) {
      assertThat(connection.jetStreamManagement().getStreamNames()).isEmpty();
      connection.jetStreamManagement().addStream(STREAM);
      assertThat(connection
              .jetStream()
              .publish("notes.create", "{}".getBytes(UTF_8))
              .getSeqno())
          .isEqualTo(1);
    }
  }

  @Test
  void streamSurvivesACrash(NatsServer nats) throws Exception {
    try (Connection connection = Nats.connect(nats.url())) {
      connection.jetStreamManagement().addStream(STREAM);
      connection.jetStream().publish("notes.create", "{}".getBytes(UTF_8));
    }
    nats.kill();
    nats.restart();
    try (Connection connection = Nats.connect(nats.url())) {
      assertThat(connection
              .jetStreamManagement()
              .getStreamInfo("NOTES")
              .getStreamState()
              .getMsgCount())
          .isEqualTo(1);
    }
  }
}
