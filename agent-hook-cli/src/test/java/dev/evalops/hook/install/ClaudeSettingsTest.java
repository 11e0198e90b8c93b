package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ClaudeSettingsTest {
  private static final String COMMAND = "/opt/evalops/bin/evalops-agent-hook governance-check";
  private static final String GROUP = """
      {
              "matcher": "*",
              "hooks": [
                {
                  "type": "command",
                  "command": "/opt/evalops/bin/evalops-agent-hook governance-check",
                  "timeout": 600,
                  "onFailure": "block"
                }
              ]
            }""";

  private final ClaudeSettings user = new ClaudeSettings(false);
  private final ClaudeSettings managed = new ClaudeSettings(true);

  @Test
  void writesTheWholeFile_whenThereIsNone() throws Exception {
    assertThat(managed.install("", COMMAND)).isEqualTo("""
        {
          "allowManagedHooksOnly": true,
          "hooks": {
            "PreToolUse": [
              %s
            ]
          }
        }
        """.formatted(GROUP));
    assertThat(user.install(" \n", COMMAND)).doesNotContain("allowManaged").contains(GROUP);
  }

  @Test
  void leavesEverythingElseByteForByte() throws Exception {
    String before = """
        {
          "model" : "opus",   "env": {"A":"\\u00e9\\/"},
          "big": 1.0e+400,
          "hooks": {
            "PostToolUse": [ {"hooks":[]} ]
          },
          "last": [ ]
        }""";

    String after = user.install(before, COMMAND);

    assertThat(after).isEqualTo("""
        {
          "model" : "opus",   "env": {"A":"\\u00e9\\/"},
          "big": 1.0e+400,
          "hooks": {
            "PostToolUse": [ {"hooks":[]} ],
            "PreToolUse": [
              %s
            ]
          },
          "last": [ ]
        }""".formatted(GROUP));
  }

  @Test
  void addsToTheGroupsOfOthers() throws Exception {
    String before = """
        {
          "hooks": {
            "PreToolUse": [
              {"matcher": "Bash", "hooks": [{"type": "command", "command": "/usr/bin/other"}]}
            ]
          }
        }
        """;

    assertThat(user.install(before, COMMAND)).isEqualTo("""
        {
          "hooks": {
            "PreToolUse": [
              {"matcher": "Bash", "hooks": [{"type": "command", "command": "/usr/bin/other"}]},
              %s
            ]
          }
        }
        """.formatted(GROUP));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "{}",
        " { } ",
        "{\"a\":1}",
        "{\"hooks\":{}}",
        "{\"hooks\":{\"PreToolUse\":[]}}",
        "{\r\n\t\"a\": 1\r\n}\r\n",
        "{\"hooks\":{\"PreToolUse\":[{\"hooks\":[]}]},\"a\":[1,2]}"
      })
  void writesWhatIsInForce_andNothingTheSecondTime(String before) throws Exception {
    for (ClaudeSettings settings : new ClaudeSettings[] {user, managed}) {
      String after = settings.install(before, COMMAND);

      assertThat(settings.problems(after, COMMAND)).isEmpty();
      assertThat(settings.install(after, COMMAND)).isEqualTo(after);
      assertThat(after.replace("\r\n", "").contains("\n")).isEqualTo(!before.contains("\r\n"));
    }
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', textBlock = """
      "timeout": 600                     | "timeout": 0
      "timeout": 600                     | "timeout": "600"
      "timeout": 600                     | "timeout": 5
      "matcher": "*"                     | "matcher": "Bash"
      "onFailure": "block"               | "async": true
      , "onFailure": "block"             | ''
      "type": "command"                  | "type": "http"
      /opt/evalops/bin/                  | /tmp/
      governance-check"                  | governance-check && true"
      "matcher": "*"                     | "matcher": "*", "if": "Bash(rm *)"
      """, quoteCharacter = '\'')
  void findsAndRepairsAnEntryThatWasChanged(String written, String changed) throws Exception {
    String good =
        "{\"a\": 1, \"hooks\": {\"PreToolUse\": [{\"matcher\": \"*\", \"hooks\": [{\"type\": \"command\", \"command\": \""
            + COMMAND + "\", \"timeout\": 600, \"onFailure\": \"block\"}]}]}, \"b\": 2}";
    assertThat(user.install(good, COMMAND)).isEqualTo(good);
    String broken = good.replace(written, changed);
    assertThat(broken).isNotEqualTo(good);

    assertThat(user.problems(broken, COMMAND))
        .hasSize(1)
        .allMatch(p -> p.contains("not as it was written"));
    String repaired = user.install(broken, COMMAND);
    assertThat(user.problems(repaired, COMMAND)).isEmpty();
    assertThat(repaired)
        .startsWith("{\"a\": 1, \"hooks\": {\"PreToolUse\": [{")
        .endsWith("}]}, \"b\": 2}");
  }

  @Test
  void saysWhatSwitchesTheHookOff() throws Exception {
    String good = managed.install("", COMMAND);

    assertThat(managed.problems(
            good.replace("\"allowManagedHooksOnly\": true", "\"allowManagedHooksOnly\": false"),
            COMMAND))
        .singleElement()
        .asString()
        .contains("allowManagedHooksOnly");
    assertThat(managed.problems(good.replaceFirst("\\{", "{\"disableAllHooks\": true,"), COMMAND))
        .singleElement()
        .asString()
        .contains("disableAllHooks");
    assertThat(user.problems("{}", COMMAND)).singleElement().asString().contains("no entry");
    assertThat(managed.install(good.replace("true", "false"), COMMAND)).isEqualTo(good);
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', textBlock = """
      {"a": 1} // note                                    | line 1: something follows
      {/* note */}                                        | a name in quotes
      {"a": 1,}                                           | a name in quotes
      {"a": 1, "a": 2}                                    | twice
      {"hooks": {"PreToolUse": [], "PreToolUse": []}}     | twice
      {"a": 01}                                           | value
      {"a": NaN}                                          | value
      {'a': 1}                                            | name
      {"a": "                                             | does not end
      {"a": "\\x"}                                        | escape
      [                                                   | value
      []                                                  | not a JSON object
      "text"                                              | not a JSON object
      {"hooks": []}                                       | hooks is not a JSON object
      {"hooks": {"PreToolUse": {}}}                       | not a JSON array
      {"hooks": {"PreToolUse": [1]}}                      | not a JSON object
      {"hooks": {"PreToolUse": [{"hooks": [1]}]}}         | not a JSON object
      {"disableAllHooks": true}                           | disableAllHooks
      {"hooks": {"PreToolUse": [{"hooks": [{"command": "evalops-agent-hook"}, {"command": "b"}]}]}} | shares
      {"hooks": {"PreToolUse": [{"hooks": [{"command": "evalops-agent-hook"}]}, {"hooks": [{"command": "evalops-agent-hook"}]}]}} | more than one
      """, quoteCharacter = '\u0001')
  void refusesWhatItDoesNotUnderstand(String text, String reason) {
    assertThatThrownBy(() -> user.install(text, COMMAND))
        .isInstanceOf(NotUnderstoodException.class)
        .hasMessageContaining(reason);
  }

  @Test
  void refusesBottomlessNesting() {
    assertThatThrownBy(() -> user.install("{\"a\":" + "[".repeat(100_000), COMMAND))
        .hasMessageContaining("nested");
  }
}
