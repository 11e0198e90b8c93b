package dev.evalops.runtime.auth;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;

class TextTest {
  static List<JsonNode> trims() throws IOException {
    return Vectors.cases("go_trim_space.json");
  }

  @ParameterizedTest
  @MethodSource("trims")
  void trimsWhatTheOtherServicesTrim(JsonNode vector) {
    String input = vector.get("input").asString();
    String expected = vector.get("expected").asString();
    assertThat(Text.trim(input)).isEqualTo(expected);
    assertThat(Text.isBlank(input)).isEqualTo(expected.isEmpty());
  }
}
