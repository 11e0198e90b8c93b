package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import tools.jackson.databind.JsonNode;

/** The finished jar as a process of its own. */
final class HookJar {
  private static final Path JAR = Path.of("target", "evalops-agent-hook.jar").toAbsolutePath();
  private static final Path JAVA = Path.of(System.getProperty("java.home"), "bin", "java");
  private static final long BOUND_SECONDS = 60;

  private final Map<String, String> environment = new HashMap<>();
  private final List<String> jvm =
      new ArrayList<>(List.of("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"));
  private final List<String> arguments = new ArrayList<>(List.of("governance-check"));
  private String shell = "";

  /** Those of the launcher that save a process which does not live long most of its time. */
  private static final List<String> LAUNCHERS =
      List.of("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC");

  /** Writes to the process, whose end may come before. */
  interface Input {
    void write(OutputStream out) throws IOException, InterruptedException;
  }

  private Input input = out -> out.write(Call.EVENT.getBytes(UTF_8));

  HookJar(String governanceUrl) {
    environment.putAll(new Call(governanceUrl).environment());
  }

  HookJar with(String key, String value) {
    environment.put(key, value);
    return this;
  }

  HookJar withoutEnvironment() {
    environment.clear();
    return this;
  }

  HookJar arguments(String... all) {
    arguments.clear();
    arguments.addAll(List.of(all));
    return this;
  }

  HookJar jvm(String... more) {
    jvm.addAll(List.of(more));
    return this;
  }

  /** Starts it from a shell that does this first, or with these redirections. */
  HookJar shell(String script) {
    shell = script;
    return this;
  }

  HookJar input(byte[] event) {
    return input(out -> out.write(event));
  }

  HookJar input(Input newInput) {
    input = newInput;
    return this;
  }

  Running start() throws IOException {
    List<String> command = new ArrayList<>();
    if (!shell.isEmpty()) {
      command.addAll(List.of("sh", "-c", shell, "sh"));
    }
    command.add(JAVA.toString());
    command.addAll(LAUNCHERS);
    command.addAll(jvm);
    command.addAll(List.of("-jar", JAR.toString()));
    command.addAll(arguments);
    ProcessBuilder builder = new ProcessBuilder(command);
    builder.environment().clear();
    builder.environment().put("PATH", "/usr/bin:/bin");
    builder.environment().putAll(environment);
    return new Running(builder.start(), input);
  }

  Result run() throws Exception {
    return start().await();
  }

  /** The process, whose pipes are served. */
  static final class Running {
    final Process process;
    private final CompletableFuture<String> stdout;
    private final CompletableFuture<String> stderr;

    private Running(Process process, Input input) {
      this.process = process;
      stdout = read(process.getInputStream());
      stderr = read(process.getErrorStream());
      Thread writer = new Thread(() -> {
        try (OutputStream out = process.getOutputStream()) {
          input.write(out);
        } catch (IOException | InterruptedException e) {
          // It has ended before.
        }
      });
      writer.setDaemon(true);
      writer.start();
    }

    private static CompletableFuture<String> read(InputStream in) {
      return CompletableFuture.supplyAsync(
          () -> {
            try (in) {
              return new String(in.readAllBytes(), UTF_8);
            } catch (IOException e) {
              return "unreadable: " + e;
            }
          },
          Launched::run);
    }

    void signal(String name) throws Exception {
      int status = new ProcessBuilder("kill", "-" + name, String.valueOf(process.pid()))
          .start()
          .waitFor();
      assertThat(status).isZero();
    }

    Result await() throws Exception {
      try {
        assertThat(process.waitFor(BOUND_SECONDS, TimeUnit.SECONDS)).as("ended").isTrue();
        return new Result(
            process.exitValue(),
            stdout.get(BOUND_SECONDS, TimeUnit.SECONDS),
            stderr.get(BOUND_SECONDS, TimeUnit.SECONDS));
      } finally {
        process.destroyForcibly();
      }
    }
  }

  /** What the host gets. */
  record Result(int status, String stdout, String stderr) {
    void assertAllowed(int expectedStatus) {
      assertThat(this).isEqualTo(new Result(expectedStatus, "", ""));
    }

    /** Denied in the one way that blocks on every version of both hosts. */
    void assertDenied(String reason) {
      assertThat(status).as("%s", this).isEqualTo(2);
      assertThat(stderr).isEqualTo("evalops-agent-hook: " + reason + "\n");
      assertLine(reason);
    }

    /** Denied, whatever follows. */
    void assertDeniedWith(String beginning) {
      assertThat(status).as("%s", this).isEqualTo(2);
      assertThat(stderr).startsWith("evalops-agent-hook: " + beginning).endsWith("\n");
      assertThat(stderr.strip().lines()).hasSize(1);
      assertLine(stderr.strip().substring("evalops-agent-hook: ".length()));
    }

    private void assertLine(String reason) {
      assertThat(stdout).endsWith("}}\n");
      assertThat(stdout.lines()).hasSize(1);
      JsonNode output = Vectors.JSON.readTree(stdout).get("hookSpecificOutput");
      assertThat(output.get("permissionDecision").asString()).isEqualTo("deny");
      assertThat(output.get("permissionDecisionReason").asString())
          .isEqualTo("evalops-agent-hook: " + reason);
    }
  }
}
