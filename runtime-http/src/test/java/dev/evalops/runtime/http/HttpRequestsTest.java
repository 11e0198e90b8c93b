package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.errors.ConnectCode;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ErrorResponse;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.UUID;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.StringLength;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class HttpRequestsTest {
  private static final ErrorCode QUOTA =
      ErrorCode.of("quota", 429, ConnectCode.RESOURCE_EXHAUSTED, "quota");

  enum Color {
    RED
  }

  record Note(String title, int size, List<Note> notes, Color color) {
    Note {
      if (size == 77) {
        throw ServiceException.of(QUOTA).op("note");
      }
      if (size == 78) {
        throw new IllegalArgumentException("secret detail");
      }
    }
  }

  private static Note read(String json) {
    return read(json.getBytes(StandardCharsets.UTF_8));
  }

  private static Note read(byte[] json) {
    return HttpRequests.json(json, Note.class, HttpRequests.mapper());
  }

  @Test
  void readsOneJsonValue() {
    assertThat(read(" {\"title\":\"\u00fc \ufffd \ud83d\ude00\",\"size\":3,\"color\":\"RED\"} \n"))
        .isEqualTo(new Note("\u00fc \ufffd \ud83d\ude00", 3, null, Color.RED));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        " ",
        "null",
        "{",
        "{\"title\":}",
        "{'title':'a'}",
        "{title:1}",
        "{\"title\":\"a\",}",
        "{\"title\":\"a\",\"title\":\"b\"}",
        "{\"notes\":[{\"size\":1,\"size\":2}]}",
        "{\"size\":\"3\"}",
        "{\"size\":3.5}",
        "{\"size\":true}",
        "{\"size\":null}",
        "{\"size\":99999999999}",
        "{\"size\":NaN}",
        "{\"size\":03}",
        "{\"title\":7}",
        "{\"title\":[\"a\"]}",
        "{\"title\":\"a\nb\"}",
        "{\"notes\":{}}",
        "{\"color\":0}",
        "{\"color\":\"red\"}",
        "{\"color\":\"\"}",
        "[]",
        "\"a\"",
        "7",
        "/* x */ {}",
        "\ufeff{}",
        "{\"size\":78}"
      })
  void refusesJson(String json) {
    assertInvalid(json.getBytes(StandardCharsets.UTF_8));
  }

  private record Typed(UUID id, URI uri, Duration duration, String title, List<String> tags) {}

  @ParameterizedTest
  @ValueSource(strings = {"id", "uri", "duration", "tags"})
  void refusesAnEmptyTextForAnythingButText(String field) {
    byte[] json = ("{\"title\":\"\",\"" + field + "\":\"\"}").getBytes(StandardCharsets.UTF_8);
    assertThatThrownBy(() -> HttpRequests.json(json, Typed.class, HttpRequests.mapper()))
        .satisfies(e -> assertThat(ErrorResponse.of(e).code()).isEqualTo(ErrorCode.INVALID_JSON));
  }

  @Test
  void refusesTrailingData() {
    for (String json : List.of("{} {}", "{}x", "{}]", "{},", "{} // x", "{}\u0000")) {
      assertThatThrownBy(() -> read(json))
          .satisfies(e -> assertThat(ErrorResponse.of(e))
              .isEqualTo(new ErrorResponse(
                  ErrorCode.INVALID_JSON, "Request body must contain a single JSON value")));
    }
  }

  @Test
  void refusesWhatIsNotUtf8() {
    for (byte[] title : new byte[][] {
      {(byte) 0xff},
      {(byte) 0xc0, (byte) 0x80},
      {(byte) 0xed, (byte) 0xa0, (byte) 0x80},
      {(byte) 0xe4}
    }) {
      byte[] json = "{\"title\":\"????\"}".getBytes(StandardCharsets.UTF_8);
      System.arraycopy(title, 0, json, 10, title.length);
      assertInvalid(json);
    }
    for (var charset : List.of(StandardCharsets.UTF_16LE, StandardCharsets.UTF_16BE)) {
      assertInvalid("{\"size\":1}".getBytes(charset));
    }
  }

  @Test
  void namesUnknownField_shortAndSafe() {
    assertThatThrownBy(() -> read("{\"Title\":\"a\"}"))
        .satisfies(e -> assertThat(ErrorResponse.of(e).message())
            .isEqualTo("Request body has an unknown field: Title"));
    assertThatThrownBy(() -> read("{\"\\u0007" + "x".repeat(500) + "\":1}"))
        .satisfies(
            e -> assertThat(ErrorResponse.of(e).message()).hasSizeLessThan(110).contains("?xxx"));
  }

  @Test
  void refusesDeepNesting() {
    assertInvalid("[".repeat(100_000).getBytes(StandardCharsets.UTF_8));
    assertInvalid("{\"notes\":[".repeat(100_000).getBytes(StandardCharsets.UTF_8));
    assertThatThrownBy(() -> HttpRequests.json(
            "[".repeat(100_000).getBytes(StandardCharsets.UTF_8),
            Object.class,
            HttpRequests.mapper()))
        .isInstanceOf(ServiceException.class);
  }

  @Test
  void passesOnServiceExceptionOfTheType() {
    assertThatThrownBy(() -> read("{\"size\":77}"))
        .satisfies(e -> assertThat(ErrorCode.codeOf(e)).contains(QUOTA));
  }

  @Test
  void staysStrictAboutTheBody_withALenientMapper() {
    var lenient = tools.jackson.databind.json.JsonMapper.builder()
        .disable(tools.jackson.databind.DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
        .build();
    byte[] json = "{\"x\":1} {}".getBytes(StandardCharsets.UTF_8);
    assertThatThrownBy(() -> HttpRequests.json(json, Map.class, lenient))
        .isInstanceOf(ServiceException.class);
    assertThatThrownBy(
            () -> HttpRequests.json("null".getBytes(StandardCharsets.UTF_8), Map.class, lenient))
        .isInstanceOf(ServiceException.class);
  }

  @Test
  void answersMutatedJsonWithAValueOrInvalidJson() {
    Random random = new Random(42);
    byte[] good = "{\"title\":\"a\\u00e4\",\"size\":12,\"notes\":[{\"size\":1}],\"color\":\"RED\"}"
        .getBytes(StandardCharsets.UTF_8);
    int refused = 0;
    for (int i = 0; i < 20_000; i++) {
      byte[] json = good.clone();
      for (int n = random.nextInt(4); n >= 0; n--) {
        json[random.nextInt(json.length)] = (byte) random.nextInt(256);
      }
      try {
        assertThat(read(json)).isNotNull();
      } catch (ServiceException e) {
        assertThat(e.code()).isEqualTo(ErrorCode.INVALID_JSON);
        refused++;
      }
    }
    assertThat(refused).isGreaterThan(10_000);
  }

  private static void assertInvalid(byte[] json) {
    assertThatThrownBy(() -> read(json))
        .satisfies(e -> assertThat(ErrorResponse.of(e))
            .isEqualTo(
                new ErrorResponse(ErrorCode.INVALID_JSON, "Request body must be valid JSON")));
  }

  @Test
  void readsUuid() {
    UUID id = UUID.randomUUID();
    assertThat(HttpRequests.uuid(id.toString(), "x")).isEqualTo(id);
    assertThat(HttpRequests.uuid(id.toString().toUpperCase(java.util.Locale.ROOT), "x"))
        .isEqualTo(id);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "1-1-1-1-1",
        "urn:uuid:01890000-0000-7000-8000-000000000000",
        "{01890000-0000-7000-8000-000000000000}",
        "01890000000070008000000000000000",
        "01890000-0000-7000-8000-00000000000",
        "01890000-0000-7000-8000-0000000000000",
        "0189000-00000-7000-8000-000000000000",
        "01890000-0000-7000-8000-00000000000g",
        "+1890000-0000-7000-8000-000000000000",
        "\uff101890000-0000-7000-8000-00000000000"
      })
  void refusesUuid(String raw) {
    assertThatThrownBy(() -> HttpRequests.uuid(raw, "note_id"))
        .satisfies(e -> assertThat(ErrorResponse.of(e).toJson())
            .isEqualTo(
                "{\"error\":{\"code\":\"invalid_note_id\",\"message\":\"note_id must be a valid"
                    + " UUID\"}}\n"));
    assertThatThrownBy(() -> HttpRequests.uuid(raw, " "))
        .satisfies(e -> assertThat(ErrorResponse.of(e).code().code()).isEqualTo("invalid_id"));
  }

  @Test
  void blamesTheClient_whateverTheNameOfTheParameter() {
    assertThatThrownBy(() -> HttpRequests.uuid("x", "note id"))
        .satisfies(e -> assertThat(ErrorResponse.of(e).toJson())
            .isEqualTo(
                "{\"error\":{\"code\":\"invalid_note_id\",\"message\":\"note id must be a valid"
                    + " UUID\"}}\n"));
    assertThatThrownBy(() -> HttpRequests.longQuery("page[size]=x", "page[size]", 1))
        .satisfies(
            e -> assertThat(ErrorResponse.of(e).code().code()).isEqualTo("invalid_page_size_"));
    assertThatThrownBy(() -> HttpRequests.uuid("x", "a".repeat(100)))
        .satisfies(e -> assertThat(ErrorResponse.of(e).status()).isEqualTo(400));
  }

  @Property
  void uuidIsReadBackOrRefused(
      @ForAll @StringLength(max = 40) String raw, @ForAll long a, @ForAll long b) {
    UUID id = new UUID(a, b);
    assertThat(HttpRequests.uuid(id.toString(), "id")).isEqualTo(id);
    assertThatThrownBy(() -> HttpRequests.uuid(raw, "id")).isInstanceOf(ServiceException.class);
  }

  @ParameterizedTest
  @CsvSource({
    "7, 7",
    "'\"7\"', 7",
    "'W/\"7\"', 7",
    "' \"0\" ', 0",
    "9223372036854775807, 9223372036854775807"
  })
  void readsIfMatch(String header, long expected) {
    assertThat(HttpRequests.requireIfMatch(header)).isEqualTo(expected);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "*",
        "-1",
        "+1",
        "\"-1\"",
        "1,2",
        "\"1\", \"2\"",
        "\"1",
        "1\"",
        "\"\"",
        "\"",
        "W/7",
        "w/\"7\"",
        "W/",
        "W/\"\"",
        "1.0",
        "abc",
        "0x1",
        "9223372036854775808",
        "\u0661",
        "\"\"7\"\"",
        "7 7"
      })
  void refusesIfMatch(String header) {
    assertThatThrownBy(() -> HttpRequests.requireIfMatch(header))
        .satisfies(e -> assertThat(ErrorResponse.of(e).toJson())
            .contains("\"invalid_if_match\"", "If-Match must contain a numeric version"));
  }

  @Test
  void demandsIfMatch() {
    for (String header : new String[] {null, "", " "}) {
      assertThatThrownBy(() -> HttpRequests.requireIfMatch(header))
          .satisfies(e -> assertThat(ErrorResponse.of(e).toJson())
              .contains("\"missing_if_match\"", "If-Match header is required"))
          .satisfies(e -> assertThat(ErrorResponse.of(e).status()).isEqualTo(428));
    }
  }

  @ParameterizedTest
  @CsvSource({
    "limit=5, 5",
    "limit=-5, -5",
    "a=1&limit=5, 5",
    "limits=7&limit=5, 5",
    "xlimit=7, 9",
    "limit=%35, 5",
    "limit=%2D5, -5",
    "limit=1%30, 10",
    "'', 9",
    "limit=, 9",
    "limit, 9",
    "&&, 9"
  })
  void readsNumberFromQuery(String query, long expected) {
    assertThat(HttpRequests.longQuery(query, "limit", 9)).isEqualTo(expected);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "limit=x",
        "limit=1.5",
        "limit=%zz",
        "limit=%",
        "limit=%2B5",
        "limit=%205",
        "limit=%D9%A1",
        "limit=-",
        "limit=+5",
        "limit=9223372036854775808",
        "limit=1&limit=2"
      })
  void refusesNumberInQuery(String query) {
    assertThatThrownBy(() -> HttpRequests.longQuery(query, "limit", 9))
        .satisfies(e -> assertThat(ErrorResponse.of(e).code().code()).isEqualTo("invalid_limit"));
  }

  @Test
  void doesNotBlameTheClient_whenTheTypeCannotBeRead() {
    byte[] body = "{\"stream\":{}}".getBytes(StandardCharsets.UTF_8);

    assertThatThrownBy(() -> HttpRequests.json(body, Unreadable.class, HttpRequests.mapper()))
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("Unreadable");
  }

  private record Unreadable(java.io.InputStream stream) {}

  @Test
  void refusesOtherMethods_andNamesTheAllowed() throws IOException {
    try (HttpService service = HttpService.builder(0)
            .handle("/a", exchange -> {
              HttpRequests.requireMethod(exchange, "GET", "POST");
              HttpResponses.json(exchange, 200, Map.of());
            })
            .start();
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/a").status()).isEqualTo(200);
      RawClient.Response refused =
          client.send("DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n").read();
      assertThat(refused.status()).isEqualTo(405);
      assertThat(refused.header("Allow")).contains("GET, HEAD, POST");
      assertThat(refused.body()).contains("\"method_not_allowed\"");
      assertThat(client.send("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n").readHead().status())
          .isEqualTo(200);
    }
  }

  @Test
  void readsANumberWhoseNameIsEncoded() {
    assertThat(HttpRequests.longQuery("page%5Blimit%5D=5", "page[limit]", 10)).isEqualTo(5);
    assertThat(HttpRequests.longQuery("%6cimit=5", "limit", 10)).isEqualTo(5);
    assertThat(HttpRequests.longQuery("page+size=5", "page size", 10)).isEqualTo(5);
    assertThat(HttpRequests.longQuery("l%C3%A4nge=5", "l\u00e4nge", 10)).isEqualTo(5);
    assertThat(HttpRequests.longQuery("limit%=5&limit%zz=6", "limit", 10)).isEqualTo(10);
    assertThat(HttpRequests.longQuery("limit%3D5", "limit", 10)).isEqualTo(10);
    assertThatThrownBy(() -> HttpRequests.longQuery("limit=1&%6cimit=2", "limit", 10))
        .isInstanceOf(ServiceException.class);
  }

  @ParameterizedTest
  @CsvSource({
    "gzip, 415",
    "br, 415",
    "'identity, gzip', 415",
    "x, 415",
    "identity, 200",
    "IDENTITY, 200",
    "'', 200"
  })
  void refusesACompressedBody(String encoding, int status) throws IOException {
    try (HttpService service = HttpService.builder(0)
            .handle(
                "/x",
                exchange ->
                    HttpResponses.json(exchange, 200, HttpRequests.json(exchange, Map.class)))
            .start();
        RawClient client = new RawClient(service.port())) {
      RawClient.Response response = client.post("/x", "{}", "Content-Encoding: " + encoding);
      assertThat(response.status()).isEqualTo(status);
      if (status == 415) {
        assertThat(response.header("Accept-Encoding")).contains("identity");
        assertThat(response.body()).contains("\"unsupported_content_encoding\"");
      }
    }
  }
}
