package dev.evalops.runtime.http;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.errors.ConnectCode;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.net.URLDecoder;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.MapperFeature;
import tools.jackson.databind.cfg.CoercionAction;
import tools.jackson.databind.cfg.CoercionInputShape;
import tools.jackson.databind.cfg.DateTimeFeature;
import tools.jackson.databind.cfg.EnumFeature;
import tools.jackson.databind.exc.InvalidDefinitionException;
import tools.jackson.databind.exc.UnrecognizedPropertyException;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.type.LogicalType;
import tools.jackson.databind.util.StdDateFormat;

/**
 * Reads the parts of a request. A wrong request is a {@link ServiceException}, which the guard answers.
 *
 * <p>Thread-safe.
 */
public final class HttpRequests {
  private static final JsonMapper MAPPER = JsonMapper.builder(StrictJson.factory())
      .addModule(StrictJson.module())
      .enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
      .enable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES)
      .disable(DeserializationFeature.ACCEPT_FLOAT_AS_INT)
      .enable(EnumFeature.FAIL_ON_NUMBERS_FOR_ENUMS)
      .disable(MapperFeature.ALLOW_COERCION_OF_SCALARS)
      .disable(DateTimeFeature.ALWAYS_ALLOW_STRINGIFIED_DATE_TIMESTAMPS)
      .defaultDateFormat(new StdDateFormat().withLenient(false))
      .withCoercionConfigDefaults(
          any -> any.setCoercion(CoercionInputShape.EmptyString, CoercionAction.Fail))
      .withCoercionConfig(
          LogicalType.Textual,
          text -> text.setCoercion(CoercionInputShape.Integer, CoercionAction.Fail)
              .setCoercion(CoercionInputShape.Float, CoercionAction.Fail)
              .setCoercion(CoercionInputShape.Boolean, CoercionAction.Fail))
      .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
      .build();

  private HttpRequests() {}

  /**
   * Reads the body as one JSON value with {@link #mapper()}.
   *
   * @param exchange the exchange
   * @param type the class of the value, usually a record
   * @param <T> its type
   * @return the value
   * @throws IOException if the body cannot be read
   * @throws ServiceException 400 {@code invalid_json} for everything that is not exactly one such value: trailing data,
   *     a duplicate or unknown field, {@code null}, a wrong type, a number or time that does not fit, text with NUL or
   *     half a surrogate pair, too deep a nesting, bytes that are not UTF-8; 413 if the body is too large; 415 {@code
   *     unsupported_content_encoding} if it is compressed
   * @throws IllegalStateException if no value of the type can be read
   */
  public static <T> T json(HttpExchange exchange, Class<T> type) throws IOException {
    return json(exchange, type, MAPPER);
  }

  /**
   * Reads the body as one JSON value.
   *
   * @param exchange the exchange
   * @param type the class of the value
   * @param mapper how fields are read; rebuild it from {@link #mapper()} to stay strict
   * @param <T> its type
   * @return the value
   * @throws IOException if the body cannot be read
   * @throws ServiceException 400 {@code invalid_json}, 413 if the body is too large, 415 {@code
   *     unsupported_content_encoding}
   * @throws IllegalStateException if no value of the type can be read
   */
  public static <T> T json(HttpExchange exchange, Class<T> type, JsonMapper mapper)
      throws IOException {
    List<String> encodings = exchange.getRequestHeaders().get("Content-Encoding");
    if (encodings != null
        && encodings.stream()
            .anyMatch(e -> !e.isBlank() && !e.trim().equalsIgnoreCase("identity"))) {
      exchange.getResponseHeaders().set("Accept-Encoding", "identity");
      throw ServiceException.of(HttpErrors.UNSUPPORTED_CONTENT_ENCODING).op("http.json");
    }
    return json(exchange.getRequestBody().readAllBytes(), type, mapper);
  }

  /**
   * Reads a body as one JSON value.
   *
   * @param body the bytes of the body
   * @param type the class of the value
   * @param mapper how fields are read
   * @param <T> its type
   * @return the value
   * @throws ServiceException 400 {@code invalid_json}; a ServiceException thrown by the constructor of the type as it
   *     is
   * @throws IllegalStateException if no value of the type can be read
   */
  public static <T> T json(byte[] body, Class<T> type, JsonMapper mapper) {
    try (JsonParser parser = StrictJson.parser(mapper.createParser(utf8(body)))) {
      JsonToken first = parser.nextToken();
      if (first == null || first == JsonToken.VALUE_NULL) {
        throw invalidJson("Request body must be valid JSON", null);
      }
      T value = mapper
          .readerFor(type)
          .without(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
          .readValue(parser);
      if (hasMore(parser)) {
        throw invalidJson("Request body must contain a single JSON value", null);
      }
      return value;
    } catch (UnrecognizedPropertyException e) {
      throw invalidJson(
          "Request body has an unknown field: " + RequestRules.printable(e.getPropertyName()), e);
    } catch (InvalidDefinitionException e) {
      throw new IllegalStateException("JSON cannot be read as " + type.getName(), e);
    } catch (JacksonException e) {
      for (Throwable t = e.getCause(); t != null; t = t.getCause()) {
        if (t instanceof ServiceException own) {
          throw own;
        }
      }
      throw invalidJson("Request body must be valid JSON", e);
    }
  }

  private static boolean hasMore(JsonParser parser) {
    try {
      return parser.nextToken() != null;
    } catch (JacksonException e) {
      return true;
    }
  }

  /** Jackson guesses the encoding of bytes, and takes some that are malformed. */
  private static String utf8(byte[] body) {
    String text = new String(body, StandardCharsets.UTF_8);
    if (text.indexOf('\ufffd') >= 0) {
      try {
        StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(body));
      } catch (CharacterCodingException e) {
        throw invalidJson("Request body must be valid JSON", e);
      }
    }
    return text;
  }

  private static ServiceException invalidJson(String message, @Nullable Throwable cause) {
    return cause == null
        ? ServiceException.of(ErrorCode.INVALID_JSON, message).op("http.json")
        : ServiceException.of(ErrorCode.INVALID_JSON, message, cause).op("http.json");
  }

  /**
   * Returns the strict mapper: unknown and duplicate fields, {@code null} for a primitive, numbers in quotes, text
   * without quotes, an empty text for anything but text, and enums as numbers are errors; names are compared as they
   * stand. So are numbers and times that would be changed: what is no byte, no finite float or double, or beyond the
   * range of its type, a decimal beyond the range of a double or with more than 1000 decimal places, a time as a number
   * in quotes, and, but for fields with a pattern of their own, a day that does not exist, and a date, time or zone
   * that the type has no place for ({@code 2026-01-02T23:00:00Z} for a {@code LocalDate}); and texts with NUL, which
   * Postgres cannot store, or half a surrogate pair, which UTF-8 cannot hold. So are a {@code TimeZone} that is not
   * known, which would be GMT, a {@code Locale} that is no language tag ({@code en-US}, or {@code en_US}), and a
   * {@code UUID} in another form than that of 36 characters, unless a module of the service's own reads them.
   *
   * @return a mapper to rebuild from
   */
  public static JsonMapper mapper() {
    return MAPPER;
  }

  /**
   * Returns the value of a path template: for {@code /v1/notes/7} and the route {@code GET /v1/notes/{id}} the {@code
   * id} is {@code 7}.
   *
   * @param exchange the exchange
   * @param name of the template, without its braces
   * @return percent-decoded, as {@link RequestContext#path()} is; not empty, without a slash, not {@code .} or {@code
   *     ..}
   * @throws IllegalArgumentException if the route has no such template
   */
  public static String pathValue(HttpExchange exchange, String name) {
    return RequestContext.of(exchange).pathValue(name);
  }

  /**
   * Returns the value of a path template as a UUID, see {@link #pathValue} and {@link #uuid}.
   *
   * @param exchange the exchange
   * @param name of the template, without its braces
   * @return the UUID
   * @throws ServiceException 400 {@code invalid_<name>}
   * @throws IllegalArgumentException if the route has no such template
   */
  public static UUID pathUuid(HttpExchange exchange, String name) {
    return uuid(pathValue(exchange, name), name);
  }

  /**
   * Reads a UUID, in its form of 36 characters only.
   *
   * @param raw what the client sent
   * @param name of the parameter, for the error; {@code id} if blank
   * @return the UUID
   * @throws ServiceException 400 {@code invalid_<name>}
   */
  public static UUID uuid(String raw, String name) {
    if (!isUuid(raw)) {
      throw invalid(name.isBlank() ? "id" : name, "a valid UUID");
    }
    return UUID.fromString(raw);
  }

  static boolean isUuid(String text) {
    boolean valid = text.length() == 36;
    for (int i = 0; valid && i < 36; i++) {
      char c = text.charAt(i);
      valid = (i == 8 || i == 13 || i == 18 || i == 23)
          ? c == '-'
          : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    }
    return valid;
  }

  /**
   * Reads the version that the client has seen.
   *
   * @param exchange the exchange
   * @return the version, 0 or more
   * @throws ServiceException 428 {@code missing_if_match}, 400 {@code invalid_if_match}
   */
  public static long requireIfMatch(HttpExchange exchange) {
    List<String> values = exchange.getRequestHeaders().get("If-Match");
    return requireIfMatch(values == null ? null : String.join(",", values));
  }

  /**
   * Reads the version that the client has seen: a number, bare, in quotes, or as a weak entity tag.
   *
   * @param header the value of {@code If-Match}, or null
   * @return the version, 0 or more
   * @throws ServiceException 428 {@code missing_if_match}; 400 {@code invalid_if_match} for anything else, a list or
   *     {@code *} too
   */
  public static long requireIfMatch(@Nullable String header) {
    String tag = header == null ? "" : header.trim();
    if (tag.isEmpty()) {
      throw ServiceException.of(HttpErrors.MISSING_IF_MATCH).op("http.if_match");
    }
    if (tag.startsWith("W/\"")) {
      tag = tag.substring(2);
    }
    if (tag.length() > 1 && tag.startsWith("\"") && tag.endsWith("\"")) {
      tag = tag.substring(1, tag.length() - 1);
    }
    try {
      if (RequestRules.isDigits(tag)) {
        return Long.parseLong(tag);
      }
    } catch (NumberFormatException e) {
      // Too large.
    }
    throw ServiceException.of(HttpErrors.INVALID_IF_MATCH).op("http.if_match");
  }

  /**
   * Reads a number from the query.
   *
   * @param exchange the exchange
   * @param key name of the parameter, decoded
   * @param fallback what is returned when it is absent or empty
   * @return the number
   * @throws ServiceException 400 {@code invalid_<key>} if it is not a number, or given twice
   */
  public static long longQuery(HttpExchange exchange, String key, long fallback) {
    return longQuery(exchange.getRequestURI().getRawQuery(), key, fallback);
  }

  /**
   * Reads a number from a query.
   *
   * @param rawQuery the query as it was sent, or null
   * @param key name of the parameter, decoded
   * @param fallback what is returned when it is absent or empty
   * @return the number
   * @throws ServiceException 400 {@code invalid_<key>} if it is not a number, or given twice
   */
  public static long longQuery(@Nullable String rawQuery, String key, long fallback) {
    if (rawQuery == null) {
      return fallback;
    }
    String found = null;
    for (String pair : rawQuery.split("&", -1)) {
      int end = pair.indexOf('=');
      if (decoded(end < 0 ? pair : pair.substring(0, end)).equals(key)) {
        if (found != null) {
          throw invalid(key, "given once");
        }
        found = end < 0 ? "" : decoded(pair.substring(end + 1));
      }
    }
    if (found == null || found.isEmpty()) {
      return fallback;
    }
    try {
      if (RequestRules.isDigits(found.startsWith("-") ? found.substring(1) : found)) {
        return Long.parseLong(found);
      }
    } catch (NumberFormatException e) {
      // Too large.
    }
    throw invalid(key, "an integer");
  }

  private static String decoded(String text) {
    try {
      return text.indexOf('%') < 0 && text.indexOf('+') < 0
          ? text
          : URLDecoder.decode(text, StandardCharsets.UTF_8);
    } catch (IllegalArgumentException e) {
      return text; // A broken escape: another name, and no number.
    }
  }

  private static ServiceException invalid(String name, String what) {
    String message = name + " must be " + what;
    String code = ("invalid_" + name).replaceAll("[^A-Za-z0-9_.-]", "_");
    return ServiceException.of(
            ErrorCode.of(
                code.substring(0, Math.min(code.length(), 64)),
                400,
                ConnectCode.INVALID_ARGUMENT,
                message),
            message)
        .op("http.request");
  }

  /**
   * Refuses other methods, and says which are allowed.
   *
   * @param exchange the exchange
   * @param allowed the methods; GET allows HEAD too
   * @throws ServiceException 405 {@code method_not_allowed}, with {@code Allow}
   */
  public static void requireMethod(HttpExchange exchange, String... allowed) {
    String method = exchange.getRequestMethod();
    List<String> methods = Arrays.asList(allowed);
    if (methods.contains(method) || (method.equals("HEAD") && methods.contains("GET"))) {
      return;
    }
    exchange
        .getResponseHeaders()
        .set(
            "Allow",
            methods.stream()
                .map(m -> m.equals("GET") && !methods.contains("HEAD") ? "GET, HEAD" : m)
                .collect(Collectors.joining(", ")));
    throw ServiceException.of(HttpErrors.METHOD_NOT_ALLOWED).op("http.method");
  }
}
