package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Shell.Result;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What the pre-commit hands to Maven, in a repository of two modules; Maven is a stand-in that prints what it sees. */
class PreCommitTest {
  private static final String PRINTS = """
      echo "mvn $*"
      cat a/src/main/A.java 2>/dev/null
      for folder in a b; do [ ! -d $folder/src/test ] || echo "tests of $folder"; done
      """;

  @TempDir
  Path folder;

  private Path repository;
  private Shell shell;

  @BeforeEach
  void newRepository() throws Exception {
    repository = Files.createDirectory(folder.resolve("a repository"));
    shell = new Shell(repository).newRepository().withProgram("maven", PRINTS).with("MVN", "maven");
    write(
        "pom.xml",
        "<project>\n<module>a</module>\n<module>b</module>\n<module>conformance</module>\n</project>\n");
    for (String module : new String[] {"a", "b", "conformance"}) {
      write(module + "/pom.xml", "<project/>");
      write(module + "/src/test/T.java", "class T {}");
    }
    write("a/src/main/A.java", "committed");
    write("scripts/run", "#!/bin/sh\n");
    write("README.md", "text");
    shell.run("git", "add", "-A");
    shell.commit("feat: one");
  }

  @Test
  void testsWhatIsStaged_notWhatLiesThere() throws Exception {
    write("a/src/main/A.java", "staged");
    shell.run("git", "add", "-A");
    write("a/src/main/A.java", "not staged");
    write("b/src/main/B.java", "unknown to git");
    assertThat(shell.script("pre-commit"))
        .contains("-pl a spotless:check", "-pl a -am verify", "staged", "tests of a")
        .doesNotContain("not staged", "tests of b");
  }

  @Test
  void refusesTheCommit_whereGitDoesNotAnswer() throws Exception {
    write("a/src/main/A.java", "staged");
    shell.run("git", "add", "-A");
    shell.withProgram(
        "git",
        "[ \"$1\" != diff ] || exit 128; exec " + shell.run("sh", "-c", "command -v git")
            + " \"$@\"");
    assertThat(shell.tryScript("pre-commit").status()).isEqualTo(128);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "a/src/main/a name.java",
        "a/src/main/\u00fcber/\u00dc.java",
        "a/src/main/a \"quote\".java",
        "a/src/main/$(exit 7)`;*.java"
      })
  void testsTheModuleOfAnyName(String name) throws Exception {
    write(name, "class");
    shell.run("git", "add", "-A");
    assertThat(shell.script("pre-commit")).contains("-pl a -am verify");
  }

  @ParameterizedTest
  @CsvSource({
    "pom.xml,                     'a,b,conformance'",
    "a/pom.xml,                   'a,conformance'",
    "scripts/other,               conformance",
    ".github/workflows/ci.yml,    conformance",
  })
  void testsWhatAFileIsAbout(String name, String modules) throws Exception {
    write(
        name,
        "<module>a</module>\n<module>b</module>\n<module>conformance</module>\n<!-- changed -->\n");
    shell.run("git", "add", "-A");
    assertThat(shell.script("pre-commit")).contains("-pl " + modules + " -am verify");
  }

  @Test
  void testsBothModules_whenAFileMoves_andTheOldOneWhenItGoes() throws Exception {
    shell.run("git", "mv", "a/src/main/A.java", "b/src");
    assertThat(shell.script("pre-commit")).contains("-pl a,b -am verify");
    shell.commit("fix: move").run("git", "rm", "-q", "b/src/A.java");
    assertThat(shell.script("pre-commit")).contains("-pl b -am verify");
    shell.run("git", "rm", "-q", "-r", "b");
    write("pom.xml", "<module>a</module>\n");
    shell.run("git", "add", "pom.xml");
    assertThat(shell.script("pre-commit")).contains("-pl a,conformance -am verify");
  }

  @ParameterizedTest
  @ValueSource(strings = {"README.md", "a/README.md", ".github/README.md", "docs/name with \u00e4"})
  void hasNothingToDo_forDocumentsAlone(String name) throws Exception {
    write(name, "more");
    shell.run("git", "add", "-A");
    assertThat(shell.script("pre-commit")).isEmpty();
  }

  @Test
  void failsWithTheTests() throws Exception {
    shell.withProgram("maven", "exit 1");
    write("a/src/main/A.java", "staged");
    shell.run("git", "add", "-A");
    assertThat(shell.tryScript("pre-commit").status()).isEqualTo(1);
  }

  @Test
  void runsAsAHook_alsoInAWorktree() throws Exception {
    shell.run("git", "worktree", "add", "-q", "-b", "other", "../another place");
    Path hook = repository.resolve(".git/hooks/pre-commit");
    Files.createDirectories(hook.getParent());
    Files.copy(Checkout.ROOT.resolve("scripts/pre-commit"), hook);
    assertThat(hook.toFile().setExecutable(true)).isTrue();
    Path place = folder.resolve("another place");
    Files.writeString(place.resolve("a/src/main/A.java"), "in the worktree");
    shell.run("git", "-C", place.toString(), "add", "-A");
    assertThat(shell.run("git", "-C", place.toString(), "commit", "-q", "-m", "fix: two"))
        .contains("-pl a -am verify", "in the worktree");
  }

  @Test
  void lintsScripts_orSaysThatItDoesNot() throws Exception {
    write("scripts/run", "#!/bin/sh\necho $1\n");
    write("scripts/text", "no script");
    shell.run("git", "add", "-A");
    shell.withProgram("shellcheck", "echo \"shellcheck $*\"; exit 1");
    Result result = shell.tryScript("pre-commit");
    assertThat(result.text()).isEqualTo("shellcheck scripts/run");
    assertThat(result.status()).isEqualTo(1);
    // A path with git and the tools, and no shellcheck.
    Path tools = Files.createDirectory(folder.resolve("tools"));
    for (String tool : new String[] {
      "bash", "sh", "env", "git", "mktemp", "rm", "sed", "sort", "grep", "paste", "cat"
    }) {
      Files.createSymbolicLink(
          tools.resolve(tool), Path.of(shell.run("sh", "-c", "command -v " + tool)));
    }
    Path maven = folder.resolve("a repository-bin/maven");
    shell.with("PATH", tools.toString()).with("MVN", "sh " + tools.resolve("maven"));
    Files.createSymbolicLink(tools.resolve("maven"), maven);
    assertThat(shell.script("pre-commit"))
        .contains("shellcheck NOT RUN", "-pl conformance -am verify");
  }

  private void write(String name, String text) throws IOException {
    Path file = repository.resolve(name);
    Files.createDirectories(file.getParent());
    Files.writeString(file, text);
  }
}
