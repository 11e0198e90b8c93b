package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class JsonSettingsTest {
  private static final String COMMAND = "/opt/evalops/bin/evalops-agent-hook governance-check";
  private static final String GROUP = """
      {
              "matcher": "*",
              "hooks": [
                {
                  "type": "command",
                  "command": "/opt/evalops/bin/evalops-agent-hook governance-check",
                  "timeout": 600,
                  "onFailure": "block",
                  "statusMessage": "EvalOps policy check"
                }
              ]
            }""";

  private final JsonSettings user = JsonSettings.claude(false, true);
  private final JsonSettings managed = JsonSettings.claude(true, true);

  @Test
  void writesTheWholeFile_whenThereIsNone() throws Exception {
    assertThat(managed.install("", COMMAND)).isEqualTo("""
        {
          "allowManagedHooksOnly": true,
          "hooks": {
            "PreToolUse": [
              %s
            ],
            "PreSkillShellCommand": [
              %s
            ]
          }
        }
        """.formatted(GROUP, GROUP));
    assertThat(user.install(" \n", COMMAND)).doesNotContain("allowManaged").contains(GROUP);
  }

  @Test
  void writesTheWholeFileOfOtherHosts() throws Exception {
    assertThat(JsonSettings.gemini().install("", COMMAND)).isEqualTo("""
        {
          "hooksConfig": {
            "enabled": true
          },
          "hooks": {
            "BeforeTool": [
              {
                "matcher": "*",
                "hooks": [
                  {
                    "type": "command",
                    "command": "/opt/evalops/bin/evalops-agent-hook governance-check",
                    "name": "evalops-agent-hook",
                    "timeout": 600000
                  }
                ]
              }
            ]
          }
        }
        """);
    assertThat(JsonSettings.qwen().install("", COMMAND))
        .startsWith("{\n  \"disableAllHooks\": false,\n  \"hooks\": {\n    \"PreToolUse\": [");
    for (JsonSettings settings : List.of(JsonSettings.gemini(), JsonSettings.qwen())) {
      String written = settings.install("", COMMAND);
      assertThat(settings.problems(written, List.of(), COMMAND)).isEmpty();
      assertThat(settings.install(written, COMMAND)).isEqualTo(written);
      assertThat(settings.uninstall(written)).doesNotContain("evalops");
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "{\"hooksConfig\": {\"enabled\": false, \"a\": 1}}",
        "{\"hooksConfig\": {}}",
        "{\"hooksConfig\": {\"a\": 1}}",
        "{\"a\": 1}"
      })
  void switchesTheHooksOfGeminiOn(String text) throws Exception {
    JsonSettings gemini = JsonSettings.gemini();
    String installed = gemini.install(text, COMMAND);
    assertThat(gemini.problems(installed, List.of(), COMMAND)).isEmpty();
    assertThat(gemini.problems(
            installed.replace("\"enabled\": true", "\"enabled\": false"), List.of(), COMMAND))
        .containsExactly("hooksConfig.enabled is not true: a repository can switch all hooks off");
  }

  @Test
  void switchesTheHooksOfQwenOn() throws Exception {
    JsonSettings qwen = JsonSettings.qwen();
    String installed = qwen.install("{\"disableAllHooks\": true}", COMMAND);
    assertThat(qwen.problems(installed, List.of(), COMMAND)).isEmpty();
    assertThat(qwen.problems(
            installed.replace("\"disableAllHooks\": false", "\"x\": 1"), List.of(), COMMAND))
        .containsExactly("disableAllHooks is not false: a repository can switch all hooks off");
    assertThatThrownBy(() -> JsonSettings.gemini().install("{\"hooksConfig\": []}", COMMAND))
        .isInstanceOf(NotUnderstoodException.class);
  }

  @Test
  void writesTheEntryOfCursor_besideTheHooksOfOthers() throws Exception {
    JsonSettings cursor = JsonSettings.cursor();
    String written = cursor.install("", COMMAND);
    assertThat(written).isEqualTo("""
        {
          "version": 1,
          "hooks": {
            "preToolUse": [
              {
                "command": "/opt/evalops/bin/evalops-agent-hook governance-check",
                "timeout": 600,
                "failClosed": true
              }
            ]
          }
        }
        """);
    assertThat(cursor.install(written, COMMAND)).isEqualTo(written);
    assertThat(cursor.uninstall(written)).doesNotContain("evalops");

    String others = """
        {
          "version": 1,
          "hooks": {
            "preToolUse": [
              {"command": "x"}
            ],
            "stop": [{"command": "y"}]
          }
        }
        """;
    String installed = cursor.install(others, COMMAND);
    assertThat(installed).contains("{\"command\": \"x\"},\n      {\n        \"command\": \"/opt/");
    assertThat(cursor.problems(installed, List.of(), COMMAND)).isEmpty();
    assertThat(cursor.uninstall(installed)).isEqualTo(others);
    assertThat(cursor.install(
            installed.replace("\"failClosed\": true", "\"failClosed\": false"), COMMAND))
        .isEqualTo(installed);
  }

  @Test
  void noticesWhatKeepsCursorFromAsking() throws Exception {
    JsonSettings cursor = JsonSettings.cursor();
    String written = cursor.install("", COMMAND);
    for (String changed : List.of(
        written.replace("true", "false"),
        written.replace("600", "0"),
        written.replace("hook g", "hook x; g"))) {
      assertThat(cursor.problems(changed, List.of(), COMMAND))
          .containsExactly(
              "the entry of evalops-agent-hook in hooks.preToolUse is not as it was written "
                  + "(command, timeout, failClosed)");
    }
    assertThat(cursor.problems(written.replace(": 1,", ": 2,"), List.of(), COMMAND))
        .containsExactly("version is not 1: Cursor does not read the file");
    assertThatThrownBy(() -> cursor.install("{\"version\": 2}", COMMAND))
        .isInstanceOf(NotUnderstoodException.class)
        .hasMessage("its version is not 1");
    assertThat(cursor.install("{}", COMMAND)).contains("\"version\": 1");
  }

  @Test
  void keepsItsOwnFileAmongThePoliciesOfCopilot() throws Exception {
    CopilotPolicy copilot = new CopilotPolicy();
    String written = copilot.install("", COMMAND);
    assertThat(written)
        .contains("\"PreToolUse\"", "\"bash\": \"" + COMMAND + "\"", "\"timeoutSec\": 600");
    assertThat(copilot.install(written.replace("600", "1"), COMMAND)).isEqualTo(written);
    assertThat(copilot.problems(written, List.of(), COMMAND)).isEmpty();
    assertThat(copilot.problems(written.replace("600", "1"), List.of(), COMMAND))
        .hasSize(1);
    assertThat(copilot.uninstall(written)).isEmpty();
    assertThatThrownBy(() -> copilot.install("{\"version\":1}", COMMAND))
        .isInstanceOf(NotUnderstoodException.class);
    assertThatThrownBy(() -> copilot.uninstall("{\"version\":1}"))
        .isInstanceOf(NotUnderstoodException.class);
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
            ],
            "PreSkillShellCommand": [
              %s
            ]
          },
          "last": [ ]
        }""".formatted(GROUP, GROUP));
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
            ],
            "PreSkillShellCommand": [
              %s
            ]
          }
        }
        """.formatted(GROUP, GROUP));
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
    for (JsonSettings settings : new JsonSettings[] {user, managed}) {
      String after = settings.install(before, COMMAND);

      assertThat(settings.problems(after, List.of(), COMMAND)).isEmpty();
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
    String groups =
        "[{\"matcher\": \"*\", \"hooks\": [{\"type\": \"command\", \"command\": \"" + COMMAND
            + "\", \"timeout\": 600, \"onFailure\": \"block\", \"statusMessage\": \"EvalOps policy check\"}]}]";
    String good = "{\"a\": 1, \"hooks\": {\"PreToolUse\": " + groups
        + ", \"PreSkillShellCommand\": " + groups + "}, \"b\": 2}";
    assertThat(user.install(good, COMMAND)).isEqualTo(good);
    String broken = good.replace(written, changed);
    assertThat(broken).isNotEqualTo(good);

    assertThat(user.problems(broken, List.of(), COMMAND))
        .hasSize(1)
        .allMatch(p -> p.contains("not as it was written"));
    String repaired = user.install(broken, COMMAND);
    assertThat(user.problems(repaired, List.of(), COMMAND)).isEmpty();
    assertThat(repaired)
        .startsWith("{\"a\": 1, \"hooks\": {\"PreToolUse\": [{")
        .endsWith("}]}, \"b\": 2}");
  }

  @Test
  void saysWhatSwitchesTheHookOff() throws Exception {
    String good = managed.install("", COMMAND);

    assertThat(managed.problems(
            good.replace("\"allowManagedHooksOnly\": true", "\"allowManagedHooksOnly\": false"),
            List.of(),
            COMMAND))
        .singleElement()
        .asString()
        .contains("allowManagedHooksOnly");
    assertThat(managed.problems(
            good.replaceFirst("\\{", "{\"disableAllHooks\": true,"), List.of(), COMMAND))
        .singleElement()
        .asString()
        .contains("disableAllHooks");
    assertThat(user.problems("{}", List.of(), COMMAND))
        .containsExactly(
            "there is no entry of evalops-agent-hook in hooks.PreToolUse, hooks.PreSkillShellCommand");
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
      {"hooks": {"PreToolUse": [{"hooks": [{"command": "evalops-agent-hook"}]}, \
      {"hooks": [{"command": "evalops-agent-hook"}]}]}} | more than one
      """, quoteCharacter = '\u0001')
  void refusesWhatItDoesNotUnderstand(String text, String reason) {
    assertThatThrownBy(() -> user.install(text, COMMAND))
        .isInstanceOf(NotUnderstoodException.class)
        .hasMessageContaining(reason);
  }

  @Test
  void switchesTheShellOfSkillsOff_whereItWouldNotAsk() throws Exception {
    JsonSettings older = JsonSettings.claude(false, false);
    for (String before : List.of("", "{}", "{\"disableSkillShellExecution\": false}")) {
      String after = older.install(before, COMMAND);
      assertThat(after).contains("\"disableSkillShellExecution\": true");
      assertThat(older.problems(after, List.of(), COMMAND)).isEmpty();
      assertThat(user.problems(after, List.of(), COMMAND)).isEmpty();
    }
    assertThat(older.problems(user.install("", COMMAND), List.of(), COMMAND))
        .singleElement()
        .asString()
        .contains("disableSkillShellExecution is not true: before Claude Code 2.1.332");
  }

  @Test
  void findsWhatADropInSwitchesOff() throws Exception {
    String good = managed.install("", COMMAND);
    String other = "{\"env\": {\"A\": \"1\"}, \"hooks\": {\"PreToolUse\": [{\"hooks\": []}]}}";

    assertThat(managed.problems(good, List.of(other), COMMAND)).isEmpty();
    assertThat(managed.problems(good, List.of(other, "{\"disableAllHooks\": true}"), COMMAND))
        .singleElement()
        .asString()
        .contains("disableAllHooks is true");
    assertThat(managed.problems(
            good, List.of("{\"disableAllHooks\": true}", "{\"disableAllHooks\": false}"), COMMAND))
        .isEmpty();
    assertThat(managed.problems(good, List.of("{\"allowManagedHooksOnly\": false}"), COMMAND))
        .singleElement()
        .asString()
        .contains("allowManagedHooksOnly is not true");
    // Arrays are joined, equal elements once.
    assertThat(managed.problems(good, List.of(good), COMMAND)).isEmpty();
    for (String odd : List.of("{", "[]", "{\"hooks\": {\"PreToolUse\": null}}")) {
      assertThatThrownBy(() -> managed.problems(good, List.of(odd), COMMAND))
          .isInstanceOf(NotUnderstoodException.class);
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "{\"a\":1}",
        "{\r\n\t\"a\": 1\r\n}\r\n",
        "{\"hooks\":{\"PostToolUse\":[]},\"b{\": 2}",
        "{\n  \"hooks\": {\n    \"PreToolUse\": [\n      {\"hooks\": []}\n    ]\n  }\n}\n",
        "{\"hooks\":{\"PreToolUse\":[{\"hooks\":[{\"command\":\"other\"}]}],"
            + "\"PreSkillShellCommand\":[{\"hooks\":[]}]},\"a\":[1,2]}"
      })
  void takesAwayWhatItHasWritten_andNothingElse(String before) throws Exception {
    String after = user.install(before, COMMAND);

    String restored = user.uninstall(after);

    assertThat(JsonDocument.parse(restored).plain())
        .isEqualTo(JsonDocument.parse(before).plain());
    assertThat(restored.replaceAll("\\s", "")).isEqualTo(before.replaceAll("\\s", ""));
    assertThat(user.uninstall(before)).isEqualTo(before);
  }

  @Test
  void takesItsEntryAwayFromAmongOthers() throws Exception {
    String ours = "{\"hooks\":[{\"command\":\"" + COMMAND + "\"}]}";
    String other = "{\"hooks\":[{\"command\":\"/bin/other\"}]}";
    String both = "{\"hooks\":[{\"command\":\"" + COMMAND + "\"}, {\"command\":\"/bin/other\"}]}";
    String frame = "{\"hooks\":{\"PreToolUse\":[%s],\"Stop\":[]}}";

    assertThat(user.uninstall(frame.formatted(ours + "," + other + "," + ours + "," + ours)))
        .isEqualTo(frame.formatted(other));
    assertThat(user.uninstall(frame.formatted(ours + "," + ours + "," + other + "," + other)))
        .isEqualTo(frame.formatted(other + "," + other));
    assertThat(user.uninstall(frame.formatted(both)))
        .isEqualTo(frame.formatted("{\"hooks\":[ {\"command\":\"/bin/other\"}]}"));
    assertThat(user.uninstall(frame.formatted(ours))).isEqualTo("{\"hooks\":{\"Stop\":[]}}");
    assertThat(user.uninstall("{\"hooks\":{\"PreToolUse\":[" + ours + "]}}")).isEqualTo("{}");
  }

  @Test
  void refusesBottomlessNesting() {
    assertThatThrownBy(() -> user.install("{\"a\":" + "[".repeat(100_000), COMMAND))
        .hasMessageContaining("nested");
  }
}
