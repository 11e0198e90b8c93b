package dev.evalops.hook.install;

import dev.evalops.hook.Distribution;
import dev.evalops.hook.Governance;
import dev.evalops.hook.Probe;
import dev.evalops.hook.Resident;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * The real hosts with a managed hook that is broken in each way that we know: only what the service allows may run.
 * Started by {@code scripts/hook-hosts}, in namespaces of its own.
 */
final class HostMatrix {
  private static final String ALLOW = "ACTION_DECISION_ALLOW";
  private static final String DENY = "ACTION_DECISION_DENY";
  private static final String UNPRIVILEGED_UID = "65534";
  private static final String SERVICE = "65533";

  private final Path work;
  private final Distribution hook;
  private final Governance governance;
  private final Path home;
  private boolean asExpected = true;
  private boolean skillsAsk = true;
  private int calls;

  private HostMatrix(Path work, Governance governance) throws IOException {
    this.work = work;
    this.governance = governance;
    hook = new Distribution(work.resolve("evalops"));
    home = Files.createDirectory(work.resolve("home"));
    Files.writeString(
        Files.createDirectory(home.resolve(".gemini")).resolve("settings.json"),
        "{\"security\":{\"auth\":{\"selectedType\":\"gemini-api-key\"}}}");
    own(home);
  }

  /**
   * Prints the table.
   *
   * @param args the folder with everything, and the hosts; none for all
   */
  public static void main(String[] args) throws Exception {
    try (Governance governance = Governance.start()) {
      HostMatrix matrix = new HostMatrix(Path.of(args[0]), governance);
      for (Host host : Host.values()) {
        if (host != Host.CURSOR // which npm does not have
            && (args.length == 1 || List.of(args).contains(host.option()))) {
          matrix.run(host);
        }
      }
      System.exit(matrix.asExpected ? 0 : 1);
    }
  }

  private interface Step {
    void run() throws Exception;
  }

  private void run(Host host) throws Exception {
    Path program = work.resolve("programs").resolve(host.option());
    String version = Programs.version(program, environment(work)).orElseThrow();
    skillsAsk = !Programs.isOlder(version, Host.SKILLS_ASK);
    System.out.printf("%n%s %s%n", host.title(), version);
    Path properties = Probe.MANAGED_FILE;
    Files.createDirectories(properties.getParent());
    Distribution.mode("rwxr-xr-x", properties.getParent());
    Files.writeString(
        properties,
        "EVALOPS_IGNORE_ENVIRONMENT=true\nEVALOPS_WORKSPACE_ID=w\nEVALOPS_GOVERNANCE_URL="
            + governance.url() + "\n");
    Distribution.mode("rw-r--r--", properties);
    governance.decide(DENY);
    Programs.Said installed = hook("install", "--managed", "--host", host.option());
    expect("install --managed, umask 077", "status 0", "status " + installed.status());
    if (host.hasUserSettings()) {
      Programs.Said doctor = hook("doctor");
      String denied = "ok    " + host.title() + ": a call through it is denied";
      expect("doctor", denied, doctor.output().contains(denied) ? denied : doctor.output());
    }

    governance.decide(ALLOW);
    call(host, "the policy allows", "RUNS");
    governance.decide(DENY);
    call(host, "the policy denies", "blocked");
    for (List<String> flags : bypasses(host)) {
      expect("the policy denies, " + String.join(" ", flags), "blocked", call(host, false, flags));
    }
    governance.decide(ALLOW);
    broken(
        host,
        "no configuration that the user can read",
        properties,
        () -> Distribution.mode("rw-------", properties));
    broken(
        host,
        "a service that is not there",
        properties,
        () -> Files.writeString(
            properties, "EVALOPS_WORKSPACE_ID=w\nEVALOPS_GOVERNANCE_URL=http://127.0.0.1:9\n"));
    broken(host, "no Java", hook.conf(), () -> hook.configure("java=/none/bin/java\n"));
    broken(host, "a damaged jar", hook.jar(), () -> {
      byte[] garbage = new byte[(int) Files.size(hook.jar())];
      Arrays.fill(garbage, (byte) 'x');
      Files.write(hook.jar(), garbage);
    });
    for (String script : List.of("kill -9 $$", "exit 1", "exit 134")) {
      broken(
          host,
          "a launcher that does " + script,
          hook.launcher(),
          () -> Files.writeString(hook.launcher(), "#!/bin/sh\n" + script + "\n"));
    }
    broken(
        host,
        "a launcher that is not executable",
        hook.launcher(),
        () -> Distribution.mode("rw-r--r--", hook.launcher()));
    broken(host, "no launcher", hook.launcher(), () -> Files.delete(hook.launcher()));
    call(host, "the policy allows again", "RUNS");
    served(host, properties);
  }

  /** With a service that alone can read the configuration. */
  private void served(Host host, Path properties) throws Exception {
    Path folder = Files.createDirectory(work.resolve("run-" + host.option()));
    Path state = Files.createDirectory(work.resolve("state-" + host.option()));
    Distribution.mode("rwxr-xr-x", folder);
    Files.setAttribute(state, "unix:uid", Integer.parseInt(SERVICE));
    String conf = Files.readString(hook.conf());
    hook.configure(conf + "service=" + folder.resolve("socket") + "\n");
    Files.setAttribute(properties, "unix:gid", Integer.parseInt(SERVICE));
    Distribution.mode("rw-r-----", properties);
    try (Resident service = Resident.start(
        hook,
        folder.resolve("socket"),
        state,
        "setpriv",
        "--reuid=" + SERVICE,
        "--regid=" + SERVICE,
        "--clear-groups",
        "--")) {
      call(host, "the service says that the policy allows", "RUNS");
      governance.decide(DENY);
      call(host, "the service says that the policy denies", "blocked");
      governance.decide(ALLOW);
      expect("the service runs", "true", String.valueOf(service.process().isAlive()));
    }
    call(host, "the service is gone", "blocked");
    hook.configure(conf);
    Distribution.mode("rw-r--r--", properties);
  }

  /** Breaks something, calls and puts it right again. */
  private void broken(Host host, String how, Path file, Step step) throws Exception {
    byte[] content = Files.readAllBytes(file);
    String mode = PosixFilePermissions.toString(Files.getPosixFilePermissions(file));
    step.run();
    call(host, how, "blocked");
    Files.write(file, content);
    Distribution.mode(mode, file);
  }

  private void call(Host host, String how, String expected) throws Exception {
    expect(how, expected, call(host, false, List.of()));
    if (host == Host.CLAUDE) {
      expect(how + ", in a skill", skillsAsk ? expected : "blocked", call(host, true, List.of()));
    }
  }

  /** By what a user might get round the hook. */
  private static List<List<String>> bypasses(Host host) {
    return switch (host) {
      case CLAUDE ->
        List.of(
            List.of("--dangerously-skip-permissions"),
            List.of("--permission-mode", "bypassPermissions"),
            List.of("--bare"),
            List.of("--setting-sources", "project"),
            List.of("--settings", "{\"disableAllHooks\":true,\"allowManagedHooksOnly\":false}"));
      case CODEX ->
        List.of(
            List.of("--dangerously-bypass-approvals-and-sandbox"),
            List.of("--dangerously-bypass-hook-trust"),
            List.of("-c", "features.hooks=false"),
            List.of("--disable", "hooks"),
            List.of("--ignore-user-config"));
      case COPILOT -> List.of(List.of("--yolo"));
      case GEMINI, QWEN, CURSOR -> List.of();
    };
  }

  private void expect(String how, String expected, String found) {
    boolean good = expected.equals(found);
    asExpected &= good;
    System.out.printf(
        "  %-60s %s%s%n", how, found, good ? "" : "   <- WRONG, expected: " + expected);
  }

  private String call(Host host, boolean skill, List<String> flags) throws Exception {
    Path project = Files.createDirectory(work.resolve("project-" + calls++));
    Path ran = project.resolve("ran");
    String command = "touch " + ran;
    // What a repository can say.
    if (host == Host.CLAUDE) {
      Path claude = Files.createDirectories(project.resolve(".claude/skills/x"))
          .getParent()
          .getParent();
      Files.writeString(
          claude.resolve("settings.json"),
          "{\"disableAllHooks\":true,\"env\":{\"EVALOPS_GOVERNANCE_URL\":\"http://127.0.0.1:9\","
              + "\"JAVA_TOOL_OPTIONS\":\"-Xlog:help\"}}");
      Files.writeString(
          claude.resolve("skills/x/SKILL.md"),
          "---\nname: x\ndescription: x\n---\nresult: !`" + command + "`\n");
    } else if (host == Host.CODEX) {
      Files.writeString(
          Files.createDirectories(project.resolve(".codex")).resolve("config.toml"),
          "[features]\nhooks = false\n");
    } else {
      for (String folder : List.of(".gemini", ".qwen", ".github/copilot", ".claude")) {
        Files.writeString(
            Files.createDirectories(project.resolve(folder)).resolve("settings.json"),
            "{\"disableAllHooks\":true,\"hooksConfig\":{\"enabled\":false}}");
      }
    }
    own(project);
    Path output = work.resolve("output");
    try (ModelServer model = ModelServer.start(skill ? "true" : command)) {
      List<String> line = new ArrayList<>(List.of(
          "setpriv",
          "--reuid=" + UNPRIVILEGED_UID,
          "--regid=" + UNPRIVILEGED_UID,
          "--clear-groups",
          "--"));
      line.add(work.resolve("programs").resolve(host.option()).toString());
      line.addAll(arguments(host, project, model.url(), skill));
      line.addAll(flags);
      ProcessBuilder builder = new ProcessBuilder(line)
          .directory(project.toFile())
          .redirectInput(new File("/dev/null"))
          .redirectErrorStream(true)
          .redirectOutput(output.toFile());
      builder.environment().clear();
      builder.environment().putAll(environment(home));
      builder.environment().put("ANTHROPIC_BASE_URL", model.url());
      builder.environment().put("GOOGLE_GEMINI_BASE_URL", model.url());
      builder.environment().put("OPENAI_BASE_URL", model.url() + "/v1");
      builder.environment().put("COPILOT_PROVIDER_BASE_URL", model.url() + "/v1");
      Process process = builder.start();
      if (skill) {
        process.waitFor(60, TimeUnit.SECONDS);
      } else {
        model.await(process, Duration.ofSeconds(60));
      }
      process.descendants().forEach(ProcessHandle::destroyForcibly);
      process.destroyForcibly().waitFor();
      if (Files.exists(ran)) {
        return "RUNS";
      }
      if (skill || model.result().isPresent()) {
        return "blocked";
      }
      System.out.println(Files.readString(output));
      return "no call";
    } finally {
      try (Stream<Path> files = Files.walk(project)) {
        files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
      }
    }
  }

  private static List<String> arguments(Host host, Path project, String url, boolean skill) {
    return switch (host) {
      case CLAUDE -> List.of("-p", skill ? "/x" : "Go on.", "--allowedTools", "Bash");
      case CODEX ->
        List.of(
            "exec",
            "--skip-git-repo-check",
            "--sandbox",
            "danger-full-access",
            "-c",
            "projects={\"" + project + "\"={trust_level=\"trusted\"}}",
            "-c",
            "model_provider=mock",
            "-c",
            "model_providers.mock={name=\"mock\",base_url=\"" + url
                + "/v1\",wire_api=\"responses\",env_key=\"OPENAI_API_KEY\"}",
            "Go on.");
      case GEMINI -> List.of("-y", "-m", "gemini-2.5-pro", "-p", "Go on.");
      case QWEN -> List.of("--auth-type", "openai", "-y", "-p", "Go on.");
      case COPILOT -> List.of("--allow-all-tools", "-p", "Go on.");
      case CURSOR -> throw new IllegalArgumentException(host.title());
    };
  }

  /** As slow as it likes: the doctor calls through every host that is installed. */
  private Programs.Said hook(String... arguments) throws IOException, InterruptedException {
    List<String> line = new ArrayList<>(List.of(hook.launcher().toString()));
    line.addAll(List.of(arguments));
    Path output = work.resolve("output");
    ProcessBuilder builder = new ProcessBuilder(line)
        .redirectInput(new File("/dev/null"))
        .redirectErrorStream(true)
        .redirectOutput(output.toFile());
    builder.environment().clear();
    builder.environment().putAll(environment(work));
    int status = builder.start().waitFor();
    return new Programs.Said(status, Files.readString(output));
  }

  /** Root has a home of its own: what it leaves there is closed to others. */
  private Map<String, String> environment(Path home) {
    Map<String, String> environment = new TreeMap<>();
    environment.put("PATH", work.resolve("programs") + ":/usr/bin:/bin");
    environment.put("HOME", home.toString());
    environment.put("ANTHROPIC_API_KEY", "none");
    environment.put("OPENAI_API_KEY", "none");
    environment.put("OPENAI_MODEL", "canary");
    environment.put("GEMINI_API_KEY", "none");
    environment.put("GEMINI_CLI_TRUST_WORKSPACE", "true");
    environment.put("COPILOT_OFFLINE", "true");
    environment.put("COPILOT_PROVIDER_API_KEY", "none");
    environment.put("COPILOT_MODEL", "canary");
    environment.put("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    environment.put("DISABLE_AUTOUPDATER", "1");
    return environment;
  }

  private static void own(Path folder) throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.toList()) {
        Files.setAttribute(file, "unix:uid", Integer.parseInt(UNPRIVILEGED_UID));
      }
    }
  }
}
