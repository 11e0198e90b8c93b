package dev.evalops.hook.install;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.fixtures.FreePort;
import dev.evalops.hook.Distribution;
import dev.evalops.hook.Governance;
import dev.evalops.hook.Launched;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The doctor in an installation that is well, and in one that is broken in each of the ways that it knows. */
class DoctorProcessTest {
  /** Made once, because the start-up cache takes a while; each test leaves it as it was. */
  @TempDir
  private static Path work;

  private static Distribution hook;
  private static Map<Path, byte[]> files;
  private static Map<Path, Set<PosixFilePermission>> modes;
  private static String java;
  private static String cache;

  private Governance governance;
  private Path claude;
  private final Map<String, String> environment = new TreeMap<>();

  @BeforeEach
  void install() throws Exception {
    governance = Governance.start();
    governance.decide("ACTION_DECISION_DENY");
    claude = work.toRealPath().resolve("claude/settings.json");
    environment.put("CLAUDE_CONFIG_DIR", claude.getParent().toString());
    environment.put("CODEX_HOME", work.resolve("codex").toString());
    environment.put("PATH", work + "/programs:/usr/bin:/bin");
    environment.put("EVALOPS_GOVERNANCE_URL", governance.url());
    environment.put("EVALOPS_APPROVALS_URL", governance.url());
    environment.put("EVALOPS_GOVERNANCE_TIMEOUT", "60s");
    environment.put("EVALOPS_APPROVALS_TIMEOUT", "60s");
    environment.put("EVALOPS_WORKSPACE_ID", "w");
    environment.put("EVALOPS_AGENT_TOKEN", "token-xyz");
    if (files == null) {
      hook = Distribution.copy(
          Path.of("target/evalops-agent-hook"), work.toRealPath().resolve("evalops"));
      host("claude", "2.1.332 (Claude Code)");
      assertThat(run("install", "--host", "claude").status()).isZero();
      java = Files.readString(hook.conf()).strip().replace("java=", "");
      try (Stream<Path> caches = Files.list(hook.lib().resolve("cache"))) {
        cache = caches.findFirst().orElseThrow().toString();
      }
      files = new TreeMap<>();
      modes = new TreeMap<>();
      for (Path file : walk()) {
        modes.put(file, Files.getPosixFilePermissions(file));
        if (Files.isRegularFile(file)) {
          files.put(file, Files.readAllBytes(file));
        }
      }
    }
  }

  private static List<Path> walk() throws IOException {
    try (Stream<Path> all = Files.walk(work)) {
      return all.sorted(Comparator.reverseOrder()).toList();
    }
  }

  @AfterEach
  void restore() throws Exception {
    governance.close();
    for (Path file : walk()) {
      if (!modes.containsKey(file)) {
        Files.delete(file);
      }
    }
    for (Map.Entry<Path, byte[]> file : files.entrySet()) {
      if (!Files.exists(file.getKey())
          || !Arrays.equals(Files.readAllBytes(file.getKey()), file.getValue())) {
        Files.write(file.getKey(), file.getValue());
      }
    }
    for (Map.Entry<Path, Set<PosixFilePermission>> mode : modes.entrySet()) {
      Files.setPosixFilePermissions(mode.getKey(), mode.getValue());
    }
  }

  private void host(String name, String version) throws Exception {
    Path program = Files.createDirectories(work.resolve("programs")).resolve(name);
    Files.writeString(program, "#!/bin/sh\necho '" + version + "'\n");
    Distribution.mode("rwxr-xr-x", program);
  }

  private Launched.Result run(String... command) throws Exception {
    try (Launched started = hook.start(environment, command)) {
      return started.end();
    }
  }

  /** As the launcher calls it, but within this process, and so without a look at the start-up cache. */
  private Launched.Result doctor() {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    ByteArrayOutputStream err = new ByteArrayOutputStream();
    Host.Places places =
        new Host.Places(Path.of("/"), Path.of(System.getProperty("user.home")), environment, false);
    int status = new Doctor(
            new Installation(hook.home()), places, new PrintStream(out, true, UTF_8))
        .run(List.of("--java", java), new PrintStream(err, true, UTF_8));
    return new Launched.Result(status, out.toString(UTF_8), err.toString(UTF_8));
  }

  private void assertFinds(String... findings) throws Exception {
    assertFinds(doctor(), findings);
  }

  private static void assertFinds(Launched.Result result, String... findings) {

    assertThat(result.out().lines().filter(line -> line.startsWith("WRONG")).toList())
        .as(result.out())
        .hasSize(findings.length);
    for (String finding : findings) {
      assertThat(result.out()).contains(finding);
    }
    assertThat(result.out()).doesNotContain("token-xyz");
    assertThat(result.status()).isEqualTo(findings.length == 0 ? 0 : 1);
    assertThat(result.err()).isEmpty();
  }

  private void edit(Path file, UnaryOperator<String> change) throws Exception {
    String before = Files.readString(file);
    assertThat(change.apply(before)).isNotEqualTo(before);
    Files.writeString(file, change.apply(before));
  }

  @Test
  void findsNothing_whenAllIsWell() throws Exception {
    Launched.Result result = run("doctor");
    assertFinds(result);
    assertFinds();

    assertThat(result.out())
        .contains(
            "ok    Java: ",
            "ok    start-up cache: ",
            "ok    the governance service answers",
            "ok    the approval service answers")
        .contains(
            "ok    a call of evalops-doctor-canary is denied",
            "ok    Claude Code: " + claude,
            "ok    Claude Code 2.1.332");
  }

  @Test
  void findsAMissingConfiguration() throws Exception {
    environment.remove("EVALOPS_WORKSPACE_ID");
    assertFinds("EVALOPS_WORKSPACE_ID");
  }

  @Test
  void findsAConfigurationThatOthersCanChange() throws Exception {
    Path file = Files.writeString(work.resolve("hook.properties"), "EVALOPS_WORKSPACE_ID=w\n");
    edit(hook.conf(), conf -> conf + "config=" + file + "\n");
    assertFinds();
    Distribution.mode("rw-rw-rw-", file);
    assertFinds(file.toString());
  }

  @Test
  void findsServicesThatCannotBeReached() throws Exception {
    String nobody = "http://127.0.0.1:" + FreePort.next();
    environment.put("EVALOPS_GOVERNANCE_URL", nobody);
    environment.put("EVALOPS_APPROVALS_URL", nobody);
    assertFinds("the governance service at 127.0.0.1:", "the approval service at 127.0.0.1:");
  }

  @Test
  void findsCertificatesThatCannotBeUsed() throws Exception {
    environment.put("EVALOPS_CA_FILE", work + "/none.pem");
    assertFinds("none.pem");
  }

  @Test
  void findsAPolicyThatDoesNotDeny() throws Exception {
    governance.decide("ACTION_DECISION_ALLOW");
    assertFinds("does not deny the tool evalops-doctor-canary");
    governance.decide("ACTION_DECISION_REQUIRE_APPROVAL");
    assertFinds("does not deny the tool evalops-doctor-canary");
  }

  @Test
  void findsALauncherThatAllows() throws Exception {
    edit(
        hook.launcher(),
        text -> text.replace("closed \"the launcher", "exit 0 #").replace("exit 2", "exit 0"));
    assertFinds("a call of evalops-doctor-canary ended with status 0");
  }

  @Test
  void findsAnEntryThatIsGone() throws Exception {
    Files.writeString(claude, "{}");
    assertFinds(
        "does not ask the hook: run evalops-agent-hook install --host claude",
        "no host asks the hook");
  }

  @Test
  void findsAnEntryThatWasChanged() throws Exception {
    edit(claude, text -> text.replace("600", "0"));
    assertFinds("not as it was written");
  }

  @Test
  void findsHooksThatAreSwitchedOff() throws Exception {
    edit(claude, text -> text.replaceFirst("\\{", "{\"disableAllHooks\": true,"));
    assertFinds("disableAllHooks is true");
  }

  @Test
  void findsSettingsThatCannotBeRead() throws Exception {
    edit(claude, text -> text + "}");
    assertFinds("cannot be judged", "does not ask the hook", "no host asks the hook");
  }

  @Test
  void findsAHostThatIsTooOld() throws Exception {
    host("claude", "2.1.294 (Claude Code)");
    assertFinds("Claude Code 2.1.294 runs tools although the hook fails");
  }

  @Test
  void findsASecondHostThatDoesNotAsk_orIsSwitchedOff() throws Exception {
    codex(true, "untrusted");
    assertFinds("Codex is on this machine and does not ask the hook");
    enterIntoCodex();
    codex(true, "trusted");
    assertFinds();
    assertThat(doctor().out()).contains("ok    Codex trusts the hook");
    edit(work.resolve("codex/config.toml"), text -> "[features]\nhooks = false\n" + text);
    assertFinds("[features] hooks is false");
  }

  private void enterIntoCodex() throws Exception {
    Path config = Files.createDirectories(work.resolve("codex")).resolve("config.toml");
    Files.writeString(config, new CodexConfig(false, "").install("", codexCommand()));
  }

  private static String codexCommand() throws Exception {
    return Host.CODEX.command(new Installation(hook.home()));
  }

  private void codex(boolean enabled, String trust) throws Exception {
    CodexTrustTest.program(
        work.resolve("programs/codex"),
        CodexTrustTest.list(
            CodexTrustTest.hook(codexCommand().replace("\"", "\\\""), enabled, trust)));
  }

  @Test
  void findsAHookThatCodexDoesNotTrust() throws Exception {
    enterIntoCodex();
    codex(true, "modified");
    assertFinds("Codex does not run the hook, which is modified: review it");
    CodexTrustTest.program(work.resolve("programs/codex"), "usage: codex");
    assertFinds("Codex does not say whether it trusts the hook");
  }

  @Test
  void findsAProgramThatOthersCanChange() throws Exception {
    Distribution.mode("rwxr-xrwx", hook.lib().resolve("cache"));
    assertFinds("chmod go-w " + hook.lib().resolve("cache"));
    Distribution.mode("rwxr-xr-x", hook.lib().resolve("cache"));
    Distribution.mode("rw-rw-r--", hook.jar());
    assertFinds("chmod go-w " + hook.jar(), "can be changed by others; see");
  }

  @Test
  void findsAJavaThatIsGone() throws Exception {
    edit(hook.conf(), conf -> conf.replace("java=", "java=/none"));
    assertFinds(run("doctor"), "is not there: run evalops-agent-hook install", "ended with status");
  }

  @Test
  void findsACacheThatIsGoneOrDamaged() throws Exception {
    Files.write(Path.of(cache), new byte[100]);
    assertFinds(run("doctor"), "this Java cannot use " + cache);
    Files.delete(Path.of(cache));
    Files.createDirectory(Path.of(cache + ".lock")); // keeps the canary from making it
    assertFinds(run("doctor"), "there is none for this Java");
  }

  @Test
  void findsAnOldHostWhoseSkillsRunUnasked() throws Exception {
    host("claude", "2.1.331 (Claude Code)");
    assertFinds("disableSkillShellExecution is not true");
    assertThat(run("install", "--host", "claude").status()).isZero();
    assertFinds();
    assertThat(Files.readString(claude)).contains("\"disableSkillShellExecution\": true");
  }

  @Test
  void takesTheEntryAwayAgain() throws Exception {
    Launched.Result result = run("uninstall", "--host", "claude");

    assertThat(result.status()).as(result.err()).isZero();
    assertThat(claude).doesNotExist();
    assertFinds(
        "does not ask the hook: run evalops-agent-hook install --host claude",
        "no host asks the hook");
  }

  @Test
  void speaksJson() throws Exception {
    Launched.Result result = run("doctor", "--json");
    assertThat(result.status()).isZero();
    assertThat(result.out())
        .startsWith("{\"healthy\":true,\"findings\":[{\"level\":\"ok\",\"finding\":\"the program: ")
        .contains("{\"level\":\"note\",\"finding\":\"");
    assertThat(JsonDocument.parse(result.out())).isNotNull();
    Files.writeString(claude, "{}");
    assertThat(run("doctor", "--json").out())
        .startsWith("{\"healthy\":false")
        .contains("{\"level\":\"wrong\",\"finding\":\"no host asks the hook");
  }

  @Test
  void findsALogThatCannotBeWritten() throws Exception {
    Path file = Files.writeString(
        work.resolve("hook.properties"), "EVALOPS_DECISION_LOG=" + work + "/none\n");
    Distribution.mode("rw-r--r--", file);
    edit(hook.conf(), conf -> conf + "config=" + file + "\n");
    assertFinds("the log of decisions: " + work + "/none is no folder");
  }

  /** A host in so far as it matters: asks a model, asks its hook (or does not), and tells the model. */
  private void callingHost(boolean asks) throws Exception {
    callingHost(asks, "/${address#*/}");
  }

  private void callingHost(boolean asks, String path) throws Exception {
    Path program = work.resolve("programs/claude");
    Files.writeString(program, """
        #!/bin/bash
        [ "$1" = --version ] && { echo '2.1.332 (Claude Code)'; exit; }
        address=${ANTHROPIC_BASE_URL#http://*:}
        post() {
          exec 3<>"/dev/tcp/127.0.0.1/${address%%%%/*}"
          printf 'POST %%s/v1/messages?beta=true HTTP/1.1\\r\\nContent-Length: %%d\\r\\n\\r\\n%%s' "%s" ${#1} "$1" >&3
          cat <&3
          exec 3>&-
        }
        wanted=$(post '{"tools":[{"name":"Bash"}]}')
        case $wanted in *evalops-doctor-canary*) ;; *) exit 1 ;; esac
        said='command not found'
        if %s; then
          said=$('%s' governance-check 2>&1 >/dev/null <<<'{"session_id":"s",\
        "hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"evalops-doctor-canary"}}')
        fi
        post "{\\"content\\":[{\\"type\\":\\"tool_result\\",\\"content\\":\\"$said\\"}]}"
        """.formatted(path, asks, hook.launcher()));
    Distribution.mode("rwxr-xr-x", program);
  }

  @Test
  void callsThroughTheHost() throws Exception {
    callingHost(true);
    assertFinds();
    assertThat(doctor().out()).contains("ok    Claude Code: a call through it is denied");
    callingHost(false);
    assertFinds("Claude Code: a call through it is run without asking the hook");
  }

  @Test
  void takesNobodysWordButTheHosts() throws Exception {
    callingHost(false, "");
    assertThat(doctor().out()).contains("note  Claude Code: a call through it could not be made");
  }

  @Test
  void callsThroughTheHost_alsoWhereThePolicyAllowsEverything() throws Exception {
    callingHost(true);
    governance.decide("ACTION_DECISION_ALLOW");
    assertFinds("does not deny the tool evalops-doctor-canary");
    assertThat(doctor().out()).contains("ok    Claude Code: a call through it is denied");
  }

  @Test
  void saysWhenNoCallCouldBeMade() throws Exception {
    assertThat(doctor().out()).contains("note  Claude Code: a call through it could not be made");
    Files.delete(work.resolve("programs/claude"));
    assertThat(doctor().out()).contains("note  Claude Code: its program is not on the path");
  }

  @Test
  void saysHowItIsUsed() throws Exception {
    Launched.Result result = run("doctor", "all", "of", "it");
    assertThat(result.status()).isEqualTo(2);
    assertThat(result.err()).startsWith("usage:");
  }
}
