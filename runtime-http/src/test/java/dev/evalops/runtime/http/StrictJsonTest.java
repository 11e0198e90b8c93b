package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.annotation.JsonFormat;
import com.fasterxml.jackson.annotation.JsonSubTypes;
import com.fasterxml.jackson.annotation.JsonTypeInfo;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ErrorResponse;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.time.OffsetTime;
import java.time.Period;
import java.time.Year;
import java.time.YearMonth;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.Calendar;
import java.util.Date;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.TimeZone;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.databind.DeserializationContext;
import tools.jackson.databind.JavaType;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.deser.std.StdDeserializer;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.module.SimpleModule;

/** What a value must not become on its way from the wire. */
@SuppressWarnings("JavaUtilDate") // Services have them.
class StrictJsonTest {
  private static final String NINES = "9".repeat(400);

  record Shape(Integer a, Float f) {}

  @JsonTypeInfo(use = JsonTypeInfo.Id.NAME, property = "kind")
  @JsonSubTypes(@JsonSubTypes.Type(value = Circle.class, name = "circle"))
  sealed interface Polymorphic permits Circle {}

  record Circle(Byte b, Double d, BigDecimal n, JsonNode tree, Instant at) implements Polymorphic {}

  private static Stream<Arguments> each(Class<?> type, String... values) {
    return Stream.of(values).map(value -> Arguments.of(type, value));
  }

  static Stream<Arguments> refused() {
    String[] floats = {
      "1e400",
      "-1e400",
      NINES,
      NINES + ".5",
      "\"NaN\"",
      "\"Infinity\"",
      "\"-Infinity\"",
      "\"-INF\"",
      "\"INF\"",
      "\"1.5\"",
      "1e1000000000",
      "1e-1000000000",
      "1e99999999999",
      "true",
      "NaN"
    };
    String[] integers = {
      "9223372036854775808", "-9223372036854775809", NINES, "1.0", "1e2", "\"1\"", "\"NaN\"", "true"
    };
    String[] instants = {
      "1e1000000000",
      "-1e1000000000",
      "1e-1000000000",
      "1e20",
      "9223372036854775807",
      "1e18",
      "99999999999999999999",
      "\"1700000000\"",
      "\"1700000000.5\"",
      "\"-1\"",
      "\" 1700000000 \"",
      "\"1e9\"",
      "true"
    };
    return Stream.of(
            each(Double.class, floats),
            each(double.class, floats),
            each(OptionalDouble.class, floats),
            each(Float.class, floats),
            each(Float.class, "1e40", "-1e40", "3.5e38"),
            each(float.class, "1e40", "\"NaN\""),
            each(Number.class, "1e400", "\"NaN\"", "\"1\"", "1e1000000000", "1e-1000000000"),
            each(
                BigDecimal.class,
                "1e20000000",
                "1e-20000000",
                "1e1001",
                "0e-1001",
                "\"1\"",
                "\"NaN\"",
                "1e99999999999"),
            each(BigInteger.class, "1e20000000", "1.5", "1e2", "\"1\"", "9".repeat(1001)),
            each(Byte.class, "128", "200", "255", "256", "-129", "1.0", "\"1\"", NINES),
            each(byte.class, "128", "200", "-129", "\"1\""),
            each(byte[].class, "[1,200]", "[-129]"),
            each(double[].class, "[1,1e400]", "[\"NaN\"]"),
            each(float[].class, "[1,1e40]", "[\"NaN\"]"),
            each(Short.class, "32768", "-32769", "1.0", "\"1\"", NINES),
            each(Integer.class, "2147483648", "-2147483649", "1.0", "1e2", "\"1\"", NINES),
            each(Long.class, integers),
            each(long.class, integers),
            each(OptionalLong.class, integers),
            each(OptionalInt.class, "2147483648", "1.0", "\"1\""),
            each(AtomicInteger.class, "2147483648", "1.0", "\"1\""),
            each(AtomicLong.class, integers),
            each(Character.class, "65", "\"ab\""),
            each(Instant.class, instants),
            each(OffsetDateTime.class, instants),
            each(ZonedDateTime.class, instants),
            each(
                Duration.class,
                "1e1000000000",
                "-1e1000000000",
                "1e-1000000000",
                "1e19",
                "99999999999999999999",
                "\"1700\"",
                "true"),
            each(
                Date.class,
                "1e1000000000",
                "1e3",
                "1.5",
                "99999999999999999999",
                "\"1700000000\"",
                "\"-1\""),
            each(
                Date.class,
                "\"2026-02-30\"",
                "\"2026-02-30T00:00:00Z\"",
                "\"2026-13-01T00:00:00Z\"",
                "\"2026-01-01T25:00:00Z\"",
                "\"2026-01-01T10:61:00Z\"",
                "\"Mon, 30 Feb 2026 10:00:00 GMT\""),
            each(Calendar.class, "\"2026-02-30T00:00:00Z\""),
            each(java.sql.Date.class, "\"2026-02-30\""),
            each(java.sql.Timestamp.class, "\"2026-02-30T00:00:00Z\""),
            each(LocalDate.class, "\"2026-01-02T23:00:00Z\"", "\"2026-01-02T23:00:00\""),
            each(LocalDateTime.class, "\"2026-01-02T23:00:00Z\""),
            each(LocalTime.class, "\"2026-01-02T10:00:00\"", "\"2026-01-02T10:00:00Z\""),
            each(Calendar.class, "1e1000000000", "1.5", "\"1700000000\""),
            each(java.sql.Timestamp.class, "1e1000000000", "1.5", "\"1700000000\""),
            each(java.sql.Date.class, "1.5", "\"1700000000\""),
            each(Year.class, "1e9", "2147483648", "1000000000"),
            each(LocalDate.class, "1e9", "9223372036854775807", "\"1700000000\""),
            each(LocalDateTime.class, "1", "1.5", "\"1700000000\"", "[2024,1,1,0,0,0,9999999999]"),
            each(LocalTime.class, "1.5", "\"1700000000\"", "[1,2,3,1000000000]"),
            each(OffsetTime.class, "1.5", "\"1700000000\""),
            each(YearMonth.class, "202401", "\"1700000000\""),
            each(Period.class, "1", "\"17\""),
            each(
                TimeZone.class,
                "\"Eurrope/Berlin\"",
                "\"europe/berlin\"",
                "\"GMT+25\"",
                "\"+02:00\"",
                "\"x\"",
                "1"),
            each(
                Locale.class,
                "\"not a locale\"",
                "\"C.UTF-8\"",
                "\"x\"",
                "\"-\"",
                "\"en--US\"",
                "\"zh_TW_#Hant\"",
                "1"),
            each(
                UUID.class,
                "\"AAAAAAAAAAAAAAAAAAAAAA==\"",
                "\"AAAAAAAAAAAAAAAAAAAAAA\"",
                "\"1-1-1-1-1\"",
                "1"),
            each(
                JsonNode.class,
                "1e400",
                "{\"a\":[-1e400]}",
                "1e1000000000",
                "1e-1000000000",
                NINES + ".5"),
            each(Object.class, "1e400", "{\"a\":[-1e400]}", "1e1000000000"),
            each(Map.class, "{\"a\":{\"b\":1e400}}", "{\"a\":1e1000000000}"),
            each(List.class, "[1e400]"),
            each(
                Polymorphic.class,
                "{\"b\":200,\"kind\":\"circle\"}",
                "{\"d\":1e400,\"kind\":\"circle\"}",
                "{\"d\":" + NINES + ",\"kind\":\"circle\"}",
                "{\"d\":\"NaN\",\"kind\":\"circle\"}",
                "{\"n\":1e20000000,\"kind\":\"circle\"}",
                "{\"tree\":[1e400],\"kind\":\"circle\"}",
                "{\"at\":1e20,\"kind\":\"circle\"}",
                "{\"at\":\"1700000000\",\"kind\":\"circle\"}"))
        .flatMap(each -> each);
  }

  static Stream<Arguments> accepted() {
    return Stream.of(
        Arguments.of(Double.class, "1.7976931348623157e308", 1.7976931348623157e308),
        Arguments.of(double.class, "-1.7976931348623157e308", -1.7976931348623157e308),
        Arguments.of(Double.class, "1e-400", 0.0),
        Arguments.of(Double.class, "9007199254740993", 9007199254740992.0),
        Arguments.of(Double.class, "1", 1.0),
        Arguments.of(Float.class, "3.4028235e38", Float.MAX_VALUE),
        Arguments.of(Float.class, "0.1", 0.1f),
        Arguments.of(OptionalDouble.class, "1.5", OptionalDouble.of(1.5)),
        Arguments.of(BigDecimal.class, "1e-50", new BigDecimal("1e-50")),
        Arguments.of(BigDecimal.class, "1E+300", new BigDecimal("1E+300")),
        Arguments.of(BigDecimal.class, "0.1000", new BigDecimal("0.1000")),
        Arguments.of(
            BigDecimal.class, "12345678901234567890", new BigDecimal("12345678901234567890")),
        Arguments.of(BigInteger.class, NINES, new BigInteger(NINES)),
        Arguments.of(Byte.class, "127", (byte) 127),
        Arguments.of(byte.class, "-128", (byte) -128),
        Arguments.of(byte[].class, "\"AMj/\"", new byte[] {0, (byte) 200, (byte) 255}),
        Arguments.of(Short.class, "-32768", Short.MIN_VALUE),
        Arguments.of(Integer.class, "2147483647", Integer.MAX_VALUE),
        Arguments.of(Long.class, "9223372036854775807", Long.MAX_VALUE),
        Arguments.of(Long.class, "-9223372036854775808", Long.MIN_VALUE),
        Arguments.of(Number.class, "1.5", 1.5),
        Arguments.of(
            Instant.class, "1700000000.5", Instant.ofEpochSecond(1_700_000_000, 500_000_000)),
        Arguments.of(Instant.class, "1700000000", Instant.ofEpochSecond(1_700_000_000)),
        Arguments.of(Instant.class, "-1.25", Instant.ofEpochSecond(-2, 750_000_000)),
        Arguments.of(Instant.class, "1.7e9", Instant.ofEpochSecond(1_700_000_000)),
        Arguments.of(
            Instant.class, "\"2024-02-29T12:00:00Z\"", Instant.parse("2024-02-29T12:00:00Z")),
        Arguments.of(
            OffsetDateTime.class,
            "\"2024-02-29T12:00:00Z\"",
            OffsetDateTime.of(2024, 2, 29, 12, 0, 0, 0, ZoneOffset.UTC)),
        Arguments.of(Duration.class, "\"PT1.5S\"", Duration.ofMillis(1500)),
        Arguments.of(Duration.class, "1.5", Duration.ofMillis(1500)),
        Arguments.of(Duration.class, "9223372036854775807", Duration.ofSeconds(Long.MAX_VALUE)),
        Arguments.of(Date.class, "1700000000000", new Date(1_700_000_000_000L)),
        Arguments.of(Date.class, "\"1970-01-01T00:00:01Z\"", new Date(1000)),
        Arguments.of(Year.class, "\"2024\"", Year.of(2024)),
        Arguments.of(Year.class, "2024", Year.of(2024)),
        Arguments.of(LocalDate.class, "\"2024-02-29\"", LocalDate.of(2024, 2, 29)),
        Arguments.of(
            LocalDateTime.class, "\"2024-02-29T12:00:00\"", LocalDateTime.of(2024, 2, 29, 12, 0)),
        Arguments.of(ZoneOffset.class, "\"+02\"", ZoneOffset.ofHours(2)),
        Arguments.of(
            TimeZone.class, "\"Europe/Berlin\"", TimeZone.getTimeZone(ZoneId.of("Europe/Berlin"))),
        Arguments.of(TimeZone.class, "\"GMT\"", TimeZone.getTimeZone(ZoneId.of("GMT"))),
        Arguments.of(TimeZone.class, "\"UTC\"", TimeZone.getTimeZone(ZoneId.of("UTC"))),
        Arguments.of(TimeZone.class, "\"GMT+2\"", TimeZone.getTimeZone(ZoneId.of("GMT+2"))),
        Arguments.of(Locale.class, "\"de\"", Locale.GERMAN),
        Arguments.of(Locale.class, "\"en-US\"", Locale.US),
        Arguments.of(Locale.class, "\"en_US\"", Locale.US),
        Arguments.of(Locale.class, "\"zh-Hant-TW\"", Locale.forLanguageTag("zh-Hant-TW")),
        Arguments.of(Locale.class, "\"zh_Hant_TW\"", Locale.forLanguageTag("zh-Hant-TW")),
        Arguments.of(
            UUID.class,
            "\"4FFBA827-6df4-40f5-b6f5-63128fcafede\"",
            UUID.fromString("4ffba827-6df4-40f5-b6f5-63128fcafede")),
        Arguments.of(Object.class, "1.5", 1.5),
        Arguments.of(
            Object.class,
            "123456789012345678901234567890",
            new BigInteger("123456789012345678901234567890")),
        Arguments.of(Map.class, "{\"a\":1e-400}", Map.of("a", 0.0)),
        Arguments.of(
            Polymorphic.class,
            "{\"b\":127,\"d\":1.5,\"n\":1e-50,\"at\":1.5,\"kind\":\"circle\"}",
            new Circle(
                (byte) 127, 1.5, new BigDecimal("1e-50"), null, Instant.ofEpochMilli(1500))));
  }

  record Formatted(
      @JsonFormat(pattern = "yyyy-MM-dd") LocalDate day,
      @JsonFormat(pattern = "yyyy-MM-dd'T'HH:mm:ss'Z'") LocalDateTime time) {}

  @Test
  void readsTimes_inAPatternOfTheService() {
    assertThat(json("{\"day\":\"2026-01-02\",\"time\":\"2026-01-02T23:00:00Z\"}", Formatted.class))
        .isEqualTo(new Formatted(LocalDate.of(2026, 1, 2), LocalDateTime.of(2026, 1, 2, 23, 0)));
  }

  @ParameterizedTest
  @MethodSource("refused")
  void refusesWhatDoesNotFit_whereverItStands(Class<?> type, String value) {
    assertThatThrownBy(() -> json(value, type))
        .satisfies(e -> assertThat(ErrorResponse.of(e).code()).isEqualTo(ErrorCode.INVALID_JSON));
    for (Placed placed : places(type, value)) {
      assertThatThrownBy(() -> HttpRequests.mapper().readValue(placed.json, placed.type))
          .as("%s", placed)
          .isInstanceOf(JacksonException.class);
      assertThatThrownBy(() -> HttpRequests.mapper()
              .rebuild()
              .build()
              .readValue(placed.json.getBytes(StandardCharsets.UTF_8), placed.type))
          .as("%s as bytes", placed)
          .isInstanceOf(JacksonException.class);
    }
  }

  @ParameterizedTest
  @MethodSource("accepted")
  void takesWhatFits_whereverItStands(Class<?> type, String value, Object expected) {
    assertThat((Object) json(value, type)).isEqualTo(expected);
    for (Placed placed : places(type, value)) {
      Object read = HttpRequests.mapper().readValue(placed.json, placed.type);
      Object item = switch (read) {
        case List<?> list -> list.get(0);
        case Map<?, ?> map -> map.get("a");
        case Optional<?> optional -> optional.orElseThrow();
        default -> read;
      };
      assertThat(item).as("%s", placed).isEqualTo(expected);
    }
  }

  private static <T> T json(String value, Class<T> type) {
    return HttpRequests.json(value.getBytes(StandardCharsets.UTF_8), type, HttpRequests.mapper());
  }

  private record Placed(JavaType type, String json) {}

  private static List<Placed> places(Class<?> type, String value) {
    List<Placed> places = new ArrayList<>();
    if (!type.isPrimitive()) {
      var types = HttpRequests.mapper().getTypeFactory();
      places.add(new Placed(types.constructCollectionType(List.class, type), "[" + value + "]"));
      places.add(new Placed(
          types.constructMapType(Map.class, String.class, type), "{\"a\":" + value + "}"));
      places.add(new Placed(
          types.constructReferenceType(Optional.class, types.constructType(type)), value));
    }
    return places;
  }

  record Maybe(OptionalDouble d, OptionalInt i, Optional<Instant> at) {}

  @Test
  void readsAbsentAndNullAsEmpty() {
    Maybe none = new Maybe(OptionalDouble.empty(), OptionalInt.empty(), Optional.empty());
    assertThat(json("{}", Maybe.class)).isEqualTo(none);
    assertThat(json("{\"d\":null,\"i\":null,\"at\":null}", Maybe.class)).isEqualTo(none);
  }

  @Test
  void refusesItInRecordsAndAsAName() {
    for (String json : List.of("{\"a\":2147483648}", "{\"f\":1e40}", "{\"f\":\"NaN\"}")) {
      assertThatThrownBy(() -> json(json, Shape.class)).hasMessageContaining("valid JSON");
    }
    var types = HttpRequests.mapper().getTypeFactory();
    for (Map.Entry<Class<?>, String> key : List.of(
        Map.<Class<?>, String>entry(Double.class, "NaN"),
        Map.<Class<?>, String>entry(Double.class, "1e400"),
        Map.<Class<?>, String>entry(Float.class, "1e40"),
        Map.<Class<?>, String>entry(Byte.class, "200"),
        Map.<Class<?>, String>entry(Short.class, "40000"),
        Map.<Class<?>, String>entry(Integer.class, "3000000000"),
        Map.<Class<?>, String>entry(Date.class, "1700000000"),
        Map.<Class<?>, String>entry(Instant.class, "1700000000"),
        Map.<Class<?>, String>entry(Locale.class, "not a locale"),
        Map.<Class<?>, String>entry(UUID.class, "1-1-1-1-1"))) {
      JavaType type = types.constructMapType(Map.class, key.getKey(), Object.class);
      assertThatThrownBy(
              () -> HttpRequests.mapper().readValue("{\"" + key.getValue() + "\":1}", type))
          .as("%s", key)
          .isInstanceOf(JacksonException.class);
    }
    JavaType bytes = types.constructMapType(Map.class, Byte.class, Object.class);
    Object read = HttpRequests.mapper().readValue("{\"-128\":1}", bytes);
    assertThat(read).isEqualTo(Map.of((byte) -128, 1));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "a\\u0000b",
        "\\ud800",
        "\\udc00",
        "a\\ud83d",
        "\\ude00\\ud83d",
        "\\ud83d\\ud83d\\ude00",
        "\\\\\\u0000"
      })
  void refusesTextsThatCannotBeStored(String text) {
    for (JsonMapper mapper : List.of(HttpRequests.mapper(), JsonMapper.shared())) {
      for (String json :
          List.of("\"" + text + "\"", "{\"a\":[\"" + text + "\"]}", "{\"" + text + "\":1}")) {
        for (Class<?> type : List.of(Object.class, JsonNode.class)) {
          assertThatThrownBy(
                  () -> HttpRequests.json(json.getBytes(StandardCharsets.UTF_8), type, mapper))
              .satisfies(
                  e -> assertThat(ErrorResponse.of(e).code()).isEqualTo(ErrorCode.INVALID_JSON));
        }
      }
    }
    assertThatThrownBy(() -> json("{\"title\":\"" + text + "\"}", HttpRequestsTest.Note.class))
        .satisfies(e -> assertThat(ErrorResponse.of(e).code()).isEqualTo(ErrorCode.INVALID_JSON));
    assertThatThrownBy(() -> json("\"" + text + "\"", String.class))
        .satisfies(e -> assertThat(ErrorResponse.of(e).code()).isEqualTo(ErrorCode.INVALID_JSON));
  }

  @Test
  void leavesNamesToAModuleOfTheService_andValuesThatAreNoTextAsTheyAre() {
    UUID id = UUID.fromString("4ffba827-6df4-40f5-b6f5-63128fcafede");
    JsonMapper mapper = HttpRequests.mapper()
        .rebuild()
        .addModule(new SimpleModule()
            .addDeserializer(UUID.class, new StdDeserializer<>(UUID.class) {
              @Override
              public UUID deserialize(JsonParser parser, DeserializationContext context) {
                return UUID.fromString(parser.getString().substring("note_".length()));
              }
            }))
        .build();

    assertThat(mapper.readValue("\"note_" + id + "\"", UUID.class)).isEqualTo(id);
    assertThat(HttpRequests.mapper()
            .treeToValue(HttpRequests.mapper().getNodeFactory().pojoNode(id), UUID.class))
        .isEqualTo(id);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\\ud83d\\ude00",
        "\ud83d\ude00",
        "\\u0001",
        "\\uffff",
        "\\ufffd",
        "\\\\u0000",
        "\\\\ud800",
        "\\n",
        "\u00e4"
      })
  void takesEveryOtherText(String text) {
    assertThat(json("\"" + text + "\"", String.class)).isNotEmpty();
    assertThat(json("{\"" + text + "\":\"" + text + "\"}", JsonNode.class)).hasSize(1);
  }
}
