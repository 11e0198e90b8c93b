package dev.evalops.hook.install;

import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;

/** A program that calls the hook before it runs a tool. */
enum Host {
  CLAUDE("claude", "Claude Code", "2.1.295"),
  CODEX("codex", "Codex", "0.155");

  private final String option;
  private final String title;
  private final String oldest;

  Host(String option, String title, String oldest) {
    this.option = option;
    this.title = title;
    this.oldest = oldest;
  }

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
    };
  }

  HostSettings settings(boolean managed, Installation installation) {
    return switch (this) {
      case CLAUDE -> new ClaudeSettings(managed);
      case CODEX -> new CodexConfig(managed, installation.home().toString());
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
          Path.of(System.getProperty("user.home")),
          System.getenv(),
          System.getProperty("os.name").startsWith("Mac"));
    }

    Path claudeManaged() {
      String folder = mac ? "Library/Application Support/ClaudeCode" : "etc/claude-code";
      return root.resolve(folder).resolve("managed-settings.json");
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
