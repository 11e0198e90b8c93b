package dev.evalops.runtime.events;

import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.protobuf.Timestamp;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** Writes changes as events. */
final class Encoder {
  static final String SPEC_VERSION = "1.0";
  static final String JSON_TYPE = "application/json";
  static final String PROTO_TYPE = "application/protobuf";

  private Encoder() {}

  /**
   * Writes a change.
   *
   * @param trace what the propagators inject
   * @throws IllegalArgumentException if it has no such form; the message names the parameter
   */
  static EncodedEvent encode(
      EventFormat format, Change change, String prefix, Instant now, Map<String, String> trace) {
    String source = Subjects.source(prefix);
    String subject = Subjects.of(prefix, change.aggregateType(), change.operation());
    String id = change.eventId().orElseGet(UUID::randomUUID).toString();
    Instant time = change.recordedAt().orElse(now);
    Map<String, List<String>> headers = new LinkedHashMap<>();
    trace.forEach((name, value) -> {
      if (!value.isEmpty()) {
        put(headers, name, headerValue("trace context " + name, value));
      }
    });
    if (change.sequence().isPresent()) {
      put(headers, "ce-sequence", Long.toString(change.sequence().getAsLong()));
    }
    change.aggregateId().ifPresent(key -> put(headers, "ce-partitionkey", escape(key)));
    if (change.version().isPresent()) {
      put(headers, "ce-aggregateversion", Long.toString(change.version().getAsLong()));
    }
    byte[] body = switch (format) {
      case JSON -> json(change, trace, subject, source, id, time);
      case PROTO -> envelope(change, trace, subject, source, id, time).toByteArray();
      case PROTO_HEADERS -> {
        put(headers, "ce-specversion", SPEC_VERSION);
        put(headers, "ce-id", id);
        put(headers, "ce-type", attribute(subject));
        put(headers, "ce-source", attribute(source));
        put(headers, "ce-time", EventTime.seconds(time));
        change
            .organizationId()
            .filter(organization -> !organization.isEmpty())
            .ifPresent(organization -> put(
                headers, "ce-tenantid", attribute(headerValue("organizationId", organization))));
        put(headers, "content-type", PROTO_TYPE);
        yield change.payload().map(message -> any(message).toByteArray()).orElse(new byte[0]);
      }
    };
    // What has no aggregate has no order to keep.
    String lane =
        change.aggregateId().map(key -> change.aggregateType() + "/" + key).orElse(id);
    return new EncodedEvent(id, subject, headers, body, lane);
  }

  private static void put(Map<String, List<String>> headers, String name, String value) {
    headers.put(name, List.of(value));
  }

  private static byte[] json(
      Change change,
      Map<String, String> trace,
      String subject,
      String source,
      String id,
      Instant time) {
    JsonWriter out = new JsonWriter();
    out.raw("{\"specversion\":\"1.0\",\"id\":\"").raw(id).raw("\",\"type\":").string(subject);
    out.raw(",\"source\":").string(source);
    out.raw(",\"time\":\"").raw(EventTime.seconds(time)).raw('"');
    out.raw(",\"datacontenttype\":\"application/json\",\"tenant_id\":")
        .string(change.organizationId().orElse(""));
    for (String name : Trace.NAMES) {
      String value = trace.getOrDefault(name, "");
      if (!value.isEmpty()) {
        out.raw(",\"").raw(name).raw("\":").string(value);
      }
    }
    if (change.sequence().isPresent()) {
      out.raw(",\"sequence\":\"")
          .raw(Long.toString(change.sequence().getAsLong()))
          .raw('"');
    }
    if (change.aggregateId().isPresent()) {
      out.raw(",\"partitionkey\":").string(change.aggregateId().get());
    }
    if (change.version().isPresent()) {
      out.raw(",\"aggregateversion\":\"")
          .raw(Long.toString(change.version().getAsLong()))
          .raw('"');
    }
    out.raw(",\"data\":");
    if (change.payload().isPresent()) {
      ProtoJson.writeAny(out, change.payload().get());
    } else {
      out.raw("null");
    }
    return out.raw('}').toBytes();
  }

  private static EventEnvelope envelope(
      Change change,
      Map<String, String> trace,
      String subject,
      String source,
      String id,
      Instant time) {
    EventEnvelope.Builder envelope = EventEnvelope.newBuilder()
        .setSpecVersion(SPEC_VERSION)
        .setId(id)
        .setType(subject)
        .setSource(source)
        .setTime(Timestamp.newBuilder().setSeconds(time.getEpochSecond()).setNanos(time.getNano()))
        .setDataContentType(PROTO_TYPE)
        .setTenantId(change.organizationId().orElse(""))
        .setTraceParent(trace.getOrDefault(Trace.PARENT, ""))
        .setTraceState(trace.getOrDefault(Trace.STATE, ""))
        .setBaggage(trace.getOrDefault(Trace.BAGGAGE, ""));
    change.payload().ifPresent(message -> envelope.setData(any(message)));
    return envelope.build();
  }

  private static Any any(Message message) {
    return message instanceof Any any ? any : Any.pack(message);
  }

  private static String headerValue(String name, String value) {
    for (int i = 0; i < value.length(); i++) {
      char c = value.charAt(i);
      if (c < ' ' || c > '~') {
        throw new IllegalArgumentException(
            name + " holds a character that is not printable ASCII, which a header cannot carry");
      }
    }
    return value;
  }

  /** Escapes only what a reader that decodes, or takes blanks off, would read as another: some peers decode nothing. */
  private static String attribute(String value) {
    boolean stays = unescape(value).equals(value) && !value.startsWith(" ") && !value.endsWith(" ");
    return stays ? value : escape(value);
  }

  /**
   * As the CloudEvents binding for NATS has it: what is not printable ASCII, and blank, quote and percent, as {@code
   * %XX}.
   */
  static String escape(String value) {
    StringBuilder escaped = new StringBuilder(value.length());
    for (byte each : value.getBytes(StandardCharsets.UTF_8)) {
      if (each > ' ' && each != '"' && each != '%' && each < 127) {
        escaped.append((char) each);
      } else {
        escaped
            .append('%')
            .append(Character.toUpperCase(Character.forDigit((each >> 4) & 0xF, 16)))
            .append(Character.toUpperCase(Character.forDigit(each & 0xF, 16)));
      }
    }
    return escaped.toString();
  }

  /** Undoes {@link #escape}; what is no escape, or escapes no text, stays. */
  static String unescape(String value) {
    if (value.indexOf('%') < 0) {
      return value;
    }
    byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
    int length = 0;
    for (int i = 0; i < bytes.length; i++) {
      int high = i + 2 < bytes.length ? Character.digit(bytes[i + 1], 16) : -1;
      int low = i + 2 < bytes.length ? Character.digit(bytes[i + 2], 16) : -1;
      if (bytes[i] == '%' && high >= 0 && low >= 0) {
        bytes[length++] = (byte) ((high << 4) | low);
        i += 2;
      } else {
        bytes[length++] = bytes[i];
      }
    }
    try {
      return StandardCharsets.UTF_8
          .newDecoder()
          .decode(ByteBuffer.wrap(bytes, 0, length))
          .toString();
    } catch (CharacterCodingException noText) {
      return value; // else ids that differ could become the same
    }
  }
}
