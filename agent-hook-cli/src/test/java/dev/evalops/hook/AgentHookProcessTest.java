package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.hook.HookJar.Result;
import dev.evalops.hook.HookJar.Running;
import dev.evalops.hook.TestService.Answer;
import dev.evalops.runtime.mtls.ServerTls;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The jar as the hosts run it. Every case but the allowed ones must end in a way in which no host runs the tool. */
class AgentHookProcessTest {
  private static final String FAIL_CLOSED = "blocked (fail closed): ";
  private static final String CHECK_FAILED = FAIL_CLOSED + "governance check failed: ";

  @TempDir
  Path dir;

  private TestService service;

  @BeforeEach
  void start() throws IOException {
    service = new TestService().evaluate(TestService.ALLOW);
  }

  @AfterEach
  void stop() {
    service.close();
  }

  private HookJar hook() {
    return new HookJar(service.url());
  }

  @Test
  void printsNothing_whenAllowed() throws Exception {
    hook().run().assertAllowed(0);
    hook().arguments("governance-check", "--allow-exit-code", "42").run().assertAllowed(42);
  }

  @Test
  void allowsOverMutualTls_andDeniesTheWrongName() throws Exception {
    TestCa authority = TestCa.create();
    String ca = Files.writeString(dir.resolve("ca"), authority.pem()).toString();
    TestCa.Issued pair = authority.issue("both");
    String cert = Files.writeString(dir.resolve("cert"), pair.chainPem()).toString();
    String key = Files.writeString(dir.resolve("key"), pair.keyPem()).toString();
    ServerTls tls = ServerTls.builder()
        .reloadEvery(Duration.ZERO)
        .certificate(cert, key)
        .requireClients(ca)
        .open();
    try (TestService secure = new TestService(tls.sslContext()).evaluate(TestService.ALLOW)) {
      HookJar hook = new HookJar(secure.url())
          .with("EVALOPS_CA_FILE", ca)
          .with("EVALOPS_CERT_FILE", cert)
          .with("EVALOPS_KEY_FILE", key);
      hook.run().assertAllowed(0);
      hook.with("EVALOPS_SERVER_NAME", "other.internal")
          .run()
          .assertDenied(CHECK_FAILED + "the server's certificate is for another name");
      hook.with("EVALOPS_KEY_FILE", ca)
          .run()
          .assertDeniedWith(FAIL_CLOSED + "hook bootstrap failed: ");
    }
  }

  @Test
  void tellsAPolicysDenyFromAFailure_andMasksTheToken() throws Exception {
    service.evaluate(
        "{\"evaluation\":{\"decision\":2,\"reasons\":[\"no \\u001b[31mtok-123\",\"caf\u00e9\"]}}");
    hook()
        .with("EVALOPS_AGENT_TOKEN", "tok-123")
        .run()
        .assertDenied("denied: no [31m[secret]; caf\u00e9");
  }

  @Test
  void deniesWithoutConfiguration() throws Exception {
    hook()
        .withoutEnvironment()
        .run()
        .assertDenied(FAIL_CLOSED
            + "hook configuration error: EVALOPS_GOVERNANCE_URL is required;"
            + " EVALOPS_WORKSPACE_ID is required");
  }

  @Test
  void deniesPlainHttpToAnotherMachine() throws Exception {
    hook()
        .with("EVALOPS_GOVERNANCE_URL", "http://governance.example")
        .run()
        .assertDeniedWith(FAIL_CLOSED
            + "hook configuration error: EVALOPS_GOVERNANCE_URL must begin with https://");
  }

  @Test
  void takesTheManagedFileBeforeTheEnvironment_andDeniesWhenItIsBroken() throws Exception {
    Path file = Files.writeString(dir.resolve("hook.properties"), "");
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-r--r--"));
    HookJar hook = hook()
        .arguments("governance-check", "--config", file.toString(), "--allow-exit-code", "77");
    Files.writeString(
        file,
        "EVALOPS_IGNORE_ENVIRONMENT=true\nEVALOPS_GOVERNANCE_URL=" + service.url()
            + "\nEVALOPS_WORKSPACE_ID=managed\n");
    hook.with("EVALOPS_WORKSPACE_ID", "environment").run().assertAllowed(77);
    assertThat(service.requests.get(0).body().get("workspaceId").asString()).isEqualTo("managed");

    Files.writeString(file, "EVALOPS_WORKSPACE=x\n");
    hook.run()
        .assertDeniedWith(
            FAIL_CLOSED + "hook configuration error: " + file + " has an unknown key");
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-rw-rw-"));
    hook.run()
        .assertDeniedWith(
            FAIL_CLOSED + "hook configuration error: " + file + " must not be writable");
    Files.delete(file);
    hook.run()
        .assertDeniedWith(FAIL_CLOSED + "hook configuration error: " + file + " does not exist");
    assertThat(service.requests).hasSize(1);
  }

  @Test
  void tellsItsLauncherThatTheReasonIsWritten() throws Exception {
    service.evaluate("{\"evaluation\":{\"decision\":2,\"reasons\":[\"no\"]}}");
    Result result = hook()
        .arguments("governance-check", "--allow-exit-code", "42", "--deny-exit-code", "44")
        .run();
    assertThat(result.status()).isEqualTo(44);
    assertThat(result.stderr()).isEqualTo("evalops-agent-hook: denied: no\n");
    // What it does not understand is no word of ours.
    assertThat(
            hook().arguments("governance-check", "--deny-exit-code", "x").run().status())
        .isEqualTo(2);
  }

  @Test
  void logsDecisions_withoutTheToolsInput_inTwoFilesAtMost() throws Exception {
    Path folder = Files.createDirectory(dir.resolve("log"));
    Path file = Files.writeString(
        dir.resolve("hook.properties"),
        "EVALOPS_GOVERNANCE_URL=" + service.url()
            + "\nEVALOPS_AGENT_TOKEN=tok-123\nEVALOPS_DECISION_LOG=" + folder + "\n");
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-r--r--"));
    HookJar hook = hook().arguments("governance-check", "--config", file.toString());

    hook.run().assertAllowed(0);
    service.evaluate("{\"evaluation\":{\"decision\":2,\"reasons\":[\"no tok-123\"]}}");
    hook.run().assertDenied("denied: no [secret]");

    Path log = folder.resolve("agent-hook-" + System.getProperty("user.name") + ".jsonl");
    assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(log)))
        .isEqualTo("rw-------");
    assertThat(Files.readAllLines(log))
        .satisfiesExactly(
            line -> assertThat(line)
                .matches(
                    "\\{\"time\":\"2[^\"]+Z\",\"decision\":\"allow\",\"tool\":\"Bash\",\"agent\":\"s-1\"}"),
            line -> assertThat(line)
                .endsWith("\"decision\":\"deny\",\"tool\":\"Bash\",\"agent\":\"s-1\","
                    + "\"reason\":\"evalops-agent-hook: denied: no [secret]\"}"));

    Files.writeString(log, "x".repeat((int) DecisionLog.LIMIT));
    hook.run().assertDenied("denied: no [secret]");
    assertThat(Files.readAllLines(log)).hasSize(1);
    hook.with("EVALOPS_AGENT_ID", "ci-bot").run();
    assertThat(Files.readAllLines(log).get(1)).contains("\"agent\":\"ci-bot\"");
    assertThat(Files.size(folder.resolve(log.getFileName() + ".1"))).isEqualTo(DecisionLog.LIMIT);

    // A log that cannot be written, or leads elsewhere, changes nothing.
    Path other = Files.writeString(dir.resolve("other"), "");
    Files.delete(log);
    Files.createSymbolicLink(log, other);
    hook.run().assertDenied("denied: no [secret]");
    assertThat(other).isEmptyFile();
    Files.delete(log);
    new ProcessBuilder("mkfifo", log.toString()).start().waitFor();
    hook.run().assertDenied("denied: no [secret]");
    Files.writeString(file, Files.readString(file).replace(folder.toString(), "/dev/null/none"));
    service.evaluate(TestService.ALLOW);
    hook.run().assertAllowed(0);
  }

  @Test
  void takesTheFolderOfTheLogFromTheManagedFileAlone() throws Exception {
    hook().with("EVALOPS_DECISION_LOG", dir.toString()).run().assertAllowed(0);
    assertThat(dir).isEmptyDirectory();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "50-deep-nesting-100000.json",
        "53-invalid-utf8.json",
        "54-duplicate-tool-name.json",
        "71-empty-stdin.json",
        "79-lenient-json.json"
      })
  void asksNobodyAboutHostileEvents(String payload) throws Exception {
    hook()
        .input(Vectors.payload(payload))
        .run()
        .assertDeniedWith(FAIL_CLOSED + "decode_tool_use_payload: ");
    assertThat(service.requests).isEmpty();
  }

  @Test
  void showsNothingOfTheToolsInput() throws Exception {
    service.on(GovernanceCheck.EVALUATE, new Answer(500, "text/html", "FAKE-TOKEN"));
    hook()
        .input(Vectors.payload("80-secrets.json"))
        .run()
        .assertDenied(CHECK_FAILED + "HTTP status 500");
  }

  @ParameterizedTest
  @ValueSource(ints = {302, 404})
  void deniesEveryOtherStatus(int status) throws Exception {
    service.on(GovernanceCheck.EVALUATE, new Answer(status, "application/json", TestService.ALLOW));
    hook().run().assertDenied(CHECK_FAILED + "HTTP status " + status);
  }

  @Test
  void deniesWhenNobodyListens() throws Exception {
    service.close();
    hook().run().assertDenied(CHECK_FAILED + "connection refused");
  }

  @Test
  void deniesANameThatCannotBeResolved() throws Exception {
    hook()
        .with("EVALOPS_GOVERNANCE_URL", "https://evalops-no-such-host.invalid")
        .run()
        .assertDenied(CHECK_FAILED + "the host's name cannot be resolved");
  }

  @Test
  void deniesWhenNobodyAnswersInTime() throws Exception {
    try (ServerSocket silent = new ServerSocket(0, 1, InetAddress.getLoopbackAddress());
        RawServer dripping = new RawServer(RawServer.endless(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", " ", 20))) {
      hook()
          .with("EVALOPS_GOVERNANCE_TIMEOUT", "1s")
          .with("EVALOPS_GOVERNANCE_URL", "http://127.0.0.1:" + silent.getLocalPort())
          .run()
          .assertDenied(CHECK_FAILED + "no whole answer in time");
      hook()
          .with("EVALOPS_GOVERNANCE_TIMEOUT", "1s")
          .with("EVALOPS_GOVERNANCE_URL", dripping.url())
          .run()
          .assertDenied(CHECK_FAILED + "no whole answer in time");
    }
  }

  @Test
  void deniesAnAnswerWithoutEnd() throws Exception {
    try (RawServer server = new RawServer(RawServer.endless(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", " ".repeat(10_000), 0))) {
      new HookJar(server.url())
          .run()
          .assertDenied(CHECK_FAILED + "the answer is longer than 1048576 bytes");
    }
  }

  private HookJar waiting() {
    service.evaluate(TestService.REQUIRE_APPROVAL);
    service.on(Approval.REQUEST, TestService.CREATED);
    service.on(Approval.GET, "{\"state\":\"pending\"}");
    return hook().with("EVALOPS_APPROVALS_URL", service.url());
  }

  @Test
  void waitsForAnApprover() throws Exception {
    Running hook =
        waiting().arguments("governance-check", "--allow-exit-code", "42").start();
    await()
        .atMost(Duration.ofSeconds(30))
        .until(() -> service.requests(Approval.GET).size() > 1);
    assertThat(hook.process.isAlive()).isTrue();
    service.on(
        Approval.GET,
        "{\"state\":\"resolved\",\"decisions\":[{\"approvalRequestId\":\"req-1\",\"decision\":1}]}");
    hook.await().assertAllowed(42);
  }

  @Test
  void deniesWhenTheApproverDoes() throws Exception {
    HookJar hook = waiting();
    service.on(
        Approval.GET,
        "{\"state\":\"resolved\",\"decisions\":[{\"approvalRequestId\":\"req-1\",\"decision\":2,\"reason\":\"not"
            + " now\"}]}");
    hook.run().assertDenied("denied: approval denied: not now");
  }

  @ParameterizedTest
  @ValueSource(strings = {"TERM", "INT", "HUP"})
  void deniesWhenASignalEndsIt(String signal) throws Exception {
    // A build in the background ignores some of them, and hands that down.
    Running hook = waiting()
        .shell("exec perl -e '$SIG{INT} = $SIG{HUP} = DEFAULT; exec @ARGV' \"$@\"")
        .start();
    await()
        .atMost(Duration.ofSeconds(30))
        .until(() -> !service.requests(Approval.GET).isEmpty());
    hook.signal(signal);
    hook.await().assertDenied(FAIL_CLOSED + "ended by a signal");
  }

  @Test
  void deniesAtItsDeadline_whenTheInputNeverEnds() throws Exception {
    Running hook = hook()
        .with("EVALOPS_HOOK_DEADLINE", "1s")
        .with("EVALOPS_GOVERNANCE_TIMEOUT", "1s")
        .input(out -> {
          out.write("{\"tool_name\":".getBytes(UTF_8));
          out.flush();
          new CountDownLatch(1).await();
        })
        .start();
    hook.await().assertDenied(FAIL_CLOSED + "no decision within 1 s");
  }

  @Test
  void deniesAtItsDeadline_whenAFloodNeverEnds() throws Exception {
    byte[] part = new byte[65536];
    hook()
        .with("EVALOPS_HOOK_DEADLINE", "1s")
        .with("EVALOPS_GOVERNANCE_TIMEOUT", "1s")
        .input(out -> {
          while (true) {
            out.write(part);
          }
        })
        .run()
        .assertDenied(FAIL_CLOSED + "no decision within 1 s");
  }

  @Test
  void readsAllOf100MebibytesBeforeItDenies() throws Exception {
    byte[] mebibyte = " ".repeat(1024 * 1024).getBytes(UTF_8);
    boolean[] written = {false};
    Result result = hook()
        .input(out -> {
          for (int i = 0; i < 100; i++) {
            out.write(mebibyte);
          }
          out.flush();
          written[0] = true;
        })
        .run();
    result.assertDenied(FAIL_CLOSED + "read_stdin: the input is longer than 8388608 bytes");
    assertThat(written[0]).isTrue();
    assertThat(service.requests).isEmpty();
  }

  @Test
  void deniesWithoutInput() throws Exception {
    hook().shell("exec \"$@\" <&-").run().assertDeniedWith(FAIL_CLOSED);
    hook()
        .shell("exec \"$@\" </dev/null")
        .run()
        .assertDeniedWith(FAIL_CLOSED + "decode_tool_use_payload: ");
    hook()
        .shell("exec \"$@\" </")
        .run()
        .assertDenied(FAIL_CLOSED + "read_stdin: the input cannot be read");
    assertThat(service.requests).isEmpty();
  }

  @Test
  void deniesAlsoWhenNobodyListensToIt() throws Exception {
    service.evaluate("{\"evaluation\":{\"decision\":2}}");
    Result noStdout = hook().shell("exec \"$@\" >&-").run();
    assertThat(noStdout)
        .isEqualTo(
            new Result(2, "", "evalops-agent-hook: denied: governance denied this action\n"));
    Result noStderr = hook().shell("exec \"$@\" 2>&-").run();
    assertThat(noStderr.status()).isEqualTo(2);
    assertThat(noStderr.stdout()).contains("\"deny\"");
    assertThat(hook().shell("exec \"$@\" >&- 2>&-").run()).isEqualTo(new Result(2, "", ""));
    assertThat(hook().shell("exec \"$@\" >/dev/full 2>/dev/full").run())
        .isEqualTo(new Result(2, "", ""));
  }

  @Test
  void deniesWhenMemoryRunsOut() throws Exception {
    String event = Call.EVENT.replace("FAKE-SECRET", "x".repeat(6_000_000));
    hook()
        .jvm("-Xmx8m")
        .input(event.getBytes(UTF_8))
        .run()
        .assertDenied(FAIL_CLOSED + "out of memory");
    assertThat(service.requests).isEmpty();
    hook().jvm("-Xmx8m").run().assertAllowed(0);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "evaluate",
        "governance-check --allow-exit-code 0",
        "governance-check --fail-open true",
        "--version"
      })
  void deniesACommandThatItDoesNotKnow(String command) throws Exception {
    byte[] long200KiB = "x".repeat(200 * 1024).getBytes(UTF_8);
    Result result = hook()
        .arguments(command.isEmpty() ? new String[0] : command.split(" "))
        .input(long200KiB)
        .run();
    assertThat(result).isEqualTo(new Result(2, "", Command.USAGE + "\n"));
    assertThat(service.requests).isEmpty();
  }
}
