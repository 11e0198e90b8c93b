package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** What the workflows and the shared actions say, and how they are documented. */
class SharedActionsTest {
  private static final Path GITHUB = Checkout.ROOT.resolve(".github");
  private static final Pattern USES = Pattern.compile("uses: (\\S+)( #.*)?");
  private static final Pattern PINNED =
      Pattern.compile("uses: [\\w./-]+@[0-9a-f]{40} # v[0-9]+\\.[0-9]+\\.[0-9]+");
  private static final Pattern SCRIPT = Pattern.compile("scripts/([\\w-]+)");
  private static final Pattern QUOTED = Pattern.compile("`([^`]+)`");
  private static final Pattern NAME = Pattern.compile("  ([\\w-]+):");

  static List<Path> files() throws IOException {
    try (Stream<Path> files = Files.walk(GITHUB)) {
      return files
          .filter(file -> file.toString().endsWith(".yml"))
          .map(GITHUB::relativize)
          .sorted()
          .toList();
    }
  }

  static List<Path> actions() throws IOException {
    return files().stream().filter(file -> file.endsWith("action.yml")).toList();
  }

  static List<Path> workflows() throws IOException {
    return files().stream().filter(file -> file.startsWith("workflows")).toList();
  }

  @ParameterizedTest
  @MethodSource("files")
  void everyActionIsPinnedToACommit(Path file) throws IOException {
    assertThat(USES.matcher(read(file)).results().map(MatchResult::group))
        .as("%s: an action of others by its commit, with the version behind it", file)
        .allSatisfy(uses -> assertThat(uses)
            .satisfiesAnyOf(
                one -> assertThat(one).startsWith("uses: ./.github/actions/"),
                one -> assertThat(one).matches(PINNED)));
  }

  @ParameterizedTest
  @MethodSource("files")
  void everyScriptThatIsCalledIsThere(Path file) throws IOException {
    assertThat(SCRIPT.matcher(read(file)).results().map(match -> match.group(1)))
        .as("scripts that %s calls", file)
        .allSatisfy(
            name -> assertThat(Checkout.ROOT.resolve("scripts").resolve(name)).isExecutable());
  }

  @ParameterizedTest
  @MethodSource("files")
  void noInputIsPastedIntoAShell(Path file) throws IOException {
    assertThat(read(file).lines().filter(line -> line.strip().replace("- ", "").startsWith("run:")))
        .as("%s: what comes from outside goes through env, never into the text of a script", file)
        .noneMatch(line -> line.contains("${{"));
  }

  @ParameterizedTest
  @MethodSource("workflows")
  void everyWorkflowSaysWhatItMayDo(Path file) throws IOException {
    assertThat(read(file)).as("%s", file).contains("\npermissions:\n  contents: read\n");
  }

  @ParameterizedTest
  @MethodSource("actions")
  void everyInputAndOutputIsDocumented(Path file) throws IOException {
    String action = file.getParent().getFileName().toString();
    String readme = Files.readString(GITHUB.resolve("actions/README.md"));
    String section = readme.substring(readme.indexOf("\n## " + action + "\n") + 1);
    section = section.substring(0, section.indexOf("\n## "));
    List<String> names = names(file, "inputs");
    assertThat(names).isNotEmpty();
    names.addAll(names(file, "outputs"));
    for (String name : names) {
      assertThat(section)
          .as("section %s of .github/actions/README.md", action)
          .contains("`" + name + "`");
    }
    assertThat(section
            .lines()
            .filter(line -> line.startsWith("| `"))
            .flatMap(SharedActionsTest::firstCell))
        .as("inputs in section %s of .github/actions/README.md", action)
        .isSubsetOf(names);
  }

  private static Stream<String> firstCell(String row) {
    return QUOTED
        .matcher(row.substring(0, row.indexOf('|', 1)))
        .results()
        .map(match -> match.group(1));
  }

  @Test
  void deprecatedAliasIsAnInputOfBothImageActions() throws IOException {
    for (String action : List.of("publish-ghcr-image", "build-docker-image")) {
      assertThat(names(Path.of("actions", action, "action.yml"), "inputs"))
          .contains("build_args", "build-args", "target", "load");
    }
  }

  private static List<String> names(Path file, String block) throws IOException {
    List<String> names = new ArrayList<>();
    String current = "";
    for (String line : read(file).lines().toList()) {
      if (!line.startsWith(" ") && line.endsWith(":")) {
        current = line.substring(0, line.length() - 1);
      } else if (current.equals(block) && NAME.matcher(line).matches()) {
        names.add(line.strip().replace(":", ""));
      }
    }
    return names;
  }

  private static String read(Path file) throws IOException {
    return Files.readString(GITHUB.resolve(file));
  }
}
