package dev.evalops.runtime.observability;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.fail;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The alert rules and the dashboard, by promtool. */
class PrometheusFilesTest {
  private static final String PACKAGE = "resources/dev/evalops/runtime/observability/";
  private static final Path RULES = Path.of("src/main", PACKAGE + "prometheus-rules.yaml");
  private static final Path DASHBOARD = Path.of("src/main", PACKAGE + "grafana-dashboard.json");
  private static final Path TESTS = Path.of("src/test", PACKAGE + "prometheus-rules-test.yaml");

  @TempDir
  Path work;

  @Test
  void rulesFireWhenTheyShould_andOnlyThen() throws Exception {
    promtool("test", "rules", TESTS.toString());
  }

  @Test
  void everyRuleIsTestedBothWays() throws IOException {
    List<String> rules = found("- alert: (\\w+)", RULES);
    assertThat(found("- name: (\\w+)\n", TESTS)).containsExactlyElementsOf(rules);
    assertThat(found("- name: (\\w+), not\n", TESTS)).containsExactlyElementsOf(rules);
  }

  @Test
  void queriesOfTheDashboardAreValid() throws Exception {
    StringBuilder rules = new StringBuilder("groups:\n- name: dashboard\n  rules:\n");
    for (String query : found("\"expr\": \"(.*)\",\n", DASHBOARD)) {
      String concrete = query
          .replace("\\\"", "\"")
          .replace("${prefix}", "notes")
          .replace("$job", "notes")
          .replace("$__rate_interval", "5m");
      rules.append("  - record: panel\n    expr: '").append(concrete).append("'\n");
    }
    Path file = Files.writeString(work.resolve("dashboard.yaml"), rules);
    promtool("check", "rules", "--lint=none", file.toString());
  }

  private static List<String> found(String pattern, Path in) throws IOException {
    List<String> found = Pattern.compile(pattern)
        .matcher(Files.readString(in))
        .results()
        .map((MatchResult each) -> each.group(1))
        .toList();
    assertThat(found).hasSizeGreaterThan(10);
    return found;
  }

  private void promtool(String... arguments) throws Exception {
    Path output = work.resolve("output");
    ProcessBuilder command =
        new ProcessBuilder("promtool").redirectErrorStream(true).redirectOutput(output.toFile());
    command.command().addAll(List.of(arguments));
    Process promtool;
    try {
      promtool = command.start();
    } catch (IOException e) {
      fail("promtool is not on the path; scripts/install-test-servers installs it", e);
      return;
    }
    assertThat(promtool.waitFor(1, TimeUnit.MINUTES)).isTrue();
    assertThat(promtool.exitValue()).as(Files.readString(output)).isZero();
  }
}
