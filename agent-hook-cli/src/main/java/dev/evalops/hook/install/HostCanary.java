package dev.evalops.hook.install;

import java.io.IOException;
import java.lang.ProcessBuilder.Redirect;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * One call of a tool through an installed host, which the hook never allows; the model that wants it runs on this
 * machine. It shows what no reading of settings can: that the host asks the hook, and takes its "no".
 */
final class HostCanary {
  private static final Duration TIMEOUT = Duration.ofSeconds(60);
  private static final Pattern REASON = Pattern.compile(
      HostSettings.NAME + ": ((denied|blocked \\(fail closed\\)): [^\"\\\\]{0,200})");

  private HostCanary() {}

  /**
   * Makes the call.
   *
   * @param settings of a user, which hold the entry; empty if the managed ones do
   * @return the hook's reason as the host has it; empty if the host did not ask the hook
   * @throws IOException if the call could not be made
   */
  static Optional<String> call(Host host, Path program, Host.Places places, Optional<Path> settings)
      throws IOException {
    Path work = Files.createTempDirectory("evalops-doctor-");
    try (ModelServer model = ModelServer.start(Doctor.CANARY)) {
      ProcessBuilder builder = new ProcessBuilder(
              host == Host.CLAUDE
                  ? claude(program, model.url(), work, settings)
                  : codex(program, model.url(), work))
          .directory(work.toFile())
          .redirectInput(Path.of("/dev/null").toFile())
          .redirectOutput(Redirect.DISCARD)
          .redirectError(Redirect.DISCARD);
      builder.environment().clear();
      builder.environment().putAll(environment(places, model.url(), work));
      if (host == Host.CODEX && settings.isPresent()) {
        // Codex trusts an entry by the path of its file.
        builder.environment().put("HOME", places.home().toString());
        builder.environment().put("CODEX_HOME", places.codexUser().toString());
      }
      Process process = builder.start();
      try {
        model.await(process, TIMEOUT);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IOException("interrupted", e);
      } finally {
        process.descendants().forEach(ProcessHandle::destroyForcibly);
        process.destroyForcibly();
      }
      String result = model
          .result()
          .orElseThrow(() -> new IOException(
              model.asked()
                  ? "it does not say what has become of it"
                  : "it does not ask the model"));
      Matcher reason = REASON.matcher(result);
      return reason.find() ? Optional.of(reason.group(1)) : Optional.empty();
    } finally {
      delete(work);
    }
  }

  private static List<String> claude(Path program, String url, Path work, Optional<Path> settings)
      throws IOException {
    if (settings.isPresent()) {
      Files.copy(settings.get(), work.resolve("settings.json"));
    }
    // What is given on the command line wins over the environment that settings of a user name.
    String model = "{\"env\":{\"ANTHROPIC_BASE_URL\":" + JsonDocument.quote(url) + "}}";
    return List.of(
        program.toString(), "-p", "Go on.", "--allowedTools", "Bash", "--settings", model);
  }

  private static List<String> codex(Path program, String url, Path work) {
    return List.of(
        program.toString(),
        "exec",
        "--ephemeral",
        "--skip-git-repo-check",
        "-C",
        work.toString(),
        "-c",
        "model_provider=evalops-doctor",
        "-c",
        "model_providers.evalops-doctor={name=\"evalops-doctor\",base_url=\"" + url
            + "/v1\",wire_api=\"responses\",env_key=\"OPENAI_API_KEY\"}",
        "Go on.");
  }

  /** That of the caller without what leads elsewhere. */
  private static Map<String, String> environment(Host.Places places, String url, Path work) {
    Map<String, String> environment = new TreeMap<>();
    places.environment().forEach((name, value) -> {
      if (name.startsWith("EVALOPS_") || name.equals("PATH") || name.startsWith("LC_")) {
        environment.put(name, value);
      }
    });
    environment.put("HOME", work.toString());
    environment.put("CLAUDE_CONFIG_DIR", work.toString());
    environment.put("CODEX_HOME", work.toString());
    environment.put("ANTHROPIC_BASE_URL", url);
    environment.put("ANTHROPIC_API_KEY", "none");
    environment.put("OPENAI_API_KEY", "none");
    environment.put("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    environment.put("DISABLE_AUTOUPDATER", "1");
    return environment;
  }

  private static void delete(Path folder) {
    // A host that was just killed may still have written something; what is left is a temporary
    // file.
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.deleteIfExists(file);
      }
    } catch (IOException | RuntimeException e) {
      return;
    }
  }
}
