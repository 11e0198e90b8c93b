package dev.evalops.runtime.events;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.google.protobuf.Any;
import com.google.protobuf.Timestamp;
import dev.evalops.runtime.events.notes.Note;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.UUID;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import org.junit.jupiter.api.Test;

class EncoderTest {
  private static final Instant TIME = Instant.parse("2026-04-15T12:00:00.123456789Z");
  private static final UUID ID = UUID.fromString("00000000-0000-4000-8000-000000000001");
  private static final Note NOTE = Note.newBuilder().setTitle("R&D").build();
  private static final Change CHANGE = Change.of("note", "n 1%", "create")
      .organization("org-1")
      .sequence(42)
      .version(7)
      .recordedAt(TIME)
      .eventId(ID)
      .payload(NOTE);
  private static final Map<String, String> TRACE = Map.of(
      "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "tracestate", "a=b",
      "baggage", "k=v");

  private static EncodedEvent encode(EventFormat format, Change change, Map<String, String> trace) {
    return format.encode(change, "notes.changes", TIME, trace);
  }

  private static String first(Map<String, List<String>> headers, String name) {
    return headers.get(name).get(0);
  }

  private static String json(Change change, Map<String, String> trace) {
    return new String(encode(EventFormat.JSON, change, trace).body(), StandardCharsets.UTF_8);
  }

  @Test
  void writesTheBytesOfPeers_whenThereIsNothingThatTheyDoNotKnow() {
    Change plain = new Change(
        "note",
        Optional.empty(),
        "create",
        Optional.of("org <1>"),
        OptionalLong.empty(),
        OptionalLong.empty(),
        Optional.of(TIME),
        Optional.of(ID),
        Optional.of(NOTE));

    assertThat(json(plain, TRACE))
        .isEqualTo(
            "{\"specversion\":\"1.0\",\"id\":\"00000000-0000-4000-8000-000000000001\","
                + "\"type\":\"notes.changes.note.create\",\"source\":\"notes\","
                + "\"time\":\"2026-04-15T12:00:00Z\",\"datacontenttype\":\"application/json\",\"tenant_id\":\"org"
                + " \\u003c1\\u003e\","
                + "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\","
                + "\"tracestate\":\"a=b\",\"baggage\":\"k=v\","
                + "\"data\":{\"@type\":\"type.googleapis.com/notes.v1.Note\",\"title\":\"R\\u0026D\"}}");
    assertThat(json(plain, Map.of())).doesNotContain("trace").doesNotContain("baggage");
  }

  @Test
  void writesSequenceKeyAndVersionBeforeTheData() {
    assertThat(json(CHANGE, Map.of()))
        .contains("\"tenant_id\":\"org-1\",\"sequence\":\"42\",\"partitionkey\":\"n 1%\","
            + "\"aggregateversion\":\"7\",\"data\":{");
  }

  @Test
  void writesAnEmptyTenantAndNullData_whenThereAreNone() {
    assertThat(json(Change.of("note", "1", "change"), Map.of()))
        .contains("\"type\":\"notes.changes.note.change\"")
        .contains("\"tenant_id\":\"\"")
        .endsWith("\"data\":null}");
  }

  @Test
  void carriesTheSameHeadersInEveryForm() {
    for (EventFormat format : EventFormat.values()) {
      Map<String, List<String>> headers = encode(format, CHANGE, TRACE).headers();
      assertThat(first(headers, "ce-sequence")).isEqualTo("42");
      assertThat(first(headers, "ce-partitionkey")).isEqualTo("n%201%25");
      assertThat(first(headers, "ce-aggregateversion")).isEqualTo("7");
      TRACE.forEach((name, value) -> assertThat(first(headers, name)).isEqualTo(value));
    }
  }

  @Test
  void writesTheEnvelopeMessage() throws Exception {
    EventEnvelope envelope =
        EventEnvelope.parseFrom(encode(EventFormat.PROTO, CHANGE, TRACE).body());

    assertThat(envelope.getSpecVersion()).isEqualTo("1.0");
    assertThat(envelope.getId()).isEqualTo(ID.toString());
    assertThat(envelope.getType()).isEqualTo("notes.changes.note.create");
    assertThat(envelope.getSource()).isEqualTo("notes");
    assertThat(envelope.getTime())
        .isEqualTo(Timestamp.newBuilder()
            .setSeconds(TIME.getEpochSecond())
            .setNanos(TIME.getNano())
            .build());
    assertThat(envelope.getDataContentType()).isEqualTo("application/protobuf");
    assertThat(envelope.getTenantId()).isEqualTo("org-1");
    assertThat(envelope.getData()).isEqualTo(Any.pack(NOTE));
    assertThat(envelope.getTraceParent()).isEqualTo(TRACE.get("traceparent"));
    assertThat(envelope.getTraceState()).isEqualTo("a=b");
    assertThat(envelope.getBaggage()).isEqualTo("k=v");
  }

  @Test
  void writesTheAttributesAsHeaders_andTheAnyAsTheBody() {
    EncodedEvent message = encode(EventFormat.PROTO_HEADERS, CHANGE, Map.of());
    Map<String, List<String>> headers = message.headers();

    assertThat(first(headers, "ce-specversion")).isEqualTo("1.0");
    assertThat(first(headers, "ce-id")).isEqualTo(ID.toString());
    assertThat(first(headers, "ce-type")).isEqualTo("notes.changes.note.create");
    assertThat(first(headers, "ce-source")).isEqualTo("notes");
    assertThat(first(headers, "ce-time")).isEqualTo("2026-04-15T12:00:00Z");
    assertThat(first(headers, "ce-tenantid")).isEqualTo("org-1");
    assertThat(first(headers, "content-type")).isEqualTo("application/protobuf");
    assertThat(message.body()).isEqualTo(Any.pack(NOTE).toByteArray());
  }

  @Test
  void refusesHalfASurrogatePairAndNul_whichNoFormCanCarry() {
    assertThatThrownBy(() -> Change.of("note", "a\ud800", "create"))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("aggregateId must not have NUL or half a surrogate pair");
    assertThatThrownBy(() -> CHANGE.organization("\udc00a"))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("organizationId must not have NUL or half a surrogate pair");
    for (String id : List.of("\0", "a\0b")) {
      assertThatThrownBy(() -> CHANGE.organization(id))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessage("organizationId must not have NUL or half a surrogate pair");
    }
    assertThat(json(CHANGE.organization("\ud83d\ude00"), Map.of())).contains("\ud83d\ude00");
  }

  @Test
  void takesAnAnyAsItIs() {
    assertThat(encode(EventFormat.PROTO_HEADERS, CHANGE.payload(Any.pack(NOTE)), Map.of())
            .body())
        .isEqualTo(Any.pack(NOTE).toByteArray());
  }

  @Test
  void givesEachPublishingItsOwnId_unlessTheChangeHasOne() {
    Change change = Change.of("note", "1", "change");
    assertThat(encode(EventFormat.JSON, change, Map.of()).id())
        .isNotEqualTo(encode(EventFormat.JSON, change, Map.of()).id());
    assertThat(encode(EventFormat.JSON, change.eventId(ID), Map.of()).id())
        .isEqualTo(ID.toString());
  }

  @Test
  void refusesATenantThatNoHeaderCanCarry_inTheHeaderFormAlone() {
    Change change = Change.of("note", "1", "change").organization("ä");
    assertThat(json(change, Map.of())).contains("\"tenant_id\":\"ä\"");
    assertThatThrownBy(() -> encode(EventFormat.PROTO_HEADERS, change, Map.of()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("organizationId");
  }

  @Test
  void readsBackWhatLooksLikeAnEscape_inTheHeaderForm() {
    for (String text : List.of("a%20b", "50%25", "%41", "100%", "%zz", "%ff")) {
      Change change = Change.of("n" + text, text, "create").organization(text);
      EncodedEvent message =
          EventFormat.PROTO_HEADERS.encode(change, "p" + text + ".changes", TIME, Map.of());

      Event event = Event.read(message.headers(), message.body());

      assertThat(event.organizationId()).contains(text);
      assertThat(event.aggregateId()).contains(text);
      assertThat(event.type()).isEqualTo(message.subject());
      assertThat(event.source()).isEqualTo("p" + text);
    }
  }

  /** Clients take blanks off the ends of a header. */
  @Test
  void writesATenantAsPeersDo_unlessItWouldBeReadAsAnother() {
    assertThat(tenantHeader("100% \"a b\"")).isEqualTo("100% \"a b\"");
    assertThat(tenantHeader(" a")).isEqualTo("%20a");
    assertThat(tenantHeader("a b ")).isEqualTo("a%20b%20");
    assertThat(tenantHeader(" ")).isEqualTo("%20");
    assertThat(tenantHeader("a%20 b")).isEqualTo("a%2520%20b");
  }

  private static String tenantHeader(String organization) {
    Change change = CHANGE.organization(organization);
    return first(encode(EventFormat.PROTO_HEADERS, change, Map.of()).headers(), "ce-tenantid");
  }

  @Test
  void writesNoHeaderOfWhatIsEmpty() {
    assertThat(encode(
                EventFormat.PROTO_HEADERS,
                CHANGE.organization(""),
                Map.of("traceparent", "", "tracestate", "", "baggage", ""))
            .headers())
        .doesNotContainKeys("ce-tenantid", "traceparent", "tracestate", "baggage");
  }

  @Test
  void refusesWhatIsNoSingleToken_andNamesEveryProblem() {
    for (String token : new String[] {"", "a.b", "a*", ">", "a b", "a\tb", "a\u00a0b", "ä"}) {
      assertThatThrownBy(() -> Change.of(token, "1", "create"))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageStartingWith("aggregateType");
      assertThatThrownBy(() -> Change.of("note", "1", token))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageStartingWith("operation");
    }
    assertThatThrownBy(() -> new Change(
            "a.b",
            Optional.of(""),
            "c d",
            Optional.empty(),
            OptionalLong.of(-1),
            OptionalLong.of(-1),
            Optional.of(Instant.MAX),
            Optional.empty(),
            Optional.empty()))
        .hasMessageContainingAll(
            "aggregateType", "aggregateId", "operation", "sequence", "version", "recordedAt");
  }

  @Test
  void keepsOneLaneForEachAggregate_andNoOrderForWhatHasNone() {
    assertThat(encode(EventFormat.JSON, CHANGE, Map.of()).lane()).isEqualTo("note/n 1%");
    assertThat(encode(EventFormat.PROTO, CHANGE.version(8), Map.of()).lane())
        .isEqualTo("note/n 1%");
    Change alone = new Change(
        "note",
        Optional.empty(),
        "create",
        Optional.empty(),
        OptionalLong.empty(),
        OptionalLong.empty(),
        Optional.empty(),
        Optional.of(ID),
        Optional.empty());
    assertThat(encode(EventFormat.JSON, alone, Map.of()).lane()).isEqualTo(ID.toString());
  }

  @Test
  void refusesAPrefixThatIsNoSubject() {
    for (String prefix :
        new String[] {"", ".", "notes.", ".notes", "a..b", "a b", "a.*", "a.>", "ä"}) {
      assertThatThrownBy(() -> EventFormat.JSON.encode(CHANGE, prefix, TIME, Map.of()))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageStartingWith("subjectPrefix must be");
    }
    assertThat(EventFormat.JSON.encode(CHANGE, "notes", TIME, Map.of()).subject())
        .isEqualTo("notes.note.create");
  }

  @Property(tries = 300)
  void readsBackEveryPartitionKey(@ForAll String key) {
    String clean = new String(key.getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8);
    assertThat(Encoder.escape(clean)).matches("[!-~]*");
    assertThat(Encoder.unescape(Encoder.escape(clean))).isEqualTo(clean);
  }
}
