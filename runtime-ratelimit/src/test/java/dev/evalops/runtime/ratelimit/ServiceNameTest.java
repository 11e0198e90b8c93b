package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;

class ServiceNameTest {
  static List<JsonNode> prefixVectors() {
    return Vectors.cases("metric_prefix_ratelimit.json");
  }

  @ParameterizedTest
  @MethodSource("prefixVectors")
  void beginsNamesAsTheVectorsSay(JsonNode vector) {
    assertThat(ServiceName.prefix(vector.get("input").stringValue()))
        .isEqualTo(vector.get("expected").stringValue());
  }
}
