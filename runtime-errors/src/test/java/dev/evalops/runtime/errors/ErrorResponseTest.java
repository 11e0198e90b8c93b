package dev.evalops.runtime.errors;

import static org.assertj.core.api.Assertions.assertThat;

import java.sql.SQLException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ErrorResponseTest {

  @Test
  void writesTheOneShape() {
    ErrorResponse response = ErrorResponse.of(
        new ServiceException(ErrorCode.VERSION_CONFLICT, "note.write", "read it again"));
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
    assertThat(ErrorResponse.of(new ServiceException(ErrorCode.UNAVAILABLE, "note.read", driver)))
        .isEqualTo(new ErrorResponse(ErrorCode.UNAVAILABLE, "service unavailable"));
    assertThat(ErrorResponse.of(driver))
        .isEqualTo(new ErrorResponse(ErrorCode.INTERNAL_ERROR, "internal error"));
  }

  @Test
  void showsTheMessageOfTheFirstCodeInTheChain() {
    ServiceException inner = new ServiceException(ErrorCode.NOT_FOUND, "note.read", "no such note");
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

  private static String json(String message) {
    String all = new ErrorResponse(ErrorCode.INVALID_INPUT, message).toJson();
    String start = "{\"error\":{\"code\":\"invalid_input\",\"message\":\"";
    assertThat(all).startsWith(start).endsWith("\"}}\n");
    return all.substring(start.length(), all.length() - "\"}}\n".length());
  }
}
