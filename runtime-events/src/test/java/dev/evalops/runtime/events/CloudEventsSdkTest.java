package dev.evalops.runtime.events;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.google.protobuf.Any;
import dev.evalops.runtime.events.notes.Note;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** What the CloudEvents SDKs write: messages that they have made, and the rules of the specification. */
class CloudEventsSdkTest {
  private static final JsonMapper JSON = JsonMapper.builder().build();

  static Stream<JsonNode> messages() throws Exception {
    return JSON.readTree(CloudEventsSdkTest.class.getResourceAsStream("/cloudevents_sdks.json"))
        .valueStream();
  }

  private static Map<String, List<String>> headers() {
    Map<String, List<String>> headers = new HashMap<>();
    headers.put("ce-specversion", List.of("1.0"));
    headers.put("ce-id", List.of("e-1"));
    headers.put("ce-type", List.of("t"));
    headers.put("ce-source", List.of("s"));
    return headers;
  }

  private static Event json(String members) {
    return Event.read(
        ("{\"specversion\":\"1.0\",\"id\":\"e-1\",\"type\":\"t\",\"source\":\"s\"" + members + "}")
            .getBytes(StandardCharsets.UTF_8));
  }

  private static String text(Event event) {
    return new String(event.data(), StandardCharsets.UTF_8);
  }

  @ParameterizedTest
  @MethodSource("messages")
  void readsWhatTheyHaveWritten(JsonNode message) {
    Map<String, List<String>> headers = new HashMap<>();
    message
        .get("headers")
        .properties()
        .forEach(each -> headers.put(each.getKey(), List.of(each.getValue().asString())));
    boolean isGo = message.get("sdk").asString().startsWith("Go");

    Event event =
        Event.read(headers, Base64.getDecoder().decode(message.get("body").asString()));

    assertThat(event.id()).isEqualTo("e-1");
    assertThat(event.type()).isEqualTo("notes.created");
    assertThat(event.source()).isEqualTo("/notes/1");
    switch (message.get("name").asString()) {
      case "json" -> {
        assertThat(JSON.readTree(event.data()))
            .isEqualTo(JSON.readTree("{\"title\":\"a b\",\"n\":1}"));
        assertThat(event.dataContentType()).contains("application/json");
        assertThat(event.time()).contains(Instant.parse("2026-04-15T12:00:00.123Z"));
        assertThat(event.organizationId()).contains("org-1");
        assertThat(event.sequence()).hasValue(7);
        assertThat(event.aggregateId())
            .contains(message.get("sdk").asString().startsWith("PyPI") ? "n 1%é" : "n-1");
        assertThat(event.payloadType()).isEmpty();
      }
      case "vendor" -> {
        JsonNode data = JSON.readTree(event.data());
        // In structured mode the Go SDK writes a string of such data.
        assertThat(data.isString() ? JSON.readTree(data.asString()) : data)
            .isEqualTo(JSON.readTree("{\"title\":\"é\"}"));
        assertThat(event.dataContentType().orElseThrow()).startsWith("application/vnd.note+json");
      }
      case "text" -> {
        assertThat(text(event)).isEqualTo("hello");
        assertThat(event.dataContentType()).contains("text/plain");
      }
      case "bytes" -> {
        assertThat(event.data()).containsExactly(0, 1, 254, 255);
        assertThat(event.dataContentType()).contains("application/octet-stream");
        assertThatThrownBy(() -> event.payload(Note.getDefaultInstance()))
            .isInstanceOf(IllegalArgumentException.class);
      }
      default -> {
        assertThat(event.data()).isEmpty();
        assertThat(event.time().isEmpty()).isEqualTo(isGo);
      }
    }
  }

  @ParameterizedTest
  @CsvSource({
    "content-type, application/json",
    "Content-Type, APPLICATION/JSON",
    "CONTENT-TYPE, Application/Json; charset=UTF-8",
    "ce-datacontenttype, application/json",
    "ce-datacontenttype, application/cloudevents-data+json",
    "content-type, text/json",
    "content-type, application/vnd.x+JSON;v=1"
  })
  void readsJson_whateverItsTypeIsCalled(String name, String contentType) {
    Map<String, List<String>> headers = headers();
    headers.put(name, List.of(contentType));
    Event event = Event.read(
        headers,
        "{\"@type\":\"x/notes.v1.Note\",\"note_id\":\"n\"}".getBytes(StandardCharsets.UTF_8));
    assertThat(event.payload(Note.getDefaultInstance()).getNoteId()).isEqualTo("n");
    assertThat(event.dataContentType()).contains(contentType);
    assertThatThrownBy(() -> Event.read(headers, "{".getBytes(StandardCharsets.UTF_8)))
        .hasMessageStartingWith("data");
  }

  @Test
  void decodesPercentSigns_inEveryAttribute() {
    Map<String, List<String>> headers = headers();
    headers.put("ce-id", List.of("e%201"));
    headers.put("ce-source", List.of("/caf%C3%A9%25"));
    headers.put("ce-tenantid", List.of("%E4%BD%A0 100%"));
    headers.put("ce-traceparent", List.of("00-1"));
    headers.put("ce-time", List.of("2026-04-15T12%3A00%3A00Z"));
    Event event = Event.read(headers, new byte[0]);
    assertThat(event.id()).isEqualTo("e 1");
    assertThat(event.source()).isEqualTo("/café%");
    assertThat(event.organizationId()).contains("你 100%");
    assertThat(event.traceparent()).contains("00-1");
    assertThat(event.time()).contains(Instant.parse("2026-04-15T12:00:00Z"));
    assertThat(event.dataContentType()).isEmpty();
  }

  @Test
  void readsTheBody_whenTheTypeSaysThatTheEventIsThere() {
    Map<String, List<String>> headers = headers();
    headers.put("Content-Type", List.of("application/CloudEvents+json; charset=utf-8"));
    Event event = Event.read(
        headers,
        "{\"specversion\":\"1.0\",\"id\":\"e-2\",\"type\":\"t\",\"source\":\"s\",\"data\":1}"
            .getBytes(StandardCharsets.UTF_8));
    assertThat(event.id()).isEqualTo("e-2");
    assertThat(text(event)).isEqualTo("1");
  }

  @Test
  void readsStructuredDataOfEveryType() {
    assertThat(text(json(",\"datacontenttype\":\"text/plain\",\"data\":\"a\\nb\"")))
        .isEqualTo("a\nb");
    assertThat(text(json(",\"datacontenttype\":\"text/xml\",\"data\":{\"a\": 1}")))
        .isEqualTo("{\"a\": 1}");
    assertThat(text(json(",\"data\":\"a\""))).isEqualTo("\"a\"");
    assertThat(text(json(",\"datacontenttype\":\"application/x+json\",\"data\":\"a\"")))
        .isEqualTo("\"a\"");
    assertThat(text(json(",\"data_base64\":\"aGVsbG8=\",\"data\":null"))).isEqualTo("hello");
    assertThat(json(",\"data_base64\":null").data()).isEmpty();
    assertThat(json(",\"time\":null").time()).isEmpty();
    Event typed = json(",\"datacontenttype\":\"application/json\",\"data_base64\":\""
        + Base64.getEncoder()
            .encodeToString("{\"@type\":\"x/notes.v1.Note\",\"note_id\":\"n\"}"
                .getBytes(StandardCharsets.UTF_8))
        + '"');
    assertThat(typed.payload(Note.getDefaultInstance()).getNoteId()).isEqualTo("n");
    Event proto = json(",\"datacontenttype\":\"application/protobuf\",\"data_base64\":\""
        + Base64.getEncoder()
            .encodeToString(Any.pack(Note.newBuilder().setNoteId("n").build()).toByteArray())
        + '"');
    assertThat(proto.payload(Note.getDefaultInstance()).getNoteId()).isEqualTo("n");
  }

  @Test
  void readsProtobufThatIsNoAny_asBytes() {
    Map<String, List<String>> headers = headers();
    headers.put("content-type", List.of("application/protobuf"));
    for (byte[] body : new byte[][] {
      {1, 2, 3},
      Note.newBuilder().setNoteId("n 1").setTitle("x").build().toByteArray(),
      Note.newBuilder().setWordCount(7).build().toByteArray()
    }) {
      Event event = Event.read(headers, body);
      assertThat(event.data()).isEqualTo(body);
      assertThat(event.payloadType()).isEmpty();
      assertThatThrownBy(() -> event.payload(Note.getDefaultInstance()))
          .isInstanceOf(IllegalArgumentException.class);
    }
  }

  /** As the SDK of Python writes an event whose data have no type. */
  @Test
  void readsDataOfNoType_asBytes() {
    for (String body : List.of("{\"title\": \"a\"}", "hello", "\u0001\u0002\u0003")) {
      Event event = Event.read(headers(), body.getBytes(StandardCharsets.UTF_8));
      assertThat(text(event)).isEqualTo(body);
      assertThat(event.dataContentType()).isEmpty();
      assertThat(event.payloadType()).isEmpty();
      assertThatThrownBy(() -> event.payload(Note.getDefaultInstance()))
          .isInstanceOf(IllegalArgumentException.class);
    }
  }

  @Test
  void takesTheTenant_ofPeersFirst() {
    assertThat(json(",\"tenantid\":\"a\"").organizationId()).contains("a");
    assertThat(json(",\"tenantid\":42").organizationId()).contains("42");
    assertThat(json(",\"tenantid\":\"a\",\"tenant_id\":\"b\"").organizationId()).contains("b");
    assertThat(json(",\"tenantid\":\"a\",\"tenant_id\":\"\"").organizationId()).contains("a");
  }
}
