package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.testutil.NatsCluster;
import io.nats.client.api.ServerInfo;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ReplicasTest {
  private static final String WARNING = "nats: server too old for a stream with replicas";

  private static NatsBus.Builder bus(String url) {
    return NatsBus.builder(url).stream("NOTES").subjectPrefix("notes.changes");
  }

  @ParameterizedTest
  @CsvSource({
    "2.9.10, false",
    "2.9.25, false",
    "2.10.22, false",
    "2.10.23, true",
    "2.11.0, true",
    "2.15.3, true",
    "2.16.0-preview.1, true",
    "3.0.0, true"
  })
  void knowsTheVersionsThatLoseEvents(String version, boolean fit) {
    ServerInfo server = new ServerInfo("INFO {\"version\":\"" + version + "\"}");

    assertThat(Connecting.isFitForReplicas(server)).isEqualTo(fit);
  }

  @Test
  @Timeout(120)
  void warnsAtTheStart_whenTheServerIsTooOldForTheReplicasOfTheStream() {
    try (NatsCluster nats = NatsCluster.start();
        Logs logs = new Logs()) {
      bus(nats.url()).replicas(3).open().close();
      try (NatsBus found = bus(nats.url()).open()) {
        boolean fit = Connecting.isFitForReplicas(found.connection().getServerInfo());

        assertThat(logs.count(WARNING)).isEqualTo(fit ? 0 : 2);
      }
      bus(nats.url()).stream("ALONE").subjectPrefix("alone").open().close();
      assertThat(logs.lines()).noneMatch(line -> line.contains(WARNING) && line.contains("ALONE"));
    }
  }
}
