package dev.evalops.runtime.events;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.EnumValueDescriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.DurationProto;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.EmptyProto;
import com.google.protobuf.FieldMaskProto;
import com.google.protobuf.GeneratedMessage;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.MapEntry;
import com.google.protobuf.Message;
import com.google.protobuf.NullValue;
import com.google.protobuf.StructProto;
import com.google.protobuf.TimestampProto;
import com.google.protobuf.WrappersProto;
import com.google.protobuf.util.JsonFormat;
import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.json.JsonFactory;

/**
 * The proto JSON of {@code google.protobuf.Any}. Reading is the protobuf library's; writing is our own, because the
 * library's JSON has other escapes, numbers and field order than Go's, and takes several times as long.
 */
final class ProtoJson {
  private static final JsonFactory JSON = JsonFactory.builder().build();
  static final String TYPE_PREFIX = "type.googleapis.com/";
  static final int MAX_DEPTH =
      100; // of the protobuf library's parser, so that what is written can be read

  private static final long MAX_DURATION_SECONDS = 315_576_000_000L;

  private static final Map<String, Descriptor> WELL_KNOWN = wellKnownTypes();

  private final JsonWriter out;
  private final Descriptor root;
  private int depth;

  private ProtoJson(JsonWriter out, Descriptor root) {
    this.out = out;
    this.root = root;
  }

  /**
   * Writes a message as an Any that holds it; a message that is an Any is written as what it holds.
   *
   * @throws IllegalArgumentException if it cannot be written: an Any of an unknown type, a time out of range, too deep
   */
  static void writeAny(JsonWriter out, Message message) {
    ProtoJson json = new ProtoJson(out, message.getDescriptorForType());
    if (isAny(message)) {
      json.message(message);
    } else {
      json.any(TYPE_PREFIX + message.getDescriptorForType().getFullName(), message);
    }
  }

  /**
   * Reads the proto JSON of an Any that holds a message of a known type. Unknown fields are passed over, so that a
   * newer publisher may add some.
   *
   * @throws IllegalArgumentException if it is not that
   */
  @SuppressWarnings("unchecked") // a builder builds its own kind
  static <M extends Message> M readAny(byte[] json, M prototype) {
    JsonFormat.TypeRegistry known = JsonFormat.TypeRegistry.newBuilder()
        .add(WELL_KNOWN.values())
        .add(prototype.getDescriptorForType())
        .build();
    Any.Builder merged = Any.newBuilder();
    try {
      JsonFormat.parser()
          .usingTypeRegistry(known)
          .ignoringUnknownFields()
          .merge(withTypeUrl(new String(json, StandardCharsets.UTF_8)), merged);
      Any any = merged.build();
      if (!any.isSameTypeAs(prototype)) { // the parser takes the last of two
        throw new InvalidProtocolBufferException("it has more than one @type");
      }
      return (M) prototype.newBuilderForType().mergeFrom(any.getValue()).build();
    } catch (InvalidProtocolBufferException invalid) {
      throw new IllegalArgumentException("payload: " + oneLine(invalid.getMessage()), invalid);
    } catch (RuntimeException | StackOverflowError invalid) {
      throw new IllegalArgumentException("payload: it is not proto JSON", invalid);
    }
  }

  /** The parser wants a URL where others write the name alone. */
  private static String withTypeUrl(String json) {
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), json)) {
      parser.nextToken();
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        boolean isType = parser.currentName().equals("@type");
        if (parser.nextToken() == JsonToken.VALUE_STRING && isType) {
          if (parser.getString().indexOf('/') >= 0) {
            return json;
          }
          int at = Math.toIntExact(parser.currentTokenLocation().getCharOffset()) + 1;
          return json.substring(0, at) + TYPE_PREFIX + json.substring(at);
        }
        parser.skipChildren();
      }
      return json;
    }
  }

  static String oneLine(@Nullable String text) {
    return text == null ? "" : text.replaceAll("\\s+", " ");
  }

  private void any(String typeUrl, Message content) {
    Shape shape = Shape.of(content);
    out.raw("{\"@type\":").string(typeUrl);
    if (shape.wellKnown) {
      out.raw(",\"value\":");
      message(content);
    } else {
      enter();
      fields(content, shape, true);
      depth--;
    }
    out.raw('}');
  }

  private void message(Message message) {
    Shape shape = Shape.of(message);
    enter();
    if (shape.wellKnown) {
      wellKnown(message);
    } else {
      object(message, shape);
    }
    depth--;
  }

  private void object(Message message, Shape shape) {
    out.raw('{');
    fields(message, shape, false);
    out.raw('}');
  }

  private void wellKnown(Message message) {
    switch (message.getDescriptorForType().getFullName()) {
      case "google.protobuf.Any" -> unpackedAny(message);
      case "google.protobuf.Timestamp" -> timestamp(message);
      case "google.protobuf.Duration" -> duration(message);
      case "google.protobuf.FieldMask" -> fieldMask(message);
      case "google.protobuf.Struct" -> value(field(message, 1), message);
      case "google.protobuf.ListValue" -> value(field(message, 1), message);
      case "google.protobuf.Value" -> structValue(message);
      case "google.protobuf.DoubleValue",
          "google.protobuf.FloatValue",
          "google.protobuf.Int64Value",
          "google.protobuf.UInt64Value",
          "google.protobuf.Int32Value",
          "google.protobuf.UInt32Value",
          "google.protobuf.BoolValue",
          "google.protobuf.StringValue",
          "google.protobuf.BytesValue" -> value(field(message, 1), message);
      default -> object(message, Shape.of(message));
    }
  }

  private void enter() {
    if (++depth > MAX_DEPTH) {
      throw new IllegalArgumentException(
          "payload: messages are nested more than " + MAX_DEPTH + " deep");
    }
  }

  private void fields(Message message, Shape shape, boolean comma) {
    boolean separate = comma;
    for (int i = 0; i < shape.fields.length; i++) {
      FieldDescriptor field = shape.fields[i];
      if (isSet(message, field)) {
        if (separate) {
          out.raw(',');
        }
        separate = true;
        out.raw(shape.names[i]);
        value(field, message);
      }
    }
    if (shape.extendable) {
      for (FieldDescriptor field : message.getAllFields().keySet()) {
        if (field.isExtension()) {
          if (separate) {
            out.raw(',');
          }
          separate = true;
          out.string("[" + field.getFullName() + "]").raw(':');
          value(field, message);
        }
      }
    }
  }

  /** What is the same for all messages of a type. */
  private static final class Shape {
    /** Of generated types alone, which are as many as there are classes. */
    private static final ConcurrentHashMap<Descriptor, Shape> KNOWN = new ConcurrentHashMap<>();

    final FieldDescriptor[] fields;
    final byte[][] names;
    final boolean extendable;
    final boolean wellKnown;

    private Shape(Descriptor type) {
      fields = type.getFields().toArray(FieldDescriptor[]::new);
      names = new byte[fields.length][];
      for (int i = 0; i < fields.length; i++) {
        names[i] = new JsonWriter().string(fields[i].getName()).raw(':').toBytes();
      }
      extendable = type.isExtendable();
      wellKnown = WELL_KNOWN.containsKey(type.getFullName());
    }

    static Shape of(Message message) {
      Descriptor type = message.getDescriptorForType();
      if (!(message instanceof GeneratedMessage)) {
        return new Shape(type);
      }
      Shape known = KNOWN.get(type);
      return known != null ? known : KNOWN.computeIfAbsent(type, Shape::new);
    }
  }

  private static boolean isSet(Message message, FieldDescriptor field) {
    return field.isRepeated() ? message.getRepeatedFieldCount(field) > 0 : message.hasField(field);
  }

  private void value(FieldDescriptor field, Message message) {
    if (field.isMapField()) {
      map(field, message);
    } else if (field.isRepeated()) {
      out.raw('[');
      int count = message.getRepeatedFieldCount(field);
      for (int i = 0; i < count; i++) {
        if (i > 0) {
          out.raw(',');
        }
        single(field, message.getRepeatedField(field, i));
      }
      out.raw(']');
    } else {
      single(field, message.getField(field));
    }
  }

  private void map(FieldDescriptor field, Message message) {
    FieldDescriptor keyField = field.getMessageType().findFieldByNumber(1);
    FieldDescriptor valueField = field.getMessageType().findFieldByNumber(2);
    int count = message.getRepeatedFieldCount(field);
    List<Map.Entry<Object, Object>> entries = new ArrayList<>(count);
    for (int i = 0; i < count; i++) {
      Object entry = message.getRepeatedField(field, i);
      if (entry instanceof MapEntry<?, ?> fast) {
        // Its value may be the number of an enum; getField gives the descriptor.
        entries.add(Map.entry(fast.getKey(), fast.getField(valueField)));
      } else {
        Message slow = (Message) entry;
        entries.add(Map.entry(slow.getField(keyField), slow.getField(valueField)));
      }
    }
    entries.sort(Map.Entry.comparingByKey(keyOrder(keyField)));
    out.raw('{');
    boolean separate = false;
    for (Map.Entry<Object, Object> entry : entries) {
      if (separate) {
        out.raw(',');
      }
      separate = true;
      out.string(keyText(keyField, entry.getKey())).raw(':');
      single(valueField, entry.getValue());
    }
    out.raw('}');
  }

  private static Comparator<Object> keyOrder(FieldDescriptor key) {
    return switch (key.getType()) {
      case UINT32, FIXED32 -> (a, b) -> Integer.compareUnsigned((Integer) a, (Integer) b);
      case UINT64, FIXED64 -> (a, b) -> Long.compareUnsigned((Long) a, (Long) b);
      case INT32, SINT32, SFIXED32 -> (a, b) -> Integer.compare((Integer) a, (Integer) b);
      case INT64, SINT64, SFIXED64 -> (a, b) -> Long.compare((Long) a, (Long) b);
      case STRING -> (a, b) -> compareUtf8((String) a, (String) b);
      default -> Comparator.comparing(Object::toString);
    };
  }

  /** In the order of their bytes; that of UTF-16 has surrogates before the end of what is no pair. */
  private static int compareUtf8(String a, String b) {
    int length = Math.min(a.length(), b.length());
    for (int i = 0; i < length; i++) {
      char one = a.charAt(i);
      char other = b.charAt(i);
      if (one != other) {
        boolean pairs = Character.isSurrogate(one);
        return pairs == Character.isSurrogate(other)
            ? Character.compare(one, other)
            : pairs ? 1 : -1;
      }
    }
    return Integer.compare(a.length(), b.length());
  }

  private static String keyText(FieldDescriptor field, Object key) {
    return switch (field.getType()) {
      case UINT32, FIXED32 -> Integer.toUnsignedString((Integer) key);
      case UINT64, FIXED64 -> Long.toUnsignedString((Long) key);
      default -> key.toString();
    };
  }

  private void single(FieldDescriptor field, Object value) {
    switch (field.getType()) {
      case INT32, SINT32, SFIXED32 -> out.raw(Integer.toString((Integer) value));
      case UINT32, FIXED32 -> out.raw(Integer.toUnsignedString((Integer) value));
      case INT64, SINT64, SFIXED64 ->
        out.raw('"').raw(Long.toString((Long) value)).raw('"');
      case UINT64, FIXED64 ->
        out.raw('"').raw(Long.toUnsignedString((Long) value)).raw('"');
      case FLOAT -> {
        float number = (Float) value;
        String shortest = Float.toString(number);
        if (isTiny(number, Float.MIN_VALUE) && Float.parseFloat(oneDigit(number)) == number) {
          shortest = oneDigit(number);
        }
        number(Double.parseDouble(shortest), shortest); // the float 1e-6 is a little less than that
      }
      case DOUBLE -> {
        double number = (Double) value;
        String shortest = Double.toString(number);
        if (isTiny(number, Double.MIN_VALUE) && Double.parseDouble(oneDigit(number)) == number) {
          shortest = oneDigit(number);
        }
        number(number, shortest);
      }
      case BOOL -> out.raw(value.toString());
      case STRING -> out.string((String) value);
      case BYTES ->
        out.raw('"')
            .raw(Base64.getEncoder().encode(((ByteString) value).toByteArray()))
            .raw('"');
      case ENUM -> enumeration((EnumValueDescriptor) value);
      case MESSAGE, GROUP -> message((Message) value);
    }
  }

  private void enumeration(EnumValueDescriptor value) {
    if (value.getType().getFullName().equals(NullValue.getDescriptor().getFullName())) {
      out.raw("null");
    } else if (value.getIndex() < 0) { // a number without a name
      out.raw(Integer.toString(value.getNumber()));
    } else {
      out.string(value.getName());
    }
  }

  /** Java writes two digits at least, which is one too many for some of the smallest numbers. */
  private static boolean isTiny(double number, double smallest) {
    return number != 0 && Math.abs(number) < 100 * smallest;
  }

  private static String oneDigit(double number) {
    return new BigDecimal(number).round(new MathContext(1)).toString();
  }

  private void number(double value, String shortest) {
    if (Double.isNaN(value)) {
      out.raw("\"NaN\"");
    } else if (Double.isInfinite(value)) {
      out.raw(value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    } else if (value == 0) {
      out.raw(1 / value < 0 ? "-0" : "0");
    } else {
      out.raw(goNumber(value, new BigDecimal(shortest).stripTrailingZeros()));
    }
  }

  private static String goNumber(double value, BigDecimal digits) {
    double size = Math.abs(value);
    if (size >= 1e-6 && size < 1e21) {
      return digits.toPlainString();
    }
    String unscaled = digits.unscaledValue().abs().toString();
    int exponent = unscaled.length() - 1 - digits.scale();
    String mantissa =
        unscaled.length() == 1 ? unscaled : unscaled.charAt(0) + "." + unscaled.substring(1);
    return (value < 0 ? "-" : "") + mantissa + (exponent < 0 ? "e" : "e+") + exponent;
  }

  private void unpackedAny(Message any) {
    String typeUrl = (String) any.getField(field(any, 1));
    ByteString content = (ByteString) any.getField(field(any, 2));
    if (typeUrl.isEmpty() && content.isEmpty()) {
      out.raw("{}");
      return;
    }
    String name = typeUrl.substring(typeUrl.lastIndexOf('/') + 1);
    Descriptor type = find(name);
    try {
      any(typeUrl, DynamicMessage.parseFrom(type, content));
    } catch (InvalidProtocolBufferException invalid) {
      throw new IllegalArgumentException(
          "payload: the google.protobuf.Any does not hold a " + name, invalid);
    }
  }

  private Descriptor find(String name) {
    Descriptor known = WELL_KNOWN.get(name);
    if (known == null) {
      known = find(name, root.getFile(), new HashSet<>());
    }
    if (known == null) {
      throw new IllegalArgumentException("payload: it holds a google.protobuf.Any of type \"" + name
          + "\", which only JSON has to know and does not: give the message itself, or use a"
          + " proto form");
    }
    return known;
  }

  private static @Nullable Descriptor find(
      String name, FileDescriptor file, Set<FileDescriptor> seen) {
    if (!seen.add(file)) {
      return null;
    }
    String packageName = file.getPackage();
    String prefix = packageName.isEmpty() ? "" : packageName + ".";
    if (name.startsWith(prefix)) {
      Descriptor found = null;
      for (String part : name.substring(prefix.length()).split("\\.", -1)) {
        found = found == null ? file.findMessageTypeByName(part) : found.findNestedTypeByName(part);
        if (found == null) {
          break;
        }
      }
      if (found != null) {
        return found;
      }
    }
    for (FileDescriptor dependency : file.getDependencies()) {
      Descriptor found = find(name, dependency, seen);
      if (found != null) {
        return found;
      }
    }
    return null;
  }

  private void timestamp(Message message) {
    long seconds = (Long) message.getField(field(message, 1));
    int nanos = (Integer) message.getField(field(message, 2));
    if (seconds < EventTime.MIN.getEpochSecond()
        || seconds > EventTime.MAX.getEpochSecond()
        || nanos < 0
        || nanos > 999_999_999) {
      throw new IllegalArgumentException(
          "payload: a google.protobuf.Timestamp is out of the years 0001 to 9999");
    }
    String text = EventTime.seconds(Instant.ofEpochSecond(seconds));
    out.raw('"').raw(text.substring(0, text.length() - 1)).raw(fraction(nanos)).raw("Z\"");
  }

  private void duration(Message message) {
    long seconds = (Long) message.getField(field(message, 1));
    int nanos = (Integer) message.getField(field(message, 2));
    if (seconds < -MAX_DURATION_SECONDS
        || seconds > MAX_DURATION_SECONDS
        || nanos < -999_999_999
        || nanos > 999_999_999
        || (seconds > 0 && nanos < 0)
        || (seconds < 0 && nanos > 0)) {
      throw new IllegalArgumentException("payload: a google.protobuf.Duration is out of range");
    }
    out.raw('"')
        .raw(seconds < 0 || nanos < 0 ? "-" : "")
        .raw(Long.toString(Math.abs(seconds)))
        .raw(fraction(Math.abs(nanos)))
        .raw("s\"");
  }

  /** 0, 3, 6 or 9 digits. */
  private static String fraction(int nanos) {
    if (nanos == 0) {
      return "";
    }
    String digits = Integer.toString(1_000_000_000 + nanos).substring(1);
    if (nanos % 1_000_000 == 0) {
      digits = digits.substring(0, 3);
    } else if (nanos % 1000 == 0) {
      digits = digits.substring(0, 6);
    }
    return "." + digits;
  }

  private void fieldMask(Message message) {
    FieldDescriptor paths = field(message, 1);
    StringBuilder joined = new StringBuilder();
    for (int i = 0; i < message.getRepeatedFieldCount(paths); i++) {
      if (i > 0) {
        joined.append(',');
      }
      String path = (String) message.getRepeatedField(paths, i);
      for (int k = 0; k < path.length(); k++) {
        char c = path.charAt(k);
        boolean letterFollows =
            k + 1 < path.length() && path.charAt(k + 1) >= 'a' && path.charAt(k + 1) <= 'z';
        if (c == '_' && letterFollows) {
          joined.append((char) (path.charAt(++k) - 'a' + 'A'));
        } else if (c == '_' || (c >= 'A' && c <= 'Z')) {
          throw new IllegalArgumentException(
              "payload: a path of a google.protobuf.FieldMask has no JSON form");
        } else {
          joined.append(c);
        }
      }
    }
    out.string(joined.toString());
  }

  private void structValue(Message message) {
    for (FieldDescriptor field : message.getDescriptorForType().getFields()) {
      if (message.hasField(field)) {
        if (field.getType() == FieldDescriptor.Type.DOUBLE
            && !Double.isFinite((Double) message.getField(field))) {
          throw new IllegalArgumentException(
              "payload: a google.protobuf.Value holds a number that JSON has not");
        }
        value(field, message);
        return;
      }
    }
    throw new IllegalArgumentException("payload: a google.protobuf.Value holds nothing");
  }

  private static FieldDescriptor field(Message message, int number) {
    return message.getDescriptorForType().findFieldByNumber(number);
  }

  private static boolean isAny(Message message) {
    return message
        .getDescriptorForType()
        .getFullName()
        .equals(Any.getDescriptor().getFullName());
  }

  /** Those whose JSON is no object of their fields, so that an Any cannot put its type among them. */
  private static Map<String, Descriptor> wellKnownTypes() {
    Map<String, Descriptor> types = new HashMap<>();
    types.put(Any.getDescriptor().getFullName(), Any.getDescriptor());
    for (FileDescriptor file : List.of(
        TimestampProto.getDescriptor(),
        DurationProto.getDescriptor(),
        FieldMaskProto.getDescriptor(),
        StructProto.getDescriptor(),
        WrappersProto.getDescriptor(),
        EmptyProto.getDescriptor())) {
      file.getMessageTypes().forEach(type -> types.put(type.getFullName(), type));
    }
    return Map.copyOf(types);
  }
}
