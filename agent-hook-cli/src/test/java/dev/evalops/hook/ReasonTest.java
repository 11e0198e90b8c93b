package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

class ReasonTest {
  private static final String PROGRAM = "evalops-agent-hook: ";

  @ParameterizedTest
  @ValueSource(strings = {"", " ", "\n\t\u0000", "\u202e\u200b", "\u3000"})
  void isNeverBlank(String text) {
    assertThat(Reason.of(text, null))
        .isEqualTo(PROGRAM + "blocked (fail closed): no reason was given");
  }

  @Test
  void isOneLineWithoutControlOrInvisibleCharacters() {
    assertThat(Reason.of("a\r\nb\u001b[31m c\u0085d\u2028e\u202ef\u200bg\u007fh", null))
        .isEqualTo(PROGRAM + "a b [31m c d e" + "fg h");
  }

  @Test
  void isAtMost2000CharactersOfValidUnicode() {
    String reason = Reason.of("\ud83d\ude00".repeat(5000), null);
    assertThat(reason).hasSizeBetween(1998, 2000).endsWith("\u2026");
    assertThat(new String(reason.getBytes(UTF_8), UTF_8)).isEqualTo(reason);
    assertThat(Reason.of("half \ud83d pair", null)).isEqualTo(PROGRAM + "half \ufffd pair");
  }

  @Test
  void masksTheToken() {
    assertThat(Reason.of("bad token tok-1 (tok-1)", "tok-1"))
        .isEqualTo(PROGRAM + "bad token [secret] ([secret])");
  }

  @Test
  void isWrappedInTheOneLineThatBothHostsRead() {
    String reason = Reason.of("say \"no\" \\ to \u00e9\ud83d\ude00", null);
    String line = Reason.hostLine(reason);
    JsonNode json = Vectors.JSON.readTree(line);
    assertThat(line).endsWith("}}\n").doesNotContain(": {");
    assertThat(json.propertyNames()).containsExactly("hookSpecificOutput");
    JsonNode output = json.get("hookSpecificOutput");
    assertThat(output.propertyNames())
        .containsExactly("hookEventName", "permissionDecision", "permissionDecisionReason");
    assertThat(output.get("hookEventName").asString()).isEqualTo("PreToolUse");
    assertThat(output.get("permissionDecision").asString()).isEqualTo("deny");
    assertThat(output.get("permissionDecisionReason").asString()).isEqualTo(reason);
  }
}
