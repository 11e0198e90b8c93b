package dev.evalops.runtime.natsbus.spool;

import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.Event;
import java.io.ByteArrayOutputStream;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.UUID;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonGenerator;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.ObjectWriteContext;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.json.JsonFactory;

/**
 * A record on disk: an event that waits to be sent, as peers on the same directory write it.
 *
 * @param id of the record
 * @param createdAt when it was written
 * @param subject where it goes
 * @param header its headers
 * @param data its body
 * @param lastError why it is here
 * @param lane what it concerns; null if it is not known
 */
@SuppressWarnings("ArrayRecordComponent") // handed over once, neither compared nor changed
record SpooledEvent(
    String id,
    Instant createdAt,
    String subject,
    Map<String, List<String>> header,
    byte[] data,
    String lastError,
    @Nullable String lane) {
  private static final String MESSAGE_ID = "Nats-Msg-Id";
  private static final DateTimeFormatter NAME_TIME =
      DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss.SSSSSSSSS'Z'").withZone(ZoneOffset.UTC);
  private static final JsonFactory JSON = JsonFactory.builder()
      .streamReadConstraints(StreamReadConstraints.builder()
          .maxStringLength(Integer.MAX_VALUE)
          .maxNestingDepth(100)
          .build())
      .build();

  static SpooledEvent of(EncodedEvent event, Instant createdAt, String lastError) {
    Map<String, List<String>> header = new TreeMap<>(event.headers());
    header.put(MESSAGE_ID, List.of(event.id())); // of peers that send what is here as it is
    return new SpooledEvent(
        UUID.randomUUID().toString(),
        createdAt,
        event.subject(),
        header,
        event.body(),
        lastError,
        event.lane());
  }

  /** Names are in the order of their times, compared byte by byte. */
  static String fileName(Instant createdAt, String id) {
    return NAME_TIME.format(createdAt) + "-" + id + ".json";
  }

  String fileName() {
    return fileName(createdAt, id);
  }

  /** The event as it goes to the broker. */
  EncodedEvent event() {
    List<String> ids = header.getOrDefault(MESSAGE_ID, List.of());
    // Written by a peer that sends none: what is published twice is still stored once.
    String eventId = ids.isEmpty() ? read().map(Event::id).orElse(id) : ids.get(0);
    return new EncodedEvent(eventId, subject, header, data, lane == null ? fileName() : lane);
  }

  private Optional<Event> read() {
    try {
      return Optional.of(Event.read(header, data));
    } catch (IllegalArgumentException noEvent) {
      return Optional.empty();
    }
  }

  /** The lane of a record that does not say, as peers write it. */
  private SpooledEvent withLane() {
    Optional<Event> event = read();
    String type = event.flatMap(Event::aggregateType).orElse("");
    String key = event.flatMap(Event::aggregateId).orElse("");
    return type.isEmpty() || key.isEmpty()
        ? this
        : new SpooledEvent(id, createdAt, subject, header, data, lastError, type + "/" + key);
  }

  byte[] toJson() {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (JsonGenerator json = JSON.createGenerator(ObjectWriteContext.empty(), out)) {
      json.writeStartObject();
      json.writeStringProperty("id", id);
      json.writeStringProperty("created_at", createdAt.toString());
      json.writeStringProperty("subject", subject);
      json.writeObjectPropertyStart("header");
      header.forEach((name, values) -> {
        json.writeArrayPropertyStart(name);
        values.forEach(json::writeString);
        json.writeEndArray();
      });
      json.writeEndObject();
      json.writeStringProperty("data", Base64.getEncoder().encodeToString(data));
      json.writeStringProperty("last_error", lastError);
      if (lane != null) {
        json.writeStringProperty("lane", lane);
      }
      json.writeEndObject();
    }
    return out.toByteArray();
  }

  /**
   * Reads a record.
   *
   * @throws IllegalArgumentException if it is none, or half of one
   */
  static SpooledEvent parse(byte[] json) {
    String id = "";
    String subject = "";
    String createdAt = "";
    String lastError = "";
    String lane = null;
    byte[] data = new byte[0];
    Map<String, List<String>> header = new TreeMap<>();
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), json)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw new IllegalArgumentException("it is not a JSON object");
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
          case "lane" -> lane = text(parser, name);
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
          "it is not valid JSON: " + invalid.getOriginalMessage().replaceAll("\\s+", " "), invalid);
    }
    if (id.isBlank() || subject.isBlank()) {
      throw new IllegalArgumentException("id or subject is missing");
    }
    SpooledEvent read =
        new SpooledEvent(id, time(createdAt), subject, header, data, lastError, lane);
    return lane == null ? read.withLane() : read;
  }

  static Instant time(String text) {
    try {
      return OffsetDateTime.parse(text).toInstant();
    } catch (DateTimeException invalid) {
      throw new IllegalArgumentException("created_at: it is not an RFC 3339 time", invalid);
    }
  }

  private static void header(JsonParser parser, Map<String, List<String>> header) {
    if (parser.currentToken() != JsonToken.START_OBJECT) {
      throw new IllegalArgumentException("header: it is not an object");
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
      throw new IllegalArgumentException(name + ": it is not a string");
    }
    return parser.getString();
  }

  /** Returns the name of the record and its subject, without its data. */
  @Override
  public String toString() {
    return "SpooledEvent[" + fileName() + " " + subject + "]";
  }
}
