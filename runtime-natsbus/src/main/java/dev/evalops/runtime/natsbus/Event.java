package dev.evalops.runtime.natsbus;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import io.nats.client.impl.Headers;
import java.time.DateTimeException;
import java.time.Instant;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.json.JsonFactory;

/**
 * An event as it was read from the bus, whatever its form on the wire. Its payload is decoded only when asked for, so that an event
 * with a payload of an unknown type can be read, too. Immutable.
 *
 * <pre>{@code
 * Event event = Event.read(message);
 * Note note = event.payload(Note.getDefaultInstance());
 * }</pre>
 */
public final class Event {
  private static final JsonFactory JSON = JsonFactory.builder().build();

  private final String id;
  private final String type;
  private final String source;
  private final @Nullable Instant time;
  private final String dataContentType;
  private final String tenantId;
  private final String traceparent;
  private final String tracestate;
  private final String baggage;
  private final @Nullable Long sequence;
  private final String partitionKey;
  private final @Nullable Long version;
  private final byte @Nullable [] json;
  private final @Nullable Any any;
  private final String typeUrl;

  private Event(Draft draft) {
    this.id = draft.id;
    this.type = draft.type;
    this.source = draft.source;
    this.time = draft.time;
    this.dataContentType = draft.dataContentType;
    this.tenantId = draft.tenantId;
    this.traceparent = draft.traceparent;
    this.tracestate = draft.tracestate;
    this.baggage = draft.baggage;
    this.sequence = number("sequence", draft.sequence);
    this.partitionKey = draft.partitionKey;
    this.version = number("aggregateversion", draft.version);
    this.json = draft.json;
    this.any = draft.any;
    this.typeUrl = any == null ? (json == null ? "" : typeUrl(json)) : any.getTypeUrl();
  }

  /**
   * Reads a NATS message in any of the three forms. Attributes that only headers carry ({@code ce-sequence}, {@code
   * ce-partitionkey}, {@code ce-aggregateversion}), and a trace context that only they have, are read from them.
   *
   * @param message the message
   * @return the event
   * @throws IllegalArgumentException if it is no event; the message says what is wrong ({@code envelope_empty}, or the attribute)
   */
  public static Event read(io.nats.client.Message message) {
    String malformed = HeaderGuard.reason(message.getHeaders());
    if (malformed != null) {
      throw new IllegalArgumentException("headers: " + malformed);
    }
    return read(
        message.hasHeaders() ? message.getHeaders() : new Headers(), bytes(message.getData()));
  }

  /**
   * Reads an event without headers: the JSON form, or the bytes of an {@link EventEnvelope}.
   *
   * @param envelope the bytes
   * @return the event
   * @throws IllegalArgumentException if it is no event; the message says what is wrong
   */
  public static Event read(byte[] envelope) {
    return read(new Headers(), envelope);
  }

  /**
   * Reads an event from the parts of a NATS message.
   *
   * @param headers the headers; they hold the event, and the body only its data, if {@code ce-specversion}, {@code ce-id}, {@code
   *     ce-type} and {@code ce-source} are all there
   * @param body the body
   * @return the event
   * @throws IllegalArgumentException if it is no event; the message says what is wrong
   */
  public static Event read(Headers headers, byte[] body) {
    Objects.requireNonNull(headers, "headers");
    Objects.requireNonNull(body, "body");
    if (!header(headers, "ce-specversion").isBlank()
        && !header(headers, "ce-id").isBlank()
        && !header(headers, "ce-type").isBlank()
        && !header(headers, "ce-source").isBlank()) {
      return new Event(fromHeaders(headers, body));
    }
    if (body.length == 0) {
      throw new IllegalArgumentException("envelope_empty");
    }
    int start = 0;
    while (start < body.length && isBlank(body[start])) {
      start++;
    }
    Draft draft;
    if (start == body.length || body[start] != '{') {
      draft = fromEnvelope(body);
    } else if (start == 0) {
      draft = fromJson(body);
    } else {
      draft = fromJsonOrEnvelope(body);
    }
    draft.takeMissing(headers);
    return new Event(draft);
  }

  /** The blanks may be the first bytes of an envelope. */
  private static Draft fromJsonOrEnvelope(byte[] body) {
    try {
      return fromJson(body);
    } catch (IllegalArgumentException noJson) {
      try {
        return fromEnvelope(body);
      } catch (IllegalArgumentException noEnvelope) {
        noJson.addSuppressed(noEnvelope);
        throw noJson;
      }
    }
  }

  private static Draft fromHeaders(Headers headers, byte[] body) {
    Draft draft = new Draft();
    draft.specVersion = header(headers, "ce-specversion");
    draft.id = header(headers, "ce-id");
    draft.type = header(headers, "ce-type");
    draft.source = header(headers, "ce-source");
    draft.tenantId = header(headers, "ce-tenantid");
    String time = header(headers, "ce-time");
    if (!time.isBlank()) {
      draft.time = EventTime.parse(time.strip());
    }
    String contentType = header(headers, "content-type");
    draft.dataContentType = contentType.isBlank() ? Encoder.PROTO_TYPE : contentType;
    if (draft.dataContentType.contains(Encoder.JSON_TYPE)) {
      draft.json = jsonData(body);
    } else if (body.length > 0) {
      draft.any = any(body);
    }
    draft.takeMissing(headers);
    return draft.checked();
  }

  private static Draft fromEnvelope(byte[] body) {
    EventEnvelope envelope;
    try {
      envelope = EventEnvelope.parseFrom(body);
    } catch (InvalidProtocolBufferException invalid) {
      throw new IllegalArgumentException("envelope: it is neither JSON nor protobuf", invalid);
    }
    Draft draft = new Draft();
    draft.specVersion = envelope.getSpecVersion();
    draft.id = envelope.getId();
    draft.type = envelope.getType();
    draft.source = envelope.getSource();
    if (envelope.hasTime()) {
      draft.time = instant(envelope.getTime());
    }
    draft.dataContentType = envelope.getDataContentType();
    draft.tenantId = envelope.getTenantId();
    draft.traceparent = envelope.getTraceParent();
    draft.tracestate = envelope.getTraceState();
    draft.baggage = envelope.getBaggage();
    draft.any = envelope.hasData() ? envelope.getData() : null;
    return draft.checked();
  }

  private static Instant instant(com.google.protobuf.Timestamp time) {
    if (time.getNanos() < 0 || time.getNanos() > 999_999_999) {
      throw new IllegalArgumentException("time: nanos are not from 0 to 999999999");
    }
    try {
      Instant instant = Instant.ofEpochSecond(time.getSeconds(), time.getNanos());
      if (EventTime.canBeWritten(instant)) {
        return instant;
      }
    } catch (DateTimeException outOfRange) {
      // said below
    }
    throw new IllegalArgumentException("time: it is not in the years 0001 to 9999");
  }

  private static Draft fromJson(byte[] body) {
    Draft draft = new Draft();
    boolean hasTime = false;
    Set<String> seen = new HashSet<>();
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), body)) {
      parser.nextToken();
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        String name = parser.currentName();
        if (!seen.add(name)) {
          throw new IllegalArgumentException("envelope: a name is there twice");
        }
        JsonToken value = parser.nextToken();
        switch (name) {
          case "specversion" -> draft.specVersion = text(parser, name);
          case "id" -> draft.id = text(parser, name);
          case "type" -> draft.type = text(parser, name);
          case "source" -> draft.source = text(parser, name);
          case "datacontenttype" -> draft.dataContentType = text(parser, name);
          case "tenant_id" -> draft.tenantId = text(parser, name);
          case Trace.PARENT -> draft.traceparent = text(parser, name);
          case Trace.STATE -> draft.tracestate = text(parser, name);
          case Trace.BAGGAGE -> draft.baggage = text(parser, name);
          case "partitionkey" -> draft.partitionKey = text(parser, name);
          case "sequence" -> draft.sequence = textOrNumber(parser, name);
          case "aggregateversion" -> draft.version = textOrNumber(parser, name);
          case "time" -> {
            draft.time = EventTime.parse(text(parser, name));
            hasTime = true;
          }
          case "data" -> draft.json = value == JsonToken.VALUE_NULL ? null : slice(parser, body);
          default -> parser.skipChildren();
        }
      }
      if (parser.currentToken() != JsonToken.END_OBJECT || parser.nextToken() != null) {
        throw new IllegalArgumentException("envelope: something follows the JSON object");
      }
    } catch (JacksonException invalid) {
      throw new IllegalArgumentException(
          "envelope: it is no JSON: " + ProtoJson.oneLine(invalid.getOriginalMessage()), invalid);
    }
    if (!hasTime) {
      throw new IllegalArgumentException("time: it is missing");
    }
    return draft.checked();
  }

  private static String text(JsonParser parser, String name) {
    JsonToken token = parser.currentToken();
    if (token == JsonToken.VALUE_NULL) {
      return "";
    }
    if (token != JsonToken.VALUE_STRING) {
      throw new IllegalArgumentException(name + ": it is no string");
    }
    return parser.getString();
  }

  private static String textOrNumber(JsonParser parser, String name) {
    return parser.currentToken() == JsonToken.VALUE_NUMBER_INT
        ? parser.getString()
        : text(parser, name);
  }

  /** The bytes of the value that the parser is at. */
  private static byte[] slice(JsonParser parser, byte[] body) {
    int start = Math.toIntExact(parser.currentTokenLocation().getByteOffset());
    if (parser.currentToken().isStructStart()) {
      parser.skipChildren();
    } else {
      parser.finishToken();
    }
    int end = Math.toIntExact(parser.currentLocation().getByteOffset());
    return Arrays.copyOfRange(body, start, end);
  }

  private static byte @Nullable [] jsonData(byte[] body) {
    if (body.length == 0) {
      return null;
    }
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), body)) {
      JsonToken first = parser.nextToken();
      if (first == null || first == JsonToken.VALUE_NULL) {
        return null;
      }
      parser.skipChildren();
      if (parser.nextToken() != null) {
        throw new IllegalArgumentException("data: something follows the JSON value");
      }
      return body.clone();
    } catch (JacksonException invalid) {
      throw new IllegalArgumentException(
          "data: it is no JSON: " + ProtoJson.oneLine(invalid.getOriginalMessage()), invalid);
    }
  }

  private static Any any(byte[] body) {
    try {
      return Any.parseFrom(body);
    } catch (InvalidProtocolBufferException invalid) {
      throw new IllegalArgumentException("data: it is no google.protobuf.Any", invalid);
    }
  }

  private static byte[] bytes(byte @Nullable [] data) {
    return data == null ? new byte[0] : data;
  }

  private static String header(Headers headers, String name) {
    String value = headers.getFirst(name);
    return value == null ? "" : value;
  }

  private static boolean isBlank(byte b) {
    return b == ' ' || (b >= '\t' && b <= '\r');
  }

  private static @Nullable Long number(String name, String value) {
    if (value.isEmpty()) {
      return null;
    }
    try {
      long number = Long.parseLong(value);
      if (number >= 0) {
        return number;
      }
    } catch (NumberFormatException invalid) {
      // said below
    }
    throw new IllegalArgumentException(name + ": it is no number from 0 to 2^63-1");
  }

  /**
   * The id, which a consumer remembers when it must not do things twice.
   *
   * @return the id, not blank
   */
  public String id() {
    return id;
  }

  /**
   * What has happened, which is also the subject it was published on.
   *
   * @return {@code <prefix>.<aggregate type>.<operation>}
   */
  public String type() {
    return type;
  }

  /**
   * The service that it happened in.
   *
   * @return the source, not blank
   */
  public String source() {
    return source;
  }

  /**
   * When it happened. The JSON and header forms carry whole seconds.
   *
   * @return the time; empty if the event has none, which only the proto forms allow
   */
  public Optional<Instant> time() {
    return Optional.ofNullable(time);
  }

  /**
   * The type of {@link #data()}.
   *
   * @return a media type, empty if the event has none
   */
  public String dataContentType() {
    return dataContentType;
  }

  /**
   * Whose it is.
   *
   * @return the organisation
   */
  public Optional<String> tenantId() {
    return optional(tenantId);
  }

  /**
   * The trace that it was published in, as W3C trace context has it.
   *
   * @return the value of {@code traceparent}
   */
  public Optional<String> traceparent() {
    return optional(traceparent);
  }

  /**
   * What vendors add to the trace.
   *
   * @return the value of {@code tracestate}
   */
  public Optional<String> tracestate() {
    return optional(tracestate);
  }

  /**
   * What travels with the trace.
   *
   * @return the value of {@code baggage}
   */
  public Optional<String> baggage() {
    return optional(baggage);
  }

  /**
   * The place among all changes of its service, such as that of a change journal.
   *
   * @return the sequence, 0 or more
   */
  public OptionalLong sequence() {
    return sequence == null ? OptionalLong.empty() : OptionalLong.of(sequence);
  }

  /**
   * Which thing it is about: the aggregate id. Events of one thing were published in order.
   *
   * @return the id
   */
  public Optional<String> partitionKey() {
    return optional(partitionKey);
  }

  /**
   * The version of the thing after it; an event whose version is not above the last one seen is old.
   *
   * @return the version, 0 or more
   */
  public OptionalLong version() {
    return version == null ? OptionalLong.empty() : OptionalLong.of(version);
  }

  /**
   * The payload as it came: JSON, or the bytes of a {@code google.protobuf.Any}.
   *
   * @return a copy of the bytes; none without a payload
   */
  public byte[] data() {
    if (json != null) {
      return json.clone();
    }
    return any == null ? new byte[0] : any.toByteArray();
  }

  /**
   * The type of the payload.
   *
   * @return the full name of a protobuf message; empty without a payload, or if its JSON has no {@code @type}
   */
  public Optional<String> payloadType() {
    return optional(typeUrl.substring(typeUrl.lastIndexOf('/') + 1));
  }

  private static String typeUrl(byte[] json) {
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), json)) {
      parser.nextToken();
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        boolean found = parser.currentName().equals("@type");
        if (parser.nextToken() == JsonToken.VALUE_STRING && found) {
          return parser.getString();
        }
        parser.skipChildren();
      }
      return "";
    } catch (JacksonException invalid) {
      // Read once already, but for what its strings hold.
      throw new IllegalArgumentException(
          "data: it is no JSON: " + ProtoJson.oneLine(invalid.getOriginalMessage()), invalid);
    }
  }

  /**
   * Decodes the payload. Fields that this side does not know are passed over.
   *
   * @param <M> the type that it should have
   * @param prototype any message of that type, such as {@code Note.getDefaultInstance()}
   * @return the payload
   * @throws IllegalArgumentException if the event has none, has one of another type, or one that cannot be decoded
   */
  @SuppressWarnings("unchecked") // a builder builds its own kind
  public <M extends Message> M payload(M prototype) {
    String wanted = prototype.getDescriptorForType().getFullName();
    if (json == null && any == null) {
      throw new IllegalArgumentException("payload: the event has none");
    }
    String type = payloadType().orElse("");
    if (!type.equals(wanted)) {
      throw new IllegalArgumentException(
          "payload: it is no " + wanted + " but \"" + type.replaceAll("[^\\w.]", "?") + "\"");
    }
    if (json != null) {
      return ProtoJson.readAny(json, prototype);
    }
    try {
      return (M) prototype
          .newBuilderForType()
          .mergeFrom(Objects.requireNonNull(any).getValue())
          .build();
    } catch (InvalidProtocolBufferException invalid) {
      throw new IllegalArgumentException("payload: its bytes are no " + wanted, invalid);
    }
  }

  private static Optional<String> optional(String text) {
    return text.isEmpty() ? Optional.empty() : Optional.of(text);
  }

  /** Names the event without its payload. */
  @Override
  public String toString() {
    return "Event[" + id + " " + type + "]";
  }

  /** What was read so far. */
  private static final class Draft {
    String specVersion = "";
    String id = "";
    String type = "";
    String source = "";

    @Nullable
    Instant time;

    String dataContentType = "";
    String tenantId = "";
    String traceparent = "";
    String tracestate = "";
    String baggage = "";
    String sequence = "";
    String partitionKey = "";
    String version = "";
    byte @Nullable [] json;

    @Nullable
    Any any;

    Draft checked() {
      if (!specVersion.equals(Encoder.SPEC_VERSION)) {
        throw new IllegalArgumentException("specversion: it is not 1.0");
      }
      require("id", id);
      require("type", type);
      require("source", source);
      return this;
    }

    private static void require(String name, String value) {
      if (value.isBlank()) {
        throw new IllegalArgumentException(name + ": it is missing or blank");
      }
    }

    void takeMissing(Headers headers) {
      if (traceparent.isEmpty()) {
        traceparent = header(headers, Trace.PARENT);
        tracestate = header(headers, Trace.STATE);
      }
      if (baggage.isEmpty()) {
        baggage = header(headers, Trace.BAGGAGE);
      }
      if (sequence.isEmpty()) {
        sequence = header(headers, "ce-sequence");
      }
      if (partitionKey.isEmpty()) {
        partitionKey = Encoder.unescape(header(headers, "ce-partitionkey"));
      }
      if (version.isEmpty()) {
        version = header(headers, "ce-aggregateversion");
      }
    }
  }
}
