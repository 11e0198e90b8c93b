package dev.evalops.hook.install;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.hook.Distribution;
import dev.evalops.hook.Distribution.Shell;
import dev.evalops.hook.Launched;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class InstallTest {
  @TempDir
  private Path work;

  private Distribution distribution;
  private Installation installation;
  private Host.Places places;
  private String out;
  private String err;

  @BeforeEach
  void unpack() throws IOException {
    work = work.toRealPath();
    distribution = Distribution.create(work, Shell.DASH);
    installation = new Installation(distribution.home());
    places = new Host.Places(
        Files.createDirectory(work.resolve("root")),
        Files.createDirectory(work.resolve("home")),
        Map.of(),
        false);
  }

  private int install(String... arguments) {
    return run("install", arguments);
  }

  private int run(String command, String... arguments) {
    ByteArrayOutputStream outBytes = new ByteArrayOutputStream();
    ByteArrayOutputStream errBytes = new ByteArrayOutputStream();
    List<String> all = new ArrayList<>(List.of("--java", "/usr/lib/jvm/x/bin/java"));
    all.addAll(List.of(arguments));
    int status = new Install(
            installation, places, new PrintStream(outBytes, true, StandardCharsets.UTF_8))
        .run(command, all, new PrintStream(errBytes, true, StandardCharsets.UTF_8));
    out = outBytes.toString(StandardCharsets.UTF_8);
    err = errBytes.toString(StandardCharsets.UTF_8);
    return status;
  }

  private Path claude() {
    return places.home().resolve(".claude/settings.json");
  }

  private static List<Path> files(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.sorted().toList();
    }
  }

  private static String mode(Path file) throws IOException {
    return PosixFilePermissions.toString(Files.getPosixFilePermissions(file));
  }

  @Test
  void writesTheEntryForEachHost() throws Exception {
    String command = distribution.launcher() + " governance-check";

    assertThat(install("--host", "claude")).isZero();
    assertThat(Files.readString(claude()))
        .isEqualTo(JsonSettings.claude(false, false).install("", command));
    assertThat(mode(claude())).isEqualTo("rw-------");
    assertThat(mode(claude().getParent())).isEqualTo("rwx------");
    assertThat(out)
        .contains("--- /dev/null\n", "\"onFailure\": \"block\"", "--managed")
        .contains("disableSkillShellExecution is true", "its version is unknown")
        .doesNotContain("/hooks");
    assertThat(distribution.conf()).hasContent("java=/usr/lib/jvm/x/bin/java");

    assertThat(install("--host", "codex")).isZero();
    assertThat(places.home().resolve(".codex/config.toml"))
        .hasContent(new CodexConfig(false, "")
            .install("", Host.CODEX.command(installation))
            .strip());
    assertThat(out).contains("review it with /hooks");
  }

  @Test
  void writesTheEntriesOfOtherHosts_forAllUsersOnly() throws Exception {
    for (Host host : List.of(Host.GEMINI, Host.QWEN, Host.COPILOT, Host.CURSOR)) {
      assertThat(install("--host", host.option())).isEqualTo(2);
      assertThat(err).contains("add --managed");
      if (Installation.isRoot(work)) {
        assertThat(install("--host", host.option(), "--managed")).as(err).isZero();
        assertThat(host.file(true, places))
            .content()
            .contains("governance-check"
                + switch (host) {
                  case QWEN -> " --within 40 >/dev/null || ";
                  case CURSOR -> "); s=$?; ";
                  default -> " >/dev/null || ";
                });
        assertThat(out).contains(host.leavesOpen().orElseThrow());
        assertThat(run("uninstall", "--host", host.option(), "--managed")).isZero();
        assertThat(host.file(true, places)).doesNotExist();
      }
    }
    try (Stream<Path> left = Files.walk(places.home())) {
      assertThat(left).containsExactly(places.home());
    }
  }

  @Test
  void writesManagedSettings_onlyOfAProgramOfRoot() throws Exception {
    if (!Installation.isRoot(work)) {
      assertThat(install("--host", "claude", "--managed")).isEqualTo(1);
      assertThat(err).contains("does not belong to root");
      return;
    }
    assertThat(install("--host", "claude", "--managed")).as(err).isZero();
    Path claude = places.root().resolve("etc/claude-code/managed-settings.json");
    assertThat(Files.readString(claude)).contains("\"allowManagedHooksOnly\": true");
    assertThat(mode(claude)).isEqualTo("rw-r--r--");
    assertThat(mode(claude.getParent())).isEqualTo("rwxr-xr-x");

    assertThat(install("--managed", "--host", "codex")).isZero();
    assertThat(places.root().resolve("etc/codex/requirements.toml"))
        .content()
        .contains(
            "allow_managed_hooks_only = true", "managed_dir = \"" + distribution.home() + "\"");
  }

  /** Installs for all users, in a process whose umask the caller has set. */
  static final class ForAll {
    private ForAll() {}

    /**
     * Installs.
     *
     * @param args the installation and the root of the file system
     */
    public static void main(String[] args) {
      Host.Places places = new Host.Places(Path.of(args[1]), Path.of(args[1]), Map.of(), false);
      System.exit(new Install(new Installation(Path.of(args[0])), places, System.out)
          .run("install", List.of("--managed", "--host", args[2]), System.err));
    }
  }

  @Test
  void writesManagedSettingsThatEveryUserCanRead_whateverTheUmask() throws Exception {
    if (!Installation.isRoot(work)) {
      return;
    }
    for (String host : List.of("claude", "codex")) {
      try (Launched started = Launched.start(
          work,
          Map.of(),
          "/bin/sh",
          "-c",
          "umask 077; exec \"$@\"",
          "sh",
          System.getProperty("java.home") + "/bin/java",
          "-cp",
          System.getProperty("java.class.path"),
          ForAll.class.getName(),
          distribution.home().toString(),
          places.root().toString(),
          host)) {
        Launched.Result result = started.end();
        assertThat(result.status()).as(result.err()).isZero();
      }
      Path file =
          places.root().relativize(Host.valueOf(host.toUpperCase(Locale.ROOT)).file(true, places));
      Path part = places.root();
      for (Path name : file) {
        part = part.resolve(name);
        assertThat(mode(part))
            .as("%s", part)
            .isEqualTo(Files.isDirectory(part) ? "rwxr-xr-x" : "rw-r--r--");
      }
      assertThat(mode(distribution.lib().resolve("cache"))).isEqualTo("rwxr-xr-x");
    }
  }

  @Test
  void refusesManagedSettingsThatSomeUsersCannotRead() throws Exception {
    if (!Installation.isRoot(work)) {
      return;
    }
    Path file = places.root().resolve("etc/claude-code/managed-settings.json");
    Files.createDirectories(file.getParent());
    Files.writeString(file, "{}");
    for (Path part : List.of(file, file.getParent(), file.getParent().getParent())) {
      String good = Files.isDirectory(part) ? "rwxr-xr-x" : "rw-r--r--";
      Distribution.mode("rwx------", part);
      assertThat(install("--host", "claude", "--managed")).isEqualTo(1);
      assertThat(err).contains("not every user can read " + part + ": chmod a+r");
      assertThat(file).hasContent("{}");
      Distribution.mode(good, part);
    }
    Path dropIn =
        Files.createDirectories(file.resolveSibling("managed-settings.d")).resolve("50.json");
    Files.writeString(dropIn, "{\"disableAllHooks\": true}");
    assertThat(install("--host", "claude", "--managed")).isEqualTo(1);
    assertThat(err).contains("disableAllHooks is true");
    Files.writeString(dropIn, "{\"model\": \"opus\"}");
    assertThat(install("--host", "claude", "--managed")).as(err).isZero();
  }

  @Test
  void takesTheEntryAwayAgain() throws Exception {
    Files.createDirectories(claude().getParent());
    Files.writeString(claude(), "{\n  \"model\": \"opus\"\n}\n");
    assertThat(install("--host", "claude")).isZero();

    assertThat(run("uninstall", "--host", "claude", "--dry-run")).isZero();
    assertThat(Files.readString(claude())).contains("evalops-agent-hook");
    assertThat(run("uninstall", "--host", "claude")).as(err).isZero();

    assertThat(Files.readString(claude()))
        .isEqualTo("{\n  \"model\": \"opus\",\n  \"disableSkillShellExecution\": true\n}\n");
    assertThat(run("uninstall", "--host", "claude")).isZero();
    assertThat(out).contains("has no entry");
    assertThat(install("--host", "codex")).isZero();
    assertThat(run("uninstall", "--host", "codex")).isZero();
    assertThat(places.home().resolve(".codex/config.toml")).doesNotExist();
    assertThat(run("uninstall", "--host", "codex")).isZero();
    assertThat(run("uninstall")).isEqualTo(2);
    assertThat(err).startsWith("usage: evalops-agent-hook uninstall --host");
  }

  @Test
  void savesJavaOnALineOfItsOwn() throws Exception {
    distribution.configure("config=/etc/x.properties"); // which the launcher takes, too

    assertThat(install("--host", "claude")).as(err).isZero();

    assertThat(Files.readString(distribution.conf()))
        .isEqualTo("config=/etc/x.properties\njava=/usr/lib/jvm/x/bin/java\n");
  }

  /** As the launcher and the doctor say: run install again. */
  @Test
  void savesAnotherJava_whenTheOneThatWasSavedIsGone() throws Exception {
    distribution.configure("java=/none/bin/java\nconfig=/etc/x.properties\n");

    assertThat(install("--host", "claude")).as(err).isZero();

    assertThat(Files.readString(distribution.conf()))
        .isEqualTo("config=/etc/x.properties\njava=/usr/lib/jvm/x/bin/java\n");
  }

  @Test
  void changesNothing_whenAskedNotToOrAtTheSecondTime() throws Exception {
    assertThat(install("--host", "claude", "--dry-run")).isZero();
    assertThat(out).contains("+++ " + claude());
    assertThat(files(places.home())).isEmpty();
    assertThat(distribution.conf()).doesNotExist();

    assertThat(install("--host", "claude")).isZero();
    byte[] written = Files.readAllBytes(claude());
    assertThat(install("--host", "claude")).isZero();
    assertThat(out).contains("has the entry already").doesNotContain("written");
    assertThat(claude()).hasBinaryContent(written);
    assertThat(files(claude().getParent())).containsExactly(claude());
  }

  @Test
  void keepsWhatWasThere_withItsModeAndThroughItsLink() throws Exception {
    Path real = Files.writeString(work.resolve("dotfiles.json"), "{\n    \"model\": \"opus\"\n}\n");
    Distribution.mode("rw-rw-r--", real);
    Files.createDirectories(claude().getParent());
    Files.createSymbolicLink(claude(), real);

    assertThat(install("--host", "claude")).isZero();

    assertThat(claude()).isSymbolicLink();
    assertThat(Files.readString(real))
        .startsWith("{\n    \"model\": \"opus\",\n    \"disableSkillShellExecution\": true,\n    "
            + "\"hooks\": {\n        \"PreToolUse\"");
    assertThat(mode(real)).isEqualTo("rw-rw-r--");
    Path backup = files(work).stream()
        .filter(file -> file.toString().contains("dotfiles.json.before-evalops-"))
        .findFirst()
        .orElseThrow();
    assertThat(backup).hasContent("{\n    \"model\": \"opus\"\n}");
    assertThat(out)
        .contains(
            "what was there: " + backup,
            "@@ -1,3 +1,",
            "-    \"model\": \"opus\"\n",
            "+    \"model\": \"opus\",\n");
    assertThat(files(work)).noneMatch(file -> file.toString().endsWith(".tmp"));
  }

  @Test
  void leavesAFileThatItDoesNotUnderstand() throws Exception {
    Files.createDirectories(claude().getParent());
    for (byte[] content : new byte[][] {
      "{ // note\n}".getBytes(StandardCharsets.UTF_8),
      "{\"a\":1,\"a\":2}".getBytes(StandardCharsets.UTF_8),
      "\ufeff{}".getBytes(StandardCharsets.UTF_8),
      {'{', '"', (byte) 0xff, '"', ':', '1', '}'}
    }) {
      Files.write(claude(), content);

      assertThat(install("--host", "claude")).isEqualTo(1);

      assertThat(err).contains(claude() + " is left unchanged");
      assertThat(claude()).hasBinaryContent(content);
      assertThat(files(claude().getParent())).containsExactly(claude());
      assertThat(distribution.conf()).doesNotExist();
    }
    Files.delete(claude());
    Files.createSymbolicLink(claude(), work.resolve("none"));
    assertThat(install("--host", "claude")).isEqualTo(1);
    assertThat(err).contains("not there");
    Files.delete(claude());
    Files.createDirectory(claude());
    assertThat(install("--host", "claude")).isEqualTo(1);
    assertThat(err).contains("not a file");
  }

  @Test
  void doesNotWriteOverAChangeOfSomebodyElse() throws Exception {
    Path file = Files.writeString(work.resolve("settings.json"), "{}");
    SettingsFile read = SettingsFile.read(file);
    Files.writeString(file, "{\"new\": 1}");

    assertThatThrownBy(() -> read.replace("{}", "rw-------"))
        .hasMessageContaining("changed by somebody else");
    assertThat(file).hasContent("{\"new\": 1}");
    SettingsFile missing = SettingsFile.read(work.resolve("other.json"));
    Files.writeString(work.resolve("other.json"), "");
    assertThatThrownBy(() -> missing.replace("{}", "rw-------"))
        .hasMessageContaining("changed by somebody else");
  }

  @Test
  void refusesAProgramThatOthersCanChange() throws Exception {
    Distribution.mode("rwxrwxrwx", distribution.lib());

    assertThat(install("--host", "claude")).isEqualTo(1);

    assertThat(err).contains("chmod go-w " + distribution.lib());
    assertThat(claude()).doesNotExist();
  }

  @Test
  void quotesTheCommandForAShell() throws Exception {
    Path spaced = work.resolve("a b");
    Files.move(distribution.home(), spaced);
    installation = new Installation(spaced);

    assertThat(install("--host", "claude")).isZero();
    assertThat(Files.readString(claude()))
        .contains("\"command\": \"'" + spaced + "/bin/evalops-agent-hook' governance-check\"");

    Path quoted = Files.move(spaced, work.resolve("it's"));
    installation = new Installation(quoted);
    assertThat(install("--host", "codex")).isEqualTo(1);
    assertThat(err).contains("cannot be written into a command");
  }

  @Test
  void followsTheFoldersThatTheHostsAreGiven() throws Exception {
    places = new Host.Places(
        places.root(),
        places.home(),
        Map.of("CODEX_HOME", work + "/c", "CLAUDE_CONFIG_DIR", work + "/d"),
        false);

    assertThat(install("--host", "codex")).isZero();
    assertThat(install("--host", "claude")).isZero();

    assertThat(work.resolve("c/config.toml")).exists();
    assertThat(work.resolve("d/settings.json")).exists();
  }

  @Test
  void saysHowItIsUsed() {
    for (String[] arguments : new String[][] {
      {},
      {"--host"},
      {"--host", "opencode"},
      {"--host", "claude", "--host", "codex"},
      {"--host", "claude", "--host", "opencode"},
      {"--host", "claude", "--host"},
      {"--host", "claude", "-x"}
    }) {
      assertThat(install(arguments)).isEqualTo(2);
      assertThat(err).startsWith("usage: evalops-agent-hook install");
    }
  }
}
