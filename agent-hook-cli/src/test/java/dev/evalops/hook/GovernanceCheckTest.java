package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.hook.TestService.Answer;
import dev.evalops.runtime.mtls.ServerTls;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.FieldSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

class GovernanceCheckTest {
  static final String[] HOSTILE = ToolUseTest.HOSTILE;

  @TempDir
  Path dir;

  private TestService service;

  @BeforeEach
  void start() throws IOException {
    service = new TestService();
  }

  @AfterEach
  void stop() {
    service.close();
  }

  private Call call() {
    return new Call(service.url());
  }

  @ParameterizedTest
  @ValueSource(strings = {"\"ACTION_DECISION_ALLOW\"", "1"})
  void allows_whenTheServiceSaysSo(String decision) {
    service.evaluate("{\"future\":{},\"evaluation\":{\"decision\":" + decision + ",\"x\":[null]}}");
    assertThat(call().verdict()).isSameAs(Verdict.ALLOW);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 3})
  void neverAllowsTheDoctorsCanary(int decision) {
    service.evaluate("{\"evaluation\":{\"decision\":" + decision + "}}");
    String event =
        "{\"session_id\":\"s\",\"tool_name\":\"Bash\",\"tool_input\":{\"command\":\"evalops-doctor-canary\"}}";
    Call call = call().with("EVALOPS_APPROVALS_URL", service.url());
    assertThat(call.event(event).reason())
        .isEqualTo("denied: the doctor's canary is never allowed");
    assertThat(service.requests).hasSize(1);
  }

  @Test
  void allowsWhatOnlyMentionsTheCanary() {
    service.evaluate(TestService.ALLOW);
    assertThat(call()
            .event(
                "{\"session_id\":\"s\",\"tool_name\":\"Bash\",\"tool_input\":{\"command\":\"grep "
                    + "evalops-doctor-canary\"}}")
            .verdict())
        .isSameAs(Verdict.ALLOW);
  }

  @Test
  void asksInConnectsJson() {
    service.evaluate(TestService.ALLOW);
    call().with("EVALOPS_AGENT_TOKEN", "tok").verdict();
    TestService.Request request = service.requests.get(0);
    assertThat(service.requests).hasSize(1);
    assertThat(request.path()).isEqualTo("/governance.v1.GovernanceService/EvaluateAction");
    assertThat(request.headers().get("Content-type")).containsExactly("application/json");
    assertThat(request.headers().get("Connect-protocol-version")).containsExactly("1");
    assertThat(request.headers().get("Connect-timeout-ms")).containsExactly("20000");
    assertThat(request.headers().get("Authorization")).containsExactly("Bearer tok");
    assertThat(request.headers().get("Host")).containsExactly(service.url().substring(7));
    JsonNode body = request.body();
    assertThat(body.propertyNames())
        .containsExactly("workspaceId", "agentId", "actionType", "actionPayload");
    assertThat(body.get("workspaceId").asString()).isEqualTo("w-1");
    assertThat(body.get("agentId").asString()).isEqualTo("s-1");
    assertThat(body.get("actionType").asString()).isEqualTo("Bash");
    assertThat(new String(Base64.getDecoder().decode(body.get("actionPayload").asString()), UTF_8))
        .isEqualTo("{\"command\":\"FAKE-SECRET\"}");
  }

  @Test
  void sendsNoAuthorizationWithoutAToken() {
    service.evaluate(TestService.ALLOW);
    call().verdict();
    assertThat(service.requests.get(0).headers()).doesNotContainKey("Authorization");
  }

  @Test
  void believesTheOperatorBeforeTheEvent() {
    service.evaluate(TestService.ALLOW);
    call()
        .with("EVALOPS_AGENT_ID", "operator's")
        .event("{\"tool_name\":\"Bash\",\"agent_id\":\"root\"}")
        .verdict();
    assertThat(service.requests.get(0).body().get("agentId").asString()).isEqualTo("operator's");
  }

  @Test
  void keepsAPathOfTheUrl() {
    service.on("/policy" + GovernanceCheck.EVALUATE, TestService.ALLOW);
    assertThat(new Call(service.url() + "/policy/").verdict()).isSameAs(Verdict.ALLOW);
  }

  @Test
  void sendsAnEventOfEightMebibytes() {
    service.evaluate(TestService.ALLOW);
    String frame =
        "{\"tool_name\":\"Write\",\"session_id\":\"s\",\"tool_input\":{\"content\":\"\"}}";
    String event = frame.replace("\"\"", "\"" + "x".repeat(Stdin.LIMIT - frame.length()) + "\"");
    assertThat(call().event(event).verdict()).isSameAs(Verdict.ALLOW);
    assertThat(call().event(event + " ").reason())
        .isEqualTo("blocked (fail closed): read_stdin: the input is longer than 8388608 bytes");
    assertThat(service.requests).hasSize(1);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{\"evaluation\":{\"decision\":\"ACTION_DECISION_DENY\",\"reasons\":[\"no"
            + " prod\",\"freeze\"]}} | denied: no prod; freeze",
        "{\"evaluation\":{\"decision\":2}} | denied: governance denied this action",
        "{\"evaluation\":{\"decision\":2,\"reasons\":[\" \"]}} | denied: governance denied this"
            + " action",
        "{\"evaluation\":{\"decision\":2,\"reasons\":[\"a\",\" \",\"\",\"b\"]}} | denied: a; b",
        "{\"evaluation\":{\"decision\":2,\"reasons\":[1]}} | blocked (fail closed): governance"
            + " check failed: reasons has no texts",
        "{\"evaluation\":{\"decision\":\"ACTION_DECISION_REQUIRE_APPROVAL\"}} | blocked (fail"
            + " closed): approval required but EVALOPS_APPROVALS_URL is not configured",
        "{} | blocked (fail closed): governance returned no evaluation",
        "{\"evaluation\":null} | blocked (fail closed): governance returned no evaluation",
        "{\"evaluation\":[]} | blocked (fail closed): governance returned no evaluation",
        "{\"decision\":\"ACTION_DECISION_ALLOW\"} | blocked (fail closed): governance returned no"
            + " evaluation",
        "{\"evaluation\":{}} | blocked (fail closed): governance returned an unknown decision",
        "{\"evaluation\":{\"decision\":null}} | blocked (fail closed): governance returned an"
            + " unknown decision",
        "{\"evaluation\":{\"decision\":0}} | blocked (fail closed): governance returned an unknown"
            + " decision",
        "{\"evaluation\":{\"decision\":4}} | blocked (fail closed): governance returned an unknown"
            + " decision",
        "{\"evaluation\":{\"decision\":1.0}} | blocked (fail closed): governance returned an"
            + " unknown decision",
        "{\"evaluation\":{\"decision\":\"1\"}} | blocked (fail closed): governance returned an"
            + " unknown decision",
        "{\"evaluation\":{\"decision\":true}} | blocked (fail closed): governance returned an"
            + " unknown decision",
        "{\"evaluation\":{\"decision\":\"ALLOW\"}} | blocked (fail closed): governance returned an"
            + " unknown decision",
        "{\"evaluation\":{\"decision\":\"action_decision_allow\"}} | blocked (fail closed):"
            + " governance returned an unknown decision",
        "{\"evaluation\":{\"decision\":[\"ACTION_DECISION_ALLOW\"]}} | blocked (fail closed):"
            + " governance returned an unknown decision"
      })
  void deniesEveryOtherDecision(String answer, String reason) {
    service.evaluate(answer);
    assertThat(call().reason()).isEqualTo(reason);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "null",
        "[]",
        "1",
        "<html>",
        "{\"evaluation\":{\"decision\":\"ACTION_DECISION_ALLOW\"}",
        "{\"evaluation\":{\"decision\":2,\"decision\":1}}",
        "{\"evaluation\":{\"decision\":1}}x",
        "{\"evaluation\":{\"decision\":1}}{\"evaluation\":{\"decision\":2}}",
        "\ufeff{\"evaluation\":{\"decision\":1}}"
      })
  void deniesAnAnswerThatIsNoJsonObject(String answer) {
    service.on(GovernanceCheck.EVALUATE, Answer.json(answer));
    assertThat(call().reason())
        .startsWith("blocked (fail closed): governance check failed: the answer is no ");
  }

  @ParameterizedTest
  @ValueSource(ints = {201, 204, 301, 302, 307, 400, 401, 403, 404, 429, 500, 503})
  void deniesEveryOtherStatus_andFollowsNowhere(int status) {
    service.on(
        GovernanceCheck.EVALUATE,
        new Answer(status, "application/json", status == 204 ? "" : TestService.ALLOW));
    service.on("/elsewhere", TestService.ALLOW);
    assertThat(call().reason())
        .isEqualTo("blocked (fail closed): governance check failed: HTTP status " + status);
    assertThat(service.requests).hasSize(1);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "text/html",
        "application/proto",
        "application/connect+json",
        "application/json, text/html"
      })
  void deniesEveryOtherContentType(String type) {
    service.on(GovernanceCheck.EVALUATE, new Answer(200, type, TestService.ALLOW));
    assertThat(call().reason()).endsWith("the answer is not application/json");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"})
  void takesJsonInAnySpelling(String type) {
    service.on(GovernanceCheck.EVALUATE, new Answer(200, type, TestService.ALLOW));
    assertThat(call().verdict()).isSameAs(Verdict.ALLOW);
  }

  @ParameterizedTest
  @FieldSource("HOSTILE")
  void asksNobodyAboutHostileEvents(String payload) {
    service.evaluate(TestService.ALLOW);
    assertThat(call().event(Vectors.payload(payload)).reason())
        .startsWith("blocked (fail closed): ");
    assertThat(service.requests).isEmpty();
  }

  @Test
  void asksNobodyWithoutAnAgent() {
    service.evaluate(TestService.ALLOW);
    assertThat(call().event("{\"tool_name\":\"Bash\"}").reason())
        .endsWith("agent_id is required via EVALOPS_AGENT_ID or hook session_id");
    assertThat(service.requests).isEmpty();
  }

  private static final String OK = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

  private static final int LENGTH = TestService.ALLOW.length();
  private static final String CHUNK = Integer.toHexString(LENGTH) + "\r\n";

  static final String[] ALLOWING_ANSWERS = {
    OK + "Content-Length: " + (LENGTH + 1) + "\r\n\r\n" + TestService.ALLOW + " ",
    OK + "content-LENGTH:  " + LENGTH + " \r\nContent-Length: " + LENGTH + "\r\n\r\n"
        + TestService.ALLOW,
    OK + "Connection: close\r\n\r\n" + TestService.ALLOW,
    "HTTP/1.0 200\nContent-Type:application/json\n\n" + TestService.ALLOW,
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + "\r\n"
        + TestService.ALLOW,
    OK + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
        + Integer.toHexString(LENGTH - 2).toUpperCase(Locale.ROOT) + ";x=y\r\n"
        + TestService.ALLOW.substring(1, LENGTH - 1) + "\r\n1\r\n}\r\n0\r\n\r\n"
  };

  @ParameterizedTest
  @FieldSource("ALLOWING_ANSWERS")
  void readsEveryFramingOfHttp(String answer) throws IOException {
    try (RawServer server = new RawServer(RawServer.text(answer))) {
      assertThat(new Call(server.url()).reason()).isEqualTo("allowed");
    }
  }

  static final String[] HOSTILE_ANSWERS = {
    "",
    "\r\n",
    TestService.ALLOW,
    "HTTP/2 200\r\n\r\n",
    "HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/1.1 +20 OK\r\n\r\n",
    "ICY 200 OK\r\n\r\n",
    OK,
    OK + "Content-Length: " + (LENGTH + 1) + "\r\n\r\n" + TestService.ALLOW,
    OK + "Content-Length: 1048577\r\n\r\n",
    OK + "Content-Length: 1073741824\r\n\r\n" + TestService.ALLOW,
    OK + "Content-Length: 99999999999999999999\r\n\r\n" + TestService.ALLOW,
    OK + "Content-Length: -1\r\n\r\n" + TestService.ALLOW,
    OK + "Content-Length: \r\n\r\n" + TestService.ALLOW,
    OK + "Content-Length: " + LENGTH + "\r\nContent-Length: " + (LENGTH - 1) + "\r\n\r\n"
        + TestService.ALLOW,
    OK + "Content-Length: " + LENGTH + "\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK
        + TestService.ALLOW + "\r\n0\r\n\r\n",
    OK + "Transfer-Encoding: gzip\r\n\r\n" + TestService.ALLOW,
    OK + "Transfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    OK + "Transfer-Encoding: chunked\r\n\r\n\r\n",
    OK + "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    OK + "Transfer-Encoding: chunked\r\n\r\n" + CHUNK + TestService.ALLOW,
    OK + "Transfer-Encoding: chunked\r\n\r\n" + Integer.toHexString(LENGTH - 1) + "\r\n"
        + TestService.ALLOW + "\r\n0\r\n\r\n",
    OK + "Content-Encoding: gzip\r\n\r\n" + TestService.ALLOW,
    OK + " folded: x\r\n\r\n" + TestService.ALLOW,
    OK + "Content-Length : " + LENGTH + "\r\n\r\n" + TestService.ALLOW,
    OK + "no colon\r\n\r\n" + TestService.ALLOW,
    OK + "X: " + "x".repeat(70_000) + "\r\n\r\n" + TestService.ALLOW,
    "HTTP/1.1 100 Continue\r\n\r\n".repeat(50) + OK + "\r\n" + TestService.ALLOW,
    "HTTP/1.1 200 OK\r\n\r\n" + TestService.ALLOW
  };

  @ParameterizedTest
  @FieldSource("HOSTILE_ANSWERS")
  void deniesAnswersThatAreNoHttp(String answer) throws IOException {
    try (RawServer server = new RawServer(RawServer.text(answer))) {
      assertThat(new Call(server.url()).reason())
          .startsWith("blocked (fail closed): governance check failed: ");
    }
  }

  @Test
  void deniesAnAnswerThatNeverEnds() throws IOException {
    try (RawServer server =
        new RawServer(RawServer.endless(OK + "\r\n{\"x\":\"", "x".repeat(10_000), 0))) {
      assertThat(new Call(server.url()).reason())
          .endsWith("the answer is longer than 1048576 bytes");
    }
  }

  @Test
  void deniesHeadsThatNeverEnd() throws IOException {
    try (RawServer server = new RawServer(RawServer.endless(OK, "X: y\r\n".repeat(1000), 0))) {
      assertThat(new Call(server.url()).reason()).endsWith("the answer's head is too long");
    }
  }

  @Test
  void deniesAnAnswerThatDripsBeyondTheTimeout() throws IOException {
    try (RawServer server = new RawServer(RawServer.endless(OK + "\r\n", " ", 20))) {
      assertThat(
              new Call(server.url()).with("EVALOPS_GOVERNANCE_TIMEOUT", "500ms").reason())
          .isEqualTo("blocked (fail closed): governance check failed: no whole answer in time");
    }
  }

  @Test
  void deniesWhenTheServiceReadsNothing() throws IOException {
    String event = Call.EVENT.replace("FAKE-SECRET", "x".repeat(7_000_000));
    try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      assertThat(new Call("http://127.0.0.1:" + server.getLocalPort())
              .with("EVALOPS_GOVERNANCE_TIMEOUT", "500ms")
              .event(event)
              .reason())
          .endsWith("no whole answer in time");
    }
  }

  @Test
  void deniesWhenNobodyListens() {
    service.close();
    assertThat(call().reason()).endsWith("governance check failed: connection refused");
  }

  @Test
  void deniesANameThatCannotBeResolved() {
    assertThat(new Call("https://evalops-no-such-host.invalid").reason())
        .endsWith("governance check failed: the host's name cannot be resolved");
  }

  private final TestCa authority = TestCa.create();
  private int files;

  private String file(String text) throws IOException {
    return Files.writeString(dir.resolve("file" + ++files), text).toString();
  }

  private ServerTls serverTls(TestCa.Issued issued) throws IOException {
    return ServerTls.builder()
        .reloadEvery(Duration.ZERO)
        .certificate(file(issued.chainPem()), file(issued.keyPem()))
        .requireClients(file(authority.pem()))
        .open();
  }

  private Call tlsCall(TestService tls, TestCa.Issued client) throws IOException {
    return new Call(tls.url())
        .with("EVALOPS_CA_FILE", file(authority.pem()))
        .with("EVALOPS_CERT_FILE", file(client.chainPem()))
        .with("EVALOPS_KEY_FILE", file(client.keyPem()));
  }

  @Test
  void asksOverMutualTls() throws IOException {
    try (TestService tls = new TestService(serverTls(authority.issue("server")).sslContext())) {
      tls.evaluate(TestService.ALLOW);
      assertThat(tlsCall(tls, authority.issue("client")).reason()).isEqualTo("allowed");
    }
  }

  @Test
  void checksTheNameThatTheOperatorNames() throws IOException {
    TestCa.Issued issued =
        authority.request("CN=x", Keys.ec()).dns("governance.internal").issue();
    try (TestService tls = new TestService(serverTls(issued).sslContext())) {
      tls.evaluate(TestService.ALLOW);
      TestCa.Issued client = authority.issue("client");
      assertThat(tlsCall(tls, client).reason())
          .endsWith("governance check failed: the server's certificate is for another name");
      assertThat(tlsCall(tls, client)
              .with("EVALOPS_SERVER_NAME", "governance.internal")
              .reason())
          .isEqualTo("allowed");
    }
  }

  @Test
  void trustsTheConfiguredAuthorityOnly() throws IOException {
    try (TestService tls = new TestService(serverTls(authority.issue("server")).sslContext())) {
      tls.evaluate(TestService.ALLOW);
      assertThat(tlsCall(tls, authority.issue("client"))
              .with("EVALOPS_CA_FILE", file(TestCa.create().pem()))
              .reason())
          .endsWith(
              "governance check failed: the server's certificate is not of a trusted authority");
      assertThat(new Call(tls.url()).reason())
          .endsWith(
              "governance check failed: the server's certificate is not of a trusted authority");
      assertThat(tls.requests).isEmpty();
    }
  }

  @Test
  void deniesAServerWhoseCertificateHasExpired() throws IOException {
    Instant now = Instant.now();
    TestCa.Issued expired = authority
        .request("CN=old", Keys.ec())
        .address("127.0.0.1")
        .valid(now.minusSeconds(7200), now.minusSeconds(3600))
        .issue();
    try (TestService tls = new TestService(serverTls(expired).sslContext())) {
      tls.evaluate(TestService.ALLOW);
      assertThat(tlsCall(tls, authority.issue("client")).reason())
          .endsWith("governance check failed: the server's certificate has expired");
    }
  }

  @Test
  void deniesWithCertificatesThatCannotBeUsed() throws IOException {
    Instant now = Instant.now();
    TestCa.Issued expired = authority
        .request("CN=old", Keys.ec())
        .valid(now.minusSeconds(7200), now.minusSeconds(3600))
        .issue();
    TestCa.Issued client = authority.issue("client");
    try (TestService tls = new TestService(serverTls(authority.issue("server")).sslContext())) {
      tls.evaluate(TestService.ALLOW);
      String bootstrap = "blocked (fail closed): hook bootstrap failed: ";
      assertThat(tlsCall(tls, expired).reason())
          .isEqualTo(bootstrap + "the client certificate has expired");
      assertThat(tlsCall(tls, client).with("EVALOPS_KEY_FILE", "").reason())
          .isEqualTo(bootstrap + "tls_key_file_required");
      assertThat(tlsCall(tls, client).with("EVALOPS_CERT_FILE", "").reason())
          .isEqualTo(bootstrap + "tls_cert_file_required");
      assertThat(tlsCall(tls, client).with("EVALOPS_CA_FILE", "/nonexistent/ca").reason())
          .isEqualTo(bootstrap + "read_server_ca: /nonexistent/ca: no such file");
      assertThat(tlsCall(tls, client).with("EVALOPS_CA_FILE", file("nothing")).reason())
          .startsWith(bootstrap + "parse_server_ca: ");
      assertThat(tlsCall(tls, client)
              .with("EVALOPS_KEY_FILE", file(authority.issue("other").keyPem()))
              .reason())
          .startsWith(bootstrap + "load_client_keypair: ")
          .endsWith("the private key does not belong to the certificate");
      assertThat(tlsCall(tls, TestCa.create().issue("stranger")).reason())
          .startsWith("blocked (fail closed): governance check failed: ");
      assertThat(tls.requests).isEmpty();
    }
  }

  @Test
  void loadsCertificatesAlsoWhenNoServiceNeedsThem() {
    service.evaluate(TestService.ALLOW);
    assertThat(call().with("EVALOPS_CERT_FILE", "/nonexistent/cert").reason())
        .contains("hook bootstrap failed: ", "tls_key_file_required");
    assertThat(service.requests).isEmpty();
  }

  @Test
  void showsNothingOfTheToolsInput() {
    List<String> answers = List.of("{}", "{\"evaluation\":{\"decision\":2}}", "x");
    for (String answer : answers) {
      service.on(GovernanceCheck.EVALUATE, Answer.json(answer));
      assertThat(call().reason()).doesNotContain("FAKE", "127.0.0.1");
      assertThat(call().event(Vectors.payload("80-secrets.json")).reason()).doesNotContain("FAKE");
    }
  }
}
