package dev.evalops.examples.notes;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** The agent hook as it was built, installed in a folder, and called as an agent's host calls it. */
final class Hook {
  private static final Path BUILT = Path.of("../../agent-hook-cli/target/evalops-agent-hook");

  private final Path home;
  private final Map<String, String> environment;

  private Hook(Path home, Map<String, String> environment) {
    this.home = home;
    this.environment = environment;
  }

  /** Installs it, for a workspace whose policy that server knows. */
  static Hook install(Path home, PolicyServer policy, Certificates certificates)
      throws IOException {
    if (!Files.isDirectory(BUILT)) {
      throw new IllegalStateException("the agent hook is not built; make hook does that");
    }
    try (Stream<Path> files = Files.walk(BUILT)) {
      for (Path file : files.toList()) {
        Files.copy(
            file,
            home.resolve(BUILT.relativize(file).toString()),
            StandardCopyOption.COPY_ATTRIBUTES);
      }
    }
    Path conf = Files.writeString(
        home.resolve("lib/launcher.conf"),
        "java=" + System.getProperty("java.home") + "/bin/java\n");
    // Whatever the umask is: the launcher refuses what others may change.
    Files.setPosixFilePermissions(conf, PosixFilePermissions.fromString("rw-r--r--"));
    return new Hook(
        home,
        Map.of(
            "EVALOPS_GOVERNANCE_URL", policy.url().toString(),
            "EVALOPS_APPROVALS_URL", policy.url().toString(),
            "EVALOPS_WORKSPACE_ID", "demo-" + UUID.randomUUID(), // has no tickets yet
            "EVALOPS_APPROVAL_POLL_INTERVAL", "250ms",
            "EVALOPS_GOVERNANCE_TIMEOUT", "30s",
            "EVALOPS_APPROVALS_TIMEOUT", "30s",
            "EVALOPS_CA_FILE", certificates.caFile().toString(),
            "EVALOPS_CERT_FILE", certificates.certificateFile().toString(),
            "EVALOPS_KEY_FILE", certificates.keyFile().toString()));
  }

  /** The same with this limit of how long one call waits for an approval. */
  Hook waiting(Duration approval) {
    Map<String, String> changed = new HashMap<>(environment);
    changed.put("EVALOPS_APPROVAL_TIMEOUT", approval.toMillis() + "ms");
    return new Hook(home, changed);
  }

  /** Asks whether the agent may run a command. */
  Answer ask(String command, Duration atMost) throws IOException, InterruptedException {
    Path out = Files.createTempFile(home, "out", "");
    Path err = Files.createTempFile(home, "err", "");
    ProcessBuilder builder = new ProcessBuilder(
            home.resolve("bin/evalops-agent-hook").toString(), "governance-check")
        .redirectOutput(out.toFile())
        .redirectError(err.toFile());
    builder.environment().clear();
    builder.environment().putAll(environment);
    Process process = builder.start();
    try (OutputStream in = process.getOutputStream()) {
      in.write(
          ("{\"session_id\":\"demo\",\"hook_event_name\":\"PreToolUse\",\"tool_name\":\"Bash\","
                  + "\"tool_input\":{\"command\":\"" + command + "\"}}")
              .getBytes(StandardCharsets.UTF_8));
    }
    try {
      if (!process.waitFor(atMost.toMillis(), TimeUnit.MILLISECONDS)) {
        throw new IOException("the hook still runs after " + atMost);
      }
      return new Answer(process.exitValue(), Files.readString(out), Files.readString(err));
    } finally {
      process.descendants().forEach(ProcessHandle::destroyForcibly);
      process.destroyForcibly();
    }
  }

  /** What the host sees: it runs the tool for status 0 alone. */
  record Answer(int status, String out, String err) {}
}
