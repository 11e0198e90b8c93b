package dev.evalops.hook;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CommandTest {
  private static Command parse(String line) {
    return Command.parse(line.isEmpty() ? new String[0] : line.split(" ", -1));
  }

  @Test
  void readsTheOptionsInAnyOrder() {
    assertThat(parse("governance-check")).isEqualTo(new Command(0, 2, null));
    assertThat(parse("governance-check --allow-exit-code 42 --config /etc/x"))
        .isEqualTo(new Command(42, 2, Path.of("/etc/x")))
        .isEqualTo(parse("governance-check --config /etc/x --allow-exit-code 42"));
    assertThat(parse("governance-check --deny-exit-code 44 --allow-exit-code 42"))
        .isEqualTo(new Command(42, 44, null));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "--help",
        "governance",
        "governance-check x",
        "governance-check --allow-exit-code",
        "governance-check --allow-exit-code 0",
        "governance-check --allow-exit-code 2",
        "governance-check --allow-exit-code 126",
        "governance-check --allow-exit-code x",
        "governance-check --allow-exit-code 42 --allow-exit-code 42",
        "governance-check --allow-exit-code 42 --deny-exit-code 42",
        "governance-check --deny-exit-code 0",
        "governance-check --deny-exit-code 44 --deny-exit-code 44",
        "governance-check --config",
        "governance-check --config ",
        "governance-check --config a\0b",
        "governance-check --config a --config b",
        "--config a governance-check",
        "Governance-Check",
        "governance-check --verbose yes"
      })
  void takesNothingElse(String line) {
    assertThat(parse(line)).isNull();
  }

  @Test
  void letsAnyoneButRootOwnOnlyAFileThatTheInstallationNames() {
    Path program = Path.of("/opt/hook.jar");
    assertThat(parse("governance-check").managedFile(program))
        .isEqualTo(new ManagedFile(Path.of("/etc/evalops/agent-hook.properties"), false, null));
    assertThat(parse("governance-check --config /etc/x").managedFile(program))
        .isEqualTo(new ManagedFile(Path.of("/etc/x"), true, program));
  }
}
