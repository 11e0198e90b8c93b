package dev.evalops.runtime.natsbus;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import io.nats.client.impl.Headers;
import java.time.Instant;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import org.jspecify.annotations.Nullable;

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
  private final byte @Nullable [] data;
  private final boolean isJson;
  private final @Nullable Any any;
  private final String typeUrl;

  private Event(EventReader read) {
    this.id = read.id;
    this.type = read.type;
    this.source = read.source;
    this.time = read.time;
    this.dataContentType = read.dataContentType;
    this.tenantId = read.tenantId;
    this.traceparent = read.traceparent;
    this.tracestate = read.tracestate;
    this.baggage = read.baggage;
    this.sequence = read.sequenceNumber();
    this.partitionKey = read.partitionKey;
    this.version = read.versionNumber();
    this.data = read.data;
    this.isJson = read.isJson;
    this.any = read.any;
    this.typeUrl = read.typeUrl();
  }

  /**
   * Reads a NATS message in any of the three forms, or as the CloudEvents SDKs write them, in binary or structured mode. Attributes that only headers carry ({@code ce-sequence}, {@code
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
    return new Event(EventReader.read(name -> header(headers, name), body));
  }

  private static String header(Headers headers, String name) {
    String value = headers.getFirst(name);
    if (value == null && name.equals(EventReader.CONTENT_TYPE)) {
      List<String> values = headers.getIgnoreCase(name);
      value = values == null || values.isEmpty() ? null : values.get(0);
    }
    return value == null ? "" : value;
  }

  private static byte[] bytes(byte @Nullable [] data) {
    return data == null ? new byte[0] : data;
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
   * @return the time; empty if the event has none
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
   * @return the sequence, 0 or more; empty if the event has none, or one that is no number
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
   * The payload as it came, whatever it is: JSON, the bytes of a {@code google.protobuf.Any}, or others that {@link #dataContentType}
   * tells.
   *
   * @return a copy of the bytes; none without a payload
   */
  public byte[] data() {
    return data == null ? new byte[0] : data.clone();
  }

  /**
   * The type of the payload.
   *
   * @return the full name of a protobuf message; empty without a payload, or if its JSON has no {@code @type}
   */
  public Optional<String> payloadType() {
    return optional(typeUrl.substring(typeUrl.lastIndexOf('/') + 1));
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
    if (data == null) {
      throw new IllegalArgumentException("payload: the event has none");
    }
    String type = payloadType().orElse("");
    if (!type.equals(wanted)) {
      throw new IllegalArgumentException(
          "payload: it is no " + wanted + " but \"" + type.replaceAll("[^\\w.]", "?") + "\"");
    }
    if (isJson) {
      return ProtoJson.readAny(data, prototype);
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
}
