package dev.evalops.runtime.http;

import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.errors.ErrorResponse;
import java.io.IOException;
import java.io.OutputStream;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.json.JsonFactory;
import tools.jackson.databind.json.JsonMapper;

/**
 * Writes responses. A value is serialised before the status is sent, so a value that cannot be serialised is a clean
 * 500.
 *
 * <p>Thread-safe.
 */
public final class HttpResponses {
  private static final JsonMapper MAPPER = JsonMapper.shared();
  // For what was just written, however long.
  private static final JsonFactory UNLIMITED = JsonFactory.builder()
      .streamReadConstraints(StreamReadConstraints.builder()
          .maxNumberLength(Integer.MAX_VALUE)
          .maxStringLength(Integer.MAX_VALUE)
          .maxNameLength(Integer.MAX_VALUE)
          .maxNestingDepth(Integer.MAX_VALUE)
          .build())
      .build();

  private HttpResponses() {}

  /**
   * Answers with JSON.
   *
   * @param exchange the exchange
   * @param status 200 to 599
   * @param value a record, a map, a collection, …; times become ISO 8601
   * @throws IOException if the client is gone
   */
  public static void json(HttpExchange exchange, int status, Object value) throws IOException {
    json(exchange, status, value, MAPPER);
  }

  /**
   * Answers with JSON.
   *
   * @param exchange the exchange
   * @param status 200 to 599
   * @param value the value
   * @param mapper how it is written
   * @throws IOException if the client is gone
   */
  public static void json(HttpExchange exchange, int status, Object value, JsonMapper mapper)
      throws IOException {
    bytes(exchange, status, "application/json", toJson(value, mapper));
  }

  /**
   * Answers a mutation with {@code X-Change-Seq} and JSON. If the JSON is an object with an integer field {@code
   * version}, that is the {@code ETag}, as {@link HttpRequests#requireIfMatch} reads it.
   *
   * @param exchange the exchange
   * @param status 200 to 599
   * @param payload the resource after the mutation
   * @param sequence its number in the change journal
   * @throws IOException if the client is gone
   */
  public static void mutation(HttpExchange exchange, int status, Object payload, long sequence)
      throws IOException {
    byte[] body = toJson(payload, MAPPER);
    Headers headers = exchange.getResponseHeaders();
    headers.set("X-Change-Seq", Long.toString(sequence));
    String version = version(body);
    if (version != null) {
      headers.set("ETag", "\"" + version + "\"");
    }
    bytes(exchange, status, "application/json", body);
  }

  private static byte[] toJson(Object value, JsonMapper mapper) {
    byte[] json = mapper.writeValueAsBytes(value);
    byte[] line = Arrays.copyOf(json, json.length + 1);
    line[json.length] = '\n';
    return line;
  }

  private static @Nullable String version(byte[] json) {
    try (JsonParser parser = UNLIMITED.createParser(ObjectReadContext.empty(), json)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        return null;
      }
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        boolean named = parser.currentName().equals("version");
        JsonToken value = parser.nextToken();
        if (named) {
          return value == JsonToken.VALUE_NUMBER_INT
              ? parser.getString() // it may be beyond a long
              : null;
        }
        parser.skipChildren();
      }
      return null;
    }
  }

  /**
   * Answers with bytes.
   *
   * @param exchange the exchange
   * @param status 200 to 599
   * @param contentType the media type
   * @param body the whole body; may be empty
   * @throws IOException if the client is gone
   */
  public static void bytes(HttpExchange exchange, int status, String contentType, byte[] body)
      throws IOException {
    exchange.getResponseHeaders().set("Content-Type", contentType);
    exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
    if (body.length > 0) {
      try (OutputStream out = exchange.getResponseBody()) {
        out.write(body);
      }
    }
  }

  /**
   * Answers 204 without a body.
   *
   * @param exchange the exchange
   * @throws IOException if the client is gone
   */
  public static void noContent(HttpExchange exchange) throws IOException {
    exchange.sendResponseHeaders(204, -1);
  }

  /**
   * Refuses headers that cannot be sent, as the server does before it sends them: a name that is no token, a value with
   * a control character or with anything beyond ISO 8859-1 (RFC 9110, section 5). For a filter that keeps a response.
   *
   * @param headers the headers of a response
   * @throws IllegalArgumentException if one cannot be sent
   */
  public static void checkHeaders(Headers headers) {
    isFramed(headers);
  }

  /** Checks the headers; whether there is one among them that says how long the body is. */
  static boolean isFramed(Headers headers) {
    boolean framed = false;
    for (Map.Entry<String, List<String>> header : headers.entrySet()) {
      String name = header.getKey();
      if (!RequestRules.isHeader(name, header.getValue())) {
        throw new IllegalArgumentException(
            "response header " + RequestRules.printable(name) + " has an illegal character");
      }
      framed |= name.equals("Content-length") || name.equals("Transfer-encoding");
    }
    return framed;
  }

  /**
   * Answers with the code and message of a failure, without a log line; headers that do not describe a body stay.
   * Handlers throw; this is for a filter that has work to do afterwards.
   *
   * @param exchange the exchange
   * @param failure what went wrong
   * @throws IOException if the client is gone
   */
  public static void error(HttpExchange exchange, Throwable failure) throws IOException {
    ErrorResponse.of(failure).send(exchange);
  }
}
