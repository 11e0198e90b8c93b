package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.core.json.JsonFactory;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class JsonTest {
  private static final JsonMapper STRICT_JACKSON = JsonMapper.builder(JsonFactory.builder()
          .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
          .build())
      .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
      .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
      .build();

  private static Object parse(String text) throws Json.MalformedException {
    return Json.parse(text.getBytes(UTF_8));
  }

  @Test
  void readsEveryKindOfValue() throws Exception {
    Map<String, Object> expected = new LinkedHashMap<>();
    expected.put("s", "a\"\\/\b\f\n\r\t\u00e9\ud83d\ude00\u20ac");
    expected.put("n", new Json.Numeral("-0.5e+3"));
    expected.put("l", List.of(true, false, new Json.Numeral("0"), List.of()));
    expected.put("z", Json.NULL);
    expected.put("o", Map.of());
    assertThat(parse(
            " {\"s\":\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00E9\\ud83d\\uDE00\u20ac\" ,\t\"n\":-0.5e+3,"
                + "\n\"l\":[true,false,0,[]],\"z\":null,\"o\":{ }}\r\n"))
        .isEqualTo(expected);
    assertThat(parse("\"\ud83d\ude00\u0080\u07ff\u0800\uffff\""))
        .isEqualTo("\ud83d\ude00\u0080\u07ff\u0800\uffff");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        " ",
        "{",
        "}",
        "[",
        "]",
        "nul",
        "nulll",
        "True",
        "NaN",
        "-Infinity",
        "undefined",
        "'a'",
        "\"a",
        "\"\\",
        "\"\\u",
        "\"\\u12",
        "\"\\x41\"",
        "\"\\u00g0\"",
        "\"\\U0041\"",
        "\"\t\"",
        "\"\u0000\"",
        "01",
        "-",
        "-a",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x10",
        "1_0",
        "1 2",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1 \"b\":2}",
        "{,}",
        "{\"a\":1}}",
        "{} {}",
        "{}x",
        "/**/{}",
        "{}//",
        "#\n{}",
        "\ufeff{}",
        "\u00a0{}",
        "1e400",
        "-1e400",
        "[1]\u0000"
      })
  void refusesWhatIsNoJson(String text) {
    assertThatThrownBy(() -> parse(text)).isInstanceOf(Json.MalformedException.class);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "{\"a\":1,\"a\":1}",
        "{\"a\":1,\"\\u0061\":2}",
        "[{\"x\":{\"a\":1,\"b\":2,\"a\":3}}]",
        "{\"\":1,\"\":2}",
        "{\"\u00e9\":1,\"\\u00e9\":2}"
      })
  void refusesAKeyThatComesTwice_atAnyLevelAndInAnySpelling(String text) {
    assertThatThrownBy(() -> parse(text)).hasMessageContaining("twice");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\\ud83d",
        "\\ude00",
        "\\ud83dx",
        "\\ud83d\\n",
        "\\ud83d\\ud83d",
        "\\ude00\\ud83d",
        "\\ud83d\\u0041"
      })
  void refusesHalfASurrogatePair(String escape) {
    assertThatThrownBy(() -> parse("\"" + escape + "\""))
        .isInstanceOf(Json.MalformedException.class);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\u0080",
        "\u00ff",
        "\u00c0\u0080",
        "\u00c1\u00bf",
        "\u00e0\u0080\u0080",
        "\u00e0\u009f\u00bf",
        "\u00ed\u00a0\u0080",
        "\u00ed\u00bf\u00bf",
        "\u00f0\u0080\u0080\u0080",
        "\u00f0\u008f\u00bf\u00bf",
        "\u00f4\u0090\u0080\u0080",
        "\u00f5\u0080\u0080\u0080",
        "\u00c3",
        "\u00e2\u0082",
        "\u00f0\u009f\u0098",
        "\u00c3(",
        "\u00e2(\u00a1",
        "\u00f0\u009f\u0098("
      })
  void refusesWhatIsNoUtf8(String bytes) {
    assertThatThrownBy(() -> Json.parse(("\"" + bytes + "\"").getBytes(ISO_8859_1)))
        .isInstanceOf(Json.MalformedException.class)
        .hasMessageContaining("UTF-8");
  }

  @Test
  void refusesMoreKeysAtOnceThanItKeeps() throws Exception {
    String members = IntStream.range(0, 50_000)
        .mapToObj(i -> "\"" + i + "\":1")
        .collect(Collectors.joining(","));
    String half = "{" + members + "}";
    parse("[" + half + "," + half + "," + half + "]"); // one after the other
    parse("{" + members + ",\"x\":{" + members.substring(members.indexOf(',') + 1) + "}}");
    assertThatThrownBy(() -> parse("{" + members + ",\"x\":" + half + "}"))
        .hasMessageContaining("more than 100000 keys");
  }

  @Test
  void takes200LevelsAndNoMore() {
    String deepest = "[".repeat(199) + "{}" + "]".repeat(199);
    assertThatCode(() -> parse(deepest)).doesNotThrowAnyException();
    assertThatThrownBy(() -> parse("[" + deepest + "]")).hasMessageContaining("200 levels");
    assertThatThrownBy(() -> parse("{\"a\":".repeat(100_000))).hasMessageContaining("200 levels");
  }

  @Test
  void takesLongNumbersWithinTheRangeOfADouble() {
    assertThatCode(() -> parse("12345678901234567890.123456789")).doesNotThrowAnyException();
    assertThatCode(() -> parse("9".repeat(308))).doesNotThrowAnyException();
    assertThatThrownBy(() -> parse("9".repeat(400))).hasMessageContaining("range");
  }

  @Test
  void saysWhereAndNeverWhat() {
    assertThatThrownBy(() -> parse("{\"password\":hunter2}"))
        .hasMessage("a value or a digit is expected at byte 12");
  }

  @Test
  void acceptsOnlyWhatAnotherReaderAcceptsAndSeesTheSame() {
    compareWithJackson(20_000);
  }

  @Test
  @Tag("soak")
  void acceptsOnlyWhatAnotherReaderAcceptsAndSeesTheSame_long() {
    System.out.println("json fuzz: " + compareWithJackson(3_000_000));
  }

  /** Mutates real payloads; whatever we accept must be the same for Jackson. */
  private static String compareWithJackson(int rounds) {
    List<byte[]> seeds = new ArrayList<>();
    for (String name : new String[] {
      "02-claude-bash-subagent.json", "14-claude-unknown-fields.json", "09-codex-apply-patch.json"
    }) {
      seeds.add(Vectors.payload(name));
    }
    seeds.add("{\"a\":[1,-2.5e3,true,null,\"\\u00e9\\ud83d\\ude00\u00e9\"],\"b\":{\"a\":{}}}"
        .getBytes(UTF_8));
    String[] pieces = {
      "\"",
      "\\",
      "{",
      "}",
      "[",
      "]",
      ":",
      ",",
      "0",
      "1e9",
      "-",
      "\\u0061",
      "\\ud83d",
      "\u00e9",
      "null",
      " ",
      "\"a\":1,"
    };
    long seed = 20_261_124;
    Random random = new Random(seed);
    int accepted = 0;
    for (int round = 0; round < rounds; round++) {
      byte[] text = seeds.get(random.nextInt(seeds.size())).clone();
      for (int change = random.nextInt(3); change >= 0; change--) {
        int at = random.nextInt(text.length);
        switch (random.nextInt(3)) {
          case 0 -> text[at] = (byte) random.nextInt(256);
          case 1 -> {
            byte[] piece = pieces[random.nextInt(pieces.length)].getBytes(UTF_8);
            byte[] longer = new byte[text.length + piece.length];
            System.arraycopy(text, 0, longer, 0, at);
            System.arraycopy(piece, 0, longer, at, piece.length);
            System.arraycopy(text, at, longer, at + piece.length, text.length - at);
            text = longer;
          }
          default -> {
            int count = Math.min(1 + random.nextInt(4), text.length - at);
            byte[] shorter = new byte[text.length - count];
            System.arraycopy(text, 0, shorter, 0, at);
            System.arraycopy(text, at + count, shorter, at, text.length - at - count);
            text = shorter.length == 0 ? text : shorter;
          }
        }
      }
      Object ours;
      try {
        ours = Json.parse(text);
      } catch (Json.MalformedException e) {
        continue;
      }
      accepted++;
      String shown = "round " + round + ": " + new String(text, UTF_8);
      try {
        assertSame(ours, STRICT_JACKSON.readTree(text), shown);
      } catch (JacksonException e) {
        throw new AssertionError("Jackson refuses " + shown, e);
      }
    }
    assertThat(accepted).isGreaterThan(rounds / 20);
    return rounds + " mutations, " + accepted + " accepted, all alike (seed " + seed + ")";
  }

  private static void assertSame(Object ours, JsonNode theirs, String text) {
    if (ours instanceof Map<?, ?> map) {
      assertThat(theirs.isObject()).as(text).isTrue();
      assertThat(List.copyOf(map.keySet())).as(text).isEqualTo(List.copyOf(theirs.propertyNames()));
      map.forEach((name, value) -> assertSame(value, theirs.get((String) name), text));
    } else if (ours instanceof List<?> list) {
      assertThat(theirs.size()).as(text).isEqualTo(list.size());
      for (int i = 0; i < list.size(); i++) {
        assertSame(list.get(i), theirs.get(i), text);
      }
    } else if (ours instanceof String string) {
      assertThat(theirs.isString() && theirs.asString().equals(string)).as(text).isTrue();
    } else if (ours instanceof Json.Numeral numeral) {
      assertThat(theirs.decimalValue())
          .as(text)
          .isEqualByComparingTo(new BigDecimal(numeral.text()));
    } else if (ours instanceof Boolean bool) {
      assertThat(theirs.isBoolean() && theirs.asBoolean() == bool).as(text).isTrue();
    } else {
      assertThat(theirs.isNull()).as(text).isTrue();
    }
  }
}
