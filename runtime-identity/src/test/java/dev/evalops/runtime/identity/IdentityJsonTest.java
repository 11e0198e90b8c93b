package dev.evalops.runtime.identity;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_16;
import static java.nio.charset.StandardCharsets.UTF_16BE;
import static java.nio.charset.StandardCharsets.UTF_16LE;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.HexFormat;
import java.util.List;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

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
  void takesABlankTextForNone_asEveryServiceTrims() {
    Introspection found = IdentityJson.introspection(
        "{\"active\":true,\"subject\":\"\u00a0\u0085\",\"name\":\"\\u001c\"}".getBytes(UTF_8));

    assertThat(found.subject()).isEmpty();
    assertThat(found.name()).contains("\u001c");
  }

  @Test
  void isUtf8_withoutHalfSurrogates() {
    String json = "{\"active\":true,\"name\":\"\ud83d\ude00\"}";
    assertThat(IdentityJson.introspection(json.getBytes(UTF_8)).name()).contains("\ud83d\ude00");
    byte[] half = json.getBytes(UTF_8);
    half[json.indexOf('\ud83d')] = (byte) 0xed; // ed a0 80: what a careless writer makes of \ud800
    half[json.indexOf('\ud83d') + 1] = (byte) 0xa0;
    half[json.indexOf('\ud83d') + 2] = (byte) 0x80;
    half[json.indexOf('\ud83d') + 3] = 'x';
    for (byte[] body : List.of(
        half,
        "{\"active\":true,\"\\ud83d\":1}".getBytes(UTF_8),
        json.getBytes(UTF_16LE),
        json.getBytes(UTF_16BE),
        json.getBytes(UTF_16))) {
      assertThatThrownBy(() -> IdentityJson.introspection(body))
          .isInstanceOf(IdentityException.class)
          .hasMessageStartingWith("identity_unavailable: decode_response: ")
          .hasNoCause();
    }
  }

  /** Overlong, half of a pair, beyond Unicode, of another encoding, and an end too early. */
  @ParameterizedTest
  @ValueSource(
      strings = {"c080", "c1a1", "e080af", "eda0bdedb880", "f4908080", "f5808080", "e9", "e282"})
  void refusesWhatIsNoUtf8(String hex) {
    String character = new String(HexFormat.of().parseHex(hex), ISO_8859_1);
    for (String json : List.of(
        "{\"active\":true,\"name\":\"?\"}",
        "{\"active\":true,\"?\":1}",
        "{\"active\":true,\"unknown\":[{\"x\":\"?\"}]}")) {
      byte[] body = json.replace("?", character).getBytes(ISO_8859_1);
      assertThatThrownBy(() -> IdentityJson.introspection(body))
          .as(json)
          .isInstanceOf(IdentityException.class)
          .hasMessage("identity_unavailable: decode_response: not UTF-8")
          .hasNoCause();
    }
    byte[] issued = ("{\"token\":\"" + character + "\",\"expires_at\":\"2030-01-01T00:00:00Z\"}")
        .getBytes(ISO_8859_1);
    assertThatThrownBy(() -> IdentityJson.issuedToken(issued))
        .isInstanceOf(IdentityException.class)
        .hasMessage("identity_unavailable: decode_response: not UTF-8")
        .hasNoCause();
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
