package dev.evalops.hook;

import static java.util.concurrent.TimeUnit.SECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import dev.evalops.hook.Distribution.Shell;
import dev.evalops.hook.Launched.Result;
import dev.evalops.hook.Resident.Liar;
import dev.evalops.hook.Resident.Lie;
import dev.evalops.runtime.mtls.ServerTls;
import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.Parameter;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.EnumSource;
import tools.jackson.databind.JsonNode;

/** The resident service with its launcher: the real one, and everything that might stand in its place. */
@ParameterizedClass
@EnumSource(Shell.class)
class ServeProcessTest {
  /** How the launcher of a test shows that it has gone the other way. */
  private static final String JVM = "the JVM was asked";

  private static final String TIMEOUTS =
      "\nEVALOPS_GOVERNANCE_TIMEOUT=60s\nEVALOPS_APPROVALS_TIMEOUT=60s\n";

  private static final String LINE =
      "{\"hookSpecificOutput\":{\"hookEventName\":\"PreToolUse\",\"permissionDecision\":\"deny\","
          + "\"permissionDecisionReason\":\"r\"}}\n";

  @Parameter
  private Shell shell;

  @TempDir
  private Path work;

  private Path socket;
  private Path properties;
  private Distribution launcher;
  private Distribution built;
  private TestService service;
  private Approvers approvers;

  @BeforeEach
  void install() throws Exception {
    service = new TestService();
    approvers = new Approvers(service);
    service.evaluate(TestService.ALLOW);
    socket = Files.createDirectory(work.resolve("run")).resolve("socket");
    Distribution.mode("rwxr-xr-x", socket.getParent());
    properties = work.resolve("agent-hook.properties");
    configure("EVALOPS_AGENT_TOKEN=tok-123");
    launcher = Distribution.create(work, shell);
    launcher.fakeJava("17.0.1", "cat >/dev/null; echo '" + JVM + "' >&2; exit 44");
    launcher.configure(Files.readString(launcher.conf()) + "service=" + socket + "\n");
    built = Distribution.copy(Path.of("target/evalops-agent-hook"), work.resolve("service"));
    List<Path> homes = Distribution.javaHomes();
    Path java = homes.get(shell == Shell.DASH ? 0 : homes.size() - 1).resolve("bin/java");
    built.configure("java=" + java + "\nconfig=" + properties + "\n");
  }

  @AfterEach
  void stop() {
    service.close();
  }

  private void configure(String... more) throws IOException {
    Files.writeString(
        properties,
        "EVALOPS_WORKSPACE_ID=w\nEVALOPS_GOVERNANCE_URL=" + service.url()
            + "\nEVALOPS_APPROVALS_URL=" + service.url() + TIMEOUTS + String.join("\n", more)
            + "\n");
    Distribution.mode("rw-r-----", properties);
  }

  private Resident serve() throws IOException {
    Resident resident = Resident.start(built, socket, work.resolve("state"));
    await().atMost(60, SECONDS).until(() -> Files.exists(socket));
    return resident;
  }

  private Result check() throws Exception {
    return launcher.check(Map.of("EVALOPS_GOVERNANCE_URL", "http://127.0.0.1:9"));
  }

  private void assertUnanswered() throws Exception {
    Result result = check().assertDenied();
    assertThat(result.err())
        .isEqualTo(
            "evalops-agent-hook: blocked (fail closed): the service gave no valid answer (status 9)\n");
    assertThat(result.out()).isEmpty();
  }

  private void assertJvmWasAsked() throws Exception {
    assertThat(check()).isEqualTo(new Result(2, "", JVM + "\n"));
  }

  @Test
  void allowsAndDenies_asThePolicySays() throws Exception {
    try (Resident resident = serve()) {
      assertThat(check()).isEqualTo(new Result(0, "", ""));
      assertThat(service.requests.get(0).headers().get("Authorization"))
          .containsExactly("Bearer tok-123");
      assertThat(service.requests.get(0).body().get("workspaceId").asString()).isEqualTo("w");

      service.evaluate(
          "{\"evaluation\":{\"decision\":2,\"reasons\":[\"no \\n tok-123\",\"caf\u00e9\"]}}");
      Result denied = check().assertDenied();
      assertThat(denied.err()).isEqualTo("evalops-agent-hook: denied: no [secret]; caf\u00e9\n");
      assertThat(denied.out())
          .contains("\"permissionDecisionReason\":\"" + denied.err().strip() + "\"");

      configure("EVALOPS_WORKSPACE_ID");
      check().assertDenied("hook configuration error");
      assertThat(resident.process().isAlive()).isTrue();
    }
  }

  @Test
  void judgesAsStrictlyAsTheJvm() throws Exception {
    try (Resident resident = serve()) {
      for (String payload : ToolUseTest.HOSTILE) {
        byte[] event = Files.readAllBytes(Path.of("src/test/resources/payloads", payload));
        try (Launched call = launcher.start(Map.of(), "governance-check")) {
          call.process().getOutputStream().write(event);
          call.end().assertDenied("blocked (fail closed): ");
        }
      }
      String large =
          "{\"tool_name\":\"Bash\",\"session_id\":\"s\",\"tool_input\":{\"command\":\"%s\"}}";
      try (Launched call = launcher.start(Map.of(), "governance-check")) {
        call.write(large.formatted("x".repeat(4 << 20))).end().assertAllowed();
      }
      try (Launched call = launcher.start(Map.of(), "governance-check")) {
        call.write(large.formatted("x".repeat(9 << 20))).end().assertDenied("longer than");
      }
      assertThat(service.requests).hasSize(1);
      assertThat(resident.process().isAlive()).isTrue();
    }
  }

  @Test
  void asksTheJvm_whenThereIsNoService() throws Exception {
    assertJvmWasAsked();
    try (ServerSocketChannel stale = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
      stale.bind(UnixDomainSocketAddress.of(socket));
    }
    assertThat(socket).exists();
    assertJvmWasAsked();
    Files.delete(socket);
    Files.delete(socket.getParent());
    assertJvmWasAsked();
    launcher.edit(text -> text.replace("/usr/bin/perl", "/none/perl"));
    assertJvmWasAsked();
  }

  @Test
  void asksNobody_whenOthersCouldHaveMadeTheSocket() throws Exception {
    String reason = socket + " can be changed by others";
    try (Liar liar = new Liar(socket, nonce -> "allow " + nonce + "\n")) {
      check().assertAllowed(); // so that what follows is the doing of the modes
      liar.requests.clear();
      Distribution.mode("rwxrwxr-x", socket.getParent());
      check().assertDenied(reason);
      Distribution.mode("rwxr-xrwx", socket.getParent());
      check().assertDenied(reason);
      Distribution.mode("rwxr-xr-x", socket.getParent());
      Distribution.mode("rw-rw-r--", launcher.conf());
      check().assertDenied(reason);
      Distribution.mode("rw-r--r--", launcher.conf());

      Path link = Files.createSymbolicLink(work.resolve("link"), socket.getParent());
      String conf = Files.readString(launcher.conf());
      launcher.configure(conf.replace(socket.toString(), link.resolve("socket").toString()));
      check().assertDenied("can be changed by others");
      launcher.configure(conf.replace("service=", "service=."));
      check().assertDenied("can be changed by others");
      Path file = Files.writeString(socket.resolveSibling("file"), "");
      launcher.configure(conf.replace(socket.toString(), file.toString()));
      check().assertDenied("can be changed by others");
      launcher.configure(conf);
      launcher.edit(text -> text.replace("$stat[4] == 0 ||", "")
          .replace("$owner = (stat \".\")[4]", "$owner = 4242"));
      check().assertDenied(reason);
      assertThat(liar.requests).isEmpty();
    }
  }

  @Test
  void believesNobodyElse() throws Exception {
    Map<String, Lie> lies = new LinkedHashMap<>();
    lies.put("nothing", nonce -> "");
    lies.put("a word", nonce -> "allow\n");
    lies.put("another nonce", nonce -> "allow " + "0".repeat(32) + "\n");
    lies.put("no nonce", nonce -> "allow \n");
    lies.put("no end", nonce -> "allow " + nonce);
    lies.put("a part", nonce -> "allow " + nonce.substring(0, 31) + "\n");
    lies.put("more", nonce -> "allow " + nonce + "\nallow " + nonce + "\n");
    lies.put("a blank line before", nonce -> "\nallow " + nonce + "\n");
    lies.put("another end", nonce -> "allow " + nonce + "\r\n");
    lies.put("a NUL", nonce -> "allow " + nonce + "\0\n");
    lies.put("other letters", nonce -> "ALLOW " + nonce + "\n");
    lies.put("an HTTP answer", nonce -> "HTTP/1.1 200 OK\r\n\r\nallow " + nonce + "\n");
    lies.put("a no without a reason", nonce -> "deny " + nonce + "\n");
    lies.put("a no with a blank reason", nonce -> "deny " + nonce + "\n\n" + LINE);
    lies.put(
        "a no with another line",
        nonce -> "deny " + nonce + "\nr\n{\"permissionDecision\":\"allow\"}\n");
    lies.put(
        "a no with an allow behind it",
        nonce -> "deny " + nonce + "\nr\n" + LINE + "allow " + nonce + "\n");
    lies.put("a no of another call", nonce -> "deny " + "0".repeat(32) + "\nr\n" + LINE);
    lies.put("another version", nonce -> "evalops-agent-hook 2 allow " + nonce + "\n");
    lies.put("a newer answer", nonce -> "allow " + nonce + " for 60\n");
    lies.put("garbage", nonce -> "\u0001\u0002\u0003".repeat(100_000));
    for (Map.Entry<String, Lie> lie : lies.entrySet()) {
      try (Liar liar = new Liar(socket, lie.getValue())) {
        assertUnanswered();
        assertThat(liar.requests).as(lie.getKey()).hasSize(1);
      }
    }
  }

  @Test
  void denies_whenTheServerGoesBeforeItHasTheEvent() throws Exception {
    try (ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
      server.bind(UnixDomainSocketAddress.of(socket));
      Thread closes = new Thread(() -> {
        try {
          server.accept().close();
        } catch (IOException e) {
          throw new AssertionError(e);
        }
      });
      closes.start();
      assertUnanswered();
    }
  }

  private void assertLate() throws Exception {
    try (Launched call = launcher.start(Map.of(), "governance-check", "--within", "1")) {
      assertThat(call.write(Launched.EVENT).end().assertDenied().err())
          .isEqualTo(
              "evalops-agent-hook: blocked (fail closed): the service did not answer within 1 s\n");
    }
  }

  @Test
  void denies_whenTheAnswerIsLate() throws Exception {
    CountDownLatch never = new CountDownLatch(1);
    try (Liar silent = new Liar(socket, nonce -> {
      never.await();
      return "allow " + nonce + "\n";
    })) {
      assertLate();
    }
  }

  @Test
  void denies_whenNobodyTakesTheConnection() throws Exception {
    try (ServerSocketChannel hung = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
      hung.bind(UnixDomainSocketAddress.of(socket));
      assertLate();
    }
  }

  @Test
  void usesANonceOnce() throws Exception {
    try (Liar liar = new Liar(socket, nonce -> "allow " + nonce + "\n")) {
      check().assertAllowed();
      check().assertAllowed();
      assertThat(liar.requests)
          .hasSize(2)
          .doesNotHaveDuplicates()
          .allMatch(request -> request.endsWith("\n" + Launched.EVENT));
    }
  }

  private Launched waiting(CountDownLatch released) throws Exception {
    int before = service.requests.size();
    service.on(GovernanceCheck.EVALUATE, question -> {
      try {
        released.await();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      return TestService.Answer.json(TestService.ALLOW);
    });
    Launched call = launcher.startForSignals(Map.of()).write(Launched.EVENT);
    call.process().getOutputStream().close();
    await().atMost(60, SECONDS).until(() -> service.requests.size() > before);
    return call;
  }

  @Test
  void denies_whenTheServiceIsKilledInTheMiddle() throws Exception {
    CountDownLatch released = new CountDownLatch(1);
    try (Resident resident = serve();
        Launched call = waiting(released)) {
      resident.process().destroyForcibly().waitFor();
      call.result().assertDenied("the service gave no valid answer");
    }
    released.countDown();
    assertJvmWasAsked();
    try (Resident resident = serve()) {
      check().assertAllowed();
    }
  }

  @Test
  void denies_whenTheLauncherOrItsClientIsStopped() throws Exception {
    CountDownLatch released = new CountDownLatch(1);
    try (Resident resident = serve()) {
      try (Launched call = waiting(released)) {
        call.signal("TERM");
        call.result().assertDenied("interrupted by a signal");
      }
      try (Launched call = waiting(released)) {
        call.process().descendants().forEach(ProcessHandle::destroyForcibly);
        call.result().assertDenied("the service gave no valid answer (status 137)");
      }
      released.countDown();
      check().assertAllowed();
      assertThat(resident.process().isAlive()).isTrue();
    }
  }

  @Test
  void answersNobodyWhoDoesNotGreet() throws Exception {
    try (Resident resident = serve()) {
      for (String request : List.of(
          "",
          "\n",
          "GET / HTTP/1.1\r\n\r\n",
          "evalops-agent-hook 2 " + "0".repeat(32) + "\n" + Launched.EVENT,
          "evalops-agent-hook 1 0\n" + Launched.EVENT,
          "evalops-agent-hook 1 " + "0".repeat(33) + "\n" + Launched.EVENT,
          "x".repeat(100_000))) {
        try (SocketChannel channel = SocketChannel.open(UnixDomainSocketAddress.of(socket))) {
          try {
            channel.write(ByteBuffer.wrap(request.getBytes(StandardCharsets.UTF_8)));
            channel.shutdownOutput();
            assertThat(Channels.newInputStream(channel).readAllBytes())
                .as(request)
                .isEmpty();
          } catch (IOException e) {
            // Reset, which is no answer either.
          }
        }
      }
      assertThat(service.requests).isEmpty();
      check().assertAllowed();
      assertThat(resident.process().isAlive()).isTrue();
    }
  }

  /** Allows Bash and nothing else. */
  private static TestService.Answer bash(JsonNode question) {
    return TestService.Answer.json(
        question.get("actionType").asString().equals("Bash")
            ? TestService.ALLOW
            : "{\"evaluation\":{\"decision\":2}}");
  }

  @Test
  void allowsNothingElse_whileItIsReplacedUnderLoad() throws Exception {
    service.on(GovernanceCheck.EVALUATE, ServeProcessTest::bash);
    Distribution next = Distribution.copy(built.home(), work.resolve("next"));
    try (Resident resident = Resident.supervised(built, socket, work.resolve("state"))) {
      await().atMost(60, SECONDS).until(() -> Files.exists(socket));
      check().assertAllowed();
      List<Launched> calls = new ArrayList<>();
      for (int i = 0; i < 24; i++) {
        Launched call = launcher.start(Map.of(), "governance-check");
        calls.add(
            call.write(i % 2 == 0 ? Launched.EVENT : Launched.EVENT.replace("Bash", "Write")));
        call.process().getOutputStream().close();
        if (i == 8) {
          Files.move(built.home(), work.resolve("previous"));
          Files.move(next.home(), built.home());
        }
        if (i % 8 == 0) {
          resident.process().children().forEach(ProcessHandle::destroyForcibly);
        }
      }
      for (int i = 0; i < calls.size(); i++) {
        Result result = calls.get(i).result();
        if (i % 2 != 0 || result.status() != 0) {
          assertThat(result.assertDenied().err())
              .containsAnyOf(
                  "denied: governance denied this action", "the service gave no valid answer");
        }
      }
      check().assertAllowed();
      assertThat(service.requests(GovernanceCheck.EVALUATE)).hasSizeGreaterThan(1);
    }
  }

  @Test
  void mixesNoAnswers_ofTwoHundredCallsAtOnce() throws Exception {
    CountDownLatch released = new CountDownLatch(1);
    service.on(GovernanceCheck.EVALUATE, question -> {
      try {
        released.await();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
      return bash(question);
    });
    List<SocketChannel> calls = new ArrayList<>();
    try (Resident resident = serve()) {
      for (int i = 0; i < 200; i++) {
        SocketChannel channel = SocketChannel.open(UnixDomainSocketAddress.of(socket));
        calls.add(channel);
        String event = i % 2 == 0 ? Launched.EVENT : Launched.EVENT.replace("Bash", "Write");
        try {
          channel.write(ByteBuffer.wrap(("evalops-agent-hook 1 " + nonce(i) + "\n" + event)
              .getBytes(StandardCharsets.UTF_8)));
          channel.shutdownOutput();
        } catch (IOException e) {
          // There are too many, and it was sent away.
        }
      }
      await().atMost(60, SECONDS).until(() -> service.requests.size() >= 64);
      released.countDown();
      int answered = 0;
      for (int i = 0; i < calls.size(); i++) {
        String answer = answer(calls.get(i));
        if (!answer.isEmpty()) {
          answered++;
          assertThat(answer).startsWith((i % 2 == 0 ? "allow " : "deny ") + nonce(i) + "\n");
        }
      }
      assertThat(answered).isGreaterThanOrEqualTo(64);
      assertThat(resident.process().isAlive()).isTrue();
    } finally {
      for (SocketChannel call : calls) {
        call.close();
      }
    }
  }

  private static String nonce(int call) {
    return "%032x".formatted(call);
  }

  private static String answer(SocketChannel call) {
    try {
      return new String(Channels.newInputStream(call).readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      return ""; // reset, which is no answer either
    }
  }

  @Test
  void usesAnApprovalOnce_whoeverIsFirst() throws Exception {
    service.evaluate(TestService.REQUIRE_APPROVAL);
    configure("EVALOPS_APPROVAL_TIMEOUT=1s");
    try (Resident resident = serve()) {
      check().assertDenied("denied: approval ap-1 requested, valid until ");
      check().assertDenied("denied: approval ap-1 requested, valid until ");
      approvers.decide("*", "DENIED");
      approvers.decide("ap-1", "APPROVED");
      configure("EVALOPS_APPROVAL_TIMEOUT=60s");
      List<Launched> calls = new ArrayList<>();
      for (int i = 0; i < 12; i++) {
        Launched call = launcher.start(Map.of(), "governance-check").write(Launched.EVENT);
        call.process().getOutputStream().close();
        calls.add(call);
      }
      int allowed = 0;
      for (Launched call : calls) {
        Result result = call.result();
        if (result.status() == 0) {
          allowed++;
        } else {
          result.assertDenied("denied: approval denied: by ann");
        }
      }
      assertThat(allowed).isEqualTo(1);
      assertThat(resident.process().isAlive()).isTrue();
    }
    assertThat(work.resolve("state/tickets")).isDirectory();
  }

  @Test
  void logsWhoHasCalled() throws Exception {
    Path log = Files.createDirectory(work.resolve("log"));
    configure("EVALOPS_DECISION_LOG=" + log, "EVALOPS_AGENT_ID=ci-bot");
    try (Resident resident = serve()) {
      check().assertAllowed();
      assertThat(log.resolve("agent-hook-" + System.getProperty("user.name") + ".jsonl"))
          .content()
          .contains("\"decision\":\"allow\",\"tool\":\"Bash\",\"agent\":\"ci-bot\"}");
      assertThat(resident.process().isAlive()).isTrue();
    }
  }

  @Test
  void keepsItsTls_andTakesNewCertificates() throws Exception {
    TestCa authority = TestCa.create();
    String ca = Files.writeString(work.resolve("ca"), authority.pem()).toString();
    TestCa.Issued pair = authority.issue("both");
    String cert = Files.writeString(work.resolve("cert"), pair.chainPem()).toString();
    String key = Files.writeString(work.resolve("key"), pair.keyPem()).toString();
    String files = "EVALOPS_CERT_FILE=" + cert + "\nEVALOPS_KEY_FILE=" + key;
    ServerTls tls = ServerTls.builder()
        .reloadEvery(Duration.ZERO)
        .certificate(cert, key)
        .requireClients(ca)
        .open();
    try (TestService secure = new TestService(tls.sslContext()).evaluate(TestService.ALLOW);
        Resident resident = serve()) {
      String governance =
          "EVALOPS_GOVERNANCE_URL=" + secure.url() + "\nEVALOPS_WORKSPACE_ID=w" + TIMEOUTS;
      Files.writeString(properties, governance + files + "\nEVALOPS_CA_FILE=" + ca + "\n");
      check().assertAllowed();
      check().assertAllowed();
      Path other = Files.writeString(work.resolve("other"), TestCa.create().pem());
      Files.writeString(properties, governance + files + "\nEVALOPS_CA_FILE=" + other + "\n");
      check().assertDenied("the server's certificate is not of a trusted authority");
      Files.writeString(properties, governance + files + "\nEVALOPS_CA_FILE=" + ca + "\n");
      check().assertAllowed();
      assertThat(secure.requests).hasSize(3);
      assertThat(resident.process().isAlive()).isTrue();
    }
  }

  @Test
  void doesNotServe_withoutASocketOfItsSupervisor() throws Exception {
    try (Launched serve =
        built.start(Map.of("STATE_DIRECTORY", work.resolve("state").toString()), "serve")) {
      Result result = serve.end();
      assertThat(result.status()).isEqualTo(1);
      assertThat(result.err()).contains("is started by systemd or launchd");
    }
    try (Launched serve = built.start(Map.of(), "serve")) {
      assertThat(serve.end().err()).contains("STATE_DIRECTORY");
    }
  }
}
