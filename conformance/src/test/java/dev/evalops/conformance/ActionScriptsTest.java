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
    ".java-version, 21.0.5, 21.0.5",
    ".sdkmanrc, java=21.0.5-tem, 21.0.5"
  })
  void javaVersionIsThatOfTheBuildFile(String file, String text, String version) throws Exception {
    Files.writeString(folder.resolve("work").resolve(file), "# a comment\n" + text + "\n");
    assertThat(shell.script("java-version", file)).isEqualTo(version);
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
