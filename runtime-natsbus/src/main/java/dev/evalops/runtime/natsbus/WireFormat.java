package dev.evalops.runtime.natsbus;

/** How an event is written. Every form is read, whatever is written. */
public enum WireFormat {
  /** A JSON object with the attributes and, as {@code data}, the proto JSON of the payload's {@code google.protobuf.Any}. */
  JSON,
  /** The bytes of the message {@link EventEnvelope}. */
  PROTO,
  /** The attributes as NATS headers {@code ce-...}, and the bytes of the payload's {@code google.protobuf.Any} as the body. */
  PROTO_HEADERS
}
