package dev.evalops.runtime.events;

import java.time.Instant;
import java.util.Map;

/** The format in which an event is written. {@link Event#read} reads every format. */
public enum EventFormat {
  /**
   * A JSON object with the attributes and, as {@code data}, the proto JSON of the payload's {@code
   * google.protobuf.Any}.
   */
  JSON,
  /** The bytes of the message {@link EventEnvelope}. */
  PROTO,
  /**
   * The attributes as headers {@code ce-...}, and the bytes of the payload's {@code google.protobuf.Any} as the body.
   * Type, source and organization are percent-encoded only if they have blanks at their ends or look encoded, because
   * services in Go read them as they are.
   */
  PROTO_HEADERS;

  /**
   * Writes a change as an event.
   *
   * @param change what has happened
   * @param subjectPrefix how its subject begins, such as {@code notes.changes}: the subject is {@code
   *     <prefix>.<aggregate type>.<operation>}, the source the prefix without a last {@code .changes}
   * @param now the time of a change that has none
   * @param trace the headers of a trace context: {@code traceparent}, {@code tracestate}, {@code baggage} and whatever
   *     else is to travel; may be empty
   * @return the event
   * @throws IllegalArgumentException if the change cannot be written; the message names the parameter
   */
  public EncodedEvent encode(
      Change change, String subjectPrefix, Instant now, Map<String, String> trace) {
    Subjects.checkPrefix(subjectPrefix);
    return Encoder.encode(this, change, subjectPrefix, now, trace);
  }
}
