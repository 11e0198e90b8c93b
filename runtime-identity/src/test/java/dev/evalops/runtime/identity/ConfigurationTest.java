package dev.evalops.runtime.identity;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.net.http.HttpClient;
import java.net.http.HttpClient.Redirect;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ConfigurationTest {
  private static final String URL = "https://identity.internal/v1/introspect";

  private static void assertRefused(IdentityClient.Builder builder, String problems) {
    assertThatThrownBy(builder::open)
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(problems);
  }

  @Test
  void tellsEveryProblemAtOnce_withoutSecrets() {
    HttpClient following =
        HttpClient.newBuilder().followRedirects(Redirect.NORMAL).build();
    assertThatThrownBy(() -> IdentityClient.builder("ftp://user:hunter2@identity/x")
            .serviceTokens("http://identity.internal/v1/tokens?key=hunter2")
            .bootstrapKey("hunter2\nX: y")
            .httpClient(following)
            .fallbackFor(Duration.ofSeconds(-1))
            .freshFor(Duration.ofSeconds(-2))
            .requestTimeout(Duration.ZERO)
            .open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("introspectUrl must be an http or https URL with a host"
            + "; bootstrapKey must be printable ASCII without white space"
            + "; serviceTokens must be https, as the bootstrapKey is sent to it"
            + "; httpClient must not follow redirects, as they would get the token"
            + "; fallbackFor must be zero or more: PT-1S"
            + "; freshFor must be zero or more: PT-2S"
            + "; requestTimeout must be more than zero: PT0S");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "identity",
        "/v1/introspect",
        "https:///x",
        "mailto:a@b",
        "file:/etc/x",
        "https://",
        "http://identity:0/x",
        "http://identity:65536/x"
      })
  void refusesAUrlThatIsNone(String url) {
    assertThatThrownBy(() -> IdentityClient.builder(url).open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("introspectUrl ")
        .hasNoCause();
  }

  @Test
  void refusesUserInfo_andDoesNotShowIt() {
    assertRefused(
        IdentityClient.builder("https://user:hunter2@identity/x"),
        "introspectUrl must be without user-info, which would not be sent; write @ elsewhere as %40");
  }

  @Test
  void noPrintableCharacterMakesAComplaintShowThePassword() {
    for (char raw = ' '; raw <= '~'; raw++) {
      for (String password :
          List.of("S3" + raw + "cret", raw + "S3cret", "S3cret" + raw, "12" + raw + "S3cret")) {
        String url = "https://user:" + password + "@identity/x";
        for (IdentityClient.Builder builder : List.of(
            IdentityClient.builder(url),
            IdentityClient.builder(URL).serviceTokens(url).bootstrapKey("key"))) {
          assertThatThrownBy(builder::open)
              .isInstanceOf(IllegalArgumentException.class)
              .hasNoCause()
              .message()
              .doesNotContain("S3", "cret", "12", "user:");
        }
      }
    }
  }

  @Test
  void refusesHalfAConfiguration() {
    assertRefused(
        IdentityClient.builder(URL).bootstrapKey("key"),
        "serviceTokens must be set with a bootstrapKey");
    assertRefused(
        IdentityClient.builder(URL).serviceTokens("https://identity/tokens").bootstrapKey(" "),
        "bootstrapKey must be set with serviceTokens, or an httpClient with a client certificate");
  }

  @Test
  void sendsTheBootstrapKeyOverTlsOrToThisHostOnly() {
    for (String url : new String[] {
      "https://identity.internal/t",
      "http://localhost/t",
      "http://LOCALHOST:1/t",
      "http://127.0.0.1:8/t",
      "http://[::1]:80/t"
    }) {
      IdentityClient.builder("").serviceTokens(url).bootstrapKey("key").open().close();
    }
    for (String url : new String[] {
      "http://identity.internal/t",
      "http://127.0.0.1.evil.example/t",
      "http://localhost.evil.example/t",
      "http://10.0.0.1/t"
    }) {
      assertRefused(
          IdentityClient.builder("").serviceTokens(url).bootstrapKey("key"),
          "serviceTokens must be https, as the bootstrapKey is sent to it");
    }
  }

  @Test
  void takesVeryLongTimes() {
    Duration ever = Duration.ofSeconds(Long.MAX_VALUE);
    assertThatCode(() -> IdentityClient.builder(URL)
            .fallbackFor(ever)
            .freshFor(ever)
            .requestTimeout(Duration.ofDays(365_000))
            .open()
            .close())
        .doesNotThrowAnyException();
  }

  @Test
  void startsNothingThatIsNotConfigured() {
    try (IdentityClient client = IdentityClient.builder(null).open()) {
      assertThat(client.fallbacks()).isZero();
    }
  }
}
