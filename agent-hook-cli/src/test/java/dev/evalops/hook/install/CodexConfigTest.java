package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class CodexConfigTest {
  private static final String COMMAND = "/opt/evalops/bin/evalops-agent-hook governance-check";
  private static final String GROUP = """
      [[hooks.PreToolUse]]
      matcher = ".*"

      [[hooks.PreToolUse.hooks]]
      type = "command"
      command = "/opt/evalops/bin/evalops-agent-hook governance-check"
      timeout = 600
      statusMessage = "EvalOps policy check"
      """;

  private final CodexConfig user = new CodexConfig(false, "/opt/evalops");
  private final CodexConfig managed = new CodexConfig(true, "/opt/evalops");

  @Test
  void writesTheWholeFile_whenThereIsNone() throws Exception {
    assertThat(user.install("", COMMAND))
        .isEqualTo("# Written by \"evalops-agent-hook install\".\n" + GROUP);
    assertThat(managed.install("", COMMAND)).isEqualTo("""
        allow_managed_hooks_only = true

        [features]
        hooks = true

        [hooks]
        managed_dir = "/opt/evalops"

        # Written by "evalops-agent-hook install".
        """ + GROUP);
  }

  @Test
  void leavesEverythingElseByteForByte() throws Exception {
    String before = """
        model = "gpt-5.5" # the newest
        notify = [ "a", # one
          'b' ]
        text = \"""
        [hooks] = not a table
        \"""
        [projects."/home/me/a \\"b\\""]
        trust_level = "trusted"
        [hooks.state."/home/me/.codex/config.toml:pre_tool_use:0:0"]
        trusted_hash = "sha256:00"
        [mcp_servers.x]
        env = { A = "1", B = { c = 1979-05-27 07:32:00Z } }""";

    String after = user.install(before, COMMAND);

    assertThat(after)
        .isEqualTo(before + "\n\n# Written by \"evalops-agent-hook install\".\n" + GROUP);
    assertThat(user.problems(after, List.of(), COMMAND)).isEmpty();
    assertThat(user.install(after, COMMAND)).isEqualTo(after);
  }

  @Test
  void addsTheManagedKeysWhereTheyBelong() throws Exception {
    String before = """
        # ours
        allowed_approval_policies = ["never"]

        [features] # here
        web_search = false
        hooks = false

        [hooks]
        note = 1

        [[hooks.PreToolUse]]
        matcher = "^Bash$"
        [[hooks.PreToolUse.hooks]]
        type = "command"
        command = "/usr/bin/other"
        """;

    assertThat(managed.install(before, COMMAND)).isEqualTo("""
        allow_managed_hooks_only = true

        # ours
        allowed_approval_policies = ["never"]

        [features] # here
        web_search = false
        hooks = true

        [hooks]
        managed_dir = "/opt/evalops"
        note = 1

        [[hooks.PreToolUse]]
        matcher = "^Bash$"
        [[hooks.PreToolUse.hooks]]
        type = "command"
        command = "/usr/bin/other"

        # Written by "evalops-agent-hook install".
        """ + GROUP);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "# nothing\n",
        "a = 1",
        "a = 1\r\n[b]\r\nc = 'd'\r\n",
        "[features]\r\na = 1\r\n[hooks]\r\nb = 1\r\n",
        "[features]",
        "[hooks]",
        "allow_managed_hooks_only = false\n[features]\nhooks = true\n",
        "[[hooks.PostToolUse]]\nmatcher = \"x\"\n[[hooks.PostToolUse.hooks]]\ntype = \"command\"\n"
      })
  void writesWhatIsInForce_andNothingTheSecondTime(String before) throws Exception {
    for (CodexConfig config : new CodexConfig[] {user, managed}) {
      String after = config.install(before, COMMAND);

      assertThat(config.problems(after, List.of(), COMMAND)).isEmpty();
      assertThat(config.install(after, COMMAND)).isEqualTo(after);
      assertThat(after.replace("\r\n", "").contains("\n")).isEqualTo(!before.contains("\r\n"));
    }
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', textBlock = """
      timeout = 600              | timeout = 0
      timeout = 600              | timeout = "600"
      timeout = 600              | timeout = 600.0
      timeout = 600              | timeout = -1
      matcher = ".*"             | matcher = "^Bash$"
      type = "command"           | type = "prompt"
      /opt/evalops/bin/          | /tmp/
      governance-check"          | governance-check && true"
      matcher = ".*"             | x = 1
      """, quoteCharacter = '\'')
  void findsAndRepairsAnEntryThatWasChanged(String written, String changed) throws Exception {
    String good = user.install("a = 1\n", COMMAND) + "\n# after\n[b]\nc = 2\n";
    assertThat(user.problems(good, List.of(), COMMAND)).isEmpty();
    String broken = good.replace(written, changed);
    assertThat(broken).isNotEqualTo(good);

    assertThat(user.problems(broken, List.of(), COMMAND))
        .singleElement()
        .asString()
        .contains("not as it was written");
    assertThat(user.install(broken, COMMAND)).isEqualTo(good);
  }

  @Test
  void saysWhatSwitchesTheHookOff() throws Exception {
    String good = managed.install("", COMMAND);

    assertThat(managed.problems(good.replace("hooks = true", "hooks = false"), List.of(), COMMAND))
        .singleElement()
        .asString()
        .contains("[features]");
    assertThat(managed.problems(good.replace("only = true", "only = false"), List.of(), COMMAND))
        .singleElement()
        .asString()
        .contains("allow_managed_hooks_only");
    assertThat(user.problems("[features]\nhooks = false\n", List.of(), COMMAND)).hasSize(2);
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', textBlock = """
      a = 1 b = 2                                       | value
      a                                                 | '=' is expected
      = 1                                               | name
      a = "x                                            | does not end
      a = [1, 2                                         | array
      a = {b = 1                                        | inline table
      a = hello                                         | value
      [a                                                | ']'
      [a]]                                              | something follows
      hooks = {}                                        | as a table
      hooks.PreToolUse = []                             | as a table
      features.hooks = true                             | as a table
      features = {hooks = true}                         | as a table
      [[hooks]]                                         | do not understand
      [hooks.PreToolUse]                                | do not understand
      """, quoteCharacter = '\u0001')
  void refusesWhatItDoesNotUnderstand(String text, String reason) {
    assertThatThrownBy(() -> managed.install(text, COMMAND))
        .isInstanceOf(NotUnderstoodException.class)
        .hasMessageContaining(reason);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "a = 1\na = 2",
        "[a]\n[a]",
        "[a]\nb = 1\nb = 2",
        "[hooks]\nPreToolUse = []",
        "[hooks]\nPreToolUse.x = 1",
        "[[hooks.PreToolUse]]\nhooks = []",
        "[features]\nhooks = false",
        "a = '''\n",
        "[[hooks.PreToolUse]]\n[hooks.PreToolUse.x]",
        "[[hooks.PreToolUse]]\n[[hooks.PreToolUse.hooks]]\ncommand = 'evalops-agent-hook'\n"
            + "[[hooks.PreToolUse.hooks]]\ncommand = 'b'"
      })
  void refusesWhatItDoesNotUnderstandOnSeveralLines(String text) {
    assertThatThrownBy(() -> user.install(text, COMMAND))
        .isInstanceOf(NotUnderstoodException.class);
  }

  @Test
  void takesNoTableAway_thatStandsWithinItsEntry() throws Exception {
    String within = user.install("", COMMAND)
        .replace("\n[[hooks.PreToolUse.hooks]]", "\n[more]\nb = 2\n\n[[hooks.PreToolUse.hooks]]");

    assertThat(user.problems(within, List.of(), COMMAND)).isEmpty();
    assertThat(user.install(within, COMMAND)).isEqualTo(within);
    for (String text : List.of(within, within.replace("timeout = 600", "timeout = 5"))) {
      assertThatThrownBy(() -> user.uninstall(text))
          .isInstanceOf(NotUnderstoodException.class)
          .hasMessageContaining("has another table within it");
    }
    assertThatThrownBy(() -> user.install(within.replace("timeout = 600", "timeout = 5"), COMMAND))
        .isInstanceOf(NotUnderstoodException.class)
        .hasMessageContaining("has another table within it");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "model = \"x\"\n",
        "model = \"x\"\r\n[tools]\r\na = 1\r\n",
        "[[hooks.PreToolUse]]\nmatcher = \"x\"\n[[hooks.PreToolUse.hooks]]\ncommand = \"other\"\n",
      })
  void takesAwayWhatItHasWritten_andNothingElse(String before) throws Exception {
    String after = user.install(before, COMMAND);

    assertThat(user.uninstall(after)).isEqualTo(before);
    assertThat(user.uninstall(before)).isEqualTo(before);
    assertThat(user.uninstall(after + "\n[more]\nb = 2\n")).contains("[more]\nb = 2\n");
  }
}
