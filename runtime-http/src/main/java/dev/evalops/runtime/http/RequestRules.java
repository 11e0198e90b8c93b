package dev.evalops.runtime.http;

import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;

/** What the guard and the filters decide, on plain values. */
final class RequestRules {
  private static final Set<String> SAFE_METHODS = Set.of("GET", "HEAD", "OPTIONS", "TRACE");
  private static final Set<String> CONTENT_TYPES = Set.of(
      "application/json",
      "application/x-www-form-urlencoded",
      "multipart/form-data",
      "application/protobuf",
      "application/x-protobuf",
      "application/proto",
      "application/grpc",
      "application/grpc-web",
      "application/grpc-web-text",
      "application/octet-stream",
      "application/x-ndjson");

  // Milliseconds and, in the low 12 bits, a counter.
  private static final AtomicLong LAST_ID = new AtomicLong();

  private RequestRules() {}

  /**
   * The id for a request.
   *
   * @param header the value of {@code X-Request-Id}, or null
   * @return the same if it has 1 to 128 characters of {@code A-Z a-z 0-9 . _ : / + = -}, else a new {@link
   *     #newRequestId}
   */
  static String requestId(@Nullable String header) {
    if (header == null || header.isEmpty() || header.length() > 128) {
      return newRequestId();
    }
    for (int i = 0; i < header.length(); i++) {
      char c = header.charAt(i);
      if (!isLetterOrDigit(c) && "._:/+=-".indexOf(c) < 0) {
        return newRequestId();
      }
    }
    return header;
  }

  /**
   * A UUID of version 7 (RFC 9562). Those made by one process sort by their time of making.
   *
   * @return 36 characters
   */
  static String newRequestId() {
    long time = LAST_ID.accumulateAndGet(
        System.currentTimeMillis() << 12, (last, now) -> Math.max(last + 1, now));
    long most = (time >>> 12 << 16) | 0x7000 | (time & 0xfff);
    long least = (ThreadLocalRandom.current().nextLong() >>> 2) | 0x8000_0000_0000_0000L;
    return new UUID(most, least).toString();
  }

  /** Whether a method changes nothing, so that it matters to nobody who makes a browser send it. */
  static boolean isSafe(String method) {
    return SAFE_METHODS.contains(method);
  }

  /**
   * Whether a browser sends this request on behalf of a page of another origin. What comes from no browser, and so has
   * neither {@code Sec-Fetch-Site} nor {@code Origin}, is let through.
   *
   * @param method the method; GET, HEAD, OPTIONS and TRACE are always let through
   * @param secFetchSite the value of {@code Sec-Fetch-Site}, or null; {@code same-origin} and {@code none} are good
   * @param origin the value of {@code Origin}, or null; decides alone when there is no {@code Sec-Fetch-Site}, as from
   *     older browsers and over plain HTTP: its host and port must be those of {@code host}
   * @param host the value of {@code Host}, or null
   * @param allowedOrigins other origins that are let through, for example {@code https://admin.example.com}
   * @return why it is refused (403 {@code cross_site_request}), or empty
   */
  static Optional<ErrorCode> refusedOrigin(
      String method,
      @Nullable String secFetchSite,
      @Nullable String origin,
      @Nullable String host,
      Set<String> allowedOrigins) {
    String site = secFetchSite == null ? "" : secFetchSite.trim().toLowerCase(Locale.ROOT);
    String from = origin == null ? "" : origin.trim().toLowerCase(Locale.ROOT);
    boolean own = switch (site) {
      case "same-origin", "none" -> true;
      case "" -> from.isEmpty() || (host != null && isOriginOf(from, host.trim()));
      default -> false;
    };
    return isSafe(method) || own || allowedOrigins.contains(from)
        ? Optional.empty()
        : Optional.of(HttpErrors.CROSS_SITE_REQUEST);
  }

  /** Whether an origin has this host and port; its scheme may be that of a proxy in front. */
  private static boolean isOriginOf(String origin, String host) {
    int start = origin.indexOf("://");
    if (start < 0) {
      return false; // "null", too
    }
    String defaultPort = switch (origin.substring(0, start)) {
      case "https" -> ":443";
      case "http" -> ":80";
      default -> ":";
    };
    return withoutPort(origin.substring(start + 3), defaultPort)
        .equals(withoutPort(host.toLowerCase(Locale.ROOT), defaultPort));
  }

  private static String withoutPort(String authority, String port) {
    return authority.endsWith(port)
        ? authority.substring(0, authority.length() - port.length())
        : authority;
  }

  /** An origin in the form in which browsers send it: lower-case, without a path and the port of the scheme. */
  static boolean isOrigin(String text) {
    return text.matches("https?://([a-z0-9._-]+|\\[[0-9a-f:.]+])(:[0-9]{1,5})?")
        && !text.matches("http:.*:80|https:.*:443");
  }

  /** A media type as it is compared: lower-case, without parameters. */
  static boolean isMediaType(String text) {
    return text.matches("[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+");
  }

  /**
   * Whether the body of a request is of a type that a foreign page cannot make unnoticed.
   *
   * @param method the method; GET, HEAD, OPTIONS and TRACE are always let through
   * @param contentType the value of {@code Content-Type}, or null
   * @param hasBody whether there is a body
   * @param moreTypes accepted media types beside JSON, forms, multipart, protobuf, gRPC, octet-stream and ndjson; in
   *     lower case, without parameters
   * @return why it is refused (415 {@code missing_content_type} or {@code unsupported_content_type}), or empty
   */
  static Optional<ErrorCode> refusedContentType(
      String method, @Nullable String contentType, boolean hasBody, Set<String> moreTypes) {
    if (isSafe(method) || !hasBody) {
      return Optional.empty();
    }
    if (contentType == null || contentType.isBlank()) {
      return Optional.of(HttpErrors.MISSING_CONTENT_TYPE);
    }
    int end = contentType.indexOf(';');
    String type =
        (end < 0 ? contentType : contentType.substring(0, end)).trim().toLowerCase(Locale.ROOT);
    boolean known = CONTENT_TYPES.contains(type)
        || moreTypes.contains(type)
        || isStructured(type)
        || type.startsWith("application/grpc+")
        || type.startsWith("application/grpc-web+")
        || type.startsWith("application/grpc-web-text+");
    return known ? Optional.empty() : Optional.of(HttpErrors.UNSUPPORTED_CONTENT_TYPE);
  }

  private static boolean isStructured(String type) {
    return type.indexOf('/') > 0 && (type.endsWith("+json") || type.endsWith("+proto"));
  }

  /**
   * Refuses a body that is too large.
   *
   * @param limit the most bytes that are accepted
   * @param declared the announced length in bytes, or negative if none is
   * @throws ServiceException 413 {@code body_too_large}
   */
  static void requireBodyWithin(long limit, long declared) {
    if (declared > limit) {
      throw ServiceException.of(HttpErrors.BODY_TOO_LARGE).op("http.body");
    }
  }

  /**
   * The path that routes and rights may be decided on. What two programs could read in two ways is refused: dot
   * segments, empty segments, encoded slashes and backslashes, control characters, anything encoded twice, and what is
   * not UTF-8.
   *
   * @param rawPath the path as it was sent; empty stands for {@code /}
   * @return the path, percent-decoded
   * @throws ServiceException 400 {@code invalid_input}
   */
  static String path(String rawPath) {
    if (rawPath.isEmpty()) {
      return "/";
    }
    boolean encoded = false;
    for (int i = 0; i < rawPath.length(); i++) {
      char c = rawPath.charAt(i);
      if (c <= ' ' || c > '~' || c == '\\') {
        throw invalid("request path has an illegal character");
      }
      encoded |= c == '%';
    }
    String path = encoded ? decode(rawPath) : rawPath;
    if (path.charAt(0) != '/') {
      throw invalid("request path must start with a slash");
    }
    for (int start = 1; start < path.length(); ) {
      int end = path.indexOf('/', start);
      end = end < 0 ? path.length() : end;
      if (isSuspicious(path, start, end)) {
        throw invalid("request path must not have empty or dot segments");
      }
      start = end + 1;
    }
    return path;
  }

  private static boolean isSuspicious(String path, int start, int end) {
    if (start == end) {
      return true;
    }
    if (path.charAt(start) != '.') {
      return false;
    }
    int parameters = path.indexOf(';', start);
    int length = (parameters < 0 ? end : Math.min(end, parameters)) - start;
    return length == 1 || (length == 2 && path.charAt(start + 1) == '.');
  }

  private static String decode(String rawPath) {
    byte[] bytes = new byte[rawPath.length()];
    int n = 0;
    for (int i = 0; i < rawPath.length(); i++) {
      char c = rawPath.charAt(i);
      if (c == '%') {
        int value = hexByte(rawPath, i + 1);
        if (value < 0) {
          throw invalid("request path has a broken percent-encoding");
        }
        if (value == '/' || value == '\\') {
          throw invalid("request path must not have encoded slashes");
        }
        c = (char) value;
        i += 2;
      }
      bytes[n++] = (byte) c;
    }
    String path;
    try {
      path = StandardCharsets.UTF_8
          .newDecoder()
          .decode(ByteBuffer.wrap(bytes, 0, n))
          .toString();
    } catch (CharacterCodingException e) {
      throw invalid("request path must be UTF-8");
    }
    for (int i = 0; i < path.length(); i++) {
      if (Character.isISOControl(path.charAt(i))) {
        throw invalid("request path has an illegal character");
      }
      if (path.charAt(i) == '%' && hexByte(path, i + 1) >= 0) {
        throw invalid("request path must not be encoded twice");
      }
    }
    return path;
  }

  /** The value of the two hexadecimal digits at an index, or -1. */
  static int hexByte(String text, int index) {
    if (index + 2 > text.length()) {
      return -1;
    }
    int high = Character.digit(text.charAt(index), 16);
    int low = Character.digit(text.charAt(index + 1), 16);
    // Character.digit takes digits of other scripts too.
    return high < 0 || low < 0 || text.charAt(index) > 'f' || text.charAt(index + 1) > 'f'
        ? -1
        : high << 4 | low;
  }

  /**
   * Refuses what servers and proxies could read in two ways, whichever provider lets it through: a missing, repeated or
   * malformed {@code Host}, lengths that are not plain digits, both a length and a transfer encoding, encodings other
   * than {@code chunked}, control characters.
   *
   * @param hosted whether a server of another kind has read the request, which may speak HTTP/2 and HTTP/3
   * @throws ServiceException 400 {@code invalid_input}
   */
  static void checkRequest(String method, String protocol, RequestHead head, boolean hosted) {
    if (!isToken(method)) {
      throw invalid("request method has an illegal character");
    }
    boolean http11 = protocol.equals("HTTP/1.1");
    boolean http10 = protocol.equals("HTTP/1.0");
    if (!http11 && !http10 && !(hosted && isMultiplexed(protocol))) {
      throw invalid("HTTP version must be 1.0 or 1.1");
    }
    if (!head.isLegal()) {
      throw invalid("request header has an illegal character");
    }
    List<String> hosts = head.hosts();
    if (hosts == null ? !http10 : hosts.size() != 1 || !isHost(hosts.get(0))) {
      throw invalid("request must have one valid Host header");
    }
    List<String> lengths = head.lengths();
    List<String> encodings = head.encodings();
    if (lengths != null) {
      if (lengths.size() != 1 || contentLength(lengths.get(0)) < 0) {
        throw invalid("Content-Length must be a number");
      }
      if (encodings != null) {
        throw invalid("request must not have both Content-Length and Transfer-Encoding");
      }
    }
    if (encodings != null
        && (!http11 || encodings.size() != 1 || !encodings.get(0).equalsIgnoreCase("chunked"))) {
      throw invalid("Transfer-Encoding must be chunked");
    }
  }

  /** Whether a header that is a list of options, such as {@code Connection}, has this one, in any case. */
  static boolean hasOption(List<String> values, String option) {
    for (String value : values) {
      for (int start = 0; start <= value.length(); ) {
        int comma = value.indexOf(',', start);
        int end = comma < 0 ? value.length() : comma;
        if (value.substring(start, end).trim().equalsIgnoreCase(option)) {
          return true;
        }
        start = end + 1;
      }
    }
    return false;
  }

  /** Whether a request is HTTP/2 or HTTP/3, which need neither a length nor a transfer encoding to have a body. */
  static boolean isMultiplexed(String protocol) {
    return protocol.startsWith("HTTP/2") || protocol.startsWith("HTTP/3");
  }

  /**
   * Refuses a request target that is neither a path nor an absolute URL. In {@code //a/b} the first segment is a host
   * to a URL parser, and a part of the path to a proxy; so is what stands behind a {@code #}.
   *
   * @throws ServiceException 400 {@code invalid_input}
   */
  static void checkTarget(URI target) {
    if (target.getRawFragment() != null) {
      throw invalid("request target must not have a fragment (#)");
    }
    if (target.toString().startsWith("//")
        || (target.getScheme() == null) != (target.getRawAuthority() == null)) {
      throw invalid("request target must be a path or an absolute URL");
    }
  }

  static ServiceException invalid(String message) {
    return ServiceException.of(ErrorCode.INVALID_INPUT, message).op("http.request");
  }

  /** The number of a Content-Length header, or -1 if there is none or it is no plain number. */
  static long contentLength(@Nullable String header) {
    return header != null && header.length() <= 18 && isDigits(header)
        ? Long.parseLong(header)
        : -1;
  }

  static boolean isDigits(String text) {
    for (int i = 0; i < text.length(); i++) {
      if (text.charAt(i) < '0' || text.charAt(i) > '9') {
        return false;
      }
    }
    return !text.isEmpty();
  }

  /**
   * Whether a header can be sent: its name is a token, and its values hold no control character and nothing beyond ISO
   * 8859-1 (RFC 9110, section 5).
   *
   * @param name the name
   * @param values the values; may be empty
   * @return false if the name or one of the values has an illegal character
   */
  static boolean isHeader(String name, List<String> values) {
    if (!isToken(name)) {
      return false;
    }
    for (String value : values) {
      if (value == null) { // Headers lets its lists have it
        return false;
      }
      for (int i = 0; i < value.length(); i++) {
        char c = value.charAt(i);
        if ((c < ' ' && c != '\t') || c == 0x7f || c > 0xff) {
          return false;
        }
      }
    }
    return true;
  }

  private static boolean isLetterOrDigit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  }

  static boolean isToken(String text) {
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (!isLetterOrDigit(c) && c != '-' && "!#$%&'*+.^_`|~".indexOf(c) < 0) {
        return false;
      }
    }
    return !text.isEmpty();
  }

  /** Host of RFC 9110, section 7.2, as far as characters go; without user-info. */
  private static boolean isHost(String text) {
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (!isLetterOrDigit(c) && "-._~%!$&'()*+,;=:[]".indexOf(c) < 0) {
        return false;
      }
    }
    return !text.isEmpty();
  }

  /** The path as it was sent, in the form of {@link #escaped}. */
  static String escapedPath(URI target) {
    String path = target.getRawPath();
    return escaped(path == null ? "*" : path);
  }

  /** The text with percent-encodings in place of what could be read as another field of a log line. */
  static String escaped(String text) {
    StringBuilder safe = null;
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c > ' ' && c <= '~' && c != '"' && c != '\\') {
        if (safe != null) {
          safe.append(c);
        }
        continue;
      }
      safe = safe == null ? new StringBuilder(text.substring(0, i)) : safe;
      for (byte b : String.valueOf(c).getBytes(StandardCharsets.UTF_8)) {
        safe.append('%').append(HexFormat.of().withUpperCase().toHexDigits(b));
      }
    }
    return safe == null ? text : safe.toString();
  }

  /** The text without what could break a log line. */
  static String printable(String text) {
    StringBuilder safe = new StringBuilder(Math.min(text.length(), 64));
    for (int i = 0; i < text.length() && i < 64; i++) {
      char c = text.charAt(i);
      safe.append(c < ' ' || c > '~' ? '?' : c);
    }
    return safe.toString();
  }
}
