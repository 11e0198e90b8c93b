package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SettingsTest {
  private static final String URL = "https://governance.example";

  @TempDir
  Path dir;

  private Path program;
  private Path file;
  private final Map<String, String> environment = new HashMap<>();

  @BeforeEach
  void setUp() throws IOException {
    program = Files.writeString(dir.resolve("hook.jar"), "");
    file = dir.resolve("agent-hook.properties");
    environment.put("EVALOPS_GOVERNANCE_URL", URL);
    environment.put("EVALOPS_WORKSPACE_ID", "w");
  }

  private Settings fromEnvironment() throws Denial {
    return Settings.load(environment, new ManagedFile(file, false, program));
  }

  private Settings fromFile(String text) throws Denial, IOException {
    if (!Files.exists(file)) {
      Files.createFile(file);
    }
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-r--r--"));
    Files.writeString(file, text);
    return Settings.load(environment, ManagedFile.named(file, program));
  }

  private void refused(String... problems) {
    assertThatThrownBy(this::fromEnvironment)
        .isInstanceOf(Denial.class)
        .hasMessageStartingWith("blocked (fail closed): hook configuration error: ")
        .hasMessageContainingAll(problems);
  }

  @Test
  void hasTheDefaultsOfTheContract() throws Denial {
    Settings settings = fromEnvironment();
    assertThat(settings.governance()).isEqualTo(ServiceUrl.parse(URL, false));
    assertThat(settings.approvals()).isNull();
    assertThat(settings.workspaceId()).isEqualTo("w");
    assertThat(settings.token()).isNull();
    assertThat(settings.agentId()).isNull();
    assertThat(settings.surface()).isNull();
    assertThat(settings.approvalTimeout()).isEqualTo(Duration.ofSeconds(15));
    assertThat(settings.tickets()).isTrue();
    assertThat(settings.pollInterval()).isEqualTo(Duration.ofSeconds(3));
    assertThat(settings.governanceTimeout()).isEqualTo(Duration.ofSeconds(5));
    assertThat(settings.approvalsTimeout()).isEqualTo(Duration.ofSeconds(5));
    assertThat(settings.tls().isSet()).isFalse();
    assertThat(settings.deadline()).isEqualTo(Duration.ofSeconds(570));
  }

  @Test
  void waitsLongerForAnApproval_whenThatIsTheMode() throws Denial {
    environment.put("EVALOPS_APPROVAL_MODE", "wait");
    assertThat(fromEnvironment().approvalTimeout()).isEqualTo(Duration.ofMinutes(5));
    assertThat(fromEnvironment().tickets()).isFalse();
    environment.put("EVALOPS_APPROVAL_MODE", "ticket");
    assertThat(fromEnvironment().tickets()).isTrue();
    environment.put("EVALOPS_APPROVAL_MODE", "none");
    refused("EVALOPS_APPROVAL_MODE must be ticket or wait");
  }

  @Test
  void refusesATicketThatCannotBeUsedWithinTheDeadline() throws Denial {
    environment.put("EVALOPS_APPROVALS_URL", "https://approvals.example");
    environment.put("EVALOPS_HOOK_DEADLINE", "29s");
    refused(
        "EVALOPS_GOVERNANCE_TIMEOUT + 2 x EVALOPS_APPROVALS_TIMEOUT + EVALOPS_APPROVAL_TIMEOUT");
    environment.put("EVALOPS_HOOK_DEADLINE", "30s");
    assertThat(fromEnvironment().deadline()).isEqualTo(Duration.ofSeconds(30));
  }

  @Test
  void readsAndTrimsEverything() throws Denial {
    environment.put(
        "EVALOPS_GOVERNANCE_URL",
        " " + URL + "/governance.v1.GovernanceService/EvaluateAction/ \n");
    environment.put("EVALOPS_APPROVALS_URL", "http://127.0.0.1:9/approvals.v1.ApprovalService");
    environment.put("EVALOPS_WORKSPACE_ID", "\u00a0w-1\u3000");
    environment.put("EVALOPS_AGENT_TOKEN", " t.o-k ");
    environment.put("EVALOPS_AGENT_ID", "a");
    environment.put("EVALOPS_SURFACE", "old");
    environment.put("EVALOPS_APPROVAL_MODE", "wait");
    environment.put("EVALOPS_APPROVAL_TIMEOUT", "1m30s");
    environment.put("EVALOPS_APPROVAL_POLL_INTERVAL", "250ms");
    environment.put("EVALOPS_GOVERNANCE_TIMEOUT", " 7 ");
    environment.put("EVALOPS_APPROVALS_TIMEOUT", "8s");
    environment.put("EVALOPS_CA_FILE", "/ca");
    environment.put("EVALOPS_CERT_FILE", "/cert");
    environment.put("EVALOPS_KEY_FILE", "/key");
    environment.put("EVALOPS_SERVER_NAME", "g");
    environment.put("EVALOPS_HOOK_DEADLINE", "105.5s");
    Settings settings = fromEnvironment();
    assertThat(settings.governance().host()).isEqualTo("governance.example");
    assertThat(settings.governance().path()).isEmpty();
    assertThat(settings.approvals()).isEqualTo(ServiceUrl.parse("http://127.0.0.1:9", false));
    assertThat(settings.workspaceId()).isEqualTo("w-1");
    assertThat(settings.token()).isEqualTo("t.o-k");
    assertThat(settings.agentId()).isEqualTo("a");
    assertThat(settings.surface()).isEqualTo("old");
    assertThat(settings.approvalTimeout()).isEqualTo(Duration.ofSeconds(90));
    assertThat(settings.pollInterval()).isEqualTo(Duration.ofMillis(250));
    assertThat(settings.governanceTimeout()).isEqualTo(Duration.ofSeconds(7));
    assertThat(settings.approvalsTimeout()).isEqualTo(Duration.ofSeconds(8));
    assertThat(settings.tls()).isEqualTo(new Settings.Tls("/ca", "/cert", "/key", "g"));
    assertThat(settings.deadline()).isEqualTo(Duration.ofMillis(105_500));
    assertThat(settings.toString()).doesNotContain("t.o-k");

    environment.put("EVALOPS_HOOK_SURFACE", "new");
    assertThat(fromEnvironment().surface()).isEqualTo("new");
  }

  @Test
  void takesBlankForUnset() throws Denial {
    environment.put("EVALOPS_APPROVALS_URL", " ");
    environment.put("EVALOPS_APPROVAL_TIMEOUT", "");
    environment.put("EVALOPS_AGENT_TOKEN", "\t");
    assertThat(fromEnvironment().token()).isNull();
    environment.put("EVALOPS_WORKSPACE_ID", " ");
    refused("EVALOPS_WORKSPACE_ID is required");
  }

  @Test
  void namesEveryProblemInOne() {
    environment.clear();
    environment.put("EVALOPS_APPROVALS_URL", "http://approvals.example");
    environment.put("EVALOPS_APPROVAL_TIMEOUT", "0");
    environment.put("EVALOPS_GOVERNANCE_TIMEOUT", "5 minutes");
    environment.put("EVALOPS_ALLOW_INSECURE_HTTP", "yes");
    refused(
        "EVALOPS_GOVERNANCE_URL is required",
        "EVALOPS_WORKSPACE_ID is required",
        "EVALOPS_APPROVALS_URL must begin with https://",
        "EVALOPS_APPROVAL_TIMEOUT must be greater than zero",
        "EVALOPS_GOVERNANCE_TIMEOUT is neither a duration such as 1m30s nor whole seconds",
        "EVALOPS_ALLOW_INSECURE_HTTP must be true or false");
  }

  @ParameterizedTest
  @CsvSource({
    "EVALOPS_GOVERNANCE_URL, governance.example",
    "EVALOPS_GOVERNANCE_URL, http://governance.example",
    "EVALOPS_APPROVALS_URL, https://",
    "EVALOPS_APPROVAL_TIMEOUT, -5s",
    "EVALOPS_APPROVAL_TIMEOUT, 1d",
    "EVALOPS_APPROVAL_POLL_INTERVAL, 0",
    "EVALOPS_GOVERNANCE_TIMEOUT, 9223372036854775807",
    "EVALOPS_APPROVALS_TIMEOUT, 3M",
    "EVALOPS_HOOK_DEADLINE, 571s",
    "EVALOPS_HOOK_DEADLINE, soon",
    "EVALOPS_ALLOW_INSECURE_HTTP, 1",
    "EVALOPS_AGENT_TOKEN, two words",
    "EVALOPS_AGENT_TOKEN, t\u00f6ken"
  })
  void refusesAMalformedValue(String key, String value) {
    environment.put(key, value);
    refused(key);
    assertThatThrownBy(this::fromEnvironment).hasMessageNotContaining(value);
  }

  @Test
  void refusesAValueThatTheLocaleCannotShow() {
    for (String key :
        new String[] {"EVALOPS_WORKSPACE_ID", "EVALOPS_AGENT_ID", "EVALOPS_HOOK_SURFACE"}) {
      String before = environment.put(key, "caf\ufffd\ufffd");
      refused(key + " has characters that cannot be read in this locale");
      if (before == null) {
        environment.remove(key);
      } else {
        environment.put(key, before);
      }
    }
  }

  @ParameterizedTest
  @CsvSource({
    "EVALOPS_GOVERNANCE_TIMEOUT, 571",
    "EVALOPS_APPROVAL_TIMEOUT, 10m",
    "EVALOPS_APPROVAL_TIMEOUT, 561s",
    "EVALOPS_APPROVALS_TIMEOUT, 4m30s",
    "EVALOPS_HOOK_DEADLINE, 60s",
    "EVALOPS_APPROVAL_TIMEOUT, 2562047h47m16.8s"
  })
  void refusesWaitsThatOutliveTheDeadline(String key, String value) {
    environment.put("EVALOPS_APPROVALS_URL", "https://approvals.example");
    environment.put("EVALOPS_APPROVAL_MODE", "wait");
    environment.put(key, value);
    refused("EVALOPS_HOOK_DEADLINE");
  }

  @Test
  void namesADeadlineThatIsTooLongBesideOtherProblems() {
    environment.put("EVALOPS_HOOK_DEADLINE", "10m");
    environment.put("EVALOPS_WORKSPACE_ID", "");
    refused("EVALOPS_WORKSPACE_ID is required");
    refused("EVALOPS_HOOK_DEADLINE must not be more than 570.0 s");
  }

  @Test
  void asksOnlyForWaitsThatCanHappenToFitTheDeadline() throws Denial {
    environment.put("EVALOPS_HOOK_DEADLINE", "50s");
    assertThat(fromEnvironment().deadline()).isEqualTo(Duration.ofSeconds(50));
  }

  @Test
  void takesTheFileBeforeTheEnvironment() throws Exception {
    environment.put("EVALOPS_AGENT_TOKEN", "from-environment");
    environment.put("EVALOPS_AGENT_ID", "trusted-agent");
    Settings settings = fromFile("# managed\nEVALOPS_WORKSPACE_ID = managed\nEVALOPS_AGENT_ID=\n");
    assertThat(settings.workspaceId()).isEqualTo("managed");
    assertThat(settings.agentId()).isNull();
    assertThat(settings.token()).isEqualTo("from-environment");
    assertThat(settings.governance().host()).isEqualTo("governance.example");
  }

  @Test
  void ignoresTheEnvironment_whenTheFileSaysSo() throws Exception {
    environment.put("EVALOPS_AGENT_TOKEN", "from-environment");
    Settings settings = fromFile("""
        EVALOPS_IGNORE_ENVIRONMENT=true
        EVALOPS_GOVERNANCE_URL=https://managed.example
        EVALOPS_WORKSPACE_ID=managed
        """);
    assertThat(settings.token()).isNull();
    assertThatThrownBy(() -> fromFile("EVALOPS_IGNORE_ENVIRONMENT=true\n"))
        .hasMessageContaining("EVALOPS_GOVERNANCE_URL is required");
    environment.put("EVALOPS_IGNORE_ENVIRONMENT", "true");
    assertThat(fromFile("EVALOPS_WORKSPACE_ID=managed").governance().host())
        .isEqualTo("governance.example");
  }

  @Test
  void letsTheEnvironmentChangeNothingOfWhomToBelieve_whenTheFileNamesTheService()
      throws Exception {
    environment.put("EVALOPS_APPROVALS_URL", "https://evil.example");
    environment.put("EVALOPS_CA_FILE", "/tmp/evil-ca.pem");
    environment.put("EVALOPS_SERVER_NAME", "evil.example");
    environment.put("EVALOPS_ALLOW_INSECURE_HTTP", "true");
    environment.put("EVALOPS_HOOK_SURFACE", "evil");
    Settings settings =
        fromFile("EVALOPS_GOVERNANCE_URL=https://managed.example\nEVALOPS_SURFACE=claude");
    assertThat(settings.governance().host()).isEqualTo("managed.example");
    assertThat(settings.approvals()).isNull();
    assertThat(settings.tls().isSet()).isFalse();
    assertThat(settings.surface()).isEqualTo("claude");
    assertThatThrownBy(() -> fromFile("EVALOPS_GOVERNANCE_URL=http://managed.example"))
        .hasMessageContaining("EVALOPS_GOVERNANCE_URL must begin with https://");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "EVALOPS_WORKSPACE=typo",
        "EVALOPS_WORKSPACE_ID=a\nEVALOPS_WORKSPACE_ID=a",
        "EVALOPS_WORKSPACE_ID=a\nEVALOPS_WORKSPACE_I\\u0044=b",
        "EVALOPS_WORKSPACE_ID=\\u00zz",
        "garbage",
        "\ufeffEVALOPS_WORKSPACE_ID=a",
        "EVALOPS_IGNORE_ENVIRONMENT=yes",
        "EVALOPS_DECISION_LOG=relative",
        "{\"a\":1}"
      })
  void refusesABrokenFile(String text) {
    assertThatThrownBy(() -> fromFile(text))
        .isInstanceOf(Denial.class)
        .hasMessageContaining("hook configuration error: ");
  }

  @Test
  void showsNoKeyThatMayBeASecret() {
    assertThatThrownBy(() -> fromFile("sk-live-0123\n"))
        .hasMessageContaining("has an unknown key")
        .hasMessageNotContaining("sk-live");
    assertThatThrownBy(() -> fromFile("EVALOPS_AGENT_TOKN=sk-live\n"))
        .hasMessageContaining("has an unknown key: EVALOPS_AGENT_TOKN")
        .hasMessageNotContaining("sk-live");
  }

  @Test
  void refusesAFileThatIsNotUtf8OrTooLong() throws Exception {
    fromFile("");
    Files.write(file, "EVALOPS_WORKSPACE_ID=\u00e9".getBytes(ISO_8859_1));
    assertThatThrownBy(() -> Settings.load(environment, ManagedFile.named(file, program)))
        .hasMessageContaining("is not UTF-8");
    assertThatThrownBy(() -> fromFile("#".repeat(65_537)))
        .hasMessageContaining("is longer than 65536 bytes");
  }

  @Test
  void needsTheFileOnlyWhenTheInstallationNamesIt() throws Denial {
    assertThat(fromEnvironment().workspaceId()).isEqualTo("w");
    assertThatThrownBy(() -> Settings.load(environment, ManagedFile.named(file, program)))
        .hasMessageContaining(file + " does not exist");
  }

  @Test
  void refusesALinkToNowhere() throws IOException {
    Files.createSymbolicLink(file, dir.resolve("gone"));
    refused(file + " does not exist");
  }

  @Test
  void refusesAFileThatCannotBeRead() throws IOException {
    Files.createDirectory(file);
    refused(file + " is not a regular file");
    Path loop = dir.resolve("loop");
    Files.createSymbolicLink(loop, loop);
    assertThatThrownBy(() -> Settings.load(environment, new ManagedFile(loop, false, program)))
        .hasMessageContaining("cannot be read");
  }

  @ParameterizedTest
  @ValueSource(strings = {"rw-rw-r--", "rw-r--rw-", "rw-rw-rw-", "r---w----"})
  void refusesAFileThatOthersCanWrite(String permissions) throws Exception {
    fromFile("");
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString(permissions));
    refused("must not be writable by group or others");
  }

  @Test
  void refusesAFileOfAnybodyElse() throws Exception {
    fromFile("");
    boolean root = Files.getAttribute(file, "unix:uid").equals(0);
    if (root) {
      Files.setAttribute(file, "unix:uid", 65534);
      refused("must belong to root or the program's owner");
      Files.setAttribute(program, "unix:uid", 65534);
      assertThat(fromEnvironment().workspaceId()).isEqualTo("w");
    }
    if (!root) {
      assertThat(fromEnvironment().workspaceId()).isEqualTo("w");
    }
    assertThatThrownBy(() -> Settings.load(environment, new ManagedFile(file, false, null)))
        .hasMessageContaining("must belong to root");
  }
}
