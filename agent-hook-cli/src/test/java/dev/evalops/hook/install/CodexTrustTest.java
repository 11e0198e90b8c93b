package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.hook.Distribution;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CodexTrustTest {
  private static final String COMMAND = "/opt/evalops/bin/evalops-agent-hook governance-check";

  @TempDir
  private Path work;

  /** A program that answers as Codex 0.155 and 0.169 do. */
  static void program(Path program, String answer) throws IOException {
    Files.writeString(
        program,
        "#!/bin/sh\n[ \"$1\" = app-server ] || { echo 'codex-cli 0.169.0'; exit 0; }\n"
            + "read -r q; echo '{\"id\":1,\"result\":{\"codexHome\":\"/h\"}}'; read -r q\n"
            + "echo '{\"method\":\"configWarning\",\"params\":{\"details\":null}}'; read -r q\n"
            + "case $q in *'\"hooks/list\"'*) printf '%s\\n' '"
            + answer.replace("'", "'\\''") + "' ;; esac\n");
    Distribution.mode("rwxr-xr-x", program);
  }

  static String hook(String command, boolean enabled, String trust) {
    return "{\"key\":\"/h/config.toml:pre_tool_use:0:0\",\"eventName\":\"preToolUse\","
        + "\"handlerType\":\"command\",\"command\":\""
        + command + "\",\"matcher\":\".*\",\"timeoutSec\":600,\"source\":\"user\",\"enabled\":"
        + enabled
        + ",\"isManaged\":false,\"currentHash\":\"sha256:0\",\"trustStatus\":\"" + trust + "\"}";
  }

  static String list(String... hooks) {
    return "{\"id\":2,\"result\":{\"data\":[{\"cwd\":\"/\",\"hooks\":[" + String.join(",", hooks)
        + "],\"warnings\":[],\"errors\":[]}]}}";
  }

  private List<String> problems(String answer) throws IOException {
    Path program = work.resolve("codex");
    program(program, answer);
    return CodexTrust.problems(program, Map.of("PATH", "/usr/bin:/bin"), COMMAND);
  }

  @Test
  void findsNothing_whenOneEntryIsTrusted() throws Exception {
    assertThat(problems(list(hook(COMMAND, true, "trusted")))).isEmpty();
    assertThat(problems(list(hook(COMMAND, true, "untrusted"), hook(COMMAND, true, "managed"))))
        .isEmpty();
  }

  @ParameterizedTest
  @ValueSource(strings = {"untrusted", "modified", "somehow"})
  void findsAnEntryThatIsNotTrusted(String trust) throws Exception {
    assertThat(problems(list(hook("/bin/other", true, "trusted"), hook(COMMAND, true, trust))))
        .containsExactly(
            "Codex does not run the hook, which is " + trust + ": review it in Codex with /hooks");
  }

  @Test
  void findsAnEntryThatIsSwitchedOff() throws Exception {
    assertThat(problems(list(hook(COMMAND, false, "trusted"))))
        .containsExactly(
            "Codex does not run the hook, which is disabled: review it in Codex with /hooks");
  }

  @Test
  void findsAnEntryThatCodexDoesNotSee() throws Exception {
    String missing = "Codex does not find the hook in its configuration";
    assertThat(problems(list())).containsExactly(missing);
    assertThat(problems(list(hook(COMMAND + " x", true, "trusted")))).containsExactly(missing);
    assertThat(problems(list(hook(COMMAND, true, "trusted").replace("preToolUse", "stop"))))
        .containsExactly(missing);
    assertThat(problems(list().replace("\"errors\":[]", "\"errors\":[{\"message\":\"line 1:3\"}]")))
        .containsExactly("Codex does not understand its configuration: line 1:3");
  }

  @Test
  void fails_whenCodexEndsAtOnce() throws Exception {
    Path program = Files.writeString(work.resolve("codex"), "#!/bin/sh\nexit 1\n");
    Distribution.mode("rwxr-xr-x", program);

    assertThatThrownBy(() -> CodexTrust.problems(program, Map.of(), COMMAND))
        .hasMessageStartingWith("Codex does not say");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"", "usage: codex", "{\"id\":2,\"error\":{\"code\":-32601}}", "{\"id\":2}"})
  void fails_whenCodexDoesNotSay(String answer) {
    assertThatThrownBy(() -> problems(answer))
        .hasMessage(
            "Codex does not say whether it trusts the hook: review it in Codex with /hooks");
  }
}
