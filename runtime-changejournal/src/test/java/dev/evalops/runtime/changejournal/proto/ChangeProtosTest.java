package dev.evalops.runtime.changejournal.proto;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.google.protobuf.Any;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Duration;
import com.google.protobuf.Message;
import com.google.protobuf.Struct;
import com.google.protobuf.Timestamp;
import com.google.protobuf.TypeRegistry;
import com.google.protobuf.Value;
import dev.evalops.runtime.changejournal.Change;
import dev.evalops.runtime.changejournal.ChangeActor;
import dev.evalops.runtime.changejournal.ChangeJournal;
import dev.evalops.runtime.changejournal.notes.NoteMessage;
import dev.evalops.runtime.changejournal.notes.OptionalVersion;
import dev.evalops.runtime.changejournal.notes.TextVersion;
import dev.evalops.runtime.changejournal.notes.UnsignedVersion;
import dev.evalops.runtime.changejournal.notes.Unversioned;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Instant;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import javax.sql.DataSource;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.JsonNodeFactory;

@ExtendWith(TestPostgres.class)
class ChangeProtosTest {
  private static final JsonMapper JSON = JsonMapper.shared();
  private static final JsonNodeFactory NODES = JsonNodeFactory.instance;
  private static final Instant AT = Instant.parse("2026-01-02T03:04:05.678901Z");

  private static Change change(JsonNode payload) {
    return new Change(
        9007199254740993L,
        "org-1",
        "note",
        Optional.of("n-1"),
        "create",
        "user",
        Optional.of("u-1"),
        Long.MAX_VALUE,
        AT,
        payload);
  }

  @Test
  void goesToProtobufAndBack() {
    Change change = change(JSON.readTree(
        "{\"text\":\"ü\",\"whole\":7,\"most\":9007199254740992,\"fraction\":0.1,\"yes\":true,\"none\":null,"
            + "\"list\":[1,\"a\",[],{}],\"object\":{\"deep\":{\"er\":-1}}}"));
    assertThat(ChangeProtos.fromProto(ChangeProtos.toProto(change))).isEqualTo(change);
  }

  @Test
  void goesToProtobufAndBack_withoutIdsAndPayload() throws Exception {
    Change change = new Change(
        1,
        "org-1",
        "settings",
        Optional.empty(),
        "update",
        "system",
        Optional.empty(),
        1,
        Instant.parse("1969-12-31T23:59:59.999999Z"),
        NODES.nullNode());
    var message = ChangeProtos.toProto(change);
    assertThat(message.hasPayload()).isFalse();
    assertThat(ChangeProtos.fromProto(EventsV1.Change.parseFrom(message.toByteArray())))
        .isEqualTo(change);
  }

  @Test
  void isTheMessageThatOthersRead() {
    var descriptor = EventsV1.Change.getDescriptor();
    assertThat(descriptor.getFullName()).isEqualTo("events.v1.Change");
    assertThat(descriptor.getFields())
        .extracting(field -> field.getNumber() + " " + type(field) + " " + field.getName())
        .containsExactly(
            "1 int64 seq",
            "2 string organization_id",
            "3 string aggregate_type",
            "4 string aggregate_id",
            "5 string operation",
            "6 string actor_type",
            "7 string actor_id",
            "8 int64 aggregate_version",
            "9 google.protobuf.Timestamp recorded_at",
            "10 google.protobuf.Struct payload");
  }

  private static String type(FieldDescriptor field) {
    return field.getType() == FieldDescriptor.Type.MESSAGE
        ? field.getMessageType().getFullName()
        : field.getType().name().toLowerCase(java.util.Locale.ROOT);
  }

  @ParameterizedTest
  @ValueSource(strings = {"[]", "[{}]", "\"text\"", "1", "true"})
  void refusesAPayloadThatIsNoObject(String payload) {
    assertThatThrownBy(() -> ChangeProtos.toProto(change(JSON.readTree(payload))))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("change_payload_not_object");
  }

  @ParameterizedTest
  @ValueSource(strings = {"9007199254740993", "-9007199254740993", "9223372036854775807", "1e400"})
  void refusesANumberThatWouldChange(String number) {
    JsonNode payload = JsonMapper.builder()
        .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
        .build()
        .readTree("{\"a\":[{\"n\":" + number + "}]}");
    assertThatThrownBy(() -> ChangeProtos.toProto(change(payload)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("unmarshal_change_payload: $.a[0].n is a number that a double cannot hold");
  }

  @Test
  void keepsNumbersThatADoubleHolds() {
    JsonNode payload = NODES
        .objectNode()
        .put("power", 1L << 60)
        .put("big", BigInteger.TWO.pow(62))
        .put("decimal", new BigDecimal("0.10"))
        .put("float", 0.5f);
    JsonNode back =
        ChangeProtos.fromProto(ChangeProtos.toProto(change(payload))).payload();
    assertThat(back.get("power").longValue()).isEqualTo(1L << 60);
    assertThat(back.get("big").longValue()).isEqualTo(1L << 62);
    assertThat(back.get("decimal").doubleValue()).isEqualTo(0.1);
    assertThat(back.get("float").doubleValue()).isEqualTo(0.5);
  }

  @Provide
  Arbitrary<JsonNode> json() {
    Arbitrary<JsonNode> leaf = Arbitraries.oneOf(
        Arbitraries.strings().map(NODES::stringNode),
        Arbitraries.longs().between(-(1L << 53), 1L << 53).map(NODES::numberNode),
        Arbitraries.doubles().filter(number -> number != Math.rint(number)).map(NODES::numberNode),
        Arbitraries.of(true, false).map(NODES::booleanNode),
        Arbitraries.just(NODES.nullNode()));
    return Arbitraries.recursive(
        () -> leaf,
        inner -> Arbitraries.oneOf(
            inner.list().ofMaxSize(4).map(list -> NODES.arrayNode().addAll(list)),
            Arbitraries.maps(Arbitraries.strings(), inner)
                .ofMaxSize(4)
                .map(map -> NODES.objectNode().setAll(map))),
        0,
        4);
  }

  @Property(tries = 300)
  void carriesEveryObject(@ForAll("json") JsonNode value) throws Exception {
    Change change = change(NODES.objectNode().set("value", value));
    byte[] wire = ChangeProtos.toProto(change).toByteArray();
    Change back = ChangeProtos.fromProto(EventsV1.Change.parseFrom(wire));
    // A long that fits an int reads back as a long; equal as JSON.
    assertThat(JSON.readTree(JSON.writeValueAsString(back)))
        .isEqualTo(JSON.readTree(JSON.writeValueAsString(change)));
  }

  @Test
  void refusesAMessageThatIsNoChange() {
    var message = ChangeProtos.toProto(change(NODES.objectNode())).toBuilder();
    assertThatThrownBy(
            () -> ChangeProtos.fromProto(message.clone().clearRecordedAt().build()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("recorded_at: missing");
    assertThatThrownBy(() -> ChangeProtos.fromProto(message
            .clone()
            .setRecordedAt(Timestamp.newBuilder().setNanos(1_000_000_000))
            .build()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("recorded_at: not within the years 1 to 9999");
    assertThatThrownBy(() -> ChangeProtos.fromProto(message
            .clone()
            .setPayload(Struct.newBuilder()
                .putFields("n", Value.newBuilder().setNumberValue(Double.NaN).build()))
            .build()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("encode_change_payload: $.n is NaN, which JSON cannot say");
    assertThatThrownBy(() -> ChangeProtos.fromProto(message
            .clone()
            .setPayload(Struct.newBuilder().putFields("n", Value.getDefaultInstance()))
            .build()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("encode_change_payload: $.n is a value without a kind");
  }

  @Test
  void refusesATimeThatProtobufCannotSay() {
    Change change = new Change(
        1,
        "o",
        "t",
        Optional.empty(),
        "o",
        "u",
        Optional.empty(),
        1,
        Instant.parse("+10000-01-01T00:00:00Z"),
        NODES.nullNode());
    assertThatThrownBy(() -> ChangeProtos.toProto(change))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("recorded_at: not within the years 1 to 9999");
  }

  @Test
  void writesAMessageAsTheJsonOfAnAny() {
    NoteMessage note = NoteMessage.newBuilder()
        .setNoteId("n-1")
        .setBodyText("<ü>")
        .setBigNumber(9007199254740993L)
        .build();
    String json = ChangeProtos.payloadJson(note);
    assertThat(json).startsWith("{\"@type\":");
    assertThat(JSON.readTree(json))
        .isEqualTo(JSON.readTree(
            "{\"@type\":\"type.googleapis.com/notes.v1.NoteMessage\",\"note_id\":\"n-1\",\"body_text\":\"<ü>\","
                + "\"big_number\":\"9007199254740993\"}"));
    assertThat(JSON.readTree(
            ChangeProtos.payloadJson(Duration.newBuilder().setSeconds(3).build())))
        .isEqualTo(JSON.readTree(
            "{\"@type\":\"type.googleapis.com/google.protobuf.Duration\",\"value\":\"3s\"}"));
  }

  @Test
  void refusesAMessageThatHoldsAnUnknownOne() {
    NoteMessage known = NoteMessage.newBuilder()
        .setAttachment(Any.pack(Unversioned.getDefaultInstance()))
        .build();
    assertThat(ChangeProtos.payloadJson(known)).contains("notes.v1.Unversioned");
    NoteMessage unknown = NoteMessage.newBuilder()
        .setAttachment(Any.newBuilder().setTypeUrl("type.googleapis.com/other.v1.Type"))
        .build();
    assertThatThrownBy(() -> ChangeProtos.payloadJson(unknown))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("marshal_change_payload: ")
        .hasMessageContaining("other.v1.Type");
  }

  @Test
  void writesAnAnyOfAnotherFile_withItsTypes(
      @Schema("dev/evalops/runtime/changejournal/changejournal.sql") DataSource db)
      throws SQLException {
    NoteMessage note = NoteMessage.newBuilder()
        .setVersion(7)
        .setAttachment(Any.pack(EventsV1.Change.newBuilder().setSeq(3).build()))
        .build();
    TypeRegistry types = TypeRegistry.newBuilder()
        .add(List.of(NoteMessage.getDescriptor(), EventsV1.Change.getDescriptor()))
        .build();
    assertThatThrownBy(() -> ChangeProtos.payloadJson(note))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("events.v1.Change")
        .hasMessageEndingWith("; give the types of Any fields with a TypedMessage");
    try (Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      ChangeJournal.mutation("note", "n-1", "create")
          .by(new ChangeActor("user", "u-1", "org-1"))
          .payload(new TypedMessage(note, types))
          .write(tx);
      try (Statement statement = tx.createStatement();
          ResultSet row =
              statement.executeQuery("SELECT aggregate_version, payload FROM change_journal")) {
        assertThat(row.next()).isTrue();
        assertThat(row.getLong(1)).isEqualTo(7);
        assertThat(JSON.readTree(row.getString(2)))
            .isEqualTo(JSON.readTree(
                "{\"@type\":\"type.googleapis.com/notes.v1.NoteMessage\",\"version\":\"7\",\"attachment\":"
                    + "{\"@type\":\"type.googleapis.com/events.v1.Change\",\"seq\":\"3\"}}"));
      }
    }
  }

  @Test
  void refusesNulAndHalfSurrogatePairs_beforeAnythingIsSent(
      @Schema("dev/evalops/runtime/changejournal/changejournal.sql") DataSource db)
      throws SQLException {
    try (Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      ChangeActor actor = new ChangeActor("user", "u-1", "org-1");
      for (String text : List.of("a\0b", "\ud800", "\udc00\udc00")) {
        Value value = Value.newBuilder().setStringValue(text).build();
        for (Message message : List.of(
            NoteMessage.newBuilder().setBodyText(text).build(),
            value,
            Struct.newBuilder().putFields("a", value).build(),
            Struct.newBuilder()
                .putFields(
                    text,
                    Value.getDefaultInstance().toBuilder().setNumberValue(1).build())
                .build(),
            NoteMessage.newBuilder()
                .setAttachment(Any.newBuilder().setTypeUrl("x/" + text))
                .build())) {
          assertThatThrownBy(() -> ChangeJournal.mutation("note", "n-1", "create")
                  .by(actor)
                  .payload(message)
                  .write(tx))
              .isInstanceOf(IllegalArgumentException.class)
              .hasMessageStartingWith("marshal_change_payload: ");
        }
      }
      NoteMessage good =
          NoteMessage.newBuilder().setBodyText("\ud83d\ude00\u0001\uffff").build();
      ChangeJournal.mutation("note", "n-1", "create").by(actor).payload(good).write(tx);
    }
  }

  @Test
  void refusesAMessageThatHasNoJson() {
    for (Message message : List.of(
        Timestamp.newBuilder().setSeconds(253402300800L).build(),
        Duration.newBuilder().setNanos(-2_000_000_000).build(),
        Value.newBuilder().setNumberValue(Double.NaN).build())) {
      assertThatThrownBy(() -> ChangeProtos.payloadJson(message))
          .as("%s", message)
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageStartingWith("marshal_change_payload: ");
    }
  }

  @Test
  void takesTheVersionFromItsField() {
    assertThat(ChangeProtos.payloadVersion(
            NoteMessage.newBuilder().setVersion(9007199254740993L).build()))
        .hasValue(9007199254740993L);
    assertThat(ChangeProtos.payloadVersion(
            OptionalVersion.newBuilder().setVersion(0).build()))
        .hasValue(0);
    assertThat(ChangeProtos.payloadVersion(
            UnsignedVersion.newBuilder().setVersion(5).build()))
        .hasValue(5);
    assertThatThrownBy(() -> ChangeProtos.payloadVersion(
            UnsignedVersion.newBuilder().setVersion(-1).build()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("marshal_change_payload: version");
  }

  @Test
  void hasNoVersion_whenTheFieldIsNotSetOrNoInteger() {
    for (var message : java.util.List.of(
        NoteMessage.getDefaultInstance(),
        OptionalVersion.getDefaultInstance(),
        TextVersion.newBuilder().setVersion("7").build(),
        Unversioned.getDefaultInstance())) {
      assertThat(ChangeProtos.payloadVersion(message)).isEqualTo(OptionalLong.empty());
    }
  }

  @Test
  void storesAMessage(@Schema("dev/evalops/runtime/changejournal/changejournal.sql") DataSource db)
      throws SQLException {
    ChangeActor actor = new ChangeActor("user", "u-1", "org-1");
    try (Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      NoteMessage note = NoteMessage.newBuilder().setNoteId("n-1").setVersion(7).build();
      ChangeJournal.mutation("note", "n-1", "create").by(actor).payload(note).write(tx);
      ChangeJournal.mutation("note", "n-1", "create")
          .by(actor)
          .payload(NoteMessage.getDefaultInstance())
          .write(tx);
      try (Statement statement = tx.createStatement();
          ResultSet rows = statement.executeQuery(
              "SELECT aggregate_version, payload FROM change_journal ORDER BY seq")) {
        assertThat(rows.next()).isTrue();
        assertThat(rows.getLong(1)).isEqualTo(7);
        assertThat(JSON.readTree(rows.getString(2)))
            .isEqualTo(JSON.readTree(ChangeProtos.payloadJson(note)));
        assertThat(rows.next()).isTrue();
        assertThat(rows.getLong(1)).as("zero is absent in such a field").isEqualTo(1);
      }
    }
  }
}
