package dev.evalops.hook;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

class ServiceUrlTest {
  /** Without the one that the Go system gets wrong. */
  static Stream<JsonNode> cases() {
    return Vectors.cases("hook_url_normalise.json")
        .filter(vector -> !vector.get("input").get("url").asString().endsWith("EvaluateAction/"));
  }

  private static String base(String service, String url) {
    return service.equals("governance")
        ? ServiceUrl.governanceBase(url)
        : ServiceUrl.approvalsBase(url);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void removesKnownSuffixesAndSlashes(JsonNode vector) {
    JsonNode input = vector.get("input");
    assertThat(base(input.get("service").asString(), input.get("url").asString()))
        .isEqualTo(vector.get("expected").asString());
  }

  @ParameterizedTest
  @CsvSource({
    "governance, https://g.example/governance.v1.GovernanceService/EvaluateAction/",
    "governance, https://g.example/governance.v1.GovernanceService//",
    "approvals, https://g.example/approvals.v1.ApprovalService/",
    "approvals, https://g.example//approvals.v1.ApprovalService/GetApproval//"
  })
  void removesThemInWhateverOrderTheyCome(String service, String url) {
    assertThat(base(service, url)).isEqualTo("https://g.example");
  }

  @Test
  void hasThePartsOfTheUrl() {
    ServiceUrl url = ServiceUrl.parse("HTTPS://G.example:8443/a/b", false);
    assertThat(url.tls()).isTrue();
    assertThat(url.host()).isEqualTo("G.example");
    assertThat(url.authority()).isEqualTo("G.example:8443");
    assertThat(url.port()).isEqualTo(8443);
    assertThat(url.path()).isEqualTo("/a/b");
    assertThat(ServiceUrl.parse("https://[::1]", false).host()).isEqualTo("::1");
    assertThat(ServiceUrl.parse("https://g", false).port()).isEqualTo(443);
    assertThat(ServiceUrl.parse("http://localhost", false).port()).isEqualTo(80);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "g.example",
        "ftp://g",
        "https://",
        "https:///x",
        "https://g.example:0",
        "https://g.example:65536",
        "https://u:p@g.example",
        "https://g.example?x=1",
        "https://g.example#f",
        "https://g example",
        "https://g.example/a\r\nX: y",
        "https://g\u00e9.example",
        "file:///etc/passwd",
        "https://a_b"
      })
  void refusesWhatIsNoUrlOfAService(String url) {
    assertThatThrownBy(() -> ServiceUrl.parse(url, true))
        .isInstanceOf(IllegalArgumentException.class);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "http://localhost",
        "http://LOCALHOST:1",
        "http://127.0.0.1",
        "http://127.1.2.3:9",
        "http://[::1]:80"
      })
  void takesPlainHttpOnThisMachine(String url) {
    assertThat(ServiceUrl.parse(url, false).tls()).isFalse();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "http://g.example",
        "http://127.0.0.1.nip.io",
        "http://127.evil.example",
        "http://localhost.evil.example",
        "http://10.0.0.1",
        "http://[::2]",
        "http://0.0.0.0"
      })
  void refusesPlainHttpToAnywhereElse_unlessToldOtherwise(String url) {
    assertThatThrownBy(() -> ServiceUrl.parse(url, false))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("EVALOPS_ALLOW_INSECURE_HTTP");
    assertThat(ServiceUrl.parse(url, true).tls()).isFalse();
  }
}
