package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.examples.notes.events.NoteChanged;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.natsbus.NatsBus;
import io.opentelemetry.api.OpenTelemetry;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.ResultSet;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The way of a change from its commit into the feed. */
class FeedTest {
  private static final Duration SOON = Duration.ofSeconds(60);
  private static final String NOTE = "{\"title\":\"milk\"}";

  @TempDir
  private Path folder;

  @Test
  void takesEachChangeOnce_whateverComesTwiceOrLate() throws Exception {
    UUID note = UUID.randomUUID();
    try (RunningService service = new RunningService(folder, OpenTelemetry.noop(), Map.of());
        NatsBus bus = NatsBus.builder(service.nats().url()).stream("NOTES")
            .subjectPrefix("notes.changes")
            .open()) {
      for (long version : new long[] {2, 1, 2, 1, 3}) {
        bus.publish(Change.of("note", note, "update")
            .organization(RunningService.ORGANIZATION)
            .sequence(1_000 + version)
            .version(version)
            .payload(NoteChanged.newBuilder().setTitle("title " + version).build()));
      }

      Awaitility.await().atMost(SOON).until(() -> titles(service).contains("title 3"));
      assertThat(titles(service)).containsExactlyInAnyOrder("title 1", "title 2", "title 3");
      assertThat(service.send(service.request("/v1/feed?limit=1")).body())
          .contains("title 3")
          .doesNotContain("title 2");
    }
  }

  @Test
  void hasEveryCommittedChange_whenNatsWasAwayForLongerThanAPublishing() throws Exception {
    try (RunningService service = new RunningService(folder, OpenTelemetry.noop(), Map.of())) {
      service.send(service.write("POST", "/v1/notes", NOTE));
      service.nats().kill();
      for (int i = 0; i < 20; i++) {
        assertThat(service.send(service.write("POST", "/v1/notes", NOTE)).statusCode())
            .isEqualTo(201);
      }
      Awaitility.await().atMost(SOON).until(() -> failures(service) > 0);
      service.nats().restart();

      Awaitility.await().atMost(SOON).until(() -> titles(service).size() == 21);
      Awaitility.await()
          .atMost(SOON)
          .until(() -> rows(service, "SELECT seq FROM change_outbox").isEmpty());
    }
  }

  private static double failures(RunningService service) throws Exception {
    return service
        .scrape()
        .lines()
        .filter(line -> line.startsWith("natsbus_publish_failures_total "))
        .mapToDouble(line -> Double.parseDouble(line.substring(line.lastIndexOf(' '))))
        .sum();
  }

  private static List<String> titles(RunningService service) throws Exception {
    return rows(service, "SELECT title FROM feed");
  }

  private static List<String> rows(RunningService service, String sql) throws Exception {
    List<String> found = new ArrayList<>();
    try (Connection connection = service.schema().dataSource().getConnection();
        ResultSet row = connection.createStatement().executeQuery(sql)) {
      while (row.next()) {
        found.add(row.getString(1));
      }
    }
    return found;
  }
}
