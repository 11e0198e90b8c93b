package dev.evalops.runtime.events.cloudevents;

import dev.evalops.runtime.events.Event;
import io.cloudevents.CloudEvent;
import io.cloudevents.CloudEventData;
import io.cloudevents.core.builder.CloudEventBuilder;
import java.net.URI;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.time.ZoneOffset;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Converts events to those of the CloudEvents SDK, and back. The organization is their extension {@code tenantid}, the
 * aggregate id {@code partitionkey}; {@code traceparent}, {@code tracestate}, {@code baggage}, {@code sequence} and
 * {@code aggregateversion} are extensions of the same name.
 */
public final class CloudEvents {
  private static final List<String> EXTENSIONS = List.of(
      "tenantid",
      "traceparent",
      "tracestate",
      "baggage",
      "sequence",
      "partitionkey",
      "aggregateversion");

  private CloudEvents() {}

  /**
   * Returns the event for the SDK. Its data are those of {@link Event#data()}.
   *
   * @param event the event
   * @return the same for the SDK
   * @throws IllegalArgumentException if its source is no URI reference
   */
  public static CloudEvent of(Event event) {
    CloudEventBuilder builder = CloudEventBuilder.v1()
        .withId(event.id())
        .withType(event.type())
        .withSource(URI.create(event.source()));
    event.time().ifPresent(time -> builder.withTime(time.atOffset(ZoneOffset.UTC)));
    event.organizationId().ifPresent(value -> builder.withExtension("tenantid", value));
    event.traceparent().ifPresent(value -> builder.withExtension("traceparent", value));
    event.tracestate().ifPresent(value -> builder.withExtension("tracestate", value));
    event.baggage().ifPresent(value -> builder.withExtension("baggage", value));
    event.sequence().ifPresent(value -> builder.withExtension("sequence", Long.toString(value)));
    event.aggregateId().ifPresent(value -> builder.withExtension("partitionkey", value));
    event
        .version()
        .ifPresent(value -> builder.withExtension("aggregateversion", Long.toString(value)));
    byte[] data = event.data();
    event.dataContentType().ifPresent(builder::withDataContentType);
    if (data.length > 0) {
      builder.withData(data);
    }
    return builder.build();
  }

  /**
   * Reads an event of the SDK. To be read by {@link Event#payload}, its data must be the proto JSON of a {@code
   * google.protobuf.Any}, or the bytes of one with the type {@code application/protobuf}. Other extensions are left
   * out.
   *
   * @param event an event of version 1.0
   * @return the same event
   * @throws IllegalArgumentException if it cannot be read
   */
  public static Event toEvent(CloudEvent event) {
    Map<String, List<String>> headers = new LinkedHashMap<>();
    put(headers, "specversion", event.getSpecVersion().toString());
    put(headers, "id", event.getId());
    put(headers, "type", event.getType());
    put(headers, "source", event.getSource().toString());
    if (event.getTime() != null) {
      put(headers, "time", event.getTime().toInstant().toString());
    }
    if (event.getDataContentType() != null) {
      put(headers, "datacontenttype", event.getDataContentType());
    }
    for (String name : EXTENSIONS) {
      Object value = event.getExtension(name);
      if (value != null) {
        put(headers, name, value.toString());
      }
    }
    return Event.read(headers, bytes(event.getData()));
  }

  private static void put(Map<String, List<String>> headers, String name, String value) {
    headers.put(
        "ce-" + name,
        List.of(URLEncoder.encode(value, StandardCharsets.UTF_8).replace("+", "%20")));
  }

  private static byte[] bytes(@Nullable CloudEventData data) {
    return data == null ? new byte[0] : data.toBytes();
  }
}
