package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

class ReadmeTest {
  private static final String COMMAND = "/opt/evalops/bin/evalops-agent-hook governance-check";

  @Test
  void showsTheEntriesThatInstallWrites() throws Exception {
    String readme = Files.readString(Path.of("README.md"));

    assertThat(readme)
        .contains("```json\n" + new ClaudeSettings(false).install("", COMMAND) + "```");
    assertThat(readme)
        .contains("```toml\n" + new CodexConfig(true, "/opt/evalops").install("", COMMAND) + "```");
    for (Host host : Host.values()) {
      assertThat(readme).contains("## " + host.title() + ", " + host.oldest() + " or later");
    }
  }
}
