package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.conformance.Shell.Result;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The scripts behind the shared actions. */
class ActionScriptsTest {
  @TempDir
  Path folder;

  private Shell shell;

  @BeforeEach
  void newShell() throws IOException {
    shell = new Shell(Files.createDirectory(folder.resolve("work")));
  }

  @ParameterizedTest
  @CsvSource({
    "pom.xml, <maven.compiler.release>21</maven.compiler.release>, 21",
    "pom.xml, <java.version>17</java.version>, 17",
    "pom.xml, <target>1.8</target>, 8",
    "pom.xml, <release>${java.version}</release><java.version>25</java.version>, 25",
    "build.gradle, languageVersion = JavaLanguageVersion.of(21), 21",
    "build.gradle.kts, languageVersion.set(JavaLanguageVersion.of(25)), 25",
    "build.gradle, options.release = 17, 17",
    "build.gradle.kts, options.release.set(21), 21",
    "build.gradle.kts, options.release.convention(21), 21",
    "build.gradle, options.release 21, 21",
    "build.gradle, options.getRelease().set(17), 17",
    "pom.xml, <!-- a --><java.version>25</java.version><!-- b -->, 25",
    "build.gradle, id 'net.researchgate.release' version '3.0.2' languageVersion = JavaLanguageVersion.of(21), 21",
    "pom.xml, <!-- <java.version>17</java.version> --><java.version>25</java.version>, 25",
    ".java-version, 21.0.5, 21.0.5",
    ".sdkmanrc, java=21.0.5-tem, 21.0.5"
  })
  void javaVersionIsThatOfTheBuildFile(String file, String text, String version) throws Exception {
    Files.writeString(folder.resolve("work").resolve(file), "# a comment\n" + text + "\n");
    assertThat(shell.script("java-version", file)).isEqualTo(version);
  }

  @Test
  void javaVersionIsNotThatOfAPluginOrOfAComment() throws Exception {
    Files.writeString(folder.resolve("work/build.gradle"), """
        // languageVersion = JavaLanguageVersion.of(8)
        plugins { id 'net.researchgate.release' version '3.0.2' }
        """);
    Result result = shell.tryScript("java-version", "build.gradle");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("build.gradle names no Java version");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "build-release | is no vX.Y.Z",
        "build-release v01.2.3 | is no vX.Y.Z",
        "publish-release | is no vX.Y.Z",
        "publish-release main | is no vX.Y.Z",
        "release-notes | is no vX.Y.Z",
        "release-notes v1.2 | is no vX.Y.Z",
        "release-notes v1.2.3 | there is no commit here",
        "next-version | there is no commit here",
        "check-bundle | scripts/check-bundle <repository> <version>",
        "check-bundle no_where 1.2.3 | no dev/evalops in no_where",
        "hook-archives v1.2.3 | scripts/hook-archives <vX.Y.Z>",
        "hook-archives v1.2.3 no.tar.gz out | no no.tar.gz",
        "find-jdk | is no major version",
        "find-jdk .* | is no major version",
        "java-version | no build file",
        "write-output | scripts/write-output <name> <command>",
        "write-output name | scripts/write-output <name> <command>",
        "export-env NO_SUCH | NO_SUCH is not set",
        "example | scripts/example demo | run",
      })
  void aWrongCallIsRefusedWithWhatIsMissing(String call, String problem) throws Exception {
    shell.with("GITHUB_OUTPUT", "output").with("GITHUB_ENV", "env");
    shell.run("git", "init", "-q");
    String[] words = call.split(" ", -1);
    Result result = shell.tryScript(words[0], Arrays.copyOfRange(words, 1, words.length));
    assertThat(result.status()).isIn(1, 2);
    assertThat(result.text()).contains(problem).hasLineCount(1);
  }

  @Test
  void javaVersionCanBeOverridden() throws Exception {
    assertThat(shell.with("JAVA_VERSION", "21\n25").script("java-version", "pom.xml"))
        .isEqualTo("21\n25");
  }

  @Test
  void javaVersionIsNotGuessed() throws Exception {
    Result missing = shell.tryScript("java-version", "pom.xml");
    assertThat(missing.status()).isEqualTo(1);
    assertThat(missing.text()).contains("no pom.xml");
    Files.writeString(folder.resolve("work/pom.xml"), "<project/>");
    assertThat(shell.tryScript("java-version", "pom.xml").text())
        .contains("pom.xml names no Java version");
  }

  @Test
  void jdkIsFoundByItsVersion_notByTheNameOfItsFolder() throws Exception {
    Path jdk = folder.resolve("misleading-17");
    Path java = Files.createDirectories(jdk.resolve("bin")).resolve("java");
    Files.writeString(java, "#!/bin/sh\necho 'openjdk version \"99.0.1\" 2026-01-01' >&2\n");
    assertThat(java.toFile().setExecutable(true)).isTrue();
    assertThat(shell.with("JAVA_HOME_99_X64", jdk.toString()).script("find-jdk", "99"))
        .isEqualTo(jdk.toString());
    assertThat(shell.tryScript("find-jdk", "9").text()).contains("no Java 9 found");
  }

  @Test
  void buildArgumentsOfBothNamesAreKept_theNewNameLast() throws Exception {
    shell.with("BUILD_ARGS", "A=2\nB=3").with("BUILD_ARGS_ALIAS", "A=1\n\n");
    String output = shell.with("IMAGE_NAME", "registry.example/owner/image").script("image-args");
    assertThat(output)
        .contains("::warning::build-args is deprecated", "registry=registry.example\n")
        .containsPattern("build_args<<(end_\\d+)\nA=1\nA=2\nB=3\n\\1");
  }

  @ParameterizedTest
  @ValueSource(strings = {"ghcr.io/o/image", "localhost:5000/a-b/c__d.e", "ghcr.io/evalops/a/b"})
  void imageNamesHaveARegistry(String name) throws Exception {
    assertThat(shell.with("IMAGE_NAME", name).script("image-args"))
        .startsWith("registry=" + name.substring(0, name.indexOf('/')) + "\n");
  }

  @Test
  void imageActionsNeedNoBuildArguments() throws Exception {
    assertThat(shell.script("image-args"))
        .startsWith("registry=\nbuild_args<<")
        .doesNotContain("::");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "IMAGE_NAME=image                    | names no registry",
        "IMAGE_NAME=registry.example/o/Image | lower case",
        "IMAGE_NAME=registry.example/o/image:tag | tags have an input",
        "IMAGE_NAME=/o/image                 | is no <registry>/<owner>/<image>",
        "IMAGE_NAME=registry.example/        | is no <registry>/<owner>/<image>",
        "PUSH=true LOAD=true                 | push and load exclude each other",
        "LOAD=true PLATFORMS=linux/amd64,linux/arm64 | load takes one platform"
      })
  void imageInputsThatCannotWorkAreRefused(String inputs, String problem) throws Exception {
    for (String input : inputs.split(" ", -1)) {
      shell.with(input.substring(0, input.indexOf('=')), input.substring(input.indexOf('=') + 1));
    }
    Result result = shell.tryScript("image-args");
    assertThat(result.status()).isEqualTo(1);
    assertThat(result.text()).contains("::error::", problem);
  }

  @Test
  void credentialsAreHandedOnMasked() throws Exception {
    Path file = folder.resolve("env");
    shell.with("GITHUB_ENV", file.toString()).with("TOKEN", "s3cret").with("NAME", "");
    assertThat(shell.script("export-env", "NAME", "TOKEN")).isEqualTo("::add-mask::s3cret");
    assertThat(Files.readString(file)).isEqualTo("NAME=\nTOKEN=s3cret\n");

    Result lines = shell.with("TOKEN", "a\nPATH=b").tryScript("export-env", "TOKEN");
    assertThat(lines.status()).isEqualTo(1);
    assertThat(lines.text()).isEqualTo("export-env: TOKEN has more than one line");
  }

  @Test
  void outputsKeepTheirLines_andFailWithTheirCommand() throws Exception {
    Path file = folder.resolve("output");
    shell.with("GITHUB_OUTPUT", file.toString());
    shell.script("write-output", "versions", "printf", "21\\n25");
    assertThat(Files.readString(file)).containsPattern("^versions<<(end_\\d+)\n21\n25\n\\1\n$");
    assertThat(shell.tryScript("write-output", "versions", "false").status()).isNotZero();
  }
}
