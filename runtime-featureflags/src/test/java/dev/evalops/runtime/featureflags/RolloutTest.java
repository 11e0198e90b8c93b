package dev.evalops.runtime.featureflags;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.constraints.StringLength;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class RolloutTest {
  static Stream<JsonNode> rolloutVectors() throws Exception {
    return vectors("/rollout_bucket.json");
  }

  static Stream<JsonNode> trimVectors() throws Exception {
    return vectors("/go_trim_space.json");
  }

  private static Stream<JsonNode> vectors(String name) throws Exception {
    try (InputStream in = RolloutTest.class.getResourceAsStream(name)) {
      return StreamSupport.stream(
          JsonMapper.shared().readTree(in).get("cases").spliterator(), false);
    }
  }

  @ParameterizedTest
  @MethodSource("rolloutVectors")
  void bucketsAsTheOtherReadersOfTheFileDo(JsonNode vector) {
    String subject = vector.at("/input/subject").stringValue();
    Rollout rollout = rollout(Blank.trim(vector.at("/input/key").stringValue()), 50);
    int start = Blank.start(subject);

    assertThat(rollout.bucket(subject, start, Blank.end(subject, start)))
        .isEqualTo(vector.at("/expected/bucket").intValue());
  }

  @ParameterizedTest
  @MethodSource("trimVectors")
  void trimsAsTheOtherReadersOfTheFileDo(JsonNode vector) {
    assertThat(Blank.trim(vector.get("input").stringValue()))
        .isEqualTo(vector.get("expected").stringValue());
  }

  @Property
  void hashesWhatTheTextIsInUtf8(
      @ForAll @StringLength(max = 40) String key, @ForAll @StringLength(max = 40) String subject) {
    int hash = 0x811c9dc5;
    for (byte octet : (key + ":" + asGoReadsIt(subject)).getBytes(StandardCharsets.UTF_8)) {
      hash = (hash ^ (octet & 0xff)) * 0x01000193;
    }
    // A key comes from JSON, which has no lone surrogates.
    if (asGoReadsIt(key).equals(key)) {
      assertThat(rollout(key, 50).bucket(subject, 0, subject.length()))
          .isEqualTo((int) (Integer.toUnsignedLong(hash) % 100));
    }
  }

  private static String asGoReadsIt(String text) {
    StringBuilder read = new StringBuilder();
    text.codePoints()
        .forEach(
            point -> read.appendCodePoint(point >= 0xd800 && point <= 0xdfff ? 0xfffd : point));
    return read.toString();
  }

  @Property
  void aGreaterPercentageTakesNobodyOut(
      @ForAll @StringLength(min = 1, max = 20) String key,
      @ForAll String subject,
      @ForAll @IntRange(min = 1, max = 100) int percent,
      @ForAll @IntRange(min = 1, max = 100) int more) {
    if (rollout(key, Math.min(percent, more)).reaches(subject)) {
      assertThat(rollout(key, Math.max(percent, more)).reaches(subject)).isTrue();
    }
  }

  private static Rollout rollout(String key, int percent) {
    return new Rollout(new Flag(key, true, percent, true, List.of(), ""));
  }

  @Test
  void takesForBlank_whatUnicodeCallsWhiteSpace() {
    Pattern white = Pattern.compile("\\p{IsWhite_Space}");
    for (int c = Character.MIN_VALUE; c <= Character.MAX_VALUE; c++) {
      String text = Character.toString((char) c);
      assertThat(Blank.trim(text).isEmpty())
          .as("U+%04X", c)
          .isEqualTo(white.matcher(text).matches());
    }
  }
}
