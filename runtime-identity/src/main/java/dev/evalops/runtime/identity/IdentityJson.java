package dev.evalops.runtime.identity;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonGenerator;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.ObjectWriteContext;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.core.json.JsonFactory;

/**
 * The JSON of the identity service. Nothing of an answer's text gets into an exception, as a token may be in it. A
 * member that is given twice is refused: two readers would not agree on what it says.
 */
final class IdentityJson {
  private static final JsonFactory JSON = JsonFactory.builder()
      .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
      .disable(JsonFactory.Feature.CHARSET_DETECTION) // UTF-8, and no byte-order mark
      .build();
  private static final Set<String> TEXTS = Set.of(
      "subject",
      "token_type",
      "service",
      "organization_id",
      "agent_type",
      "run_id",
      "surface",
      "user_subject",
      "email",
      "name");
  private static final Set<String> LISTS = Set.of("scopes", "capabilities");
  private static final Set<String> TIMES = Set.of("expires_at", "issued_at");
  private static final Pattern UPPER = Pattern.compile("[A-Z]");
  private static final Pattern RFC_3339 = Pattern.compile(
      "(?i)\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d+)?(Z|[+-]\\d{2}:\\d{2})");
  private static final Pattern BEYOND_NANOS = Pattern.compile("([.][0-9]{9})[0-9]+");

  /** A service token as it was issued; empty where the answer has none. */
  record IssuedToken(String token, Optional<Instant> expiresAt) {
    @Override
    public String toString() {
      return "IssuedToken[expiresAt=" + expiresAt + "]";
    }
  }

  private interface Reader<T> {
    T read(JsonParser parser);
  }

  private IdentityJson() {}

  /** Reads {@code identity.v1.IntrospectResponse} as proto JSON. */
  static Introspection introspection(byte[] body) {
    return read(body, parser -> {
      Map<String, Object> values = new HashMap<>();
      while (parser.nextToken() != JsonToken.END_OBJECT) {
        String name = snake(parser.currentName());
        JsonToken token = parser.nextToken();
        Object value = token == JsonToken.VALUE_NULL ? null : value(parser, name);
        parser.skipChildren();
        if (value != null && values.put(name, value) != null) {
          throw malformed(name + " is given twice");
        }
      }
      return new Introspection(
          Boolean.TRUE.equals(values.get("active")),
          Optional.of(text(values, "subject")),
          Optional.of(text(values, "token_type")),
          Optional.of(text(values, "service")),
          Optional.of(text(values, "organization_id")),
          list(values, "scopes"),
          Optional.of(text(values, "agent_type")),
          list(values, "capabilities"),
          Optional.of(text(values, "run_id")),
          Optional.of(text(values, "surface")),
          Optional.of(text(values, "user_subject")),
          Optional.of(text(values, "email")),
          Optional.of(text(values, "name")),
          time(values, "expires_at"),
          time(values, "issued_at"));
    });
  }

  /** Reads {@code {"token", "expires_at", "claims": {"expires_at"}}}; the outer time comes first. */
  static IssuedToken issuedToken(byte[] body) {
    return read(body, parser -> {
      String issued = "";
      Instant expiresAt = null;
      Instant claimed = null;
      while (parser.nextToken() != JsonToken.END_OBJECT) {
        String name = parser.currentName();
        JsonToken token = parser.nextToken();
        if (token == JsonToken.VALUE_NULL) {
          continue;
        }
        switch (name) {
          case "token" -> issued = text(parser, name);
          case "expires_at" -> expiresAt = timeOrNone(parser, name);
          case "claims" -> claimed = expiryOfClaims(parser);
          default -> parser.skipChildren();
        }
      }
      return new IssuedToken(
          Blank.trim(issued), Optional.ofNullable(expiresAt == null ? claimed : expiresAt));
    });
  }

  private static @Nullable Instant expiryOfClaims(JsonParser parser) {
    if (parser.currentToken() != JsonToken.START_OBJECT) {
      throw malformed("claims is not an object");
    }
    Instant expiresAt = null;
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      boolean wanted = parser.currentName().equals("expires_at");
      if (parser.nextToken() != JsonToken.VALUE_NULL && wanted) {
        expiresAt = timeOrNone(parser, "claims.expires_at");
      }
      parser.skipChildren();
    }
    return expiresAt;
  }

  /** Writes the request for a service token; what is empty is left out. */
  static byte[] tokenRequest(
      String service, String organizationId, List<String> scopes, long ttlSeconds) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (JsonGenerator json = JSON.createGenerator(ObjectWriteContext.empty(), out)) {
      json.writeStartObject();
      json.writeStringProperty("service", service);
      if (!organizationId.isEmpty()) {
        json.writeStringProperty("organization_id", organizationId);
      }
      if (!scopes.isEmpty()) {
        json.writeArrayPropertyStart("scopes");
        scopes.forEach(json::writeString);
        json.writeEndArray();
      }
      json.writeNumberProperty("ttl_seconds", ttlSeconds);
      json.writeEndObject();
    }
    return out.toByteArray();
  }

  private static <T> T read(byte[] body, Reader<T> reader) {
    checkUtf8(body);
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), body)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw malformed("not a JSON object");
      }
      T value = reader.read(parser);
      if (parser.nextToken() != null) {
        throw malformed("more than one JSON value");
      }
      checkTexts(body);
      return value;
    } catch (JacksonException e) {
      long at = e.getLocation() == null ? -1 : e.getLocation().getByteOffset();
      throw malformed("not JSON" + (at < 0 ? "" : " at byte " + at));
    }
  }

  /** The parser takes characters that are longer than they must be, such as a {@code c1 a1} for an a. */
  private static void checkUtf8(byte[] body) {
    try {
      UTF_8.newDecoder().decode(ByteBuffer.wrap(body));
    } catch (CharacterCodingException e) {
      throw malformed("not UTF-8");
    }
  }

  /** Half a surrogate pair is no text: what it becomes differs from reader to reader. */
  private static void checkTexts(byte[] body) {
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), body)) {
      for (JsonToken token = parser.nextToken(); token != null; token = parser.nextToken()) {
        if ((token == JsonToken.VALUE_STRING || token == JsonToken.PROPERTY_NAME)
            && !UTF_8.newEncoder().canEncode(parser.getString())) {
          throw malformed("a text has half a surrogate pair");
        }
      }
    }
  }

  private static IdentityException malformed(String problem) {
    return IdentityException.unavailable("decode_response: " + problem, null);
  }

  private static String snake(String name) {
    return UPPER.matcher(name).replaceAll(upper -> "_" + (char) (upper.group().charAt(0) | 0x20));
  }

  private static @Nullable Object value(JsonParser parser, String name) {
    if (name.equals("active")) {
      return switch (parser.currentToken()) {
        case VALUE_TRUE -> true;
        case VALUE_FALSE -> false;
        default -> throw malformed(name + " is not true or false");
      };
    }
    if (TEXTS.contains(name)) {
      return text(parser, name);
    }
    if (LISTS.contains(name)) {
      return list(parser, name);
    }
    return TIMES.contains(name) ? time(parser, name) : null;
  }

  private static String text(JsonParser parser, String name) {
    if (parser.currentToken() != JsonToken.VALUE_STRING) {
      throw malformed(name + " is not a string");
    }
    return parser.getString();
  }

  private static List<String> list(JsonParser parser, String name) {
    if (parser.currentToken() != JsonToken.START_ARRAY) {
      throw malformed(name + " is not an array");
    }
    List<String> texts = new ArrayList<>();
    while (parser.nextToken() != JsonToken.END_ARRAY) {
      texts.add(text(parser, name));
    }
    return texts;
  }

  /** A time of the epoch or before is what Go writes for none. */
  private static @Nullable Instant timeOrNone(JsonParser parser, String name) {
    Instant time = time(parser, name);
    return time.getEpochSecond() <= 0 ? null : time;
  }

  private static Instant time(JsonParser parser, String name) {
    if (parser.currentToken() == JsonToken.VALUE_STRING
        && RFC_3339.matcher(parser.getString()).matches()) {
      try {
        String nanos = BEYOND_NANOS.matcher(parser.getString()).replaceFirst("$1");
        return OffsetDateTime.parse(nanos).toInstant();
      } catch (DateTimeException e) {
        // said below, without the text
      }
    }
    throw malformed(name + " is not a time");
  }

  private static String text(Map<String, Object> values, String name) {
    return values.get(name) instanceof String text ? text : "";
  }

  private static List<String> list(Map<String, Object> values, String name) {
    return values.get(name) instanceof List<?> texts
        ? texts.stream().map(String.class::cast).toList()
        : List.of();
  }

  private static Optional<Instant> time(Map<String, Object> values, String name) {
    return values.get(name) instanceof Instant time ? Optional.of(time) : Optional.empty();
  }
}
