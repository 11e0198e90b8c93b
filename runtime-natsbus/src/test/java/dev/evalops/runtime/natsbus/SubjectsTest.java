package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.EventFormat;
import java.io.InputStream;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

public class SubjectsTest {
  static Stream<JsonNode> vectors() throws Exception {
    return cases("/nats_subject_source.json");
  }

  public static Stream<JsonNode> cases(String resource) throws Exception {
    try (InputStream in = SubjectsTest.class.getResourceAsStream(resource)) {
      return JsonMapper.shared().readTree(in).get("cases").values().stream().toList().stream();
    }
  }

  @ParameterizedTest
  @MethodSource("vectors")
  void makesTheSubjectAndSourceOfPeers_orRefuses(JsonNode vector) {
    JsonNode input = vector.get("input");
    JsonNode expected = vector.get("expected");
    String prefix = Subjects.prefix(input.get("prefix").asString());
    String type = input.get("aggregate_type").asString();
    String operation = input.get("operation").asString();
    List<String> problems = new ArrayList<>();
    Subjects.checkSubject("subjectPrefix", prefix, false, problems);

    if (prefix.endsWith(".")) {
      // The stream's subjects of such a prefix have an empty token: the server refuses them.
      assertThat(expected.get("stream_filter").asString()).contains("..");
      assertThat(problems).isNotEmpty();
    } else if (expected.get("valid_nats_subject").asBoolean()) {
      assertThat(problems).isEmpty();
      EncodedEvent event =
          EventFormat.JSON.encode(Change.of(type, "1", operation), prefix, Instant.EPOCH, Map.of());
      assertThat(event.subject()).isEqualTo(expected.get("subject").asString());
      assertThat(Event.read(event.headers(), event.body()).source())
          .isEqualTo(expected.get("source").asString());
      assertThat(Subjects.filter(prefix))
          .isEqualTo(expected.get("stream_filter").asString());
    } else {
      assertThatThrownBy(() -> EventFormat.JSON.encode(
              Change.of(type, "1", operation), prefix, Instant.EPOCH, Map.of()))
          .isInstanceOf(IllegalArgumentException.class);
    }
  }

  @Test
  void knowsWhatAFilterCovers() {
    assertThat(Subjects.covers("a.>", "a.b.>")).isTrue();
    assertThat(Subjects.covers(">", "a")).isTrue();
    assertThat(Subjects.covers("a.*.c", "a.b.c")).isTrue();
    assertThat(Subjects.covers("a.b", "a.b")).isTrue();
    assertThat(Subjects.covers("a.>", "a")).isFalse();
    assertThat(Subjects.covers("a.*", "a.>")).isFalse();
    assertThat(Subjects.covers("a.b.*", "a.b.>")).isFalse();
    assertThat(Subjects.covers("a.b", "a.*")).isFalse();
    assertThat(Subjects.covers("a.b", "a.b.c")).isFalse();
  }

  @Test
  void trimsThePrefix_ofTheWhiteSpaceOfUnicode() {
    assertThat(Subjects.prefix("\u00a0\u0085\t notes.changes. \u2003\u3000\n"))
        .isEqualTo("notes.changes");
    // White space for Java alone.
    assertThat(Subjects.prefix("\u001cnotes")).isEqualTo("\u001cnotes");
  }
}
