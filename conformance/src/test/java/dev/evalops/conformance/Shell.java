package dev.evalops.conformance;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

/** Runs git and the scripts of the checkout in a folder of a test. */
final class Shell {
  private final Path folder;
  private final Map<String, String> environment = new TreeMap<>();

  Shell(Path folder) {
    this.folder = folder;
    // The settings of who runs the tests, and of a git hook around them, stay outside.
    with("GIT_CONFIG_GLOBAL", "/dev/null").with("GIT_CONFIG_SYSTEM", "/dev/null");
    for (String role : List.of("AUTHOR", "COMMITTER")) {
      with("GIT_" + role + "_NAME", "Test").with("GIT_" + role + "_EMAIL", "test@example.com");
    }
  }

  Shell with(String variable, String value) {
    environment.put(variable, value);
    return this;
  }

  /** Puts a program on the path before all others. */
  Shell withProgram(String name, String script) throws IOException {
    Path programs = Files.createDirectories(folder.resolveSibling(folder.getFileName() + "-bin"));
    Path program = Files.writeString(programs.resolve(name), "#!/bin/sh\n" + script + "\n");
    Files.setPosixFilePermissions(program, PosixFilePermissions.fromString("rwxr-xr-x"));
    return with("PATH", programs + ":" + System.getenv("PATH"));
  }

  Shell newRepository() throws IOException, InterruptedException {
    run("git", "init", "-q", "-b", "main");
    return this;
  }

  Shell commit(String message) throws IOException, InterruptedException {
    run("git", "commit", "-q", "--allow-empty", "-m", message);
    return this;
  }

  Shell tag(String... names) throws IOException, InterruptedException {
    for (String name : names) {
      run("git", "tag", name);
    }
    return this;
  }

  /** What a script of the checkout prints when all is well. */
  String script(String name, String... arguments) throws IOException, InterruptedException {
    return run(command(name, arguments));
  }

  Result tryScript(String name, String... arguments) throws IOException, InterruptedException {
    return start(command(name, arguments));
  }

  String run(String... command) throws IOException, InterruptedException {
    Result result = start(command);
    assertThat(result.status())
        .as("%s: %s", String.join(" ", command), result.text())
        .isZero();
    return result.text();
  }

  private static String[] command(String name, String... arguments) {
    List<String> command = new ArrayList<>();
    command.add(Checkout.ROOT.resolve("scripts").resolve(name).toString());
    command.addAll(List.of(arguments));
    return command.toArray(String[]::new);
  }

  private Result start(String... command) throws IOException, InterruptedException {
    ProcessBuilder builder =
        new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true);
    builder.environment().keySet().removeIf(name -> name.startsWith("GIT_"));
    builder.environment().putAll(environment);
    Path output = Files.createTempFile("shell", ".txt");
    try {
      Process process = builder.redirectOutput(output.toFile()).start();
      if (!process.waitFor(60, TimeUnit.SECONDS)) {
        process.destroyForcibly();
        throw new AssertionError(String.join(" ", command) + " does not end");
      }
      return new Result(process.exitValue(), Files.readString(output).strip());
    } finally {
      Files.delete(output);
    }
  }

  /** How a command ended, and all that it printed. */
  record Result(int status, String text) {}
}
