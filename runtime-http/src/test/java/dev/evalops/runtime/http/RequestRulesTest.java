package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.Headers;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Stream;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.CharRange;
import net.jqwik.api.constraints.Chars;
import net.jqwik.api.constraints.StringLength;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class RequestRulesTest {
  private static final Set<String> NONE = Set.of();

  @Test
  void keepsRequestId_whenItCannotForgeALogField() {
    for (String id : new String[] {"a", "x".repeat(128), "Root=1-5e.a/7:b_c+d-e=", "0Z9zA"}) {
      assertThat(RequestRules.requestId(id)).isEqualTo(id);
    }
  }

  @Test
  void escapesWhatCouldForgeALogField() {
    assertThat(RequestRules.escaped("/a%20b/%22;x=1~")).isEqualTo("/a%20b/%22;x=1~");
    assertThat(RequestRules.escaped("a\" b\\\n\u007f\u00e9")).isEqualTo("a%22%20b%5C%0A%7F%C3%A9");
  }

  @Test
  void makesRequestId_whenAbsentTooLongOrUnprintable() {
    for (String header : new String[] {
      null,
      "",
      "x".repeat(129),
      "a\tb",
      "a\u007f",
      "caf\u00e9",
      "a b",
      "a\" method=\"DELETE",
      "a,b",
      "a'b",
      "a\\b",
      "{a}",
      "<a>",
      "a;b"
    }) {
      assertThat(UUID.fromString(RequestRules.requestId(header)).version()).isEqualTo(7);
    }
  }

  @Property
  void requestIdIsAlwaysShortPrintableAscii(@ForAll @StringLength(max = 300) String header) {
    String id = RequestRules.requestId(header);
    assertThat(id).isNotEmpty().hasSizeLessThanOrEqualTo(128);
    assertThat(id).matches("[A-Za-z0-9._:/+=-]+");
    assertThat(id.equals(header) || UUID.fromString(id).version() == 7).isTrue();
  }

  @Test
  void madeRequestIdsAreDistinctAndSortByTime() {
    List<String> ids = Stream.generate(RequestRules::newRequestId).limit(20_000).toList();
    assertThat(ids).isSorted();
    assertThat(new HashSet<>(ids)).hasSize(ids.size());
    UUID last = UUID.fromString(ids.get(ids.size() - 1));
    assertThat(last.variant()).isEqualTo(2);
    assertThat(last.getMostSignificantBits() >>> 16)
        .isBetween(System.currentTimeMillis() - 60_000, System.currentTimeMillis() + 1000);
  }

  @ParameterizedTest
  @CsvSource({
    "GET, cross-site, https://evil.example, a.example, true",
    "POST, cross-site, , a.example, false",
    "DELETE, CROSS-SITE, , a.example, false",
    "POST, cross-site, https://a.example, a.example, false",
    "POST, same-site, , a.example, false",
    "POST, same-site, https://b.a.example, a.example, false",
    "POST, same-site, https://admin.example, a.example, true",
    "POST, cross-site, https://admin.example, a.example, true",
    "POST, , https://admin.example, a.example, true",
    "POST, same-origin, , a.example, true",
    "POST, same-origin, null, a.example, true",
    "POST, none, , a.example, true",
    "POST, 'same-origin,cross-site', , a.example, false",
    "POST, anything-else, , a.example, false",
    "POST, , , a.example, true",
    "POST, ' ', , a.example, true",
    "POST, , null, a.example, false",
    "POST, , https://evil.example, a.example, false",
    "POST, , https://a.example.evil.example, a.example, false",
    "POST, , https://a.example, a.example, true",
    "POST, , http://A.example, a.EXAMPLE, true",
    "POST, , https://a.example, a.example:443, true",
    "POST, , http://a.example, a.example:80, true",
    "POST, , http://a.example, a.example:443, false",
    "POST, , http://a.example:8080, a.example:8080, true",
    "POST, , http://a.example:8080, a.example, false",
    "POST, , http://[::1]:8080, [::1]:8080, true",
    "POST, , 'https://a.example,https://evil.example', a.example, false",
    "POST, , a.example, a.example, false",
    "POST, , https://a.example, , false",
    "POST, , file://, a.example, false",
  })
  void letsOnlyItsOwnPagesWrite(
      String method, String site, String origin, String host, boolean good) {
    Set<String> allowed = Set.of("https://admin.example");
    assertThat(RequestRules.refusedOrigin(method, site, origin, host, allowed).map(ErrorCode::code))
        .isEqualTo(good ? Optional.empty() : Optional.of("cross_site_request"));
  }

  @ParameterizedTest
  @CsvSource({
    "GET, text/xml, true, ",
    "POST, application/json; charset=utf-8, true, ",
    "POST, APPLICATION/JSON, true, ",
    "POST, , false, ",
    "POST, , true, missing_content_type",
    "PUT, ' ', true, missing_content_type",
    "PUT, text/plain, true, unsupported_content_type",
    "PATCH, text/xml, true, unsupported_content_type",
    "PATCH, application/merge-patch+json, true, ",
    "POST, application/x-www-form-urlencoded, true, ",
    "POST, multipart/form-data; boundary=x, true, ",
    "POST, application/x-protobuf, true, ",
    "POST, application/connect+proto, true, ",
    "POST, application/grpc, true, ",
    "POST, application/grpc+json, true, ",
    "POST, application/grpc-web-text+thrift, true, ",
    "POST, application/grpcx, true, unsupported_content_type",
    "POST, application/octet-stream, true, ",
    "POST, application/x-ndjson, true, ",
    "POST, +json, true, unsupported_content_type",
    "POST, application/json x, true, unsupported_content_type",
  })
  void letsOnlyKnownTypesPass(String method, String type, boolean body, String expected) {
    assertThat(RequestRules.refusedContentType(method, type, body, NONE).map(ErrorCode::code))
        .isEqualTo(Optional.ofNullable(expected));
  }

  @Test
  void acceptsMoreContentTypes_whenAskedTo() {
    assertThat(RequestRules.refusedContentType("POST", "Text/CSV; a=b", true, Set.of("text/csv")))
        .isEmpty();
  }

  @ParameterizedTest
  @CsvSource({
    "'', /",
    "/, /",
    "/a, /a",
    "/a/, /a/",
    "/v1/notes/7, /v1/notes/7",
    "/a%20b, /a b",
    "/caf%C3%A9, /caf\u00e9",
    "/100%25, /100%",
    "/.well-known/x, /.well-known/x",
    "/..., /...",
    "/a;v=1/b, /a;v=1/b",
    "/a:b@c, /a:b@c",
  })
  void decodesPath(String raw, String expected) {
    assertThat(RequestRules.path(raw)).isEqualTo(expected);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "*",
        "a",
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/.",
        "/..",
        "/a/./b",
        "/a/../b",
        "/a/..",
        "/%2e",
        "/%2e%2E/a",
        "/a/.%2e",
        "/..;/a",
        "/.;x/a",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00",
        "/a%0d%0ab",
        "/%7f",
        "/%c2%85",
        "/%",
        "/%1",
        "/%zz",
        "/a%252e",
        "/%252e%252e/",
        "/%252f",
        "/%c0%ae",
        "/%ff",
        "/%ed%a0%80",
        "/caf\u00e9",
        "/a b",
        "/%\uff11\uff11"
      })
  void refusesAmbiguousPath(String raw) {
    assertThatThrownBy(() -> RequestRules.path(raw))
        .isInstanceOfSatisfying(
            ServiceException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.INVALID_INPUT));
  }

  @Property
  void pathNeverHasWhatAnotherProgramCouldReadOtherwise(
      @ForAll
          @StringLength(max = 40)
          @Chars({'/', '.', '%', '2', 'e', 'f', '5', 'c', '0', ';', 'a', '\\'})
          String raw) {
    String path;
    try {
      path = RequestRules.path(raw);
    } catch (ServiceException e) {
      assertThat(e.code()).isEqualTo(ErrorCode.INVALID_INPUT);
      return;
    }
    assertThat(path).startsWith("/").doesNotContain("//", "\\", "\u0000");
    assertThat(path.split("/")).doesNotContain(".", "..");
    assertThat(java.net.URI.create("http://h" + raw).normalize().getPath())
        .isEqualTo(raw.isEmpty() ? "" : path);
  }

  @ParameterizedTest
  @ValueSource(strings = {"a", "a:80", "[::1]:8080", "127.0.0.1", "x-y.example", "a_b"})
  void acceptsHost(String host) {
    assertThatCode(() -> RequestRules.checkRequest(
            "GET", "HTTP/1.1", new RequestHead(Headers.of("Host", host)), false))
        .doesNotThrowAnyException();
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "a b", "a/b", "u@a", "a\u00e9", "a\"b", "<a>", "a,b c"})
  void refusesHost(String host) {
    assertRefused("GET", "HTTP/1.1", Headers.of("Host", host));
  }

  @Test
  void refusesMalformedRequests() {
    assertRefused("G@T", "HTTP/1.1", Headers.of("Host", "a"));
    assertRefused("GET", "HTTP/9.9", Headers.of("Host", "a"));
    assertRefused("GET", "HTTP/1.1", new Headers());
    assertRefused("GET", "HTTP/1.1", Headers.of("Host", "a", "Host", "a"));
    assertRefused("GET", "HTTP/1.1", Headers.of("Host", "a", "X", "a\u0000b"));
    assertRefused("GET", "HTTP/1.1", Headers.of("Host", "a", "X", "a\u000bb"));
    assertRefused("GET", "HTTP/1.1", Headers.of("Host", "a", "X y", "b"));
    for (String length : List.of("+5", "-1", "", "0x5", "5 5", "9999999999999999999")) {
      assertRefused("POST", "HTTP/1.1", Headers.of("Host", "a", "Content-Length", length));
    }
    for (String encoding : List.of("gzip", "gzip, chunked", "chunked, chunked", "x chunked", "")) {
      assertRefused("POST", "HTTP/1.1", Headers.of("Host", "a", "Transfer-Encoding", encoding));
    }
    assertRefused("POST", "HTTP/1.0", Headers.of("Host", "a", "Transfer-Encoding", "chunked"));
    assertRefused(
        "POST",
        "HTTP/1.1",
        Headers.of("Host", "a", "Content-Length", "5", "Transfer-Encoding", "chunked"));
  }

  private static void assertRefused(String method, String protocol, Headers headers) {
    assertThatThrownBy(
            () -> RequestRules.checkRequest(method, protocol, new RequestHead(headers), false))
        .isInstanceOfSatisfying(
            ServiceException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.INVALID_INPUT));
  }

  @Property
  void contentLengthIsExactOrRefused(
      @ForAll long length, @ForAll @StringLength(max = 20) String text) {
    if (length >= 0 && length < 1_000_000_000_000_000_000L) {
      assertThat(RequestRules.contentLength(Long.toString(length))).isEqualTo(length);
    }
    long parsed = RequestRules.contentLength(text);
    assertThat(parsed < 0 || Long.toString(parsed).equals(text.replaceFirst("^0+(?=.)", "")))
        .isTrue();
  }

  @Property
  void headerNeverHoldsControlCharacters(
      @ForAll @StringLength(max = 20) @CharRange(from = 0, to = 300) String value) {
    boolean clean = value.chars().allMatch(c -> c == '\t' || (c >= ' ' && c != 0x7f && c <= 0xff));
    assertThat(RequestRules.isHeader("X", List.of(value))).isEqualTo(clean);
  }

  @Test
  void refusesDeclaredLengthAboveLimit() {
    RequestRules.requireBodyWithin(10, 10);
    RequestRules.requireBodyWithin(10, -1);
    assertThatThrownBy(() -> RequestRules.requireBodyWithin(10, 11))
        .isInstanceOfSatisfying(
            ServiceException.class, e -> assertThat(e.code().httpStatus()).isEqualTo(413));
  }
}
