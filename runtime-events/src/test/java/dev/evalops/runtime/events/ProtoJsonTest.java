package dev.evalops.runtime.events;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.DoubleValue;
import com.google.protobuf.Duration;
import com.google.protobuf.Empty;
import com.google.protobuf.FieldMask;
import com.google.protobuf.FloatValue;
import com.google.protobuf.Int64Value;
import com.google.protobuf.ListValue;
import com.google.protobuf.Message;
import com.google.protobuf.NullValue;
import com.google.protobuf.StringValue;
import com.google.protobuf.Struct;
import com.google.protobuf.Timestamp;
import com.google.protobuf.Value;
import com.google.protobuf.util.JsonFormat;
import dev.evalops.runtime.events.notes.Author;
import dev.evalops.runtime.events.notes.Colour;
import dev.evalops.runtime.events.notes.Note;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class ProtoJsonTest {
  private static final JsonMapper JSON = JsonMapper.shared();
  private static final JsonFormat.TypeRegistry TYPES = JsonFormat.TypeRegistry.newBuilder()
      .add(Note.getDescriptor())
      .add(StringValue.getDescriptor())
      .add(Timestamp.getDescriptor())
      .build();

  @Test
  void writesProtoNamesAndTheTypeFirst() {
    Note note = Note.newBuilder()
        .setNoteId("n-1")
        .setTitle("a <b> & 'c' = \"d\"\u2028")
        .setWordCount(9_007_199_254_740_993L)
        .addTags("x")
        .build();

    assertThat(write(note))
        .isEqualTo("{\"@type\":\"type.googleapis.com/notes.v1.Note\",\"note_id\":\"n-1\",\"title\":"
            + "\"a \\u003cb\\u003e \\u0026 'c' = \\\"d\\\"\\u2028\",\"word_count\":"
            + "\"9007199254740993\",\"tags\":[\"x\"]}");
  }

  @Test
  void writesNumbersAsGoDoes() {
    assertThat(weight(1)).isEqualTo("1");
    assertThat(weight(-0.0)).isEqualTo("-0");
    assertThat(weight(0.1)).isEqualTo("0.1");
    assertThat(weight(1e20)).isEqualTo("100000000000000000000");
    assertThat(weight(1e21)).isEqualTo("1e+21");
    assertThat(weight(-1.5e300)).isEqualTo("-1.5e+300");
    assertThat(weight(1e-6)).isEqualTo("0.000001");
    assertThat(weight(1e-7)).isEqualTo("1e-7");
    assertThat(weight(1.25e-17)).isEqualTo("1.25e-17");
    assertThat(weight(Double.NaN)).isEqualTo("\"NaN\"");
    assertThat(weight(Double.NEGATIVE_INFINITY)).isEqualTo("\"-Infinity\"");
    assertThat(write(FloatValue.of(1e-6f))).endsWith("\"value\":0.000001}");
    assertThat(write(FloatValue.of(9.999999e-7f))).endsWith("\"value\":9.999999e-7}");
    assertThat(write(FloatValue.of(1e21f))).endsWith("\"value\":1e+21}");
    assertThat(weight(Double.MIN_VALUE)).isEqualTo("5e-324");
    assertThat(weight(-3 * Double.MIN_VALUE)).isEqualTo("-1.5e-323");
    assertThat(weight(9 * Double.MIN_VALUE)).isEqualTo("4.4e-323");
    assertThat(weight(10 * Double.MIN_VALUE)).isEqualTo("5e-323");
    assertThat(write(FloatValue.of(Float.MIN_VALUE))).endsWith("\"value\":1e-45}");
    assertThat(write(FloatValue.of(3 * Float.MIN_VALUE))).endsWith("\"value\":4e-45}");
    assertThat(write(FloatValue.of(8 * Float.MIN_VALUE))).endsWith("\"value\":1.1e-44}");
  }

  private static String weight(double value) {
    String json = write(DoubleValue.of(value));
    return json.substring(json.indexOf("\"value\":") + "\"value\":".length(), json.length() - 1);
  }

  @Test
  void sortsTheKeysOfMapsAsGoDoes_byTheirUtf8() {
    assertThat(write(Note.newBuilder()
            .putMarks("\ud83d\ude00", 1)
            .putMarks("\uffee", 2)
            .putMarks("a\ud83d\ude00", 3)
            .putMarks("a\uffee", 4)
            .putMarks("a", 5)
            .build()))
        .endsWith("\"marks\":{\"a\":\"5\",\"a\uffee\":\"4\",\"a\ud83d\ude00\":\"3\","
            + "\"\uffee\":\"2\",\"\ud83d\ude00\":\"1\"}}");
  }

  @Test
  void writesWellKnownTypesAsTheirValue() {
    assertThat(write(Timestamp.newBuilder().setSeconds(0).setNanos(1_000_000).build()))
        .isEqualTo("{\"@type\":\"type.googleapis.com/google.protobuf.Timestamp\",\"value\":"
            + "\"1970-01-01T00:00:00.001Z\"}");
    assertThat(write(Duration.newBuilder().setSeconds(-1).setNanos(-500_000_000).build()))
        .endsWith("\"value\":\"-1.500s\"}");
    assertThat(write(FieldMask.newBuilder().addPaths("a_b.c").addPaths("d").build()))
        .endsWith("\"value\":\"aB.c,d\"}");
    assertThat(write(Int64Value.of(7))).endsWith("\"value\":\"7\"}");
    assertThat(write(Empty.getDefaultInstance())).endsWith("\"value\":{}}");
  }

  @Test
  void writesWhatAnAnyHolds_whenItsTypeIsKnownFromTheMessage() {
    Note note = Note.newBuilder()
        .setAttachment(Any.pack(Author.newBuilder().setName("Ada").build()))
        .build();

    assertThat(write(note))
        .contains(
            "\"attachment\":{\"@type\":\"type.googleapis.com/notes.v1.Author\",\"name\":\"Ada\"}");
  }

  @Test
  void refusesAnAnyOfAnUnknownType() {
    Any unknown = Any.newBuilder().setTypeUrl("type.googleapis.com/x.Y").build();

    assertThatThrownBy(() -> write(unknown))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("payload")
        .hasMessageContaining("x.Y");
  }

  @Test
  void refusesWhatHasNoJson() {
    assertThatThrownBy(() -> write(Value.getDefaultInstance()))
        .isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(
            () -> write(Timestamp.newBuilder().setSeconds(Long.MAX_VALUE).build()))
        .isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(
            () -> write(Duration.newBuilder().setSeconds(1).setNanos(-1).build()))
        .isInstanceOf(IllegalArgumentException.class);
    for (Duration duration : List.of(
        Duration.newBuilder().setSeconds(Long.MIN_VALUE).build(),
        Duration.newBuilder().setSeconds(Long.MAX_VALUE).build(),
        Duration.newBuilder().setNanos(Integer.MIN_VALUE).build(),
        Duration.newBuilder().setNanos(Integer.MAX_VALUE).build())) {
      assertThatThrownBy(() -> write(duration)).isInstanceOf(IllegalArgumentException.class);
    }
    assertThatThrownBy(() -> write(FieldMask.newBuilder().addPaths("aB").build()))
        .isInstanceOf(IllegalArgumentException.class);
    Note deep = Note.getDefaultInstance();
    for (int i = 0; i < 200; i++) {
      deep = Note.newBuilder().addChildren(deep).build();
    }
    Note tooDeep = deep;
    assertThatThrownBy(() -> write(tooDeep)).isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void writesALoneSurrogateAsTheReplacementCharacter() {
    assertThat(new String(
            new JsonWriter().string("a\uD83D b\uD83D\uDE00").toBytes(), StandardCharsets.UTF_8))
        .isEqualTo("\"a\\ufffd b\uD83D\uDE00\"");
  }

  /** The library's own JSON says the same, and reads ours back to an equal message. */
  @Property(tries = 150)
  void agreesWithTheProtobufLibrary(@ForAll long seed) throws Exception {
    Note note = random(new Random(seed), 3);

    String ours = write(note);

    Any any = Any.pack(note);
    String theirs = JsonFormat.printer()
        .preservingProtoFieldNames()
        .usingTypeRegistry(TYPES)
        .print(any);
    assertThat(normal(ours)).isEqualTo(normal(theirs));
    Any.Builder back = Any.newBuilder();
    JsonFormat.parser().usingTypeRegistry(TYPES).merge(ours, back);
    assertThat(back.build().unpack(Note.class)).isEqualTo(note);
    assertThat(ProtoJson.readAny(ours.getBytes(StandardCharsets.UTF_8), Note.getDefaultInstance()))
        .isEqualTo(note);
  }

  /** Numbers by value: 1e+21 is 1.0E21. */
  private static Object normal(String json) {
    return normal(JSON.readTree(json));
  }

  private static Object normal(JsonNode node) {
    if (node.isObject()) {
      Map<String, Object> map = new TreeMap<>();
      node.properties().forEach(entry -> map.put(entry.getKey(), normal(entry.getValue())));
      return map;
    }
    if (node.isArray()) {
      return node.values().stream().map(ProtoJsonTest::normal).toList();
    }
    return node.isNumber() ? (Object) node.doubleValue() : node;
  }

  static Note random(Random random, int depth) {
    Note.Builder note = Note.newBuilder();
    if (random.nextBoolean()) {
      note.setNoteId(text(random)).setTitle(text(random));
    }
    if (random.nextBoolean()) {
      note.setWordCount(random.nextLong()).setBig(random.nextLong()).setSmall(random.nextInt());
    }
    if (random.nextBoolean()) {
      note.setWeight(Double.longBitsToDouble(random.nextLong()));
      note.setRatio(Float.intBitsToFloat(random.nextInt()));
      if (Double.isNaN(note.getWeight())) {
        note.setWeight(Double.NaN);
      }
      if (Float.isNaN(note.getRatio())) {
        note.setRatio(Float.NaN);
      }
    }
    for (int i = random.nextInt(4); i > 0; i--) {
      note.addTags(text(random));
      note.putMarks(text(random), random.nextLong());
      note.putEditors(
          random.nextInt(), Author.newBuilder().setName(text(random)).build());
      note.putNumbers(random.nextLong(), text(random));
      note.addPaletteValue(random.nextInt(3));
    }
    if (random.nextBoolean()) {
      note.setColour(Colour.COLOUR_RED).setPinned(true).putFlags(true, Colour.COLOUR_RED);
      note.putFlags(false, Colour.COLOUR_UNSPECIFIED);
    }
    if (random.nextBoolean()) {
      byte[] blob = new byte[random.nextInt(20)];
      random.nextBytes(blob);
      note.setBlob(ByteString.copyFrom(blob)).setRank(random.nextInt(2));
    }
    if (random.nextBoolean()) {
      long seconds = (long) (random.nextDouble() * 250_000_000_000L);
      note.setCreatedAt(Timestamp.newBuilder().setSeconds(seconds).setNanos(nanos(random)));
      note.setTook(Duration.newBuilder().setSeconds(seconds).setNanos(nanos(random)));
      note.setMask(FieldMask.newBuilder().addPaths("note_id").addPaths("author.name"));
    }
    if (random.nextBoolean()) {
      note.setDetails(Struct.newBuilder()
          .putFields("a", Value.newBuilder().setStringValue(text(random)).build())
          .putFields(
              "b", Value.newBuilder().setNumberValue(random.nextGaussian()).build())
          .putFields("c", Value.newBuilder().setNullValue(NullValue.NULL_VALUE).build())
          .putFields(
              "d",
              Value.newBuilder()
                  .setListValue(
                      ListValue.newBuilder().addValues(Value.newBuilder().setBoolValue(true)))
                  .build()));
      note.setNickname(StringValue.of(text(random))).setTotal(Int64Value.of(random.nextLong()));
    }
    switch (random.nextInt(4)) {
      case 0 ->
        note.setAttachment(Any.pack(Author.newBuilder().setName(text(random)).build()));
      case 1 -> note.setAttachment(Any.pack(StringValue.of(text(random))));
      case 2 -> note.setCity(text(random));
      default -> note.setZone(random.nextInt());
    }
    if (depth > 0 && random.nextBoolean()) {
      note.addChildren(random(random, depth - 1));
    }
    return note.build();
  }

  private static int nanos(Random random) {
    return switch (random.nextInt(4)) {
      case 0 -> 0;
      case 1 -> random.nextInt(1000) * 1_000_000;
      case 2 -> random.nextInt(1_000_000) * 1000;
      default -> random.nextInt(1_000_000_000);
    };
  }

  private static String text(Random random) {
    StringBuilder text = new StringBuilder();
    for (int i = random.nextInt(8); i > 0; i--) {
      int codePoint = switch (random.nextInt(4)) {
        case 0 -> random.nextInt(128);
        case 1 -> "\"\\<>&='/\u2028\u2029\u007f".charAt(random.nextInt(11));
        case 2 -> random.nextInt(0xD800);
        default -> 0x10000 + random.nextInt(0x10000);
      };
      text.appendCodePoint(codePoint);
    }
    return text.toString();
  }

  private static String write(Message message) {
    JsonWriter out = new JsonWriter();
    ProtoJson.writeAny(out, message);
    return new String(out.toBytes(), StandardCharsets.UTF_8);
  }
}
