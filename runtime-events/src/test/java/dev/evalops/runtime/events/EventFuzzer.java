package dev.evalops.runtime.events;

import com.google.protobuf.Any;
import dev.evalops.runtime.events.notes.Note;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * What Jazzer runs: reads events of arbitrary bytes in every form, and writes again what it could read. Anything but
 * the documented exception ends it.
 */
public final class EventFuzzer {
  private EventFuzzer() {}

  /** Called by Jazzer, and with the bytes that it has found before. */
  public static void fuzzerTestOneInput(byte[] input) {
    if (input.length == 0) {
      return;
    }
    byte[] body = Arrays.copyOfRange(input, 1, input.length);
    Map<String, List<String>> headers = new HashMap<>();
    if ((input[0] & 1) != 0) {
      headers.put("ce-specversion", List.of("1.0"));
      headers.put("ce-id", List.of("e-1"));
      headers.put("ce-type", List.of("t"));
      headers.put("ce-source", List.of("s"));
      headers.put(
          "content-type",
          List.of((input[0] & 2) != 0 ? "application/json" : "application/protobuf"));
    }
    if ((input[0] & 4) != 0) {
      headers.put("ce-partitionkey", List.of(printable(body)));
      headers.put("ce-time", List.of(printable(body)));
    }
    try {
      Event event = Event.read(headers, body);
      if (event.id().isBlank() || event.type().isBlank() || event.source().isBlank()) {
        throw new AssertionError("half an event: " + event);
      }
      event.data();
      event.payloadType();
      Note note = event.payload(Note.getDefaultInstance());
      // Not the notes: JSON has no unknown fields.
      byte[] json = write(note);
      if (!Arrays.equals(write(ProtoJson.readAny(json, Note.getDefaultInstance())), json)) {
        throw new AssertionError("another note: " + note);
      }
      event.payload(Any.getDefaultInstance());
    } catch (IllegalArgumentException documented) {
      if (documented.getMessage() == null) {
        throw new AssertionError("without a message", documented);
      }
    }
  }

  private static byte[] write(Note note) {
    JsonWriter out = new JsonWriter();
    ProtoJson.writeAny(out, note);
    return out.toBytes();
  }

  private static String printable(byte[] bytes) {
    StringBuilder text = new StringBuilder();
    for (byte each : bytes) {
      if (each >= ' ' && each < 127) {
        text.append((char) each);
      }
    }
    return text.toString();
  }
}
