package dev.evalops.runtime.identity;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;
import org.junit.jupiter.api.Test;

class IdentityJsonTest {
  @Provide
  Arbitrary<String> almostJson() {
    return Arbitraries.of(
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\"active\"",
            "true",
            "false",
            "null",
            "\"scopes\"",
            "\"expires_at\"",
            "\"token\"",
            "\"claims\"",
            "1e999999999",
            "123",
            "\"2030-01-01T00:00:00Z\"",
            "\\u0000",
            "\u00e9",
            "{\"active\":true}",
            "\"x\":1")
        .list()
        .ofMaxSize(14)
        .map(parts -> String.join("", parts));
  }

  @Property
  void decodesOrSaysUnavailable(@ForAll("almostJson") String body) {
    decode(body.getBytes(UTF_8));
  }

  @Property
  void decodesOrSaysUnavailable_anyBytes(@ForAll byte[] body) {
    decode(body);
  }

  @Test
  void nestingHasALimit() {
    decode(("{\"x\":" + "[".repeat(100_000) + "]".repeat(100_000) + "}").getBytes(UTF_8));
  }

  private static void decode(byte[] body) {
    try {
      IdentityJson.introspection(body);
    } catch (IdentityException e) {
      assertThat(e)
          .hasMessageStartingWith("identity_unavailable: decode_response: ")
          .hasNoCause();
    }
    try {
      IdentityJson.issuedToken(body);
    } catch (IdentityException e) {
      assertThat(e)
          .hasMessageStartingWith("identity_unavailable: decode_response: ")
          .hasNoCause();
    }
  }
}
