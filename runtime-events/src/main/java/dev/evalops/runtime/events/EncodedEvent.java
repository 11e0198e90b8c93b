package dev.evalops.runtime.events;

import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * An event in the form in which a broker gets it. Immutable: headers and body are copied.
 *
 * @param id the event's id, the same at every sending, so that the broker can drop repeats
 * @param subject the subject on which it is published
 * @param headers the headers of the message
 * @param body the body of the message
 * @param lane type and id of the aggregate; events of one lane are kept in order
 */
@SuppressWarnings("ArrayRecordComponent") // copied in and out, compared by content
public record EncodedEvent(
    String id, String subject, Map<String, List<String>> headers, byte[] body, String lane) {

  /** Copies the headers and the body. */
  public EncodedEvent {
    Objects.requireNonNull(id, "id");
    Objects.requireNonNull(subject, "subject");
    Objects.requireNonNull(lane, "lane");
    Map<String, List<String>> copy = new LinkedHashMap<>();
    headers.forEach((name, values) -> copy.put(name, List.copyOf(values)));
    headers = Collections.unmodifiableMap(copy);
    body = body.clone();
  }

  /**
   * Returns the body.
   *
   * @return a copy
   */
  @Override
  public byte[] body() {
    return body.clone();
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof EncodedEvent event
        && id.equals(event.id)
        && subject.equals(event.subject)
        && headers.equals(event.headers)
        && Arrays.equals(body, event.body)
        && lane.equals(event.lane);
  }

  @Override
  public int hashCode() {
    return Objects.hash(id, subject, headers, Arrays.hashCode(body), lane);
  }

  /**
   * Returns a description without the content.
   *
   * @return for example {@code EncodedEvent[id=…, subject=notes.changes.note.create, lane=note/7, 120 bytes]}
   */
  @Override
  public String toString() {
    return "EncodedEvent[id=" + id + ", subject=" + subject + ", lane=" + lane + ", " + body.length
        + " bytes]";
  }
}
