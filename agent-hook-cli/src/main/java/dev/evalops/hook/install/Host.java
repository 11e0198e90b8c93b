package dev.evalops.hook.install;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/** A program that calls the hook before it runs a tool. */
enum Host {
  CLAUDE("claude", "Claude Code", "2.1.295"),
  CODEX("codex", "Codex", "0.155"),
  GEMINI("gemini", "Gemini CLI", "0.61.0"),
  QWEN("qwen", "Qwen Code", "0.24.4"),
  COPILOT("copilot", "Copilot CLI", "1.0.102"),
  CURSOR("cursor", "Cursor", "3.15.6");

  private final String option;
  private final String title;
  private final String oldest;

  Host(String option, String title, String oldest) {
    this.option = option;
    this.title = title;
    this.oldest = oldest;
  }

  private static final String DID_NOT_RUN = ": blocked (fail closed): the launcher did not run";

  /** From this version on Claude Code asks before it runs a shell command in the text of a skill. */
  static final String SKILLS_ASK = "2.1.332";

  /** As {@code --host} has it, which is also the name of the program. */
  String option() {
    return option;
  }

  String title() {
    return title;
  }

  /** The first version whose hooks hold what the entry asks for. */
  String oldest() {
    return oldest;
  }

  /** Whether a user can have the entry for himself. The others are installed for all. */
  boolean hasUserSettings() {
    return this == CLAUDE || this == CODEX;
  }

  /** What this host leaves open although its settings are those of all users; empty if nothing. */
  Optional<String> leavesOpen() {
    return switch (this) {
      case CLAUDE, CODEX -> Optional.empty();
      case GEMINI ->
        Optional.of(
            "A repository can switch the hook off (hooksConfig.disabled), and a user "
                + "(GEMINI_CLI_SYSTEM_SETTINGS_PATH), "
                + "and Gemini CLI runs the tool when the hook's 600 s pass; the hook denies before that.");
      case QWEN ->
        Optional.of("Qwen Code runs the tool when a hook takes longer than 60 s, "
            + "whatever its timeout says; the launcher denies after 40 s. "
            + "A user can switch the hook off (QWEN_CODE_SYSTEM_SETTINGS_PATH).");
      case COPILOT ->
        Optional.of("Copilot CLI runs the tool when the hook's 600 s pass, "
            + "and when not every user can read the policy; the hook denies before that.");
      case CURSOR ->
        Optional.of("The entry follows Cursor's documentation and was not tried on Cursor itself. "
            + "Cloud agents run on other machines, where there is no such entry.");
    };
  }

  /**
   * Where the host looks for its settings.
   *
   * @param managed those of the administrator, which users and repositories cannot undo
   */
  Path file(boolean managed, Places places) {
    return switch (this) {
      case CLAUDE ->
        managed ? places.claudeManaged() : places.claudeUser().resolve("settings.json");
      case CODEX ->
        managed
            ? places.root().resolve("etc/codex/requirements.toml")
            : places.codexUser().resolve("config.toml");
      case GEMINI -> places.managed("GeminiCli", "gemini-cli", "settings.json");
      case QWEN -> places.managed("QwenCode", "qwen-code", "settings.json");
      case COPILOT ->
        places.root().resolve("etc/github-copilot/policy.d/" + HostSettings.NAME + ".json");
      case CURSOR -> places.managed("Cursor", "cursor", "hooks.json");
    };
  }

  /** The files that the host merges into its managed settings, in their order. */
  List<Path> dropIns(boolean managed, Places places) throws IOException {
    Path folder = places.claudeManaged().resolveSibling("managed-settings.d");
    if (this != CLAUDE || !managed || !Files.isDirectory(folder)) {
      return List.of();
    }
    try (Stream<Path> files = Files.list(folder)) {
      return files
          .filter(file -> file.toString().endsWith(".json"))
          .filter(file -> !file.getFileName().toString().startsWith("."))
          .sorted()
          .toList();
    }
  }

  /**
   * What the host gives to its shell. Most run the tool when that ends with anything but 0 or 2, so that a launcher
   * that is not there, or killed, is turned into a 2 with a reason. Gemini CLI does so too when it does not know what
   * is on standard output.
   *
   * @throws NotUnderstoodException if no shell would get it right
   */
  String command(Installation installation) throws NotUnderstoodException {
    return switch (this) {
      case CLAUDE -> installation.command("'");
      case CODEX -> guarded(installation, "");
      case GEMINI, COPILOT -> guarded(installation, " >/dev/null");
      case QWEN -> guarded(installation, " --within 40 >/dev/null");
      case CURSOR -> decided(installation);
    };
  }

  private static String guarded(Installation installation, String more)
      throws NotUnderstoodException {
    return "/bin/sh -c '" + installation.command("\"") + more + " || { [ $? = 2 ] || echo \""
        + HostSettings.NAME + DID_NOT_RUN + "\" >&2; exit 2; }'";
  }

  /** Cursor wants its own words on standard output, also for a "yes", and shows the agent the reason in them. */
  private static String decided(Installation installation) throws NotUnderstoodException {
    return "/bin/sh -c 'no=$(" + installation.command("\"") + "); s=$?; "
        + "[ \"$s$no\" = 0 ] && echo \"{\\\"permission\\\":\\\"allow\\\"}\" && exit; "
        + "[ $s = 2 ] || echo \"" + HostSettings.NAME + DID_NOT_RUN + "\" >&2; "
        + "no=${no#*permissionDecisionReason\\\":}; no=${no%\\}\\}}; "
        + "case $no in \\\"*\\\") ;; *) no=\\\"blocked\\\" ;; esac; "
        + "printf \"{\\\"permission\\\":\\\"deny\\\",\\\"user_message\\\":%s,\\\"agent_message\\\":%s}\\n\" "
        + "\"$no\" \"$no\"; exit 2'";
  }

  HostSettings settings(boolean managed, Installation installation, boolean skillsAsk) {
    return switch (this) {
      case CLAUDE -> JsonSettings.claude(managed, skillsAsk);
      case CODEX -> new CodexConfig(managed, installation.home().toString());
      case GEMINI -> JsonSettings.gemini();
      case QWEN -> JsonSettings.qwen();
      case COPILOT -> new CopilotPolicy();
      case CURSOR -> JsonSettings.cursor();
    };
  }

  /**
   * Where things are on this machine.
   *
   * @param root of the file system
   * @param home of the user
   * @param environment in which the hosts' own folders can be named
   */
  record Places(Path root, Path home, Map<String, String> environment, boolean mac) {
    static Places ofThisMachine() {
      return new Places(
          Path.of("/"),
          home(System.getenv("HOME")),
          System.getenv(),
          System.getProperty("os.name").startsWith("Mac"));
    }

    /** As the hosts look for it. */
    private static Path home(@Nullable String home) {
      return Path.of(home == null || home.isBlank() ? System.getProperty("user.home") : home);
    }

    Path claudeManaged() {
      return managed("ClaudeCode", "claude-code", "managed-settings.json");
    }

    Path managed(String onMac, String elsewhere, String file) {
      return root.resolve(mac ? "Library/Application Support/" + onMac : "etc/" + elsewhere)
          .resolve(file);
    }

    Path claudeUser() {
      return folder("CLAUDE_CONFIG_DIR", ".claude");
    }

    Path codexUser() {
      return folder("CODEX_HOME", ".codex");
    }

    /** A program on the path. */
    Optional<Path> program(String name) {
      for (String folder : environment.getOrDefault("PATH", "").split(File.pathSeparator, -1)) {
        Path program = Path.of(folder, name);
        if (!folder.isEmpty() && Files.isExecutable(program)) {
          return Optional.of(program);
        }
      }
      return Optional.empty();
    }

    private Path folder(String variable, String usual) {
      String folder = environment.getOrDefault(variable, "");
      return folder.isBlank() ? home.resolve(usual) : Path.of(folder);
    }
  }
}
