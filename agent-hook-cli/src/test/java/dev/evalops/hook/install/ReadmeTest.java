package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

class ReadmeTest {
  private static final Installation INSTALLATION = new Installation(Path.of("/opt/evalops"));

  @Test
  void showsTheEntriesThatInstallWrites() throws Exception {
    String readme = Files.readString(Path.of("../docs/agent-hook.md"));

    assertThat(readme)
        .contains("```json\n"
            + JsonSettings.claude(false, true).install("", Host.CLAUDE.command(INSTALLATION))
            + "```");
    assertThat(readme)
        .contains("```toml\n"
            + new CodexConfig(true, "/opt/evalops").install("", Host.CODEX.command(INSTALLATION))
            + "```");
    for (Host host : Host.values()) {
      assertThat(readme).contains(host.title() + ", " + host.oldest() + " or later");
    }
  }
}
