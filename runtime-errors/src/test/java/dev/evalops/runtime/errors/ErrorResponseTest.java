package dev.evalops.runtime.errors;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpServer;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.sql.SQLException;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ErrorResponseTest {

  @Test
  void writesTheOneShape() {
    ErrorResponse response = ErrorResponse.of(
        ServiceException.of(ErrorCode.VERSION_CONFLICT, "read it again").op("note.write"));
    assertThat(response.status()).isEqualTo(412);
    assertThat(response.toJson())
        .isEqualTo("{\"error\":{\"code\":\"version_conflict\",\"message\":\"read it again\"}}\n");
    assertThat(response.toConnectJson())
        .isEqualTo("{\"code\":\"failed_precondition\",\"message\":\"read it again\"}");
  }

  @Test
  void neverShowsTheTextOfACause() {
    SQLException driver =
        new SQLException("FATAL: no pg_hba.conf entry for host 10.0.0.7, user app");
    assertThat(
            ErrorResponse.of(ServiceException.of(ErrorCode.UNAVAILABLE, driver).op("note.read")))
        .isEqualTo(new ErrorResponse(ErrorCode.UNAVAILABLE, "service unavailable"));
    assertThat(ErrorResponse.of(driver))
        .isEqualTo(new ErrorResponse(ErrorCode.INTERNAL_ERROR, "internal error"));
  }

  @Test
  void aDependencyThatIsAwayIsUnavailable_alsoWhenItRefuses() {
    assertThat(ErrorResponse.of(new IllegalStateException(new SQLException("x", "57P01"))))
        .isEqualTo(new ErrorResponse(ErrorCode.UNAVAILABLE, "service unavailable"));
    assertThat(ErrorResponse.of(new SQLException("FATAL: password", "28P01")).code())
        .isEqualTo(ErrorCode.UNAVAILABLE);
    assertThat(ErrorResponse.of(new SQLException("duplicate key", "23505")).code())
        .isEqualTo(ErrorCode.INTERNAL_ERROR);
  }

  @Test
  void showsTheMessageOfTheFirstCodeInTheChain() {
    ServiceException inner =
        ServiceException.of(ErrorCode.NOT_FOUND, "no such note").op("note.read");
    assertThat(ErrorResponse.of(new IllegalStateException("wrapped", inner)))
        .isEqualTo(new ErrorResponse(ErrorCode.NOT_FOUND, "no such note"));
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', textBlock = """
      a"b\\c        | a\\"b\\\\c
      <a&b>         | \\u003ca\\u0026b\\u003e
      Grüße 日本 😀   | Grüße 日本 😀
      it's /fine    | it's /fine
      """)
  void escapesLikeGo(String message, String expected) {
    assertThat(json(message)).isEqualTo(expected);
  }

  @Test
  void escapesControlCharactersLikeGo() {
    assertThat(json("\b\f\n\r\t")).isEqualTo("\\b\\f\\n\\r\\t");
    assertThat(json("\u0000\u001f\u007f")).isEqualTo("\\u0000\\u001f\u007f");
    assertThat(json("a\u2028b\u2029c")).isEqualTo("a\\u2028b\\u2029c");
  }

  @Test
  void replacesHalvesOfSurrogatePairs() {
    assertThat(json("a\ud83d")).isEqualTo("a\\ufffd");
    assertThat(json("\ude00b")).isEqualTo("\\ufffdb");
    assertThat(json("\ude00\ud83d")).isEqualTo("\\ufffd\\ufffd");
  }

  @ParameterizedTest
  @CsvSource({"unavailable, 503, , 1", "unavailable, 503, 30, 30", "conflict, 409, , "})
  void anUnavailableServiceSaysWhenToComeBack(
      String code, int status, @Nullable String set, @Nullable String expected) throws Exception {
    HttpServer server =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.createContext("/", exchange -> {
      if (set != null) {
        exchange.getResponseHeaders().set("Retry-After", set);
      }
      ErrorResponse.of(ErrorCode.of(code, status, ConnectCode.UNAVAILABLE, "x")).send(exchange);
    });
    server.start();
    try (HttpClient client = HttpClient.newHttpClient()) {
      URI uri = URI.create("http://127.0.0.1:" + server.getAddress().getPort());
      HttpResponse<String> response =
          client.send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString());
      assertThat(response.statusCode()).isEqualTo(status);
      assertThat(response.headers().firstValue("Retry-After").orElse(null)).isEqualTo(expected);
    } finally {
      server.stop(0);
    }
  }

  private static String json(String message) {
    String all = new ErrorResponse(ErrorCode.INVALID_INPUT, message).toJson();
    String start = "{\"error\":{\"code\":\"invalid_input\",\"message\":\"";
    assertThat(all).startsWith(start).endsWith("\"}}\n");
    return all.substring(start.length(), all.length() - "\"}}\n".length());
  }

  @Test
  void trimsMessagesAsEverythingElse() {
    for (String message : List.of(" taken\n", "\u00a0taken\u0085", "\u2003taken\t", "taken")) {
      ServiceException failure =
          ServiceException.of(ErrorCode.CONFLICT, message).op("x");
      assertThat(ErrorResponse.of(failure).message()).isEqualTo("taken");
      assertThat(failure).hasMessage("x: taken");
    }
    for (String message : List.of("", " ", "\u00a0\u0085\u3000")) {
      assertThat(
              ErrorResponse.of(ServiceException.of(ErrorCode.CONFLICT, message).op("x")))
          .isEqualTo(ErrorResponse.of(ErrorCode.CONFLICT));
    }
    // No white space elsewhere.
    assertThat(
            ErrorResponse.of(ServiceException.of(ErrorCode.CONFLICT, "\u001c").op("x"))
                .message())
        .isEqualTo("\u001c");
  }
}
