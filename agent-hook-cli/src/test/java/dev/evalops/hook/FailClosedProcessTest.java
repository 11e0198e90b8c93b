package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.hook.TestService.Answer;
import dev.evalops.runtime.mtls.ServerTls;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Whatever breaks outside of the process, the tool does not run: each case with a real process and an event that no
 * pipe holds, on the launcher and, in the long form, on the bare jar. What breaks the process itself is in the other
 * tests of processes.
 */
class FailClosedProcessTest {
  private static final String TOKEN = "token-xyz";
  private static final String INPUT = "FAKE-SECRET";
  private static final String APPROVED = "\"DECISION_TYPE_APPROVED\"";
  private static final String HTTP_OK = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

  private static final String UNASKED = "blocked (fail closed): ";
  private static final String CONFIGURATION = "hook configuration error: ";
  private static final String BOOTSTRAP = "hook bootstrap failed: ";
  private static final String CHECK = "governance check failed: ";
  private static final String IN_TIME = CHECK + "no whole answer in time";

  private static final TestCa AUTHORITY = TestCa.create();

  @TempDir
  private static Path work;

  private static Distribution installed;

  @BeforeAll
  static void install() throws Exception {
    installed = Distribution.copy(Path.of("target/evalops-agent-hook"), work.resolve("evalops"));
    installed.configure("java=" + java() + "\n");
  }

  /** The oldest, as the bare jar runs on that of the build. */
  private static Path java() throws IOException {
    return Distribution.javaHomes().get(0).resolve("bin/java");
  }

  private interface Fault {
    void on(Hook hook) throws Exception;
  }

  /** What breaks, and with what the reason must go on behind "blocked (fail closed): " or "denied: ". */
  record Case(String name, String reason, Fault fault) {
    @Override
    public String toString() {
      return name;
    }
  }

  /** One call, in which all is well but what the case breaks. */
  private static final class Hook implements AutoCloseable {
    final Path dir;
    final TestService service;
    final Map<String, String> environment = new TreeMap<>();
    final Deque<AutoCloseable> open = new ArrayDeque<>();
    byte[] event = Call.EVENT.getBytes(UTF_8);
    String managed = "";
    boolean asksNobody;

    Hook(Path dir) throws IOException {
      this.dir = dir;
      service = open(new TestService().evaluate(TestService.ALLOW));
      environment.putAll(new Call(service.url()).environment());
      set("AGENT_TOKEN", TOKEN);
    }

    <T extends AutoCloseable> T open(T resource) {
      open.push(resource);
      return resource;
    }

    void set(String name, String value) {
      environment.put("EVALOPS_" + name, value);
    }

    void ask(String url) {
      set("GOVERNANCE_URL", url);
    }

    void answer(String text) throws IOException {
      ask(open(new RawServer(RawServer.text(text))).url());
    }

    void impatient(String seconds) {
      set("GOVERNANCE_TIMEOUT", seconds);
    }

    String file(String text) throws IOException {
      return Files.writeString(Files.createTempFile(dir, "file", ""), text).toString();
    }

    void manage(String text) throws IOException {
      managed = file(text);
      Distribution.mode("rw-r--r--", Path.of(managed));
    }

    /** A service with this certificate, and a configuration that fits it but for what is changed afterwards. */
    void tls(TestCa.Issued server, TestCa.Issued client) throws IOException {
      ServerTls tls = ServerTls.builder()
          .reloadEvery(Duration.ZERO)
          .certificate(file(server.chainPem()), file(server.keyPem()))
          .requireClients(file(AUTHORITY.pem()))
          .open();
      ask(open(new TestService(tls.sslContext()).evaluate(TestService.ALLOW)).url());
      set("CA_FILE", file(AUTHORITY.pem()));
      set("CERT_FILE", file(client.chainPem()));
      set("KEY_FILE", file(client.keyPem()));
    }

    void tls() throws IOException {
      tls(AUTHORITY.issue("server"), AUTHORITY.issue("client"));
    }

    TestService approvals(String... looks) {
      service.evaluate(TestService.REQUIRE_APPROVAL);
      service.on(Approval.REQUEST, TestService.CREATED);
      service.on(Approval.GET, looks);
      set("APPROVALS_URL", service.url());
      return service;
    }

    @Override
    public void close() throws Exception {
      for (AutoCloseable resource : open) {
        resource.close();
      }
    }
  }

  private static String decision(String id, String decision, int hour) {
    return "{\"approvalRequestId\":\"" + id + "\",\"decision\":" + decision
        + ",\"decidedAt\":\"2026-11-24T0" + hour + ":00:00Z\"}";
  }

  private static String look(String state, String... decisions) {
    return "{\"state\":\"" + state + "\",\"decisions\":[" + String.join(",", decisions) + "]}";
  }

  private static final class Cases {
    private final List<Case> all = new ArrayList<>();

    private void add(String name, String reason, Fault fault) {
      all.add(new Case(name, reason, fault));
    }

    private void variable(String name, String value, String reason) {
      add(name + "=" + value, CONFIGURATION + reason, hook -> hook.set(name, value));
    }

    private void configuration() {
      add(
          "no configuration",
          CONFIGURATION + "EVALOPS_GOVERNANCE_URL is required; EVALOPS_WORKSPACE_ID is required",
          hook -> hook.environment.clear());
      for (String url : List.of(
          "governance.example",
          "ftp://127.0.0.1",
          "http://governance.example",
          "http://10.0.0.1",
          "http://127.0.0.1.evil.example",
          "https://",
          "https://u:" + TOKEN + "@governance.example",
          "https://governance.example:99999",
          "http://127.0.0.1/?x=")) {
        variable("GOVERNANCE_URL", url, "EVALOPS_GOVERNANCE_URL ");
      }
      variable("APPROVALS_URL", "http://approvals.example", "EVALOPS_APPROVALS_URL must begin");
      variable("WORKSPACE_ID", " ", "EVALOPS_WORKSPACE_ID is required");
      variable("AGENT_TOKEN", "two " + TOKEN, "EVALOPS_AGENT_TOKEN has characters");
      for (String timeout : List.of(
          "APPROVAL_TIMEOUT",
          "APPROVAL_POLL_INTERVAL",
          "GOVERNANCE_TIMEOUT",
          "APPROVALS_TIMEOUT")) {
        variable(timeout, "0", "EVALOPS_" + timeout + " must be greater than zero");
      }
      variable("GOVERNANCE_TIMEOUT", "5 minutes", "EVALOPS_GOVERNANCE_TIMEOUT is neither");
      variable("GOVERNANCE_TIMEOUT", "9223372036854775807", "EVALOPS_GOVERNANCE_TIMEOUT ");
      variable("HOOK_DEADLINE", "571s", "EVALOPS_HOOK_DEADLINE must not be more than 570");
      variable("ALLOW_INSECURE_HTTP", "1", "EVALOPS_ALLOW_INSECURE_HTTP must be true or false");
      add("waits beyond the deadline", CONFIGURATION + "EVALOPS_GOVERNANCE_TIMEOUT + ", hook -> {
        hook.set("APPROVALS_URL", hook.service.url());
        hook.set("APPROVAL_TIMEOUT", "10m");
      });
      add(
          "no agent",
          "agent_id is required",
          hook -> hook.event = "{\"tool_name\":\"Bash\"}".getBytes(UTF_8));

      add("managed file missing", "does not exist", hook -> hook.managed = hook.dir + "/none");
      add("managed file a folder", "is not a regular file", hook -> hook.managed = hook.dir + "");
      add("managed file a loop", "cannot be read", hook -> {
        Path loop = hook.dir.resolve("loop");
        hook.managed = Files.createSymbolicLink(loop, loop).toString();
      });
      add("managed file writable by all", "must not be writable by group or others", hook -> {
        hook.manage("");
        Distribution.mode("rw-rw-rw-", Path.of(hook.managed));
      });
      add(
          "managed file with a wrong key",
          "has an unknown key",
          hook -> hook.manage(TOKEN + "\nEVALOPS_WORKSPACE_ID=w\n"));
      add(
          "managed file with a wrong value",
          CONFIGURATION + "EVALOPS_IGNORE_ENVIRONMENT must be true or false",
          hook -> hook.manage("EVALOPS_IGNORE_ENVIRONMENT=yes\n"));
      add(
          "managed file that ignores the environment",
          CONFIGURATION + "EVALOPS_GOVERNANCE_URL is required",
          hook -> hook.manage("EVALOPS_IGNORE_ENVIRONMENT=true\n"));
    }

    private void certificates() {
      add("no CA file", BOOTSTRAP + "read_server_ca: ", hook -> {
        hook.tls();
        hook.set("CA_FILE", "/nonexistent/ca.pem");
      });
      add("CA file a folder", BOOTSTRAP + "read_server_ca: ", hook -> {
        hook.tls();
        hook.set("CA_FILE", "/");
      });
      add("CA file no certificate", BOOTSTRAP + "parse_server_ca: ", hook -> {
        hook.tls();
        hook.set("CA_FILE", hook.file(TOKEN));
      });
      add("certificate without key", BOOTSTRAP + "tls_key_file_required", hook -> {
        hook.tls();
        hook.set("KEY_FILE", "");
      });
      add("key without certificate", BOOTSTRAP + "tls_cert_file_required", hook -> {
        hook.tls();
        hook.set("CERT_FILE", "");
      });
      add("key of another certificate", BOOTSTRAP + "load_client_keypair: ", hook -> {
        hook.tls();
        hook.set("KEY_FILE", hook.file(AUTHORITY.issue("other").keyPem()));
      });
      add("server name invalid", BOOTSTRAP + "tls_server_name_invalid", hook -> {
        hook.tls();
        hook.set("SERVER_NAME", "no name");
      });
      Instant past = Instant.now().minusSeconds(3600);
      TestCa.Issued expired = AUTHORITY
          .request("CN=old", Keys.ec())
          .address("127.0.0.1")
          .valid(past.minusSeconds(3600), past)
          .issue();
      add(
          "client certificate expired",
          BOOTSTRAP + "the client certificate has expired",
          hook -> hook.tls(AUTHORITY.issue("server"), expired));
      add(
          "server certificate expired",
          CHECK + "the server's certificate has expired",
          hook -> hook.tls(expired, AUTHORITY.issue("client")));
      add(
          "server of another name",
          CHECK + "the server's certificate is for another name",
          hook -> hook.tls(
              AUTHORITY.request("CN=x", Keys.ec()).dns("other.internal").issue(),
              AUTHORITY.issue("client")));
      add("another name wanted", CHECK + "the server's certificate is for another name", hook -> {
        hook.tls();
        hook.set("SERVER_NAME", "other.internal");
      });
      add("server of a stranger", CHECK + "the server's certificate is not of a trusted", hook -> {
        hook.tls();
        hook.set("CA_FILE", hook.file(TestCa.create().pem()));
      });
      add(
          "client of a stranger",
          CHECK,
          hook -> hook.tls(AUTHORITY.issue("server"), TestCa.create().issue("stranger")));
      // The server waits for the end of a line, or finds one in the handshake's random bytes.
      add("TLS to a plain server", CHECK, hook -> {
        hook.impatient("1s");
        hook.ask(hook.service.url().replace("http:", "https:"));
      });
      add("plain to a TLS server", CHECK, hook -> {
        hook.tls();
        hook.ask(hook.environment.get("EVALOPS_GOVERNANCE_URL").replace("https:", "http:"));
      });
    }

    private void network() {
      add("connection refused", CHECK + "connection refused", hook -> hook.service.close());
      add("black hole", IN_TIME, hook -> {
        hook.impatient("1s");
        hook.ask("http://127.0.0.1:" + blackHole(hook));
      });
      add("silence", IN_TIME, hook -> {
        hook.impatient("1s");
        ServerSocket silent = hook.open(new ServerSocket(0, 50, InetAddress.getLoopbackAddress()));
        hook.ask("http://127.0.0.1:" + silent.getLocalPort());
      });
      add(
          "no such name",
          CHECK + "the host's name cannot be resolved",
          hook -> hook.ask("https://evalops-no-such-host.invalid"));
    }

    /** A port whose queue is full, where a connection is neither made nor refused. */
    private static int blackHole(Hook hook) throws IOException {
      ServerSocket full = hook.open(new ServerSocket(0, 1, InetAddress.getLoopbackAddress()));
      for (int i = 0; i < 8; i++) {
        SocketChannel channel = hook.open(SocketChannel.open());
        channel.configureBlocking(false);
        channel.connect(full.getLocalSocketAddress());
      }
      try (Socket probe = new Socket()) {
        probe.connect(new InetSocketAddress(full.getInetAddress(), full.getLocalPort()), 200);
        throw new AssertionError("the queue is not full");
      } catch (SocketTimeoutException e) {
        return full.getLocalPort();
      }
    }

    private void answers() {
      for (int status : new int[] {201, 204, 302, 307, 401, 403, 404, 429, 500, 503}) {
        add("status " + status, CHECK + "HTTP status " + status, hook -> {
          String body = status == 204 ? "" : TestService.ALLOW;
          hook.service.on(GovernanceCheck.EVALUATE, new Answer(status, "application/json", body));
          hook.service.on("/elsewhere", TestService.ALLOW);
        });
      }
      add(
          "an allow in HTML",
          CHECK + "the answer is not application/json",
          hook -> hook.service.on(
              GovernanceCheck.EVALUATE, new Answer(200, "text/html", TestService.ALLOW)));
      add(
          "HTML",
          CHECK + "the answer is no valid JSON",
          hook -> hook.service.evaluate("<html>" + INPUT + "</html>"));
      add("empty answer", CHECK + "the answer is no valid JSON", hook -> hook.service.evaluate(""));
      add(
          "no HTTP",
          CHECK + "the answer is no HTTP",
          hook -> hook.answer(TestService.ALLOW + "\n"));
      add("no answer", CHECK + "the connection was closed", hook -> hook.answer(""));
      add(
          "truncated answer",
          CHECK + "the connection was closed before the end",
          hook -> hook.answer(HTTP_OK + "Content-Length: 1000\r\n\r\n" + TestService.ALLOW));
      add(
          "truncated chunks",
          CHECK + "the connection was closed before the end",
          hook -> hook.answer(HTTP_OK + "Transfer-Encoding: chunked\r\n\r\n"
              + Integer.toHexString(TestService.ALLOW.length()) + "\r\n" + TestService.ALLOW));
      add(
          "1 GiB announced",
          CHECK + "the answer is longer than 1048576 bytes",
          hook -> hook.answer(HTTP_OK + "Content-Length: 1073741824\r\n\r\n" + TestService.ALLOW));
      add(
          "1 GiB sent",
          CHECK + "the answer is longer than 1048576 bytes",
          hook -> hook.ask(hook.open(new RawServer(out -> {
                out.write((HTTP_OK + "\r\n").getBytes(UTF_8));
                byte[] spaces = " ".repeat(1 << 20).getBytes(UTF_8);
                for (int i = 0; i < 1024; i++) {
                  out.write(spaces);
                }
              }))
              .url()));
      add(
          "head without end",
          CHECK + "the answer's head is too long",
          hook -> hook.ask(
              hook.open(new RawServer(RawServer.endless(HTTP_OK, "X: y\r\n".repeat(100), 0)))
                  .url()));
      add(
          "answer without end",
          CHECK + "the answer is longer than",
          hook -> hook.ask(
              hook.open(new RawServer(RawServer.endless(HTTP_OK + "\r\n", " ".repeat(10_000), 0)))
                  .url()));
      add("a byte a second", IN_TIME, hook -> {
        hook.impatient("3s");
        hook.ask(hook.open(new RawServer(RawServer.endless(HTTP_OK + "\r\n", " ", 1000)))
            .url());
      });

      String unknown = "governance returned an unknown decision";
      for (String decision :
          List.of("0", "4", "true", "\"ALLOW\"", "\"action_decision_allow\"", "[1]")) {
        add(
            "decision " + decision,
            unknown,
            hook -> hook.service.evaluate("{\"evaluation\":{\"decision\":" + decision + "}}"));
      }
      add(
          "two decisions",
          CHECK + "the answer is no valid JSON",
          hook -> hook.service.evaluate("{\"evaluation\":{\"decision\":2,\"decision\":1}}"));
      for (String answer : List.of("{}", "{\"evaluation\":null}", "{\"decision\":1}")) {
        add(
            "no evaluation: " + answer,
            "governance returned no evaluation",
            hook -> hook.service.evaluate(answer));
      }
      add(
          "a policy's no",
          "denied: policy",
          hook -> hook.service.evaluate(
              "{\"evaluation\":{\"decision\":2,\"reasons\":[\"policy\",\"" + TOKEN + "\"]}}"));
    }

    private void approvals() {
      add(
          "no approval service",
          "approval required but EVALOPS_APPROVALS_URL is not",
          hook -> hook.service.evaluate(TestService.REQUIRE_APPROVAL));
      add(
          "no approval id",
          "approval request failed: missing approval id",
          hook -> hook.approvals(look("resolved", decision("req-1", APPROVED, 9)))
              .on(Approval.REQUEST, "{\"approvalRequest\":{}}"));
      add(
          "approval denied",
          "denied: approval denied",
          hook ->
              hook.approvals(look("resolved", decision("req-1", "\"DECISION_TYPE_DENIED\"", 9))));
      add(
          "approval expired",
          "denied: approval expired",
          hook -> hook.approvals(look("resolved", decision("req-1", "4", 9))));
      add(
          "approval escalated",
          "denied: approval escalated",
          hook -> hook.approvals(look("resolved", decision("req-1", "3", 9))));
      for (String state : List.of("expired", "escalated")) {
        add(
            "an approval in state " + state,
            "denied: approval " + state,
            hook -> hook.approvals(look(state, decision("req-1", APPROVED, 9))));
      }
      for (String state : List.of("partially_approved", "PENDING", "approved", "Resolved")) {
        add(
            "an approval in state " + state,
            "unexpected state \"" + state + "\"",
            hook -> hook.approvals(look(state, decision("req-1", APPROVED, 9))));
      }
      add("a pending approval", "denied: approval timed out: req-1", hook -> {
        hook.approvals(look("pending", decision("req-1", APPROVED, 9)));
        hook.set("APPROVAL_TIMEOUT", "1s");
      });
      add(
          "an approval of another request",
          "approval resolved without a final decision",
          hook -> hook.approvals(look("resolved", decision("req-2", APPROVED, 9))));
      add(
          "an approval older than a no",
          "denied: approval denied",
          hook -> hook.approvals(
              look("resolved", decision("req-1", "2", 9), decision("req-1", APPROVED, 8))));
      add(
          "an approval without a time beside a no",
          "without a final decision",
          hook -> hook.approvals(look(
              "resolved",
              decision("req-1", "2", 9),
              "{\"approvalRequestId\":\"req-1\",\"decision\":1}")));
      add(
          "approval service gone",
          "denied: approval timed out: req-1; approval lookup failed: ",
          hook -> {
            TestService approvals = hook.open(new TestService());
            hook.approvals("{}");
            hook.set("APPROVALS_URL", approvals.url());
            hook.set("APPROVAL_TIMEOUT", "10s");
            approvals.on(Approval.REQUEST, TestService.CREATED);
            approvals.on(Approval.GET, "{\"state\":\"pending\"}");
            approvals.after(Approval.GET, approvals::close);
          });
    }

    private void events() {
      for (String payload : ToolUseTest.HOSTILE) {
        add(payload, UNASKED, hook -> {
          hook.event = Vectors.payload(payload);
          hook.asksNobody = true;
        });
      }
      for (String event : List.of(
          "{\"tool_name\":\"Bash \"}",
          "{\"tool_name\":\"\"}",
          "{\"tool_name\":null}",
          "{\"tool_name\":\"Bash\\u0000\"}",
          "{\"tool_name\":\"Bash\",\"tool_input\":[\"" + INPUT + "\"]}",
          "{\"tool_name\":\"Bash\",\"context\":1}",
          "{\"tool_name\":\"Bash\",\"agent_id\":7}",
          "{\"tool_name\":\"Bash\",\"x\":\"\\ud800\"}",
          "{\"tool_name\":\"Bash\",\"x\":1e999}",
          "{\"tool_name\":\"Bash\"}{}",
          "null")) {
        add(event, UNASKED, hook -> {
          hook.event = event.getBytes(UTF_8);
          hook.asksNobody = true;
        });
      }
      add(
          "more than 8 MiB",
          "read_stdin: the input is longer than 8388608 bytes",
          hook -> hook.event =
              Call.EVENT.replace(INPUT, INPUT + "x".repeat(8 << 20)).getBytes(UTF_8));
    }
  }

  static List<Case> cases() {
    Cases cases = new Cases();
    cases.configuration();
    cases.certificates();
    cases.network();
    cases.answers();
    cases.approvals();
    cases.events();
    return cases.all;
  }

  @ParameterizedTest
  @MethodSource("cases")
  void launcherDenies(Case broken, @TempDir Path dir) throws Exception {
    try (Hook hook = new Hook(dir)) {
      broken.fault().on(hook);
      assertDenied(broken, hook, launcher(hook));
    }
  }

  @ParameterizedTest
  @MethodSource("cases")
  @Tag("soak")
  void jarDenies(Case broken, @TempDir Path dir) throws Exception {
    try (Hook hook = new Hook(dir)) {
      broken.fault().on(hook);
      Launched.Result result = call(jar(hook), hook);
      assertThat(result.err().lines()).hasSize(1);
      assertThat(result.out()).isNotEmpty();
      assertDenied(broken, hook, result);
    }
  }

  private static void assertDenied(Case broken, Hook hook, Launched.Result result) {
    assertThat(result.err())
        .matches("(?s)evalops-agent-hook: (blocked \\(fail closed\\)|denied): .*");
    result.assertDenied(broken.reason());
    assertThat(result.out() + result.err())
        .doesNotContain(TOKEN, INPUT, "PRIVATE KEY", "127.0.0.1");
    if (hook.asksNobody) {
      assertThat(hook.service.requests).isEmpty();
    }
  }

  private static Launched.Result launcher(Hook hook) throws Exception {
    Distribution called = installed;
    if (!hook.managed.isEmpty()) {
      called = Distribution.copy(Path.of("target/evalops-agent-hook"), hook.dir.resolve("evalops"));
      called.configure("java=" + java() + "\nconfig=" + hook.managed + "\n");
    }
    return call(List.of(called.launcher().toString(), "governance-check"), hook);
  }

  private static List<String> jar(Hook hook) {
    List<String> command = new ArrayList<>(List.of(
        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-jar",
        installed.jar().toString(),
        "governance-check",
        "--allow-exit-code",
        "42"));
    if (!hook.managed.isEmpty()) {
      command.addAll(List.of("--config", hook.managed));
    }
    return command;
  }

  /** As a host that takes it for a failure, and runs the tool, when it cannot get rid of all of its event. */
  private static Launched.Result call(List<String> command, Hook hook) throws Exception {
    byte[] padding = new byte[200_000];
    Arrays.fill(padding, (byte) ' ');
    try (Launched started =
        Launched.start(hook.dir, hook.environment, command.toArray(String[]::new))) {
      OutputStream in = started.process().getOutputStream();
      in.write(hook.event);
      in.write(padding);
      return started.end();
    }
  }

  @Test
  void allows_whenNothingIsBroken_andNotOnceMore(@TempDir Path dir) throws Exception {
    try (Hook hook = new Hook(dir)) {
      assertThat(launcher(hook)).isEqualTo(new Launched.Result(0, "", ""));
      assertThat(call(jar(hook), hook)).isEqualTo(new Launched.Result(42, "", ""));
      hook.service.evaluate("{\"evaluation\":{\"decision\":2}}");
      launcher(hook).assertDenied("denied: governance denied this action");
      hook.service.close();
      launcher(hook).assertDenied("connection refused");
    }
    try (Hook hook = new Hook(dir)) {
      hook.tls();
      assertThat(launcher(hook)).isEqualTo(new Launched.Result(0, "", ""));
      hook.approvals(look("pending"), look("resolved", decision("req-1", APPROVED, 9)));
      hook.ask(hook.service.url());
      assertThat(launcher(hook)).isEqualTo(new Launched.Result(0, "", ""));
    }
  }
}
