package dev.evalops.hook;

import static java.util.Objects.requireNonNull;

import dev.evalops.hook.HttpExchange.FailedException;
import dev.evalops.runtime.mtls.ClientTls;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import javax.net.ssl.SSLSocketFactory;
import org.jspecify.annotations.Nullable;

/** Asks the governance service about one tool call, and an approver when the service wants one. */
final class GovernanceCheck {
  static final String EVALUATE = "/governance.v1.GovernanceService/EvaluateAction";

  static final String[] DECISIONS = {
    "ACTION_DECISION_UNSPECIFIED",
    "ACTION_DECISION_ALLOW",
    "ACTION_DECISION_DENY",
    "ACTION_DECISION_REQUIRE_APPROVAL"
  };

  private final Settings settings;
  private final @Nullable Curl curl;
  private @Nullable ClientTls mtls;
  private final Tickets tickets;

  private GovernanceCheck(
      Settings settings, @Nullable Curl curl, @Nullable ClientTls mtls, Tickets tickets) {
    this.settings = settings;
    this.curl = curl;
    this.mtls = mtls;
    this.tickets = tickets;
  }

  /**
   * The one way to a verdict.
   *
   * @param curl the transport over https, for a process that does not live long; null for Java's TLS
   */
  static Verdict of(Settings settings, @Nullable Curl curl, ToolUse toolUse, Tickets tickets) {
    try {
      ClientTls mtls = curl == null ? valid(mtls(settings, Duration.ZERO)) : null;
      return new GovernanceCheck(settings, curl, mtls, tickets).verdict(toolUse);
    } catch (Denial e) {
      return Verdict.deny(e.reason());
    }
  }

  /** The same over TLS that was opened before. */
  static Verdict over(
      @Nullable ClientTls mtls, Settings settings, ToolUse toolUse, Tickets tickets) {
    try {
      return new GovernanceCheck(settings, null, valid(mtls), tickets).verdict(toolUse);
    } catch (Denial e) {
      return Verdict.deny(e.reason());
    }
  }

  private static @Nullable ClientTls valid(@Nullable ClientTls mtls) throws Denial {
    if (mtls != null
        && mtls.notAfter().isPresent()
        && mtls.notAfter().get().isBefore(Instant.now())) {
      throw Denial.failClosed("hook bootstrap failed: the client certificate has expired");
    }
    return mtls;
  }

  /**
   * The TLS of our connections; null when nothing of it is configured and no service needs it.
   *
   * @param reloadEvery how often the files are read again; zero for never
   */
  static @Nullable ClientTls mtls(Settings settings, Duration reloadEvery) throws Denial {
    Settings.Tls files = settings.tls();
    if (!settings.usesTls() && !files.isSet()) {
      return null;
    }
    try {
      return ClientTls.builder()
          .ca(files.ca())
          .publicRoots()
          .certificate(files.certificate(), files.key())
          .serverName(files.serverName())
          .reloadEvery(reloadEvery)
          .open();
    } catch (IllegalArgumentException e) {
      throw Denial.failClosed("hook bootstrap failed: " + e.getMessage());
    }
  }

  private Service service(ServiceUrl url) {
    return new Service(url, curl, this::tls, settings.token());
  }

  private SSLSocketFactory tls() throws Denial {
    ClientTls open = mtls;
    if (open == null) {
      open = valid(mtls(settings, Duration.ZERO));
      mtls = open;
    }
    return requireNonNull(open, "TLS is opened where a service needs it")
        .sslContext()
        .getSocketFactory();
  }

  private Verdict verdict(ToolUse toolUse) throws Denial {
    String agentId = settings.agentId() == null ? toolUse.agentId() : settings.agentId();
    if (agentId == null) {
      throw Denial.failClosed(
          "agent_id is required via " + Settings.AGENT_ID + " or hook session_id");
    }
    Action action = new Action(
        settings.workspaceId(),
        agentId,
        settings.surface() == null ? toolUse.surface() : settings.surface(),
        toolUse);
    Map<?, ?> evaluation = evaluate(action);
    String decision = Enums.name(evaluation.get("decision"), DECISIONS);
    if (toolUse.isCanary() && !decision.equals("ACTION_DECISION_DENY")) {
      throw Denial.decided("the doctor's canary is never allowed");
    }
    return switch (decision) {
      case "ACTION_DECISION_ALLOW" -> Verdict.ALLOW;
      case "ACTION_DECISION_DENY" -> throw Denial.decided(denied(evaluation));
      case "ACTION_DECISION_REQUIRE_APPROVAL" -> {
        ServiceUrl approvals = settings.approvals();
        if (approvals == null) {
          throw Denial.failClosed(
              "approval required but " + Settings.APPROVALS_URL + " is not configured");
        }
        Approval approval = new Approval(service(approvals), settings);
        StringBuilder request = approvalRequest(action, evaluation);
        yield settings.tickets()
            ? approval.await(request, action, tickets)
            : approval.await(request);
      }
      default -> throw Denial.failClosed("governance returned an unknown decision");
    };
  }

  private static String denied(Map<?, ?> evaluation) throws Denial {
    List<String> reasons = reasons(evaluation);
    return reasons.isEmpty() ? "governance denied this action" : String.join("; ", reasons);
  }

  private Map<?, ?> evaluate(Action action) throws Denial {
    try {
      Map<?, ?> answer = service(settings.governance())
          .call(EVALUATE, action.json().append('}'), settings.governanceTimeout());
      if (!(Json.get(answer, "evaluation") instanceof Map<?, ?> evaluation)) {
        throw Denial.failClosed("governance returned no evaluation");
      }
      return evaluation;
    } catch (FailedException e) {
      throw Denial.failClosed("governance check failed: " + e.getMessage());
    }
  }

  private static StringBuilder approvalRequest(Action action, Map<?, ?> evaluation) throws Denial {
    ToolUse toolUse = action.toolUse();
    StringBuilder json = action.json().append(",\"surface\":");
    Json.quote(action.surface(), json);
    Object risk = Json.get(evaluation, "riskLevel");
    if (risk instanceof Json.Numeral number) {
      json.append(",\"riskLevel\":").append(number.text());
    } else if (risk instanceof String name) {
      json.append(",\"riskLevel\":");
      Json.quote(name, json);
    }
    StringBuilder context = new StringBuilder("{\"governance_reasons\":");
    list(reasons(evaluation), context);
    context.append(",\"hook_event\":").append(toolUse.event()).append(",\"matched_rules\":");
    list(strings(evaluation, "matchedRules"), context);
    context.append(",\"tool_name\":");
    Json.quote(toolUse.toolName(), context);
    json.append(",\"contextJson\":");
    Json.quote(context.append('}').toString(), json);
    return json.append('}');
  }

  /** An empty list is {@code null}, as the approval service has always got it. */
  private static void list(List<String> texts, StringBuilder json) {
    if (texts.isEmpty()) {
      json.append("null");
      return;
    }
    char before = '[';
    for (String text : texts) {
      Json.quote(text, json.append(before));
      before = ',';
    }
    json.append(']');
  }

  private static List<String> reasons(Map<?, ?> evaluation) throws Denial {
    List<String> reasons = new ArrayList<>();
    for (String reason : strings(evaluation, "reasons")) {
      if (!GoText.trim(reason).isEmpty()) {
        reasons.add(reason);
      }
    }
    return reasons;
  }

  private static List<String> strings(Map<?, ?> evaluation, String name) throws Denial {
    Object value = Json.get(evaluation, name);
    if (value == null) {
      return List.of();
    }
    List<String> strings = new ArrayList<>();
    if (value instanceof List<?> list) {
      for (Object element : list) {
        if (!(element instanceof String text)) {
          throw Denial.failClosed("governance check failed: " + name + " has no texts");
        }
        strings.add(text);
      }
      return strings;
    }
    throw Denial.failClosed("governance check failed: " + name + " is no list");
  }
}
