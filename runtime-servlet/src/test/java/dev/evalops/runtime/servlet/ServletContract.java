package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What only servlets do, in each container. */
abstract class ServletContract extends Contract {
  private static final String FORM = "Content-Type: application/x-www-form-urlencoded";

  private void answers(String path, int status, String body, String... headers) throws Exception {
    RawClient.Response response = get("/servlet" + path);
    assertThat(response.body()).isEqualTo(body);
    assertThat(response.status()).isEqualTo(status);
    for (String header : headers) {
      int colon = header.indexOf(':');
      if (colon < 0) {
        assertThat(response.header(header.substring(1))).isEmpty();
      } else {
        assertThat(response.header(header.substring(0, colon)).orElse("missing"))
            .startsWith(header.substring(colon + 2));
      }
    }
  }

  @Test
  void readsForms_withinTheLimit() throws Exception {
    assertThat(send(request("POST", "/servlet/form?a=1&b=%C3%BC", "a=2&c=x+y%21&d", FORM))
            .body())
        .isEqualTo("a=1,2 b=\u00c3\u00bc c=x y! d=");
    String large = "a=" + "x".repeat(1_100_000);
    assertThat(send(request("POST", "/servlet/form", large, FORM)).status()).isEqualTo(413);
    assertThat(send(request(
                "POST", "/servlet/form", chunked(large), FORM, "Transfer-Encoding: chunked"))
            .status())
        .isEqualTo(413);
    assertThat(send(request("POST", "/servlet/form", "a=%zz", FORM)).status()).isEqualTo(400);
  }

  @Test
  void commitsWithTheLength_whenAWriterIsUsed() throws Exception {
    answers(
        "/writer",
        200,
        "gr\u00c3\u00bc\u00c3\u009fe",
        "Content-Length: 7",
        "Content-Type: text/plain;charset=");
    answers("/writer?flush", 200, "gr\u00c3\u00bc\u00c3\u009fe", "Transfer-Encoding: chunked");
  }

  @Test
  void resetsWhatIsNotCommitted() throws Exception {
    answers("/reset", 200, "reset", "!X-Gone", "X-Frame-Options: DENY");
    answers("/reset-buffer", 200, "kept", "X-Kept: 1");
  }

  @Test
  void sendsWhatWasAnnounced_orRefuses() throws Exception {
    answers("/exact", 200, "exact", "Content-Length: 5");
    assertThat(get("/servlet/too-short").status()).isEqualTo(500);
    assertThat(get("/servlet/too-long").status()).isEqualTo(500);
    assertThat(get("/servlet/both").status()).isEqualTo(500);
    answers("/nothing", 200, "");
  }

  @Test
  void sendsHeaders() throws Exception {
    answers("/late-header", 200, "x", "!X-Late");
    answers("/dates", 200, "dates", "Last-Modified: Fri, 01 Jan 1971 00:00:00 GMT", "X-Int: 7");
    RawClient.Response response = get("/servlet/cookie");
    assertThat(response.headers().toString()).contains("taste=sweet", "JSESSIONID=");
  }

  @Test
  void includesAndForwards() throws Exception {
    answers("/include", 200, "before included after");
    answers("/forward", 200, "forwarded 1", "X-Forwarded-Here: 1", "X-Frame-Options: DENY");
    answers("/context-forward", 200, "forwarded 1", "X-Forwarded-Here: 1");
  }

  @ParameterizedTest
  @CsvSource({
    "400, invalid_input",
    "401, unauthorized",
    "403, forbidden",
    "404, not_found",
    "406, invalid_input",
    "405, method_not_allowed",
    "409, conflict",
    "415, unsupported_content_type",
    "418, invalid_input",
    "500, internal_error",
    "502, internal_error",
    "503, unavailable"
  })
  void answersSendErrorInTheOneShape(int status, String code) throws Exception {
    RawClient.Response response = get("/servlet/error?" + status);
    assertThat(response.status()).isEqualTo(status);
    assertThat(response.body())
        .startsWith("{\"error\":{\"code\":\"" + code + "\"")
        .doesNotContain("secret");
    assertThat(response.header("WWW-Authenticate")).contains("Basic");
    assertThat(response.header("X-Request-Id")).isPresent();
  }

  @Test
  void showsAttributesAndAddresses() throws Exception {
    assertThat(get("/servlet/attributes").body()).startsWith("value ");
  }
}
