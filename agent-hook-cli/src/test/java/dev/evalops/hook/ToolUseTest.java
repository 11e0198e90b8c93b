package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.FieldSource;
import org.junit.jupiter.params.provider.ValueSource;

class ToolUseTest {
  static final String[] HOSTILE = {
    "50-deep-nesting-100000.json",
    "53-invalid-utf8.json",
    "54-duplicate-tool-name.json",
    "57-raw-control-chars.json",
    "58-top-level-array.json",
    "61-tool-name-number.json",
    "63-tool-name-missing.json",
    "65-tool-input-string.json",
    "69-trailing-garbage.json",
    "71-empty-stdin.json",
    "73-bom.json",
    "76-wrong-event.json",
    "79-lenient-json.json"
  };

  private static ToolUse parse(String text) throws Denial {
    byte[] bytes = text.getBytes(UTF_8);
    return ToolUse.parse(Arrays.copyOf(bytes, bytes.length + 10), bytes.length);
  }

  private static String action(String text) throws Denial {
    return new String(parse(text).action(), UTF_8);
  }

  @ParameterizedTest
  @CsvSource({
    "01-claude-bash.json, Bash, 7d1c2f60-1b7e-4c55-9a44-0f2b6c1f9d10",
    "02-claude-bash-subagent.json, Bash, ab8553c33aa4eae29",
    "03-claude-write.json, Write, 7d1c2f60-1b7e-4c55-9a44-0f2b6c1f9d10",
    "05-claude-mcp.json, mcp__tracker__create_issue, 7d1c2f60-1b7e-4c55-9a44-0f2b6c1f9d10",
    "08-codex-bash.json, Bash, 01a20743-f8b6-7202-9398-83c74e4caaec",
    "09-codex-apply-patch.json, apply_patch, 01a20743-f8b6-7202-9398-83c74e4caaec",
    "10-codex-mcp.json, mcp__tracker__create_issue, 01a20743-f8b6-7202-9398-83c74e4caaec",
    "14-claude-unknown-fields.json, Bash, 7d1c2f60-1b7e-4c55-9a44-0f2b6c1f9d10",
    "15-claude-skill-shell.json, Bash, 7d1c2f60-1b7e-4c55-9a44-0f2b6c1f9d10"
  })
  void readsTheEventsOfBothHosts(String payload, String toolName, String agentId) throws Denial {
    byte[] event = Vectors.payload(payload);
    ToolUse toolUse = ToolUse.parse(event, event.length);
    assertThat(toolUse.toolName()).isEqualTo(toolName);
    assertThat(toolUse.agentId()).isEqualTo(agentId);
    assertThat(toolUse.surface()).isEqualTo(payload.contains("claude") ? "claude" : "codex");
    assertThat(toolUse.isCanary()).isFalse();
    assertThat(Vectors.JSON.readTree(toolUse.action()))
        .isEqualTo(Vectors.JSON.readTree(event).get("tool_input"));
    assertThat(toolUse.event()).isEqualTo(new String(event, UTF_8));
  }

  @Test
  void readsTheEventsOfCursor() throws Denial {
    String event =
        "{\"conversation_id\":\"c-1\",\"generation_id\":\"g\",\"model\":\"m\",\"hook_event_name\":\"%s\","
            + "\"tool_name\":\"Shell\",\"tool_input\":{\"command\":\"make\",\"working_directory\":\"/w\"},"
            + "\"tool_use_id\":\"t\",\"cwd\":\"/w\",\"workspace_roots\":[\"/w\"],\"user_email\":null%s}";
    ToolUse toolUse = parse(event.formatted("preToolUse", ""));
    assertThat(toolUse.toolName()).isEqualTo("Shell");
    assertThat(toolUse.agentId()).isEqualTo("c-1");
    assertThat(toolUse.surface()).isEqualTo("cursor");
    assertThat(parse(event.formatted("preToolUse", ",\"session_id\":\"s\"")).agentId())
        .isEqualTo("s");
    assertThat(parse(event.formatted("PreToolUse", "")).agentId()).isNull();
  }

  @ParameterizedTest
  @FieldSource("HOSTILE")
  void refusesHostileEvents(String payload) {
    byte[] event = Vectors.payload(payload);
    assertThatThrownBy(() -> ToolUse.parse(event, event.length))
        .isInstanceOf(Denial.class)
        .hasMessageStartingWith("blocked (fail closed): ");
  }

  @Test
  void sendsTheVeryBytesThatItJudged() throws Denial {
    assertThat(action("{\"tool_name\":\"Bash\",\"tool_input\": {\"a\" : 1.0e0,"
            + " \"\\u0062\":\"\u00e9\\u00e9\"} }"))
        .isEqualTo("{\"a\" : 1.0e0, \"\\u0062\":\"\u00e9\\u00e9\"}");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"{\"tool_name\":\"Bash\"}", " {\"tool_name\":\"Bash\",\"tool_input\":null}\n"})
  void sendsTheWholeEvent_whenTheToolHasNoInput(String event) throws Denial {
    assertThat(action(event)).isEqualTo(event);
  }

  @ParameterizedTest
  @ValueSource(strings = {"\"ls\"", "[]", "1", "true", "\"\""})
  void refusesAnInputThatIsNoObject(String input) {
    assertThatThrownBy(() -> parse("{\"tool_name\":\"Bash\",\"tool_input\":" + input + "}"))
        .hasMessageContaining("tool_input is not an object");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\"\"",
        "\" \"",
        "null",
        "42",
        "[\"Bash\"]",
        "\"Bash \"",
        "\"\\tBash\"",
        "\"\\u00a0Bash\"",
        "\"Ba\\u0000sh\"",
        "\"Bash\\n\"",
        "\"\\u0085\""
      })
  void refusesANameThatARuleCouldMiss(String name) {
    assertThatThrownBy(() -> parse("{\"tool_name\":" + name + "}"))
        .hasMessageContaining("tool_name");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\"PostToolUse\"",
        "\"PreSkillShellCommand \"",
        "\"\"",
        "\"pretooluse\"",
        "null",
        "1"
      })
  void refusesAnyOtherEvent(String name) {
    assertThatThrownBy(() -> parse("{\"tool_name\":\"Bash\",\"hook_event_name\":" + name + "}"))
        .hasMessageContaining("hook_event_name");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "\"agent_id\":\" a \",\"session_id\":\"s\",\"context\":{\"agent_id\":\"c\"} | a",
        "\"agent_id\":\"\",\"context\":{\"agent_id\":\"c\"},\"metadata\":{\"agent_id\":\"m\"},\"session_id\":\"s\""
            + " | c",
        "\"metadata\":{\"agent_id\":\"m\"},\"session_id\":\"s\" | m",
        "\"session_id\":\"s\",\"context\":{\"session_id\":\"t\"} | s",
        "\"session_id\":null,\"context\":{\"session_id\":\"t\"},\"metadata\":{\"session_id\":\"u\"}"
            + " | t",
        "\"context\":null,\"metadata\":{\"session_id\":\"u\"} | u",
        "\"x\":1 |"
      })
  void findsTheAgentInTheOrderOfTheContract(String members, String agentId) throws Denial {
    assertThat(parse("{\"tool_name\":\"Bash\"," + members + "}").agentId()).isEqualTo(agentId);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\"agent_id\":1",
        "\"session_id\":{}",
        "\"context\":[]",
        "\"metadata\":\"x\"",
        "\"context\":{\"agent_id\":[]}",
        "\"surface\":1"
      })
  void refusesKnownMembersOfAnotherType(String member) {
    assertThatThrownBy(() -> parse("{\"tool_name\":\"Bash\"," + member + "}"))
        .isInstanceOf(Denial.class);
  }
}
