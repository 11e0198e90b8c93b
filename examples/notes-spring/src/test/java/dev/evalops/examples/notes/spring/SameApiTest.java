package dev.evalops.examples.notes.spring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.examples.notes.NotesService;
import dev.evalops.examples.notes.spring.Steps.Answer;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A client cannot tell the Spring service from that on the JDK's server. */
class SameApiTest {
  /** What Spring reads before a controller can: status and shape are the same, the words are not. */
  private static final Map<String, String> BODIES_OF_SPRING = Map.of(
      "no id", "{\"error\":{\"code\":\"invalid_input\",\"message\":\"invalid input\"}}",
      "no number", "{\"error\":{\"code\":\"invalid_input\",\"message\":\"invalid input\"}}",
      "two values",
          "{\"error\":{\"code\":\"invalid_json\",\"message\":\"Request body must be valid JSON\"}}",
      "unknown field",
          "{\"error\":{\"code\":\"invalid_json\",\"message\":\"Request body must be valid JSON\"}}");

  @Test
  void answersAsTheServiceOnTheJdksServer(@TempDir Path folder) throws Exception {
    Map<String, Answer> jdk;
    Map<String, Answer> spring;
    try (Service service =
        new Service(NotesService.class, Files.createDirectory(folder.resolve("jdk")))) {
      jdk = Steps.run(service);
    }
    try (Service service =
        new Service(NotesApplication.class, Files.createDirectory(folder.resolve("spring")))) {
      spring = Steps.run(service);
      await().atMost(Duration.ofSeconds(30)).untilAsserted(() -> {
        HttpResponse<String> feed = service.send(service
            .request("/v1/feed")
            .header("Authorization", "Bearer " + Service.ANN)
            .build());
        assertThat(feed.body())
            .contains(
                "\"operation\":\"create\",\"title\":\"milk\"",
                "\"operation\":\"update\",\"title\":\"oat milk\"");
      });
      assertThat(service.log()).doesNotContain(" ERROR ");
    }

    Map<String, String> differences = new LinkedHashMap<>();
    jdk.forEach((what, answer) -> {
      Answer expected = BODIES_OF_SPRING.containsKey(what)
          ? new Answer(answer.status(), answer.headers(), BODIES_OF_SPRING.get(what))
          : answer;
      if (!expected.equals(spring.get(what))) {
        differences.put(what, "\n  JDK    " + answer + "\n  Spring " + spring.get(what));
      }
    });
    assertThat(differences).isEmpty();
  }
}
