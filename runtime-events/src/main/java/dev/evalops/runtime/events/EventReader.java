package dev.evalops.runtime.events;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.time.DateTimeException;
import java.time.Instant;
import java.util.Arrays;
import java.util.Base64;
import java.util.EnumSet;
import java.util.HashSet;
import java.util.Locale;
import java.util.Set;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.json.JsonFactory;
import tools.jackson.core.sym.PropertyNameMatcher;
import tools.jackson.core.util.Named;

/**
 * Reads events in the formats of this module and of the CloudEvents SDKs: attributes in headers (CloudEvents' binary
 * mode), a JSON object (its structured mode), or an {@link EventEnvelope}.
 */
final class EventReader {
  static final String CONTENT_TYPE = "content-type";
  private static final String STRUCTURED = "application/cloudevents";
  private static final Pattern MESSAGE_NAME = Pattern.compile("(.*/)?[A-Za-z_]\\w*(\\.\\w+)*+");
  private static final JsonFactory JSON = JsonFactory.builder().build();

  /** What an event in JSON has at its top, by the names there. */
  private enum Member {
    SPECVERSION("specversion"),
    ID("id"),
    TYPE("type"),
    SOURCE("source"),
    DATACONTENTTYPE("datacontenttype"),
    TENANT_OF_PEERS("tenant_id"),
    TENANTID("tenantid"),
    TRACEPARENT(Trace.PARENT),
    TRACESTATE(Trace.STATE),
    BAGGAGE(Trace.BAGGAGE),
    PARTITIONKEY("partitionkey"),
    SEQUENCE("sequence"),
    AGGREGATEVERSION("aggregateversion"),
    TIME("time"),
    DATA("data"),
    DATA_BASE64("data_base64");

    private static final Member[] ALL = values();
    private static final PropertyNameMatcher MATCHER = JSON.constructNameMatcher(
        Arrays.stream(ALL).map(member -> Named.fromString(member.text)).toList(), false);

    private final String text;

    Member(String text) {
      this.text = text;
    }
  }

  private final Attributes headers;
  private String specVersion = "";
  private String tenantOfPeers = "";

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

  /** As it came; null if there is none. */
  byte @Nullable [] data;

  /** Whether the data are JSON. */
  boolean isJson;

  /** What the data are, if they are that. */
  @Nullable
  Any any;

  /** The type of the data, as a URL or a name; empty if they do not say. */
  String typeUrl = "";

  /** The headers of a message. */
  @FunctionalInterface
  interface Attributes {
    /** Empty if there is none. The name of the content type may be written in any case, others not. */
    String get(String name);
  }

  private EventReader(Attributes headers) {
    this.headers = headers;
  }

  /**
   * Reads an event.
   *
   * @throws IllegalArgumentException if it is none; the message says what is wrong
   */
  static EventReader read(Attributes headers, byte[] body) {
    EventReader read = hasAttributes(headers) ? ofHeaders(headers, body) : ofBody(headers, body);
    read.takeMissing();
    read.checkTexts();
    return read;
  }

  private static boolean hasAttributes(Attributes headers) {
    return !headers.get("ce-specversion").isBlank()
        && !headers.get("ce-id").isBlank()
        && !headers.get("ce-type").isBlank()
        && !headers.get("ce-source").isBlank()
        && !mediaType(headers.get(CONTENT_TYPE)).startsWith(STRUCTURED);
  }

  /** As the CloudEvents bindings have it, with percent signs for what a header cannot carry. */
  private String attribute(String name) {
    return Encoder.unescape(headers.get(name));
  }

  private void fromHeaders(byte[] body) {
    specVersion = attribute("ce-specversion");
    id = attribute("ce-id");
    type = attribute("ce-type");
    source = attribute("ce-source");
    String written = attribute("ce-time");
    if (!written.isBlank()) {
      time = EventTime.parse(written.strip());
    }
    String contentType = attribute("ce-datacontenttype");
    if (contentType.isBlank()) {
      contentType = headers.get(CONTENT_TYPE);
    }
    if (contentType.isBlank()) {
      if (body.length > 0) {
        data = body.clone();
        takeIfAny(body); // of peers, who need not say so
        dataContentType = any == null ? "" : Encoder.PROTO_TYPE;
      }
    } else {
      dataContentType = contentType;
      takeData(body);
    }
    check();
  }

  private static EventReader ofHeaders(Attributes headers, byte[] body) {
    EventReader read = new EventReader(headers);
    read.fromHeaders(body);
    return read;
  }

  private static EventReader ofBody(Attributes headers, byte[] body) {
    if (body.length == 0) {
      throw new IllegalArgumentException("envelope_empty");
    }
    int start = 0;
    while (start < body.length && isBlank(body[start])) {
      start++;
    }
    if (start == body.length || body[start] != '{') {
      return ofEnvelope(headers, body);
    }
    return start == 0 ? ofJson(headers, body) : ofJsonOrEnvelope(headers, body);
  }

  private static EventReader ofJson(Attributes headers, byte[] body) {
    EventReader read = new EventReader(headers);
    read.fromJson(body);
    return read;
  }

  private static EventReader ofEnvelope(Attributes headers, byte[] body) {
    EventReader read = new EventReader(headers);
    read.fromEnvelope(body);
    return read;
  }

  /** The blanks may be the first bytes of an envelope. */
  private static EventReader ofJsonOrEnvelope(Attributes headers, byte[] body) {
    try {
      return ofJson(headers, body);
    } catch (IllegalArgumentException noJson) {
      try {
        return ofEnvelope(headers, body);
      } catch (IllegalArgumentException noEnvelope) {
        noJson.addSuppressed(noEnvelope);
        throw noJson;
      }
    }
  }

  private void fromEnvelope(byte[] body) {
    EventEnvelope envelope;
    try {
      envelope = EventEnvelope.parseFrom(body);
    } catch (InvalidProtocolBufferException invalid) {
      throw new IllegalArgumentException("envelope: it is neither JSON nor protobuf", invalid);
    }
    specVersion = envelope.getSpecVersion();
    id = envelope.getId();
    type = envelope.getType();
    source = envelope.getSource();
    if (envelope.hasTime()) {
      time = instant(envelope.getTime());
    }
    dataContentType = envelope.getDataContentType();
    tenantId = envelope.getTenantId();
    traceparent = envelope.getTraceParent();
    tracestate = envelope.getTraceState();
    baggage = envelope.getBaggage();
    if (envelope.hasData()) {
      takeAny(envelope.getData(), envelope.getData().toByteArray());
    }
    check();
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

  private void fromJson(byte[] body) {
    checkText("envelope", body);
    Set<Member> seen = EnumSet.noneOf(Member.class);
    Set<String> others = new HashSet<>();
    byte[] value = null;
    String text = null;
    String base64 = "";
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), body)) {
      parser.nextToken();
      while (true) {
        int match = parser.nextNameMatch(Member.MATCHER);
        if (parser.currentToken() != JsonToken.PROPERTY_NAME) {
          break;
        }
        Member member = match < 0 ? null : Member.ALL[match];
        if (member == null ? !others.add(parser.currentName()) : !seen.add(member)) {
          throw new IllegalArgumentException("envelope: a name is there twice");
        }
        JsonToken token = parser.nextToken();
        if (member == null) {
          parser.skipChildren();
          continue;
        }
        switch (member) {
          case SPECVERSION -> specVersion = text(parser, member);
          case ID -> id = text(parser, member);
          case TYPE -> type = text(parser, member);
          case SOURCE -> source = text(parser, member);
          case DATACONTENTTYPE -> dataContentType = text(parser, member);
          case TENANT_OF_PEERS -> tenantOfPeers = text(parser, member);
          case TENANTID -> tenantId = scalar(parser, member);
          case TRACEPARENT -> traceparent = text(parser, member);
          case TRACESTATE -> tracestate = text(parser, member);
          case BAGGAGE -> baggage = text(parser, member);
          case PARTITIONKEY -> partitionKey = text(parser, member);
          case SEQUENCE -> sequence = scalar(parser, member);
          case AGGREGATEVERSION -> version = textOrNumber(parser, member);
          case TIME ->
            time = token == JsonToken.VALUE_NULL ? null : EventTime.parse(text(parser, member));
          case DATA_BASE64 -> base64 = text(parser, member);
          case DATA -> {
            if (token == JsonToken.VALUE_STRING) {
              text = parser.getString();
            }
            value = token == JsonToken.VALUE_NULL ? null : slice(parser, body);
          }
        }
      }
      if (parser.currentToken() != JsonToken.END_OBJECT || parser.nextToken() != null) {
        throw new IllegalArgumentException("envelope: something follows the JSON object");
      }
    } catch (JacksonException invalid) {
      throw new IllegalArgumentException(
          "envelope: it is not valid JSON: " + ProtoJson.oneLine(invalid.getOriginalMessage()),
          invalid);
    }
    if (!tenantOfPeers.isEmpty()) {
      tenantId = tenantOfPeers;
    }
    check();
    if (!base64.isEmpty()) {
      if (value != null) {
        throw new IllegalArgumentException("data: it is there twice, as data and as data_base64");
      }
      takeData(decoded(base64));
    } else if (value != null && text != null && !dataContentType.isEmpty() && !isJsonType()) {
      data = text.getBytes(StandardCharsets.UTF_8);
    } else if (value != null) {
      data = value;
      isJson = true;
    }
  }

  private static byte[] decoded(String base64) {
    try {
      return Base64.getDecoder().decode(base64);
    } catch (IllegalArgumentException invalid) {
      throw new IllegalArgumentException("data_base64: it is not Base64", invalid);
    }
  }

  private static String text(JsonParser parser, Member member) {
    JsonToken token = parser.currentToken();
    if (token == JsonToken.VALUE_NULL) {
      return "";
    }
    if (token != JsonToken.VALUE_STRING) {
      throw new IllegalArgumentException(member.text + ": it is not a string");
    }
    return parser.getString();
  }

  private static String textOrNumber(JsonParser parser, Member member) {
    return parser.currentToken() == JsonToken.VALUE_NUMBER_INT
        ? parser.getString()
        : text(parser, member);
  }

  private static String scalar(JsonParser parser, Member member) {
    return parser.currentToken().isNumeric() || parser.currentToken().isBoolean()
        ? parser.getString()
        : text(parser, member);
  }

  /** The bytes of the value that the parser is at. */
  private byte[] slice(JsonParser parser, byte[] body) {
    int start = Math.toIntExact(parser.currentTokenLocation().getByteOffset());
    skipData(parser);
    int end = Math.toIntExact(parser.currentLocation().getByteOffset());
    return Arrays.copyOfRange(body, start, end);
  }

  /** Passes over the JSON value that the parser is at, and takes its type. */
  private void skipData(JsonParser parser) {
    if (parser.currentToken() != JsonToken.START_OBJECT) {
      parser.skipChildren();
      parser.finishToken();
      return;
    }
    while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
      boolean isType = typeUrl.isEmpty() && parser.currentName().equals("@type");
      if (parser.nextToken() == JsonToken.VALUE_STRING && isType) {
        typeUrl = dataString(parser);
      }
      parser.skipChildren();
    }
  }

  private static String dataString(JsonParser parser) {
    try {
      return parser.getString();
    } catch (JacksonException invalid) {
      throw new IllegalArgumentException(
          "data: it is not valid JSON: " + ProtoJson.oneLine(invalid.getOriginalMessage()),
          invalid);
    }
  }

  private boolean isJsonType() {
    String type = mediaType(dataContentType);
    return type.equals(Encoder.JSON_TYPE) || type.equals("text/json") || type.endsWith("+json");
  }

  /** Without parameters, in lower case. */
  private static String mediaType(String contentType) {
    int end = contentType.indexOf(';');
    return (end < 0 ? contentType : contentType.substring(0, end)).strip().toLowerCase(Locale.ROOT);
  }

  /** Takes data of the content type. */
  private void takeData(byte[] bytes) {
    if (isJsonType()) {
      data = jsonData(bytes);
      isJson = data != null;
    } else if (bytes.length > 0) {
      data = bytes.clone();
      if (mediaType(dataContentType).equals(Encoder.PROTO_TYPE)) {
        takeIfAny(bytes);
      }
    }
  }

  private void takeAny(Any of, byte[] bytes) {
    any = of;
    typeUrl = of.getTypeUrl();
    data = bytes.clone();
  }

  /** Others say of any protobuf message that it is {@code application/protobuf}. */
  private void takeIfAny(byte[] bytes) {
    try {
      Any parsed = parseAny(bytes);
      if (parsed.getUnknownFields().asMap().isEmpty()
          && MESSAGE_NAME.matcher(parsed.getTypeUrl()).matches()) {
        takeAny(parsed, bytes);
      }
    } catch (IllegalArgumentException other) {
      // It can be read as bytes.
    }
  }

  private static Any parseAny(byte[] body) {
    try {
      return Any.parseFrom(body);
    } catch (InvalidProtocolBufferException invalid) {
      throw new IllegalArgumentException("data: it is not a google.protobuf.Any", invalid);
    }
  }

  private byte @Nullable [] jsonData(byte[] body) {
    if (body.length == 0) {
      return null;
    }
    checkText("data", body);
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), body)) {
      JsonToken first = parser.nextToken();
      if (first == null || first == JsonToken.VALUE_NULL) {
        return null;
      }
      skipData(parser);
      if (parser.nextToken() != null) {
        throw new IllegalArgumentException("data: something follows the JSON value");
      }
      return body.clone();
    } catch (JacksonException invalid) {
      throw new IllegalArgumentException(
          "data: it is not valid JSON: " + ProtoJson.oneLine(invalid.getOriginalMessage()),
          invalid);
    }
  }

  /**
   * Refuses JSON with what is no text. The parser would guess at other encodings and take malformed characters; of
   * half surrogate pairs strings are the only place, as of backslashes.
   */
  private static void checkText(String name, byte[] json) {
    if (!isUtf8WithoutNul(json)) {
      throw new IllegalArgumentException(name + ": it is not UTF-8, or holds a NUL");
    }
    boolean high = false; // right before
    for (int i = 0; i < json.length; i++) {
      if (json[i] != '\\' && !high) {
        continue;
      }
      int unit = 0;
      if (json[i] == '\\') {
        unit = i + 1 < json.length && json[i + 1] == 'u' ? escaped(json, i + 2) : 0;
        i += unit == 0 ? 1 : 5;
      }
      boolean low = Character.isLowSurrogate((char) unit);
      if (low != high) {
        throw new IllegalArgumentException(name + ": half a surrogate pair");
      }
      high = Character.isHighSurrogate((char) unit);
    }
  }

  /** JSON in other encodings is full of NULs, and has none in this one. */
  private static boolean isUtf8WithoutNul(byte[] json) {
    int all = 0;
    for (byte each : json) {
      all |= each - 1;
    }
    if (all >= 0) {
      return true; // ASCII
    }
    String text = new String(json, StandardCharsets.UTF_8);
    if (text.indexOf('\0') >= 0) {
      return false;
    }
    // A replacement character may also be meant; the decoder tells, and takes longer.
    if (text.indexOf('\ufffd') < 0) {
      return true;
    }
    try {
      StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(json));
      return true;
    } catch (CharacterCodingException malformed) {
      return false;
    }
  }

  /** The code unit of four digits, or zero where there are none. */
  private static int escaped(byte[] json, int from) {
    int unit = 0;
    for (int i = from; i < from + 4; i++) {
      int digit = i < json.length ? Character.digit(json[i], 16) : -1;
      if (digit < 0) {
        return 0;
      }
      unit = unit << 4 | digit;
    }
    return unit;
  }

  private static boolean isBlank(byte b) {
    return b == ' ' || (b >= '\t' && b <= '\r');
  }

  private void check() {
    if (!specVersion.equals(Encoder.SPEC_VERSION)) {
      throw new IllegalArgumentException("specversion: it is not 1.0");
    }
    require("id", id);
    require("type", type);
    require("source", source);
  }

  /** No CloudEvent has a NUL in its attributes, and no database takes one in a text. */
  private void checkTexts() {
    refuseNul("id", id);
    refuseNul("type", type);
    refuseNul("source", source);
    refuseNul("tenantid", tenantId);
    refuseNul("partitionkey", partitionKey);
  }

  private static void refuseNul(String name, String value) {
    if (value.indexOf('\0') >= 0) {
      throw new IllegalArgumentException(name + ": it holds a NUL");
    }
  }

  private static void require(String name, String value) {
    if (value.isBlank()) {
      throw new IllegalArgumentException(name + ": it is missing or blank");
    }
  }

  /** What the body has not said, or cannot say. */
  private void takeMissing() {
    if (tenantId.isEmpty()) {
      tenantId = attribute("ce-tenantid");
    }
    if (traceparent.isEmpty()) {
      traceparent = trace(Trace.PARENT, "ce-traceparent");
      tracestate = trace(Trace.STATE, "ce-tracestate");
    }
    if (baggage.isEmpty()) {
      baggage = trace(Trace.BAGGAGE, "ce-baggage");
    }
    if (sequence.isEmpty()) {
      sequence = attribute("ce-sequence");
    }
    if (partitionKey.isEmpty()) {
      partitionKey = attribute("ce-partitionkey");
    }
    if (version.isEmpty()) {
      version = attribute("ce-aggregateversion");
    }
  }

  /** A header of its own, or an extension of CloudEvents. */
  private String trace(String header, String extension) {
    String own = headers.get(header);
    return own.isEmpty() ? attribute(extension) : own;
  }

  /** CloudEvents leaves open what a sequence looks like. */
  @Nullable
  Long sequenceNumber() {
    Long number = number(sequence);
    return number == null || number < 0 ? null : number;
  }

  @Nullable
  Long versionNumber() {
    Long number = number(version);
    if (!version.isEmpty() && (number == null || number < 0)) {
      throw new IllegalArgumentException("aggregateversion: it is not a number from 0 to 2^63-1");
    }
    return number;
  }

  private static @Nullable Long number(String text) {
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if ((c < '0' || c > '9') && (c != '-' || i > 0)) {
        return null; // Long reads a plus sign and digits of other scripts, too
      }
    }
    try {
      return text.isEmpty() ? null : Long.valueOf(text);
    } catch (NumberFormatException noNumber) {
      return null;
    }
  }
}
