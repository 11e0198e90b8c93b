package dev.evalops.runtime.events;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Timestamp;
import dev.evalops.runtime.events.notes.Author;
import dev.evalops.runtime.events.notes.Note;
import java.io.ByteArrayOutputStream;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class EventTest {
  private static final Note NOTE =
      Note.newBuilder().setNoteId("n-1").setWordCount(9_007_199_254_740_993L).build();
  private static final String PLAIN = "{\"specversion\":\"1.0\",\"id\":\"e-1\",\"type\":\"t\","
      + "\"source\":\"s\",\"time\":\"2026-04-15T12:00:00Z\"";

  private static Event json(String json) {
    return Event.read(json.getBytes(StandardCharsets.UTF_8));
  }

  private static EventEnvelope.Builder envelope() {
    return EventEnvelope.newBuilder()
        .setSpecVersion("1.0")
        .setId("e-1")
        .setType("t")
        .setSource("s");
  }

  private static Map<String, List<String>> headers() {
    Map<String, List<String>> headers = new HashMap<>();
    headers.put("ce-specversion", List.of("1.0"));
    headers.put("ce-id", List.of("e-1"));
    headers.put("ce-type", List.of("t"));
    headers.put("ce-source", List.of("s"));
    return headers;
  }

  @ParameterizedTest
  @EnumSource(EventFormat.class)
  void readsBackWhatIsWritten(EventFormat format) {
    Random random = new Random(7);
    for (int i = 0; i < 50; i++) {
      Note note = ProtoJsonTest.random(random, 2);
      Change change = Change.of("note", "ä n%" + i, "create")
          .organization("org-1")
          .sequence(i)
          .version(i + 1)
          .payload(note);
      EncodedEvent message = format.encode(
          change,
          "notes.changes",
          Instant.parse("2026-04-15T12:00:00.5Z"),
          Map.of("traceparent", "p", "tracestate", "s", "baggage", "b"));

      Event event = Event.read(message.headers(), message.body());

      assertThat(event.id()).isEqualTo(message.id());
      assertThat(event.type()).isEqualTo("notes.changes.note.create");
      assertThat(event.source()).isEqualTo("notes");
      assertThat(event.aggregateType()).contains("note");
      assertThat(event.operation()).contains("create");
      assertThat(event.time())
          .contains(Instant.parse(
              format == EventFormat.PROTO ? "2026-04-15T12:00:00.5Z" : "2026-04-15T12:00:00Z"));
      assertThat(event.organizationId()).contains("org-1");
      assertThat(event.sequence()).hasValue(i);
      assertThat(event.version()).hasValue(i + 1);
      assertThat(event.aggregateId()).contains("ä n%" + i);
      assertThat(event.traceparent()).contains("p");
      assertThat(event.tracestate()).contains("s");
      assertThat(event.baggage()).contains("b");
      assertThat(event.payloadType()).contains("notes.v1.Note");
      assertThat(event.payload(Note.getDefaultInstance())).isEqualTo(note);
    }
  }

  @Test
  void knowsAggregateTypeAndOperation_ofTypesThatBeginWithTheirSource() {
    String start = "{\"specversion\":\"1.0\",\"id\":\"e-1\",\"source\":\"notes\",\"type\":\"";
    assertThat(json(start + "notes.note.create\"}").aggregateType()).contains("note");
    assertThat(json(start + "notes.note.create\"}").operation()).contains("create");
    for (String foreign : new String[] {"com.example.note.created", "notes.create", "notes", "x"}) {
      assertThat(json(start + foreign + "\"}").aggregateType()).as(foreign).isEmpty();
      assertThat(json(start + foreign + "\"}").operation()).as(foreign).isEmpty();
    }
  }

  @Test
  void readsJsonInAnyOrder_withUnknownKeysAndEscapes() {
    Event event = json("""
        {"data":{"note_id":"a\\u003cb\\u003e\\u0026","@type":"type.googleapis.com/notes.v1.Note",
          "new_field":{"x":[1,2]},"word_count":"9007199254740993"},
         "extra":{"deep":[{}]},"source":"s","time":"2026-04-15T14:00:00.123456789+02:00",
         "type":"t","id":"e-1","specversion":"1.0","tenant_id":"\\u00e4"}\
        """);

    assertThat(event.time()).contains(Instant.parse("2026-04-15T12:00:00.123456789Z"));
    assertThat(event.organizationId()).contains("ä");
    assertThat(event.dataContentType()).isEmpty();
    assertThat(event.payload(Note.getDefaultInstance()))
        .isEqualTo(Note.newBuilder()
            .setNoteId("a<b>&")
            .setWordCount(9_007_199_254_740_993L)
            .build());
  }

  @Test
  void readsJsonWithoutWhatIsOptional() {
    Event event = json(PLAIN + ",\"data\":null,\"tenant_id\":null}");

    assertThat(event.organizationId()).isEmpty();
    assertThat(event.traceparent()).isEmpty();
    assertThat(event.sequence()).isEmpty();
    assertThat(event.payloadType()).isEmpty();
    assertThat(event.data()).isEmpty();
    assertThatThrownBy(() -> event.payload(Note.getDefaultInstance()))
        .isInstanceOf(IllegalArgumentException.class);
    assertThat(json("\n\t " + PLAIN + "}").id()).isEqualTo("e-1");
  }

  @Test
  void takesSequenceAsTextOrNumber_fromTheBodyBeforeTheHeaders() {
    Map<String, List<String>> headers = new HashMap<>();
    headers.put("ce-sequence", List.of("9"));
    headers.put("ce-partitionkey", List.of("k%201"));
    byte[] with = (PLAIN + ",\"sequence\":42}").getBytes(StandardCharsets.UTF_8);
    byte[] without = (PLAIN + "}").getBytes(StandardCharsets.UTF_8);

    assertThat(Event.read(headers, with).sequence()).hasValue(42);
    assertThat(Event.read(headers, without).sequence()).hasValue(9);
    assertThat(Event.read(headers, without).aggregateId()).contains("k 1");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\"-1\"",
        "\"+5\"",
        "\"\u0663\"",
        "1.5",
        "true",
        "\"2026-04-15/7\"",
        "\"9223372036854775808\"",
        "null"
      })
  void hasNoSequence_whenItIsNoNumber(String sequence) {
    assertThat(json(PLAIN + ",\"sequence\":" + sequence + "}").sequence()).isEmpty();
    Map<String, List<String>> headers = headers();
    headers.put("ce-sequence", List.of("a/7"));
    assertThat(Event.read(headers, new byte[0]).sequence()).isEmpty();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\"data\":\"\\ud800\"",
        "\"data\":{\"a\":[\"\\udc00\"]}",
        "\"data\":{\"\\uD83D\":1}",
        "\"x\":\"\\ud83d\\ud83d\\ude00\"",
        "\"x\":\"\\ud83dx\\ude00\"",
        "\"tenant_id\":\"\\ud83d\\n\""
      })
  void refusesHalfSurrogatePairs(String member) {
    assertThatThrownBy(() -> json(PLAIN + "," + member + "}"))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("surrogate");
    Map<String, List<String>> headers = headers();
    headers.put("content-type", List.of("application/json"));
    assertThatThrownBy(
            () -> Event.read(headers, ("{" + member + "}").getBytes(StandardCharsets.UTF_8)))
        .hasMessageContaining("surrogate");
  }

  /** Postgres takes it in no text: what handles such an event would fail at each delivery. */
  @ParameterizedTest
  @ValueSource(strings = {"id", "type", "source", "tenantid", "partitionkey"})
  void refusesANul_inEveryForm(String attribute) {
    String problem = attribute + ": it holds a NUL";
    Map<String, String> attributes =
        new HashMap<>(Map.of("specversion", "1.0", "id", "e-1", "type", "t", "source", "s"));
    attributes.put(attribute, "a%00b");
    Map<String, List<String>> headers = new HashMap<>();
    attributes.forEach((name, value) -> headers.put("ce-" + name, List.of(value)));
    assertThatThrownBy(() -> Event.read(headers, new byte[0]))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(problem);

    StringBuilder json = new StringBuilder("{\"data\":null");
    attributes.forEach((name, value) -> json.append(",\"" + name + "\":\"" + value + "\""));
    assertRefused(json.toString().replace("%00", "\\u0000") + "}", problem);

    EventEnvelope.Builder envelope = EventEnvelope.newBuilder()
        .setSpecVersion("1.0")
        .setId("e-1")
        .setType("t")
        .setSource("s");
    switch (attribute) {
      case "id" -> envelope.setId("a\0b");
      case "type" -> envelope.setType("a\0b");
      case "source" -> envelope.setSource("a\0b");
      case "tenantid" -> envelope.setTenantId("a\0b");
      default -> {
        return; // an envelope has no such field
      }
    }
    assertThatThrownBy(() -> Event.read(envelope.build().toByteArray()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(problem);
  }

  @Test
  void readsWholeSurrogatePairs_andBackslashes() {
    assertThat(json(PLAIN + ",\"tenant_id\":\"\\ud83d\\ude00\\u0001\\uffff\\\\ud800\\\"\"}")
            .organizationId())
        .contains("\ud83d\ude00\u0001\uffff\\ud800\"");
  }

  @Test
  void cutsTimesAfterNanoseconds() {
    assertThat(json(PLAIN.replace("00Z", "00.1234567891234Z") + "}").time())
        .contains(Instant.parse("2026-04-15T12:00:00.123456789Z"));
  }

  @Test
  void readsATypeWithoutAUrl_inBothForms() {
    assertThat(json(PLAIN + ",\"data\":{\"note_id\":\"ä\",\"@type\":\"notes.v1.Note\"}}")
            .payload(Note.getDefaultInstance())
            .getNoteId())
        .isEqualTo("ä");
    Any any = Any.newBuilder()
        .setTypeUrl("notes.v1.Note")
        .setValue(NOTE.toByteString())
        .build();
    assertThat(Event.read(headers(), any.toByteArray()).payload(Note.getDefaultInstance()))
        .isEqualTo(NOTE);
    assertThat(Event.read(envelope().setData(any).build().toByteArray())
            .payload(Note.getDefaultInstance()))
        .isEqualTo(NOTE);
  }

  @Test
  void takesTheTraceOfTheHeaders_whenTheEnvelopeHasNone_baggageAlone_too() {
    Map<String, List<String>> headers = new HashMap<>();
    headers.put("traceparent", List.of("p"));
    headers.put("baggage", List.of("b"));
    Event event = Event.read(headers, (PLAIN + "}").getBytes(StandardCharsets.UTF_8));
    assertThat(event.traceparent()).contains("p");
    assertThat(event.baggage()).contains("b");

    Map<String, List<String>> alone = new HashMap<>();
    alone.put("baggage", List.of("b"));
    assertThat(Event.read(alone, envelope().build().toByteArray()).baggage()).contains("b");
  }

  @Test
  void readsAnEventWhosePayloadNobodyKnows() {
    Event fromJson = json(PLAIN + ",\"data\":{\"@type\":\"type.googleapis.com/x.Y\",\"a\":1e400}}");
    assertThat(fromJson.payloadType()).contains("x.Y");
    assertThat(new String(fromJson.data(), StandardCharsets.UTF_8))
        .isEqualTo("{\"@type\":\"type.googleapis.com/x.Y\",\"a\":1e400}");

    Any unknown = Any.newBuilder()
        .setTypeUrl("type.googleapis.com/x.Y")
        .setValue(ByteString.copyFromUtf8("?"))
        .build();
    Event fromProto = Event.read(envelope().setData(unknown).build().toByteArray());
    assertThat(fromProto.payloadType()).contains("x.Y");
    assertThat(fromProto.data()).isEqualTo(unknown.toByteArray());
    assertThatThrownBy(() -> fromProto.payload(Note.getDefaultInstance()))
        .hasMessageContaining("notes.v1.Note")
        .hasMessageContaining("x.Y");
  }

  @Test
  void readsJsonDataWithoutAType_andOtherJsonValues() {
    assertThat(json(PLAIN + ",\"data\":\"a\\u0062\"}").data())
        .isEqualTo("\"a\\u0062\"".getBytes(StandardCharsets.UTF_8));
    assertThat(json(PLAIN + ",\"data\":[1, 2],\"x\":1}").data())
        .isEqualTo("[1, 2]".getBytes(StandardCharsets.UTF_8));
    assertThat(json(PLAIN + ",\"data\":12}").data())
        .isEqualTo("12".getBytes(StandardCharsets.UTF_8));
    assertThat(json(PLAIN + ",\"data\":{\"a\":1}}").payloadType()).isEmpty();
  }

  @Test
  void readsProto_whateverItsFirstBytesLookLike() throws Exception {
    assertThat(Event.read(envelope().build().toByteArray()).id()).isEqualTo("e-1");

    // The first field is the type, 123 bytes long: the bytes are a line feed and a brace.
    String type = "t".repeat(123);
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    bytes.write(EventEnvelope.newBuilder().setSpecVersion("1.0").build().toByteArray());
    byte[] rest = envelope().clearSpecVersion().setType(type).build().toByteArray();
    bytes.write(rest);
    assertThat(Event.read(bytes.toByteArray()).type()).isEqualTo(type);

    byte[] braces =
        EventEnvelope.newBuilder().setSpecVersion("x".repeat(123)).build().toByteArray();
    assertThat(braces[1]).isEqualTo((byte) '{');
    ByteArrayOutputStream twice = new ByteArrayOutputStream();
    twice.write(braces);
    twice.write(envelope().build().toByteArray()); // the last value of a field counts
    assertThat(Event.read(twice.toByteArray()).id()).isEqualTo("e-1");
  }

  @Test
  void readsHeaders_withAProtoOrJsonBody() {
    Map<String, List<String>> headers = headers();
    Event proto = Event.read(headers, Any.pack(NOTE).toByteArray());
    assertThat(proto.dataContentType()).contains("application/protobuf");
    assertThat(proto.payload(Note.getDefaultInstance())).isEqualTo(NOTE);
    assertThat(proto.time()).isEmpty();
    assertThat(Event.read(headers, new byte[0]).payloadType()).isEmpty();

    headers.put("content-type", List.of("application/json; charset=utf-8"));
    headers.put("ce-time", List.of("2026-04-15T12:00:00Z"));
    Event json = Event.read(
        headers,
        "{\"@type\":\"type.googleapis.com/notes.v1.Note\",\"note_id\":\"n-1\"}"
            .getBytes(StandardCharsets.UTF_8));
    assertThat(json.payload(Note.getDefaultInstance()).getNoteId()).isEqualTo("n-1");
    assertThat(json.time()).isPresent();
  }

  @Test
  void readsTheBody_whenAHeaderIsMissingOrNamedOtherwise() {
    Map<String, List<String>> headers = headers();
    headers.remove("ce-source");
    headers.put("CE-Source", List.of("s"));
    headers.put("ce-id", List.of("other"));
    assertThat(
            Event.read(headers, (PLAIN + "}").getBytes(StandardCharsets.UTF_8)).id())
        .isEqualTo("e-1");
  }

  @Test
  void refusesAPayloadThatIsNotWhatItSays() {
    Event bytes = Event.read(envelope()
        .setData(Any.newBuilder()
            .setTypeUrl("type.googleapis.com/notes.v1.Note")
            .setValue(ByteString.copyFrom(new byte[] {1, 2, 3})))
        .build()
        .toByteArray());
    assertThatThrownBy(() -> bytes.payload(Note.getDefaultInstance()))
        .isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(() -> bytes.payload(Author.getDefaultInstance()))
        .isInstanceOf(IllegalArgumentException.class);
    Event json = json(PLAIN
        + ",\"data\":{\"@type\":\"type.googleapis.com/notes.v1.Note\",\"word_count\":\"x\"}}");
    assertThatThrownBy(() -> json.payload(Note.getDefaultInstance()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("payload");
  }

  @Test
  void refusesAPayloadOfTwoTypes() {
    Event event = json(PLAIN + ",\"data\":{\"@type\":\"type.googleapis.com/notes.v1.Note\","
        + "\"@type\":\"type.googleapis.com/notes.v1.Author\",\"name\":\"n\"}}");
    assertThatThrownBy(() -> event.payload(Note.getDefaultInstance()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("payload");
  }

  /** Overlong, half of a pair, beyond Unicode, of another encoding, and an end too early. */
  @ParameterizedTest
  @ValueSource(strings = {"c080", "c0af", "e080af", "eda0a5", "f4908080", "f5808080", "e9", "e282"})
  void refusesJsonThatIsNoUtf8(String hex) {
    String character = new String(HexFormat.of().parseHex(hex), StandardCharsets.ISO_8859_1);
    for (String member : List.of(
        "\"tenant_id\":\"?\"",
        "\"?\":1",
        "\"data\":{\"a\":\"?\"}",
        "\"data\":{\"@type\":\"type.googleapis.com/notes.v1.Note\",\"title\":\"?\"}")) {
      byte[] json = (PLAIN + "," + member.replace("?", character) + "}")
          .getBytes(StandardCharsets.ISO_8859_1);
      assertThatThrownBy(() -> Event.read(json))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessage("envelope: it is not UTF-8, or holds a NUL");
    }
    Map<String, List<String>> headers = headers();
    headers.put("content-type", List.of("application/json"));
    byte[] data = ("[\"" + character + "\"]").getBytes(StandardCharsets.ISO_8859_1);
    assertThatThrownBy(() -> Event.read(headers, data))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("data: it is not UTF-8, or holds a NUL");
  }

  @ParameterizedTest
  @ValueSource(strings = {"UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"})
  void refusesJsonInOtherEncodings(Charset encoding) {
    for (String member : List.of("", ",\"data\":{\"a\":1}", ",\"tenant_id\":\"\\ud800\"")) {
      assertThatThrownBy(() -> Event.read((PLAIN + member + "}").getBytes(encoding)))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageStartingWith("envelope: ");
    }
    Map<String, List<String>> headers = headers();
    headers.put("content-type", List.of("application/json"));
    assertThatThrownBy(() -> Event.read(headers, "{\"a\":1}".getBytes(encoding)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("data: it is not UTF-8, or holds a NUL");
  }

  @Test
  void readsTheReplacementCharacter() {
    assertThat(json(PLAIN + ",\"tenant_id\":\"\ufffd\"}").organizationId()).contains("\ufffd");
  }

  @Test
  void keepsAnEscapeInAHeader_thatIsNoText() {
    Map<String, List<String>> headers = headers();
    for (String id : List.of("%ff", "%fe", "a%ED%A0%80", "%c3")) {
      headers.put("ce-id", List.of(id));
      assertThat(Event.read(headers, new byte[0]).id()).isEqualTo(id);
    }
    headers.put("ce-id", List.of("%C3%A4"));
    assertThat(Event.read(headers, new byte[0]).id()).isEqualTo("ä");
  }

  @Test
  void readsAsBytes_whatLooksLikeAnAnyWithAnEndlessName() {
    byte[] data =
        Any.newBuilder().setTypeUrl("a" + ".b".repeat(100_000) + "?").build().toByteArray();
    Map<String, List<String>> headers = headers();
    headers.put("content-type", List.of("application/protobuf"));
    Event event = Event.read(headers, data);
    assertThat(event.data()).isEqualTo(data);
    assertThat(event.payloadType()).isEmpty();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "2026-04-15T12:00:00",
        "2026-04-15 12:00:00Z",
        "2026-04-15T12:00Z",
        "2026-02-30T12:00:00Z",
        "2026-04-15T25:00:00Z",
        "2026-04-15T12:00:00+2",
        "1776254400",
        ""
      })
  void refusesATimeThatIsNone(String time) {
    assertThatThrownBy(() -> json("{\"specversion\":\"1.0\",\"id\":\"e-1\",\"type\":\"t\","
            + "\"source\":\"s\",\"time\":\"" + time + "\"}"))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("time");
  }

  @Test
  void refusesWhatIsNoEvent_andSaysWhy() {
    assertRefused("", "envelope_empty");
    assertRefused("  \n", "envelope");
    assertRefused("{}", "specversion");
    assertRefused("{\"time\":\"2026-04-15T12:00:00Z\"}", "specversion");
    assertRefused(PLAIN.replace("1.0", "0.3") + "}", "specversion");
    assertRefused(PLAIN.replace("e-1", " ") + "}", "id");
    assertRefused(PLAIN.replace("\"t\"", "\"\"") + "}", "type");
    assertRefused(PLAIN.replace("\"s\"", "null") + "}", "source");
    assertRefused(PLAIN.replace("\"e-1\"", "7") + "}", "id");
    assertRefused(PLAIN + "", "envelope");
    assertRefused(PLAIN + "} x", "envelope");
    assertRefused(PLAIN + ",\"id\":\"e-2\"}", "envelope");
    assertRefused(PLAIN + ",\"sequence\":{}}", "sequence");
    assertRefused(PLAIN + ",\"data\":1,\"data_base64\":\"AA==\"}", "data");
    assertRefused(PLAIN + ",\"data_base64\":\"?\"}", "data_base64");
    assertRefused(PLAIN + ",\"aggregateversion\":\"99999999999999999999\"}", "aggregateversion");
    assertRefused(PLAIN + ",\"aggregateversion\":\"+5\"}", "aggregateversion");
    assertRefused(PLAIN + ",\"aggregateversion\":\"\u0665\"}", "aggregateversion");
    assertRefused(PLAIN + ",\"data\":" + "[".repeat(5000) + "]".repeat(5000) + "}", "envelope");
    assertRefused("not an event", "envelope");
    assertThatThrownBy(() -> Event.read(new byte[] {(byte) 0xFF, 0x00, 0x7B}))
        .isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(() -> Event.read(envelope().clearId().build().toByteArray()))
        .hasMessageStartingWith("id");
    assertThatThrownBy(() -> Event.read(envelope()
            .setTime(Timestamp.newBuilder().setSeconds(Long.MAX_VALUE))
            .build()
            .toByteArray()))
        .hasMessageStartingWith("time");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "specversion",
        "id",
        "type",
        "source",
        "datacontenttype",
        "tenant_id",
        "tenantid",
        "traceparent",
        "tracestate",
        "baggage",
        "partitionkey",
        "sequence",
        "aggregateversion",
        "time",
        "data",
        "data_base64",
        "other",
        "a_name_that_is_longer_than_all_that_are_known",
        "ä"
      })
  void knowsANameHoweverItIsWritten(String name) {
    String once = PLAIN + (PLAIN.contains('"' + name + '"') ? "" : ",\"" + name + "\":null");
    String escaped = "\\u%04x".formatted((int) name.charAt(0)) + name.substring(1);
    for (String again : List.of(name, escaped)) {
      assertThatThrownBy(() -> json(once + ",\"" + again + "\":null}"))
          .hasMessage("envelope: a name is there twice");
    }
  }

  private static void assertRefused(String json, String begin) {
    assertThatThrownBy(() -> json(json))
        .as(json.substring(0, Math.min(80, json.length())))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith(begin);
  }
}
