package dev.evalops.runtime.events.cloudevents;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.google.protobuf.Any;
import com.google.protobuf.Timestamp;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.EventEnvelope;
import dev.evalops.runtime.events.notes.Note;
import io.cloudevents.CloudEvent;
import io.cloudevents.core.builder.CloudEventBuilder;
import io.cloudevents.jackson.JsonFormat;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import org.junit.jupiter.api.Test;

class CloudEventsTest {
  private static final String JSON = "{\"specversion\":\"1.0\",\"id\":\"e-1\","
      + "\"type\":\"notes.changes.note.create\",\"source\":\"notes\","
      + "\"time\":\"2026-04-15T12:00:00Z\",\"datacontenttype\":\"application/json\","
      + "\"tenant_id\":\"org-1\",\"traceparent\":\"p\",\"tracestate\":\"s\",\"baggage\":\"b\","
      + "\"sequence\":\"42\",\"partitionkey\":\"ä n%1 +\",\"aggregateversion\":\"7\","
      + "\"data\":{\"@type\":\"type.googleapis.com/notes.v1.Note\",\"title\":\"x\"}}";

  private static void assertSame(Event back, Event event) {
    assertThat(back.id()).isEqualTo(event.id());
    assertThat(back.type()).isEqualTo(event.type());
    assertThat(back.source()).isEqualTo(event.source());
    assertThat(back.time()).isEqualTo(event.time());
    assertThat(back.dataContentType()).isEqualTo(event.dataContentType());
    assertThat(back.organizationId()).isEqualTo(event.organizationId());
    assertThat(back.traceparent()).isEqualTo(event.traceparent());
    assertThat(back.tracestate()).isEqualTo(event.tracestate());
    assertThat(back.baggage()).isEqualTo(event.baggage());
    assertThat(back.sequence()).isEqualTo(event.sequence());
    assertThat(back.aggregateId()).isEqualTo(event.aggregateId());
    assertThat(back.version()).isEqualTo(event.version());
    assertThat(back.data()).isEqualTo(event.data());
  }

  @Test
  void turnsAJsonEventIntoOneOfTheSdk_andBack() {
    Event event = Event.read(JSON.getBytes(StandardCharsets.UTF_8));
    CloudEvent converted = CloudEvents.of(event);

    assertThat(converted.getExtension("tenantid")).isEqualTo("org-1");
    assertThat(converted.getSource()).isEqualTo(URI.create("notes"));
    assertThat(converted.getDataContentType()).isEqualTo("application/json");
    assertSame(CloudEvents.toEvent(converted), event);
  }

  @Test
  void turnsAProtoEventIntoOneOfTheSdk_andBack() {
    Note note = Note.newBuilder().setTitle("x").build();
    Event event = Event.read(EventEnvelope.newBuilder()
        .setSpecVersion("1.0")
        .setId("e-1")
        .setType("t")
        .setSource("s")
        .setTime(Timestamp.newBuilder().setSeconds(1).setNanos(5))
        .setDataContentType("application/protobuf")
        .setData(Any.pack(note))
        .build()
        .toByteArray());
    CloudEvent converted = CloudEvents.of(event);

    assertThat(converted.getTime().toInstant()).isEqualTo(Instant.ofEpochSecond(1, 5));
    Event back = CloudEvents.toEvent(converted);
    assertSame(back, event);
    assertThat(back.payload(Note.getDefaultInstance())).isEqualTo(note);
  }

  @Test
  void survivesTheJsonFormatOfTheSdk() {
    Event event = Event.read(JSON.getBytes(StandardCharsets.UTF_8));
    JsonFormat format = new JsonFormat();

    CloudEvent read = format.deserialize(format.serialize(CloudEvents.of(event)));

    Event back = CloudEvents.toEvent(read);
    assertThat(back.organizationId()).isEqualTo(event.organizationId());
    assertThat(back.payload(Note.getDefaultInstance()).getTitle()).isEqualTo("x");
  }

  @Test
  void leavesOutWhatIsNotThere() {
    CloudEvent bare = CloudEventBuilder.v1()
        .withId("1")
        .withType("t")
        .withSource(URI.create("s"))
        .build();
    Event event = CloudEvents.toEvent(bare);

    assertThat(event.time()).isEmpty();
    assertThat(event.data()).isEmpty();
    assertThat(CloudEvents.of(event).getTime()).isNull();
  }

  @Test
  void refusesWhatTheOtherSideCannotHave() {
    CloudEvent old = CloudEventBuilder.v03()
        .withId("1")
        .withType("t")
        .withSource(URI.create("s"))
        .build();
    assertThatThrownBy(() -> CloudEvents.toEvent(old))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("specversion");
    Event spaced = Event.read(JSON.replace("\"source\":\"notes\"", "\"source\":\"a b\"")
        .getBytes(StandardCharsets.UTF_8));
    assertThatThrownBy(() -> CloudEvents.of(spaced)).isInstanceOf(IllegalArgumentException.class);
  }
}
