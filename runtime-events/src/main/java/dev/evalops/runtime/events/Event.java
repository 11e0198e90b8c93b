package dev.evalops.runtime.events;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import org.jspecify.annotations.Nullable;

/**
 * An event that was read, in any format. The payload is decoded only when asked for, so that an event with a payload of
 * an unknown type can be read, too. Immutable.
 *
 * <pre>{@code
 * Event event = Event.read(headers, body);
 * Note note = event.payload(Note.getDefaultInstance());
 * }</pre>
 */
public final class Event {
  private final String id;
  private final String type;
  private final String source;
  private final @Nullable Instant time;
  private final String dataContentType;
  private final String organizationId;
  private final String traceparent;
  private final String tracestate;
  private final String baggage;
  private final @Nullable Long sequence;
  private final String aggregateId;
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
    this.organizationId = read.tenantId;
    this.traceparent = read.traceparent;
    this.tracestate = read.tracestate;
    this.baggage = read.baggage;
    this.sequence = read.sequenceNumber();
    this.aggregateId = read.partitionKey;
    this.version = read.versionNumber();
    this.data = read.data;
    this.isJson = read.isJson;
    this.any = read.any;
    this.typeUrl = read.typeUrl;
  }

  /**
   * Reads an event without headers: the JSON form, or the bytes of an {@link EventEnvelope}.
   *
   * @param envelope the bytes
   * @return the event
   * @throws IllegalArgumentException if it is not an event; the message says what is wrong
   */
  public static Event read(byte[] envelope) {
    return read(Map.of(), envelope);
  }

  /**
   * Reads an event from the parts of a message, in any {@link EventFormat} or as the CloudEvents SDKs write it, in
   * binary or structured mode. Attributes that only headers carry ({@code ce-sequence}, {@code ce-partitionkey}, {@code
   * ce-aggregateversion}), and a trace context that only they have, are read from them.
   *
   * @param headers the headers; they hold the event, and the body only its data, if {@code ce-specversion}, {@code
   *     ce-id}, {@code ce-type} and {@code ce-source} are all there
   * @param body the body
   * @return the event
   * @throws IllegalArgumentException if it is not an event; the message says what is wrong ({@code envelope_empty}, or
   *     the attribute)
   */
  public static Event read(Map<String, List<String>> headers, byte[] body) {
    Objects.requireNonNull(headers, "headers");
    Objects.requireNonNull(body, "body");
    return new Event(EventReader.read(name -> header(headers, name), body));
  }

  private static String header(Map<String, List<String>> headers, String name) {
    List<String> values = headers.get(name);
    if (values == null && name.equals(EventReader.CONTENT_TYPE)) {
      for (Map.Entry<String, List<String>> each : headers.entrySet()) {
        if (each.getKey().equalsIgnoreCase(name)) {
          values = each.getValue();
          break;
        }
      }
    }
    return values == null || values.isEmpty() ? "" : values.get(0);
  }

  /**
   * Returns the id, by which a consumer can recognise a repeated event.
   *
   * @return the id, not blank
   */
  public String id() {
    return id;
  }

  /**
   * Returns the type, which is also the subject on which the event was published.
   *
   * @return {@code <prefix>.<aggregate type>.<operation>}
   */
  public String type() {
    return type;
  }

  /**
   * Returns the source, which names the service that published the event.
   *
   * @return the source, not blank
   */
  public String source() {
    return source;
  }

  /**
   * Returns the time of the change. The JSON and header forms carry whole seconds.
   *
   * @return the time; empty if the event has none
   */
  public Optional<Instant> time() {
    return Optional.ofNullable(time);
  }

  /**
   * Returns the type of {@link #data()}.
   *
   * @return a media type; empty if the event has none
   */
  public Optional<String> dataContentType() {
    return optional(dataContentType);
  }

  /**
   * Returns the organization of the aggregate, which is the tenant on the wire.
   *
   * @return its id; empty if the event has none
   */
  public Optional<String> organizationId() {
    return optional(organizationId);
  }

  /**
   * Returns the trace in which the event was published, as W3C trace context.
   *
   * @return the value of {@code traceparent}
   */
  public Optional<String> traceparent() {
    return optional(traceparent);
  }

  /**
   * Returns the vendor-specific part of the trace context.
   *
   * @return the value of {@code tracestate}
   */
  public Optional<String> tracestate() {
    return optional(tracestate);
  }

  /**
   * Returns the baggage of the trace.
   *
   * @return the value of {@code baggage}
   */
  public Optional<String> baggage() {
    return optional(baggage);
  }

  /**
   * Returns the number among all changes of the service, such as that of a change journal.
   *
   * @return the sequence, 0 or more; empty if the event has none, or one that is not a number
   */
  public OptionalLong sequence() {
    return sequence == null ? OptionalLong.empty() : OptionalLong.of(sequence);
  }

  /**
   * Returns the type of the aggregate.
   *
   * @return such as {@code note}; empty if the type is not that of a {@link Change} of its source
   */
  public Optional<String> aggregateType() {
    return typeFromEnd(2);
  }

  /**
   * Returns the id of the aggregate, which is the partition key on the wire. Events of one aggregate were published in
   * order.
   *
   * @return the id; empty if the event has none
   */
  public Optional<String> aggregateId() {
    return optional(aggregateId);
  }

  /**
   * Returns what has happened to the aggregate.
   *
   * @return such as {@code create}; empty if the type is not that of a {@link Change} of its source
   */
  public Optional<String> operation() {
    return typeFromEnd(1);
  }

  private Optional<String> typeFromEnd(int place) {
    String[] tokens = type.split("\\.", -1);
    boolean ours =
        type.startsWith(source + ".") && tokens.length >= source.split("\\.", -1).length + 2;
    return ours ? optional(tokens[tokens.length - place]) : Optional.empty();
  }

  /**
   * Returns the version of the aggregate after the change. If it is not greater than the last one seen, the event is
   * old.
   *
   * @return the version, 0 or more
   */
  public OptionalLong version() {
    return version == null ? OptionalLong.empty() : OptionalLong.of(version);
  }

  /**
   * Returns the undecoded payload: JSON, the bytes of a {@code google.protobuf.Any}, or another type that {@link
   * #dataContentType} names.
   *
   * @return a copy of the bytes; empty without a payload
   */
  public byte[] data() {
    return data == null ? new byte[0] : data.clone();
  }

  /**
   * Returns the type of the payload.
   *
   * @return the full name of a protobuf message; empty without a payload, or if its JSON has no {@code @type}
   */
  public Optional<String> payloadType() {
    return optional(typeUrl.substring(typeUrl.lastIndexOf('/') + 1));
  }

  /**
   * Returns the decoded payload. Unknown fields are ignored.
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
          "payload: it is not a " + wanted + " but \"" + type.replaceAll("[^\\w.]", "?") + "\"");
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
      throw new IllegalArgumentException("payload: its bytes are not a " + wanted, invalid);
    }
  }

  private static Optional<String> optional(String text) {
    return text.isEmpty() ? Optional.empty() : Optional.of(text);
  }

  /** Returns id and type, without the payload. */
  @Override
  public String toString() {
    return "Event[" + id + " " + type + "]";
  }
}
