package dev.evalops.runtime.changejournal;

import com.google.protobuf.Message;
import dev.evalops.runtime.changejournal.proto.ChangeProtos;
import dev.evalops.runtime.changejournal.proto.TypedMessage;
import java.util.HexFormat;
import java.util.Map;
import java.util.OptionalLong;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.json.JsonFactory;
import tools.jackson.core.json.JsonReadFeature;
import tools.jackson.core.json.JsonWriteFeature;
import tools.jackson.databind.json.JsonMapper;

/** The JSON of a payload and the version that it has. */
record Payload(String json, OptionalLong version) {
  /** For what is in the tables: a row that a parser refuses would be the last that a reader sees. */
  static final JsonFactory UNLIMITED = JsonFactory.builder()
      .streamReadConstraints(StreamReadConstraints.builder()
          .maxNumberLength(Integer.MAX_VALUE)
          .maxStringLength(Integer.MAX_VALUE)
          .maxNameLength(Integer.MAX_VALUE)
          .maxNestingDepth(Integer.MAX_VALUE)
          .build())
      .build();

  // Without quotes what is not a number is found below; with them it would be stored as a text.
  private static final JsonMapper MAPPER = JsonMapper.builder(UNLIMITED)
      .disable(JsonWriteFeature.WRITE_NAN_AS_STRINGS)
      .build();
  // Asked first, so that the class is not looked for where it is not.
  private static final boolean PROTOBUF = isPresent("com.google.protobuf.Message");

  static Payload of(@Nullable Object payload) {
    if (PROTOBUF && (payload instanceof Message || payload instanceof TypedMessage)) {
      if (!isPresent("com.google.protobuf.util.JsonFormat")) {
        throw new IllegalStateException(
            "marshal_change_payload: a protobuf payload needs protobuf-java-util on the class path");
      }
      return payload instanceof TypedMessage typed
          ? ofProto(typed.message(), ChangeProtos.payloadJson(typed.message(), typed.types()))
          : ofProto((Message) payload, ChangeProtos.payloadJson((Message) payload));
    }
    try {
      String json = text("marshal_change_payload", payload);
      return new Payload(json, version(json));
    } catch (JacksonException | NumberFormatException e) {
      throw new IllegalArgumentException("marshal_change_payload: " + e.getMessage(), e);
    }
  }

  static String metadata(Map<String, ?> metadata) {
    if (metadata.isEmpty()) {
      return "null";
    }
    try {
      return text("marshal_audit_metadata", metadata);
    } catch (JacksonException | NumberFormatException e) {
      throw new IllegalArgumentException("marshal_audit_metadata: " + e.getMessage(), e);
    }
  }

  private static Payload ofProto(Message message, String json) {
    requireStorable("marshal_change_payload", json);
    return new Payload(json, ChangeProtos.payloadVersion(message));
  }

  /** The JSON of a value. Not by way of bytes, where half a surrogate pair may become something else. */
  private static String text(String failure, @Nullable Object value) {
    String text = MAPPER.writeValueAsString(value);
    requireStorable(failure, text);
    if (text.contains("NaN") || text.contains("Infinity")) {
      requireNumbers(failure, text);
    }
    return text;
  }

  private static void requireStorable(String failure, String json) {
    if (!Text.isStorable(json) || !escapesAreStorable(json)) {
      throw new IllegalArgumentException(
          failure + ": a text or key must not contain NUL or half a surrogate pair");
    }
  }

  /** Whether no escape is NUL or half a surrogate pair: Postgres refuses them in binary JSON. */
  private static boolean escapesAreStorable(String json) {
    boolean afterHigh = false;
    int from = 0;
    for (int at = json.indexOf('\\'); at >= 0; at = json.indexOf('\\', from)) {
      boolean unicode = json.startsWith("u", at + 1) && at + 6 <= json.length();
      int c = unicode ? HexFormat.fromHexDigits(json, at + 2, at + 6) : ' ';
      if (c == 0 || afterHigh != Character.isLowSurrogate((char) c) || (afterHigh && at != from)) {
        return false;
      }
      afterHigh = Character.isHighSurrogate((char) c);
      from = at + (unicode ? 6 : 2);
    }
    return !afterHigh;
  }

  private static void requireNumbers(String failure, String json) {
    try (JsonParser parser =
        MAPPER.reader().with(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS).createParser(json)) {
      for (JsonToken token = parser.nextToken(); token != null; token = parser.nextToken()) {
        if (token == JsonToken.VALUE_NUMBER_FLOAT && parser.isNaN()) {
          throw new IllegalArgumentException(failure + ": JSON has no " + parser.getString()
              + ", as at \"" + parser.streamReadContext().pathAsPointer() + "\"");
        }
      }
    }
  }

  private static OptionalLong version(String json) {
    try (JsonParser parser = MAPPER.createParser(json)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        return OptionalLong.empty();
      }
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        boolean named = parser.currentName().equals("version");
        JsonToken value = parser.nextToken();
        if (named) {
          return value == JsonToken.VALUE_NUMBER_INT
              ? OptionalLong.of(parser.getLongValue())
              : OptionalLong.empty();
        }
        parser.skipChildren();
      }
      return OptionalLong.empty();
    }
  }

  private static boolean isPresent(String className) {
    try {
      Class.forName(className, false, Payload.class.getClassLoader());
      return true;
    } catch (ClassNotFoundException e) {
      return false;
    }
  }
}
