package dev.evalops.hook;

import dev.evalops.hook.HttpExchange.FailedException;
import java.time.Duration;
import java.time.Instant;
import java.time.format.DateTimeParseException;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Requests one approval and waits for its end. */
final class Approval {
  static final String REQUEST = "/approvals.v1.ApprovalService/RequestApproval";
  static final String GET = "/approvals.v1.ApprovalService/GetApproval";

  private static final String[] DECISIONS = {
    "DECISION_TYPE_UNSPECIFIED",
    "DECISION_TYPE_APPROVED",
    "DECISION_TYPE_DENIED",
    "DECISION_TYPE_ESCALATED",
    "DECISION_TYPE_EXPIRED",
    "DECISION_TYPE_AUTO_APPROVED"
  };

  /** The wait between two looks grows by half, up to so many times the first one. */
  private static final int MAX_GROWTH = 5;

  private static final int SHOWN_STATE = 64;

  private final Service service;
  private final Settings settings;

  Approval(Service service, Settings settings) {
    this.service = service;
    this.settings = settings;
  }

  /**
   * Requests the approval, and looks for its decision until it is there or the time is up.
   *
   * @param request the message in JSON
   */
  Verdict await(StringBuilder request) throws Denial {
    String id = request(request);
    StringBuilder message = new StringBuilder("{\"approvalRequestId\":");
    Json.quote(id, message);
    message.append(",\"workspaceId\":");
    Json.quote(settings.workspaceId(), message);
    message.append('}');

    long end = System.nanoTime() + settings.approvalTimeout().toNanos();
    long pause =
        Math.min(settings.pollInterval().toNanos(), settings.approvalTimeout().toNanos());
    long maxPause = pause * MAX_GROWTH;
    String failure = "";
    while (true) {
      long left = end - System.nanoTime();
      if (left <= 0) {
        throw Denial.decided("approval timed out" + failure);
      }
      try {
        Duration timeout =
            Duration.ofNanos(Math.min(left, settings.approvalsTimeout().toNanos()));
        Map<?, ?> answer = service.call(GET, message, timeout);
        if (isDecided(answer, id)) {
          return verdict(answer, id);
        }
        failure = "";
      } catch (
          FailedException
              e) { // a later look may succeed; the last one may only have been cut short
        if (end - System.nanoTime() > 0) {
          failure = "; approval lookup failed: " + e.getMessage();
        }
      }
      pause(Math.min(pause, Math.max(0, end - System.nanoTime())));
      pause = Math.min(maxPause, pause + pause / 2);
    }
  }

  private String request(StringBuilder message) throws Denial {
    try {
      Map<?, ?> answer = service.call(REQUEST, message, settings.approvalsTimeout());
      if (Json.get(answer, "approvalRequest") instanceof Map<?, ?> created
          && created.get("id") instanceof String id
          && !GoText.trim(id).isEmpty()) {
        return id;
      }
      throw Denial.failClosed("approval request failed: missing approval id");
    } catch (FailedException e) {
      throw Denial.failClosed("approval request failed: " + e.getMessage());
    }
  }

  private static void pause(long nanos) throws Denial {
    try {
      Thread.sleep(nanos / 1_000_000, (int) (nanos % 1_000_000));
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw Denial.failClosed("approval wait canceled: interrupted");
    }
  }

  /** Whether there is nothing more to wait for. */
  private static boolean isDecided(Map<?, ?> answer, String id) throws Denial, FailedException {
    if (Json.get(answer, "approvalRequest") instanceof Map<?, ?> request
        && Json.get(request, "id") instanceof String other
        && !other.equals(id)) {
      throw new FailedException("the answer is about another request");
    }
    Object state = Json.get(answer, "state");
    if (state == null || state.equals("") || state.equals("pending")) {
      return false;
    }
    if (state.equals("resolved")) {
      return true;
    }
    if (state.equals("expired") || state.equals("escalated")) {
      throw Denial.decided("approval " + state);
    }
    String shown = state instanceof String text ? text : "?";
    throw Denial.failClosed("approval ended in unexpected state \""
        + shown.substring(0, Math.min(SHOWN_STATE, shown.length())) + "\"");
  }

  /** The newest decision of this very request counts, and no other. */
  private static Verdict verdict(Map<?, ?> answer, String id) throws Denial, FailedException {
    Map<?, ?> newest = null;
    Instant newestTime = null;
    Object decisions = Json.get(answer, "decisions");
    if (decisions != null && !(decisions instanceof List)) {
      throw new FailedException("decisions is no list");
    }
    List<?> list = decisions == null ? List.of() : (List<?>) decisions;
    for (Object element : list) {
      if (!(element instanceof Map<?, ?> decision)
          || !id.equals(decision.get("approvalRequestId"))) {
        continue;
      }
      Instant time = time(Json.get(decision, "decidedAt"));
      if (newest == null) {
        newest = decision;
        newestTime = time;
      } else if (time == null || newestTime == null) {
        throw Denial.failClosed("approval resolved without a final decision");
      } else if (time.isAfter(newestTime) || (time.equals(newestTime) && isApproval(newest))) {
        newest = decision; // of two at the same time the one that refuses counts
        newestTime = time;
      }
    }
    if (newest == null) {
      throw Denial.failClosed("approval resolved without a final decision");
    }
    if (isApproval(newest)) {
      return Verdict.ALLOW;
    }
    throw refusal(newest);
  }

  private static boolean isApproval(Map<?, ?> decision) {
    String name = Enums.name(decision.get("decision"), DECISIONS);
    return name.equals("DECISION_TYPE_APPROVED") || name.equals("DECISION_TYPE_AUTO_APPROVED");
  }

  private static Denial refusal(Map<?, ?> decision) {
    String reason =
        decision.get("reason") instanceof String text && !GoText.trim(text).isEmpty()
            ? ": " + text
            : "";
    return switch (Enums.name(decision.get("decision"), DECISIONS)) {
      case "DECISION_TYPE_DENIED" -> Denial.decided("approval denied" + reason);
      case "DECISION_TYPE_ESCALATED" -> Denial.decided("approval escalated" + reason);
      case "DECISION_TYPE_EXPIRED" -> Denial.decided("approval expired" + reason);
      default -> Denial.failClosed("approval did not resolve to allow");
    };
  }

  private static @Nullable Instant time(@Nullable Object value) throws FailedException {
    if (value == null) {
      return null;
    }
    try {
      return Instant.parse(String.valueOf(value));
    } catch (DateTimeParseException e) {
      throw new FailedException("decidedAt is no time");
    }
  }
}
