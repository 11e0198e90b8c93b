package dev.evalops.hook;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

class GoTextTest {
  static Stream<JsonNode> trimCases() {
    return Vectors.cases("go_trim_space.json");
  }

  @ParameterizedTest
  @MethodSource("trimCases")
  void trimsTheWhiteSpaceOfGo(JsonNode vector) {
    assertThat(GoText.trim(vector.get("input").asString()))
        .isEqualTo(vector.get("expected").asString());
  }

  static Stream<JsonNode> durationCases() {
    return Vectors.cases("go_duration_env.json")
        .filter(
            vector -> !vector.get("expected").get("source").asString().equals("fallback_empty"));
  }

  @ParameterizedTest
  @MethodSource("durationCases")
  void readsDurationsOfGoAndWholeSeconds_andRefusesWhatGoReplacesOrWraps(JsonNode vector) {
    String input = GoText.trim(vector.get("input").asString());
    JsonNode expected = vector.get("expected");
    if (expected.get("nanos").isNull() || expected.path("overflowed").asBoolean(false)) {
      assertThatThrownBy(() -> GoText.duration(input)).isInstanceOf(IllegalArgumentException.class);
    } else {
      assertThat(GoText.duration(input))
          .isEqualTo(Duration.ofNanos(expected.get("nanos").asLong()));
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "-",
        "+",
        ".",
        ".s",
        "s",
        "5 s",
        "--5s",
        "1e3s",
        "1h 2m",
        "9223372037",
        "9223372036855ms",
        "2562048h",
        "99999999999999999999",
        "1s1",
        "\u0661s",
        "NaN",
        "infinity",
        "1.2.3s"
      })
  void refusesGarbageAndOverflow(String text) {
    assertThatThrownBy(() -> GoText.duration(text))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("is ");
  }
}
