package dev.evalops.hook;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.hook.TestService.Answer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.util.Base64;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.FieldSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

@Execution(ExecutionMode.CONCURRENT)
class ApprovalTest {
  private static final String PENDING = "{\"state\":\"pending\"}";
  private static final String APPROVED = resolved(decision("\"DECISION_TYPE_APPROVED\"", "09"));

  private TestService service;

  @BeforeEach
  void start() throws IOException {
    service = new TestService();
    service.evaluate(TestService.REQUIRE_APPROVAL);
    service.on(Approval.REQUEST, TestService.CREATED);
  }

  @AfterEach
  void stop() {
    service.close();
  }

  private Call call() {
    return new Call(service.url())
        .with("EVALOPS_APPROVALS_URL", service.url() + Approval.GET + "/");
  }

  private static String decision(String decision, String hour) {
    return "{\"approvalRequestId\":\"req-1\",\"decision\":" + decision
        + ",\"reason\":\"by ann\",\"decidedAt\":\"2026-11-24T" + hour + ":00:00.123Z\"}";
  }

  private static String resolved(String... decisions) {
    return "{\"approvalRequest\":{\"id\":\"req-1\"},\"state\":\"resolved\",\"decisions\":["
        + String.join(",", decisions) + "]}";
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"\"DECISION_TYPE_APPROVED\"", "1", "\"DECISION_TYPE_AUTO_APPROVED\"", "5"})
  void allows_whenTheNewestDecisionApproves(String decision) {
    service.on(
        Approval.GET,
        "{}",
        "{\"state\":\"\"}",
        PENDING,
        resolved(decision("2", "08"), decision(decision, "09"), decision("2", "07")));
    assertThat(call().verdict()).isSameAs(Verdict.ALLOW);
    assertThat(service.requests(Approval.GET)).hasSize(4);
    assertThat(service.requests(Approval.REQUEST)).hasSize(1);
  }

  @Test
  void requestsWithEverythingThatAnApproverNeeds() {
    service.on(Approval.GET, APPROVED);
    call()
        .with("EVALOPS_AGENT_TOKEN", "tok")
        .with("EVALOPS_HOOK_SURFACE", "claude")
        .verdict();
    TestService.Request request = service.requests(Approval.REQUEST).get(0);
    assertThat(request.headers().get("Authorization")).containsExactly("Bearer tok");
    JsonNode body = request.body();
    assertThat(body.propertyNames())
        .containsExactlyInAnyOrder(
            "workspaceId",
            "agentId",
            "surface",
            "actionType",
            "actionPayload",
            "riskLevel",
            "contextJson");
    assertThat(body.get("workspaceId").asString()).isEqualTo("w-1");
    assertThat(body.get("agentId").asString()).isEqualTo("s-1");
    assertThat(body.get("surface").asString()).isEqualTo("claude");
    assertThat(body.get("actionType").asString()).isEqualTo("Bash");
    assertThat(Base64.getDecoder().decode(body.get("actionPayload").asString()))
        .asString()
        .isEqualTo("{\"command\":\"FAKE-SECRET\"}");
    assertThat(body.get("riskLevel").asString()).isEqualTo("RISK_LEVEL_HIGH");
    JsonNode context = Vectors.JSON.readTree(body.get("contextJson").asString());
    assertThat(context.propertyNames())
        .containsExactly("governance_reasons", "hook_event", "matched_rules", "tool_name");
    assertThat(context.get("governance_reasons").get(0).asString()).isEqualTo("prod");
    assertThat(context.get("hook_event")).isEqualTo(Vectors.JSON.readTree(Call.EVENT));
    assertThat(context.get("matched_rules").isNull()).isTrue();
    assertThat(context.get("tool_name").asString()).isEqualTo("Bash");

    JsonNode lookup = service.requests(Approval.GET).get(0).body();
    assertThat(lookup.propertyNames()).containsExactly("approvalRequestId", "workspaceId");
    assertThat(lookup.get("approvalRequestId").asString()).isEqualTo("req-1");
  }

  @Test
  void tellsApproversNoBlankReason() {
    service.on(Approval.GET, APPROVED);
    service.evaluate(
        "{\"evaluation\":{\"decision\":3,\"reasons\":[\"\",\"prod\",\" \\t\",\"\\u00a0\",\"freeze\"]}}");
    call().verdict();
    JsonNode body = service.requests(Approval.REQUEST).get(0).body();
    assertThat(Vectors.JSON.readTree(body.get("contextJson").asString()).get("governance_reasons"))
        .isEqualTo(Vectors.JSON.readTree("[\"prod\",\"freeze\"]"));
  }

  @ParameterizedTest
  @CsvSource({
    "'', codex",
    "'\"surface\":\"cli\",', cli",
    "'\"metadata\":{\"surface\":\"m\"},', m",
    "'\"transcript_path\":\"/t\",', claude",
    "'\"permission_mode\":\"plan\",', claude",
    "'\"transcript_path\":null,\"turn_id\":\"t\",', codex",
    "'\"model\":\"gpt\",\"permission_mode\":\"plan\",', codex",
    "'\"transcript_path\":\"/t\",\"surface\":\"cli\",', cli",
    "'\"hook_event_name\":\"BeforeTool\",\"transcript_path\":\"/t\",\"timestamp\":\"x\",', gemini",
    "'\"transcript_path\":\"/t\",\"timestamp\":\"x\",\"tool_call_id\":\"c\",', qwen",
    "'\"timestamp\":\"x\",', copilot",
    "'\"hook_event_name\":\"preToolUse\",\"model\":\"m\",\"transcript_path\":null,', cursor"
  })
  void namesTheSurface(String member, String surface) {
    service.on(Approval.GET, APPROVED);
    service.evaluate("{\"evaluation\":{\"decision\":3,\"riskLevel\":4}}");
    call().event("{" + member + "\"session_id\":\"s\",\"tool_name\":\"Bash\"}").verdict();
    JsonNode body = service.requests(Approval.REQUEST).get(0).body();
    assertThat(body.get("surface").asString()).isEqualTo(surface);
    assertThat(body.get("riskLevel").asInt()).isEqualTo(4);
  }

  /** Each with the end of the reason. */
  static final String[][] REFUSALS = {
    {resolved(decision("\"DECISION_TYPE_DENIED\"", "09")), "denied: approval denied: by ann"},
    {resolved(decision("1", "08"), decision("2", "09")), "denied: approval denied: by ann"},
    {resolved(decision("2", "09"), decision("1", "08")), "denied: approval denied: by ann"},
    {resolved(decision("1", "09"), decision("2", "09")), "denied: approval denied: by ann"},
    {resolved(decision("2", "09"), decision("1", "09")), "denied: approval denied: by ann"},
    {resolved(decision("3", "09")), "denied: approval escalated: by ann"},
    {resolved(decision("\"DECISION_TYPE_EXPIRED\"", "09")), "denied: approval expired: by ann"},
    {resolved(decision("0", "09")), "approval did not resolve to allow"},
    {resolved(decision("6", "09")), "approval did not resolve to allow"},
    {resolved(decision("\"APPROVED\"", "09")), "approval did not resolve to allow"},
    {resolved(), "approval resolved without a final decision"},
    {"{\"state\":\"resolved\"}", "approval resolved without a final decision"},
    {
      resolved(decision("1", "09").replace("req-1", "req-2")),
      "approval resolved without a final decision"
    },
    {
      resolved(decision("1", "09").replace("\"approvalRequestId\":\"req-1\",", "")),
      "approval resolved without a final decision"
    },
    {
      resolved(decision("2", "08"), decision("1", "09").replace("req-1", "req-2")),
      "denied: approval denied: by ann"
    },
    {
      resolved("{\"approvalRequestId\":\"req-1\",\"decision\":1}", decision("2", "09")),
      "approval resolved without a final decision"
    },
    {resolved("1", "null", "[]"), "approval resolved without a final decision"},
    {
      APPROVED.replace("resolved", "partially_approved"),
      "approval ended in unexpected state \"partially_approved\""
    },
    {APPROVED.replace("resolved", "PENDING"), "approval ended in unexpected state \"PENDING\""},
    {APPROVED.replace("resolved", "approved"), "approval ended in unexpected state \"approved\""},
    {APPROVED.replace("resolved", "escalated"), "denied: approval escalated"},
    {APPROVED.replace("resolved", "expired"), "denied: approval expired"},
    {APPROVED.replace("\"resolved\"", "1"), "approval ended in unexpected state \"?\""},
    {APPROVED.replace("resolved", "x".repeat(5000)), "state \"" + "x".repeat(64) + "\""}
  };

  @ParameterizedTest
  @FieldSource("REFUSALS")
  void deniesEveryOtherEnd(String answer, String reason) {
    service.on(Approval.GET, PENDING, answer);
    assertThat(call().reason())
        .endsWith(reason)
        .matches("(denied: |blocked \\(fail closed\\): ).*");
  }

  @Test
  void cutsTimesAfterNanoseconds() {
    service.on(
        Approval.GET,
        resolved(
            decision("1", "09").replace(".123Z", ".1234567899999+00:00"),
            decision("2", "09").replace(".123Z", ".123456788Z")));
    assertThat(call().verdict()).isSameAs(Verdict.ALLOW);
  }

  @Test
  void waitsNoLongerThanTheApprovalTimeout() {
    service.on(Approval.GET, "{\"state\":\"pending\",\"decisions\":[" + decision("1", "09") + "]}");
    assertThat(call().with("EVALOPS_APPROVAL_TIMEOUT", "6s").reason())
        .isEqualTo("denied: approval timed out: req-1");
    assertThat(service.requests(Approval.GET)).hasSizeBetween(1, 601);
  }

  @Test
  void looksOnce_whenThePauseIsLongerThanTheTimeout() {
    service.on(Approval.GET, PENDING);
    assertThat(call()
            .with("EVALOPS_APPROVAL_TIMEOUT", "6s")
            .with("EVALOPS_APPROVAL_POLL_INTERVAL", "2562047h")
            .reason())
        .isEqualTo("denied: approval timed out: req-1");
    assertThat(service.requests(Approval.GET)).hasSize(1);
  }

  @Test
  void triesAgain_whenALookFails() {
    service.on(
        Approval.GET,
        Answer.json(PENDING),
        new Answer(503, "text/html", "<html>"),
        Answer.json("{"),
        Answer.json(APPROVED.replace("req-1", "req-2")),
        Answer.json(
            resolved("{\"approvalRequestId\":\"req-1\",\"decision\":1,\"decidedAt\":\"soon\"}")),
        Answer.json("{\"state\":\"resolved\",\"decisions\":{}}"),
        Answer.json(APPROVED));
    assertThat(call().reason()).isEqualTo("allowed");
    assertThat(service.requests(Approval.GET)).hasSize(7);
  }

  @Test
  void saysWhyTheLastLookFailed_whenTheTimeIsUp() {
    service.on(Approval.GET, new Answer(500, "text/plain", "x"));
    assertThat(call().with("EVALOPS_APPROVAL_TIMEOUT", "6s").reason())
        .isEqualTo("denied: approval timed out: req-1; approval lookup failed: HTTP status 500");
  }

  @Test
  void deniesWhenTheApprovalServiceIsGoneWhileWaiting() throws IOException {
    try (TestService approvals = new TestService()) {
      approvals.on(Approval.REQUEST, TestService.CREATED);
      approvals.on(Approval.GET, PENDING);
      approvals.after(Approval.GET, approvals::close);
      assertThat(new Call(service.url())
              .with("EVALOPS_APPROVALS_URL", approvals.url())
              .with("EVALOPS_APPROVAL_TIMEOUT", "6s")
              .reason())
          .startsWith("denied: approval timed out: req-1; approval lookup failed: ");
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{} | missing approval id", "{\"approvalRequest\":{}} | missing approval id",
        "{\"approvalRequest\":{\"id\":\" \"}} | missing approval id",
            "{\"approvalRequest\":{\"id\":7}} | missing approval id",
        "{\"id\":\"req-1\"} | missing approval id", "[] | the answer is no JSON object"
      })
  void deniesWithoutAnApprovalId(String answer, String reason) {
    service.on(Approval.REQUEST, answer);
    service.on(Approval.GET, APPROVED);
    assertThat(call().reason())
        .isEqualTo("blocked (fail closed): approval request failed: " + reason);
    assertThat(service.requests(Approval.GET)).isEmpty();
  }

  @Test
  void deniesWhenTheApprovalServiceDoesNotAnswer() throws IOException {
    try (ServerSocket silent = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      assertThat(call()
              .with("EVALOPS_APPROVALS_URL", "http://127.0.0.1:" + silent.getLocalPort())
              .with("EVALOPS_APPROVALS_TIMEOUT", "300ms")
              .reason())
          .isEqualTo("blocked (fail closed): approval request failed: no whole answer in time");
    }
  }
}
