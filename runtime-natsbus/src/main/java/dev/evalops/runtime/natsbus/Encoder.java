package dev.evalops.runtime.natsbus;

import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.protobuf.Timestamp;
import dev.evalops.runtime.natsbus.NatsBus.WireFormat;
import io.nats.client.impl.Headers;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.InstantSource;
import java.util.Map;
import java.util.UUID;
import org.jspecify.annotations.Nullable;

/** Makes NATS messages of changes. */
final class Encoder {
  static final String MESSAGE_ID = "Nats-Msg-Id";
  static final String SPEC_VERSION = "1.0";
  static final String JSON_TYPE = "application/json";
  static final String PROTO_TYPE = "application/protobuf";

  private final String prefix;
  private final String source;
  private final WireFormat format;
  private final InstantSource clock;

  Encoder(String prefix, WireFormat format, InstantSource clock) {
    this.prefix = prefix;
    this.source = Subjects.source(prefix);
    this.format = format;
    this.clock = clock;
  }

  /**
   * A message that is ready to be sent.
   *
   * @param lane what messages of the same aggregate have in common; null when there is no order to keep
   */
  @SuppressWarnings("ArrayRecordComponent") // handed over once, neither compared nor changed
  record Outgoing(
      String subject,
      String id,
      Headers headers,
      byte[] body,
      @Nullable String lane) {}

  String subject(Change change) {
    return Subjects.of(prefix, change.aggregateType(), change.operation());
  }

  /**
   * Makes the message.
   *
   * @param trace what the propagators inject
   * @throws IllegalArgumentException if it has no such form; the message names the parameter
   */
  Outgoing encode(Change change, Map<String, String> trace) {
    String subject = subject(change);
    String id = change.eventId().orElseGet(UUID::randomUUID).toString();
    Instant time = change.recordedAt().orElseGet(clock::instant);
    Headers headers = new Headers();
    headers.put(MESSAGE_ID, id);
    trace.forEach((name, value) -> headers.put(name, headerValue("trace context " + name, value)));
    if (change.sequence().isPresent()) {
      headers.put("ce-sequence", Long.toString(change.sequence().getAsLong()));
    }
    change.aggregateId().ifPresent(key -> headers.put("ce-partitionkey", escape(key)));
    if (change.version().isPresent()) {
      headers.put("ce-aggregateversion", Long.toString(change.version().getAsLong()));
    }
    byte[] body = switch (format) {
      case JSON -> json(change, trace, subject, id, time);
      case PROTO -> envelope(change, trace, subject, id, time).toByteArray();
      case PROTO_HEADERS -> {
        headers.put("ce-specversion", SPEC_VERSION);
        headers.put("ce-id", id);
        headers.put("ce-type", subject);
        headers.put("ce-source", source);
        headers.put("ce-time", EventTime.seconds(time));
        change
            .tenantId()
            .ifPresent(tenant -> headers.put("ce-tenantid", headerValue("tenantId", tenant)));
        headers.put("content-type", PROTO_TYPE);
        yield change.payload().map(message -> any(message).toByteArray()).orElse(new byte[0]);
      }
    };
    String lane =
        change.aggregateId().map(key -> lane(change.aggregateType(), key)).orElse(null);
    return new Outgoing(subject, id, headers, body, lane);
  }

  static String lane(String aggregateType, String partitionKey) {
    return aggregateType + " " + partitionKey;
  }

  private byte[] json(
      Change change, Map<String, String> trace, String subject, String id, Instant time) {
    JsonWriter out = new JsonWriter();
    out.raw("{\"specversion\":\"1.0\",\"id\":\"").raw(id).raw("\",\"type\":").string(subject);
    out.raw(",\"source\":").string(source);
    out.raw(",\"time\":\"").raw(EventTime.seconds(time)).raw('"');
    out.raw(",\"datacontenttype\":\"application/json\",\"tenant_id\":")
        .string(change.tenantId().orElse(""));
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

  private EventEnvelope envelope(
      Change change, Map<String, String> trace, String subject, String id, Instant time) {
    EventEnvelope.Builder envelope = EventEnvelope.newBuilder()
        .setSpecVersion(SPEC_VERSION)
        .setId(id)
        .setType(subject)
        .setSource(source)
        .setTime(Timestamp.newBuilder().setSeconds(time.getEpochSecond()).setNanos(time.getNano()))
        .setDataContentType(PROTO_TYPE)
        .setTenantId(change.tenantId().orElse(""))
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
        throw new IllegalArgumentException(name
            + " holds a character that is not printable ASCII, which a NATS header cannot carry");
      }
    }
    return value;
  }

  /** As the CloudEvents binding for NATS has it: what is not printable ASCII, and blank, quote and percent, as {@code %XX}. */
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

  /** Undoes {@link #escape}; what is no escape stays. */
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
    return new String(bytes, 0, length, StandardCharsets.UTF_8);
  }
}
