package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.io.TempDir;

/** What systemd itself says of the units, where it is. */
@EnabledIf("hasSystemd")
class SystemdUnitsTest {
  private static final Path ANALYZE = Path.of("/usr/bin/systemd-analyze");

  static boolean hasSystemd() {
    return Files.isExecutable(ANALYZE);
  }

  @Test
  void haveNoFaults(@TempDir Path work) throws Exception {
    Path launcher = work.resolve("hook/bin/evalops-agent-hook");
    Files.createDirectories(launcher.getParent());
    Files.writeString(launcher, "#!/bin/sh\n");
    assertThat(launcher.toFile().setExecutable(true)).isTrue();
    List<String> command =
        new ArrayList<>(List.of(ANALYZE.toString(), "verify", "--man=no", "--recursive-errors=no"));
    Map<Path, String> units = new ServiceUnits(work.resolve("hook"), false).files(work);
    for (Map.Entry<Path, String> unit : units.entrySet()) {
      Files.createDirectories(unit.getKey().getParent());
      Files.writeString(unit.getKey(), unit.getValue());
      if (unit.getKey().toString().contains("/systemd/")) {
        command.add(unit.getKey().toString());
      }
    }
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(process.waitFor()).as(said).isZero();
    assertThat(said).isEmpty();
  }
}
