package dev.evalops.runtime.changejournal;

import com.google.protobuf.Message;
import dev.evalops.runtime.changejournal.proto.ChangeProtos;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.OptionalLong;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.json.JsonReadFeature;
import tools.jackson.core.json.JsonWriteFeature;
import tools.jackson.databind.json.JsonMapper;

/** The JSON of a payload and the version that it has. */
record Payload(String json, OptionalLong version) {
  // Without quotes what is not a number is found below; with them it would be stored as a text.
  private static final JsonMapper MAPPER =
      JsonMapper.builder().disable(JsonWriteFeature.WRITE_NAN_AS_STRINGS).build();
  // Asked first, so that the class is not looked for where it is not.
  private static final boolean PROTOBUF = isPresent("com.google.protobuf.Message");

  static Payload of(@Nullable Object payload) {
    if (PROTOBUF && payload instanceof Message message) {
      if (!isPresent("com.google.protobuf.util.JsonFormat")) {
        throw new IllegalStateException(
            "marshal_change_payload: a protobuf payload needs protobuf-java-util on the class path");
      }
      return new Payload(ChangeProtos.payloadJson(message), ChangeProtos.payloadVersion(message));
    }
    try {
      byte[] json = MAPPER.writeValueAsBytes(payload);
      return new Payload(text("marshal_change_payload", json), version(json));
    } catch (JacksonException e) {
      throw new IllegalArgumentException("marshal_change_payload: " + e.getMessage(), e);
    }
  }

  static String metadata(Map<String, ?> metadata) {
    if (metadata.isEmpty()) {
      return "null";
    }
    try {
      return text("marshal_audit_metadata", MAPPER.writeValueAsBytes(metadata));
    } catch (JacksonException e) {
      throw new IllegalArgumentException("marshal_audit_metadata: " + e.getMessage(), e);
    }
  }

  private static String text(String failure, byte[] json) {
    String text = new String(json, StandardCharsets.UTF_8);
    if (text.contains("NaN") || text.contains("Infinity")) {
      requireNumbers(failure, json);
    }
    return text;
  }

  private static void requireNumbers(String failure, byte[] json) {
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

  private static OptionalLong version(byte[] json) {
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
