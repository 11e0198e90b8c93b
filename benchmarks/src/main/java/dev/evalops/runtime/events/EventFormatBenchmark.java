package dev.evalops.runtime.events;

import com.google.protobuf.Any;
import com.google.protobuf.Api;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Method;
import com.google.protobuf.util.JsonFormat;
import io.cloudevents.CloudEvent;
import io.cloudevents.core.builder.CloudEventBuilder;
import io.cloudevents.core.provider.EventFormatProvider;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/**
 * An event with a protobuf payload, to bytes and back: our three formats, and the CloudEvents SDK's JSON with
 * protobuf's own proto JSON as its data. The payload is decoded, too, but by {@code readJson}, which is what a
 * consumer does before its handler.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(2)
public class EventFormatBenchmark {
  private static final Instant TIME = Instant.parse("2026-04-15T12:00:00Z");
  private static final JsonFormat.TypeRegistry TYPES =
      JsonFormat.TypeRegistry.newBuilder().add(Api.getDescriptor()).build();
  private static final JsonFormat.Printer PRINTER = JsonFormat.printer()
      .preservingProtoFieldNames()
      .omittingInsignificantWhitespace()
      .usingTypeRegistry(TYPES);
  private static final JsonFormat.Parser PARSER =
      JsonFormat.parser().ignoringUnknownFields().usingTypeRegistry(TYPES);

  public static final Api PAYLOAD = Api.newBuilder()
      .setName("notes.v1.Notes")
      .setVersion("v1.4.2")
      .addMethods(Method.newBuilder()
          .setName("CreateNote")
          .setRequestTypeUrl("type.googleapis.com/notes.v1.CreateNote")
          .setResponseTypeUrl("type.googleapis.com/notes.v1.Note")
          .setResponseStreaming(true))
      .addMethods(Method.newBuilder().setName("DeleteNote").setRequestStreaming(true))
      .build();

  private final UUID id = UUID.randomUUID();
  private final Change change = Change.of("note", "n-1", "create")
      .organization("org-1")
      .sequence(42)
      .version(7)
      .recordedAt(TIME)
      .eventId(id)
      .payload(PAYLOAD);
  private final EncodedEvent jsonMessage = encode(EventFormat.JSON);
  private final Map<String, List<String>> jsonHeaders = jsonMessage.headers();
  private final byte[] jsonBody = jsonMessage.body();
  private final EncodedEvent protoMessage = encode(EventFormat.PROTO);
  private final EncodedEvent headersMessage = encode(EventFormat.PROTO_HEADERS);
  private final io.cloudevents.core.format.EventFormat sdk = Objects.requireNonNull(
      EventFormatProvider.getInstance().resolveFormat("application/cloudevents+json"));
  private final byte[] sdkBytes = sdk.serialize(cloudEvent(sdkData()));
  private final byte[] sdkReadyData = sdkData();

  private EncodedEvent encode(EventFormat format) {
    return format.encode(change, "notes.changes", TIME, Map.of());
  }

  private static byte[] sdkData() {
    try {
      return PRINTER.print(Any.pack(PAYLOAD)).getBytes(StandardCharsets.UTF_8);
    } catch (InvalidProtocolBufferException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  private CloudEvent cloudEvent(byte[] data) {
    return CloudEventBuilder.v1()
        .withId(id.toString())
        .withType("notes.changes.note.create")
        .withSource(URI.create("notes"))
        .withTime(OffsetDateTime.ofInstant(TIME, ZoneOffset.UTC))
        .withExtension("tenantid", "org-1")
        .withExtension("sequence", "42")
        .withExtension("partitionkey", "n-1")
        .withExtension("aggregateversion", "7")
        .withData("application/json", data)
        .build();
  }

  @Benchmark
  public EncodedEvent encodeJson() {
    return encode(EventFormat.JSON);
  }

  @Benchmark
  public EncodedEvent encodeProto() {
    return encode(EventFormat.PROTO);
  }

  @Benchmark
  public EncodedEvent encodeProtoHeaders() {
    return encode(EventFormat.PROTO_HEADERS);
  }

  @Benchmark
  public byte[] encodeJsonBySdk() {
    return sdk.serialize(cloudEvent(sdkData()));
  }

  @Benchmark
  public byte[] encodeJsonBySdkWithDataReady() {
    return sdk.serialize(cloudEvent(sdkReadyData));
  }

  @Benchmark
  public Api decodeJson() {
    return decode(jsonMessage);
  }

  @Benchmark
  public Api decodeProto() {
    return decode(protoMessage);
  }

  @Benchmark
  public Api decodeProtoHeaders() {
    return decode(headersMessage);
  }

  @Benchmark
  public Event readJson() {
    return Event.read(jsonHeaders, jsonBody);
  }

  private static Api decode(EncodedEvent message) {
    return Event.read(message.headers(), message.body()).payload(Api.getDefaultInstance());
  }

  @Benchmark
  public Api decodeJsonBySdk() throws InvalidProtocolBufferException {
    byte[] data = Objects.requireNonNull(sdk.deserialize(sdkBytes).getData()).toBytes();
    Any.Builder any = Any.newBuilder();
    PARSER.merge(new String(data, StandardCharsets.UTF_8), any);
    return any.build().unpack(Api.class);
  }
}
