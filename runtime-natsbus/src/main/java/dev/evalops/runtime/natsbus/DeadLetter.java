package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.natsbus.Encoder.Outgoing;
import io.nats.client.impl.Headers;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.json.JsonFactory;

/**
 * A message that waits on disk, as peers on the same directory write it.
 *
 * @param id of the record
 * @param createdAt when it was written
 * @param subject where it goes
 * @param header its headers
 * @param data its body
 * @param lastError why it is here
 */
@SuppressWarnings("ArrayRecordComponent") // handed over once, neither compared nor changed
record DeadLetter(
    String id,
    Instant createdAt,
    String subject,
    Map<String, List<String>> header,
    byte[] data,
    String lastError) {
  private static final DateTimeFormatter NAME_TIME =
      DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss.SSSSSSSSS'Z'").withZone(ZoneOffset.UTC);
  private static final JsonFactory JSON = JsonFactory.builder()
      .streamReadConstraints(StreamReadConstraints.builder()
          .maxStringLength(Integer.MAX_VALUE)
          .maxNestingDepth(100)
          .build())
      .build();

  static DeadLetter of(Outgoing message, Instant createdAt, String lastError) {
    Map<String, List<String>> header = new TreeMap<>();
    message.headers().forEach((name, values) -> header.put(name, List.copyOf(values)));
    return new DeadLetter(
        UUID.randomUUID().toString(),
        createdAt,
        message.subject(),
        header,
        message.body(),
        lastError);
  }

  /** Names are in the order of their times, compared byte by byte. */
  static String fileName(Instant createdAt, String id) {
    return NAME_TIME.format(createdAt) + "-" + id + ".json";
  }

  String fileName() {
    return fileName(createdAt, id);
  }

  Headers headers() {
    Headers headers = headersAsTheyAre();
    // Written by a peer that sends none: what is published twice is still stored once.
    if (headers.getFirst(Encoder.MESSAGE_ID) == null) {
      headers.put(Encoder.MESSAGE_ID, eventId());
    }
    return headers;
  }

  private String eventId() {
    try {
      return Event.read(headersAsTheyAre(), data).id();
    } catch (IllegalArgumentException noEvent) {
      return id;
    }
  }

  private Headers headersAsTheyAre() {
    Headers headers = new Headers();
    header.forEach(headers::put);
    return headers;
  }

  /** What messages of the same aggregate have in common; null when it is not known. */
  @Nullable
  String lane() {
    List<String> keys = header.getOrDefault("ce-partitionkey", List.of());
    return keys.isEmpty()
        ? null
        : Encoder.lane(Subjects.aggregateType(subject), Encoder.unescape(keys.get(0)));
  }

  byte[] toJson() {
    JsonWriter out = new JsonWriter();
    out.raw("{\"id\":").string(id);
    out.raw(",\"created_at\":").string(createdAt.toString());
    out.raw(",\"subject\":").string(subject);
    out.raw(",\"header\":{");
    boolean separate = false;
    for (Map.Entry<String, List<String>> entry : header.entrySet()) {
      out.raw(separate ? "," : "").string(entry.getKey()).raw(":[");
      separate = true;
      for (int i = 0; i < entry.getValue().size(); i++) {
        out.raw(i > 0 ? "," : "").string(entry.getValue().get(i));
      }
      out.raw(']');
    }
    out.raw("},\"data\":\"").raw(Base64.getEncoder().encode(data));
    return out.raw("\",\"last_error\":").string(lastError).raw('}').toBytes();
  }

  /**
   * Reads a record.
   *
   * @throws IllegalArgumentException if it is none, or half of one
   */
  static DeadLetter parse(byte[] json) {
    String id = "";
    String subject = "";
    String createdAt = "";
    String lastError = "";
    byte[] data = new byte[0];
    Map<String, List<String>> header = new TreeMap<>();
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), json)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw new IllegalArgumentException("it is no JSON object");
      }
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        String name = parser.currentName();
        JsonToken value = parser.nextToken();
        if (value == JsonToken.VALUE_NULL) {
          continue;
        }
        switch (name) {
          case "id" -> id = text(parser, name);
          case "subject" -> subject = text(parser, name);
          case "created_at" -> createdAt = text(parser, name);
          case "last_error" -> lastError = text(parser, name);
          case "data" -> data = Base64.getDecoder().decode(text(parser, name));
          case "header" -> header(parser, header);
          default -> parser.skipChildren();
        }
      }
      if (parser.currentToken() != JsonToken.END_OBJECT || parser.nextToken() != null) {
        throw new IllegalArgumentException("something follows the JSON object");
      }
    } catch (JacksonException invalid) {
      throw new IllegalArgumentException(
          "it is no JSON: " + ProtoJson.oneLine(invalid.getOriginalMessage()), invalid);
    }
    if (id.isBlank() || subject.isBlank()) {
      throw new IllegalArgumentException("its id or subject is missing");
    }
    return new DeadLetter(id, EventTime.parse(createdAt), subject, header, data, lastError);
  }

  private static void header(JsonParser parser, Map<String, List<String>> header) {
    if (parser.currentToken() != JsonToken.START_OBJECT) {
      throw new IllegalArgumentException("header: it is no object");
    }
    while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
      String name = parser.currentName();
      List<String> values = new ArrayList<>();
      JsonToken token = parser.nextToken();
      if (token != JsonToken.START_ARRAY && token != JsonToken.VALUE_NULL) {
        throw new IllegalArgumentException("header: a value is no list");
      }
      while (token == JsonToken.START_ARRAY && parser.nextToken() != JsonToken.END_ARRAY) {
        values.add(text(parser, "header"));
      }
      if (!values.isEmpty()) {
        header.put(name, values);
      }
    }
  }

  private static String text(JsonParser parser, String name) {
    if (parser.currentToken() != JsonToken.VALUE_STRING) {
      throw new IllegalArgumentException(name + ": it is no string");
    }
    return parser.getString();
  }

  /** Names the record without its data. */
  @Override
  public String toString() {
    return "DeadLetter[" + fileName() + " " + subject + "]";
  }
}
