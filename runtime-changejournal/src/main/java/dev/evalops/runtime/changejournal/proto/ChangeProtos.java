package dev.evalops.runtime.changejournal.proto;

import com.google.protobuf.Any;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.ListValue;
import com.google.protobuf.Message;
import com.google.protobuf.NullValue;
import com.google.protobuf.Struct;
import com.google.protobuf.Timestamp;
import com.google.protobuf.TypeRegistry;
import com.google.protobuf.Value;
import com.google.protobuf.util.JsonFormat;
import com.google.protobuf.util.Timestamps;
import dev.evalops.runtime.changejournal.Change;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/**
 * A {@link Change} as the protobuf message {@code events.v1.Change} and back, and messages as payloads of the journal.
 *
 * <p>The payload travels as a {@code Struct}, whose numbers are doubles. A number that a double cannot hold, such as an
 * integer beyond 2<sup>53</sup>, is an error here and not another number there.
 *
 * <p>Thread-safe.
 */
public final class ChangeProtos {
  private static final JsonNodeFactory JSON = JsonNodeFactory.instance;

  private ChangeProtos() {}

  /**
   * Turns a change into its message.
   *
   * @param change the change; a payload of JSON {@code null} leaves the message's unset
   * @return the message
   * @throws IllegalArgumentException {@code change_payload_not_object} if the payload is something else than an object;
   *     {@code unmarshal_change_payload: ...} if it has a number that a double cannot hold; {@code recorded_at: ...} if
   *     the time is not within the years 1 to 9999
   */
  public static EventsV1.Change toProto(Change change) {
    var message = EventsV1.Change.newBuilder()
        .setSeq(change.sequence())
        .setOrganizationId(change.organizationId())
        .setAggregateType(change.aggregateType())
        .setAggregateId(change.aggregateId().orElse(""))
        .setOperation(change.operation())
        .setActorType(change.actorType())
        .setActorId(change.actorId().orElse(""))
        .setAggregateVersion(change.version())
        .setRecordedAt(timestamp(change.recordedAt()));
    if (change.payload() instanceof ObjectNode object) {
      message.setPayload(struct(object, "$"));
    } else if (!change.payload().isNull()) {
      throw new IllegalArgumentException("change_payload_not_object");
    }
    return message.build();
  }

  /**
   * Turns a message into its change.
   *
   * @param message the message; empty ids are absent ones
   * @return the change; its payload is JSON {@code null} if the message has none, and whole numbers in it are integers
   * @throws IllegalArgumentException {@code recorded_at: ...} if the time is missing or not within the years 1 to 9999;
   *     {@code encode_change_payload: ...} if the payload has a number that JSON cannot say, or a value without a kind
   */
  public static Change fromProto(EventsV1.Change message) {
    if (!message.hasRecordedAt()) {
      throw new IllegalArgumentException("recorded_at: missing");
    }
    Timestamp at = valid(message.getRecordedAt());
    return new Change(
        message.getSeq(),
        message.getOrganizationId(),
        message.getAggregateType(),
        id(message.getAggregateId()),
        message.getOperation(),
        message.getActorType(),
        id(message.getActorId()),
        message.getAggregateVersion(),
        Instant.ofEpochSecond(at.getSeconds(), at.getNanos()),
        message.hasPayload() ? object(message.getPayload(), "$") : JSON.nullNode());
  }

  /**
   * Returns the JSON of a message as the journal stores it: that of a {@code google.protobuf.Any} of it, with the names
   * of the {@code .proto} file, {@code @type} first. The white space in it means nothing.
   *
   * @param message the message
   * @return the JSON
   * @throws IllegalArgumentException {@code marshal_change_payload: ...} if it holds an {@code Any} of a type that its
   *     own file does not import (see {@link #payloadJson(Message, TypeRegistry)}), a value that has no JSON, such as a
   *     time beyond the year 9999, or half a surrogate pair
   */
  public static String payloadJson(Message message) {
    return payloadJson(
        message, TypeRegistry.newBuilder().add(message.getDescriptorForType()).build());
  }

  /**
   * Returns the JSON of a message as {@link #payloadJson(Message)} does, with the types of what its {@code Any} fields
   * hold. The payload of a change is then a {@link TypedMessage}.
   *
   * @param message the message
   * @param types its own type, and those of the messages in its {@code Any} fields
   * @return the JSON
   * @throws IllegalArgumentException {@code marshal_change_payload: ...} if a type is missing, if it holds a value that
   *     has no JSON, or half a surrogate pair
   */
  public static String payloadJson(Message message, TypeRegistry types) {
    requireWholeCharacters(message);
    try {
      return JsonFormat.printer()
          .usingTypeRegistry(types)
          .preservingProtoFieldNames()
          .omittingInsignificantWhitespace()
          .print(Any.pack(message));
    } catch (InvalidProtocolBufferException | IllegalArgumentException e) {
      String hint = String.valueOf(e.getMessage()).startsWith("Cannot find type for url")
          ? "; give the types of Any fields with a TypedMessage"
          : "";
      throw new IllegalArgumentException("marshal_change_payload: " + e.getMessage() + hint, e);
    }
  }

  /** Half a surrogate pair would become a question mark on the wire, without a word. */
  private static void requireWholeCharacters(Message message) {
    message.getAllFields().forEach((field, value) -> {
      for (Object each : value instanceof List<?> list ? list : List.of(value)) {
        if (each instanceof Message inner) {
          requireWholeCharacters(inner);
        } else if (each instanceof String text
            && !StandardCharsets.UTF_8.newEncoder().canEncode(text)) {
          throw new IllegalArgumentException("marshal_change_payload: " + field.getFullName()
              + " must not contain half a surrogate pair");
        }
      }
    });
  }

  /**
   * The version of a message: its integer field {@code version}, if that is set.
   *
   * @param message the message
   * @return the version; empty also for a zero in a field that cannot tell zero from absent
   * @throws IllegalArgumentException if the version is an unsigned number beyond the range of a long
   */
  public static OptionalLong payloadVersion(Message message) {
    FieldDescriptor field = message.getDescriptorForType().findFieldByName("version");
    if (field == null || field.isRepeated() || !message.hasField(field)) {
      return OptionalLong.empty();
    }
    return switch (field.getType()) {
      case INT32, SINT32, SFIXED32, INT64, SINT64, SFIXED64 ->
        OptionalLong.of(((Number) message.getField(field)).longValue());
      case UINT32, FIXED32 ->
        OptionalLong.of(Integer.toUnsignedLong((int) message.getField(field)));
      case UINT64, FIXED64 -> {
        long version = (long) message.getField(field);
        if (version < 0) {
          throw new IllegalArgumentException(
              "marshal_change_payload: version is beyond the range of a long");
        }
        yield OptionalLong.of(version);
      }
      default -> OptionalLong.empty();
    };
  }

  private static Optional<String> id(String id) {
    return id.isEmpty() ? Optional.empty() : Optional.of(id);
  }

  private static Timestamp timestamp(Instant at) {
    return valid(Timestamp.newBuilder()
        .setSeconds(at.getEpochSecond())
        .setNanos(at.getNano())
        .build());
  }

  private static Timestamp valid(Timestamp at) {
    if (!Timestamps.isValid(at)) {
      throw new IllegalArgumentException("recorded_at: not within the years 1 to 9999");
    }
    return at;
  }

  private static Struct struct(ObjectNode object, String path) {
    Struct.Builder struct = Struct.newBuilder();
    for (Map.Entry<String, JsonNode> field : object.properties()) {
      struct.putFields(field.getKey(), value(field.getValue(), path + "." + field.getKey()));
    }
    return struct.build();
  }

  private static Value value(JsonNode json, String path) {
    Value.Builder value = Value.newBuilder();
    switch (json.getNodeType()) {
      case NULL -> value.setNullValue(NullValue.NULL_VALUE);
      case BOOLEAN -> value.setBoolValue(json.booleanValue());
      case NUMBER -> value.setNumberValue(number(json, path));
      case STRING -> value.setStringValue(json.stringValue());
      case ARRAY -> {
        ListValue.Builder list = ListValue.newBuilder();
        for (int i = 0; i < json.size(); i++) {
          list.addValues(value(json.get(i), path + "[" + i + "]"));
        }
        value.setListValue(list);
      }
      case OBJECT -> value.setStructValue(struct((ObjectNode) json, path));
      default ->
        throw new IllegalArgumentException(
            "unmarshal_change_payload: " + path + " is no JSON value");
    }
    return value.build();
  }

  private static double number(JsonNode json, String path) {
    double number;
    boolean same;
    if (json.isIntegralNumber()) {
      number = json.bigIntegerValue().doubleValue();
      same = Double.isFinite(number)
          && new BigDecimal(number).compareTo(new BigDecimal(json.bigIntegerValue())) == 0;
    } else if (json.isBigDecimal()) {
      // A fraction is hardly ever a double to the last digit; it is the same if it reads the same.
      number = json.decimalValue().doubleValue();
      same =
          Double.isFinite(number) && BigDecimal.valueOf(number).compareTo(json.decimalValue()) == 0;
    } else {
      number = json.doubleValue();
      same = Double.isFinite(number);
    }
    if (!same) {
      throw new IllegalArgumentException(
          "unmarshal_change_payload: " + path + " is a number that a double cannot hold");
    }
    return number;
  }

  private static ObjectNode object(Struct struct, String path) {
    ObjectNode object = JSON.objectNode();
    struct
        .getFieldsMap()
        .forEach((name, value) -> object.set(name, json(value, path + "." + name)));
    return object;
  }

  private static JsonNode json(Value value, String path) {
    return switch (value.getKindCase()) {
      case NULL_VALUE -> JSON.nullNode();
      case BOOL_VALUE -> JSON.booleanNode(value.getBoolValue());
      case NUMBER_VALUE -> json(value.getNumberValue(), path);
      case STRING_VALUE -> JSON.stringNode(value.getStringValue());
      case STRUCT_VALUE -> object(value.getStructValue(), path);
      case LIST_VALUE -> {
        ArrayNode array = JSON.arrayNode();
        for (int i = 0; i < value.getListValue().getValuesCount(); i++) {
          array.add(json(value.getListValue().getValues(i), path + "[" + i + "]"));
        }
        yield array;
      }
      case KIND_NOT_SET ->
        throw new IllegalArgumentException(
            "encode_change_payload: " + path + " is a value without a kind");
    };
  }

  private static JsonNode json(double number, String path) {
    if (!Double.isFinite(number)) {
      throw new IllegalArgumentException(
          "encode_change_payload: " + path + " is " + number + ", which JSON cannot say");
    }
    if (number != Math.rint(number) || Math.abs(number) >= 0x1p63) {
      return JSON.numberNode(number);
    }
    // The node that Jackson makes when it reads the number.
    long whole = (long) number;
    return whole == (int) whole ? JSON.numberNode((int) whole) : JSON.numberNode(whole);
  }
}
