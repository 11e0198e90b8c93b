package dev.evalops.runtime.identity;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.TreeSet;
import java.util.stream.Stream;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class ScopesTest {
  static Stream<JsonNode> scopesKeys() throws IOException {
    return vectors("service_token_scopes_key.json");
  }

  static Stream<JsonNode> trims() throws IOException {
    return vectors("go_trim_space.json");
  }

  private static Stream<JsonNode> vectors(String file) throws IOException {
    try (InputStream in = ScopesTest.class.getResourceAsStream("/" + file)) {
      return JsonMapper.shared().readTree(in).get("cases").valueStream();
    }
  }

  @ParameterizedTest
  @MethodSource("scopesKeys")
  void scopesAreKeyedAsEverywhere(JsonNode vector) {
    List<String> scopes =
        vector.get("input").valueStream().map(JsonNode::stringValue).toList();
    assertThat(String.join("\u0000", ServiceTokens.canonical(scopes)))
        .isEqualTo(vector.get("expected").stringValue());
  }

  @ParameterizedTest
  @MethodSource("trims")
  void whiteSpaceIsTrimmedAsEverywhere(JsonNode vector) {
    assertThat(Blank.trim(vector.get("input").stringValue()))
        .isEqualTo(vector.get("expected").stringValue());
  }

  @Test
  void sortsByBytes_notByChars() {
    assertThat(ServiceTokens.canonical(List.of("\ud83d\ude80", "\uff5e", "a")))
        .containsExactly("a", "\uff5e", "\ud83d\ude80");
  }

  @Provide
  Arbitrary<List<String>> scopes() {
    return Arbitraries.strings()
        .withChars(" \t\u00a0ab:\uff5e\u00e9")
        .ofMaxLength(4)
        .list()
        .ofMaxSize(8);
  }

  @Property
  void orderRepeatsAndWhiteSpaceDoNotMatter(
      @ForAll("scopes") List<String> scopes, @ForAll long seed) {
    List<String> canonical = ServiceTokens.canonical(scopes);
    List<String> other = new ArrayList<>(scopes);
    other.addAll(scopes);
    other.replaceAll(scope -> "\u2003" + scope + "\n");
    Collections.shuffle(other, new Random(seed));
    assertThat(ServiceTokens.canonical(other)).isEqualTo(canonical);
    assertThat(ServiceTokens.canonical(canonical)).isEqualTo(canonical);
    assertThat(canonical).doesNotHaveDuplicates().doesNotContain("");
    TreeSet<String> trimmed = new TreeSet<>();
    scopes.forEach(scope -> trimmed.add(Blank.trim(scope)));
    trimmed.remove("");
    assertThat(new TreeSet<>(canonical)).isEqualTo(trimmed);
  }
}
