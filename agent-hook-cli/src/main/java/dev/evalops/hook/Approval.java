package dev.evalops.hook;

import dev.evalops.hook.HttpExchange.FailedException;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeParseException;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/** An approval of one call: requested, or found again, and waited for. */
final class Approval {
  static final String REQUEST = "/approvals.v1.ApprovalService/RequestApproval";
  static final String GET = "/approvals.v1.ApprovalService/GetApproval";
  static final String CONSUME = "/approvals.v1.ApprovalService/ConsumeApproval";

  private static final String[] DECISIONS = {
    "DECISION_TYPE_UNSPECIFIED",
    "DECISION_TYPE_APPROVED",
    "DECISION_TYPE_DENIED",
    "DECISION_TYPE_ESCALATED",
    "DECISION_TYPE_EXPIRED",
    "DECISION_TYPE_AUTO_APPROVED"
  };

  /** The wait after a look that has failed grows by half, up to so many times the usual one. */
  private static final int MAX_GROWTH = 5;

  /** A look whose time ends with that of the approval ends up to a millisecond before it. */
  private static final long CUT_SHORT_NANOS = 2_000_000;

  private static final int SHOWN_STATE = 64;
  private static final Pattern MORE_THAN_NANOSECONDS = Pattern.compile("(\\.[0-9]{9})[0-9]+");
  private static final int MAX_ID = 200;
  private static final Duration OTHERS_REQUEST = Duration.ofMillis(50);
  private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("HH:mm xxx");

  private final Service service;
  private final Settings settings;
  private final long end;

  /** Why the last look has failed; empty if it has not. */
  private String failure = "";

  /** The time for an approval begins now. */
  Approval(Service service, Settings settings) {
    this.service = service;
    this.settings = settings;
    end = System.nanoTime() + settings.approvalTimeout().toNanos();
  }

  /**
   * Requests the approval, and waits for its decision until it is there or the time is up.
   *
   * @param request the message in JSON
   */
  Verdict await(StringBuilder request) throws Denial {
    String id = request(request);
    if (decision(id) == null) {
      throw Denial.decided("approval timed out: " + id + failure);
    }
    return Verdict.ALLOW;
  }

  /**
   * Uses the approval of an earlier call that was the same, or requests one. One that is not decided in time is found
   * by the next call.
   *
   * @param request the message in JSON
   */
  Verdict await(StringBuilder request, Action action, Tickets tickets) throws Denial {
    String digest = tickets.digest(action);
    String used = "";
    while (true) {
      Tickets.Ticket ticket = tickets.find(digest, settings.approvalsTimeout());
      boolean found = ticket != null;
      if (ticket == null) {
        if (!tickets.reserve(digest)) {
          continue;
        }
        ticket = request(request, digest, tickets);
        if (ticket.id().equals(used)) {
          tickets.drop(ticket);
          throw Denial.failClosed("approval " + used + " is used, and the service gives no other");
        }
      } else if (!ticket.isRequested()) {
        if (end - System.nanoTime() <= 0) {
          throw Denial.failClosed(
              "an approval is being requested by another call that is the same; repeat this one");
        }
        pause(OTHERS_REQUEST.toNanos());
        continue;
      }
      Map<?, ?> answer;
      try {
        answer = decision(ticket.id());
      } catch (Denial e) {
        if (!Thread.currentThread().isInterrupted()) {
          tickets.drop(ticket);
        }
        throw e;
      }
      if (answer == null) {
        throw Denial.decided("approval " + ticket.id() + " requested, valid until "
            + TIME.format(ticket.validUntil().atZone(ZoneId.systemDefault()))
            + "; ask the user to approve it, then repeat exactly this call" + failure);
      }
      if (found && !action.isSameAs(Json.get(answer, "approvalRequest"))) {
        tickets.drop(ticket);
        throw Denial.failClosed("approval " + ticket.id() + " is not for this call");
      }
      if (tickets.spend(settings.workspaceId(), ticket)) {
        consume(ticket);
        return Verdict.ALLOW;
      }
      used = ticket.id();
    }
  }

  private Tickets.Ticket request(StringBuilder request, String digest, Tickets tickets)
      throws Denial {
    try {
      return tickets.requested(digest, request(request));
    } catch (Denial e) {
      tickets.drop(new Tickets.Ticket(digest, "", Instant.now()));
      throw e;
    }
  }

  /** For a service that keeps the tickets as well. */
  private void consume(Tickets.Ticket ticket) throws Denial {
    StringBuilder message = lookup(ticket.id());
    message.setLength(message.length() - 1);
    message.append(",\"digest\":");
    Json.quote(ticket.digest(), message);
    try {
      service.callIfThere(CONSUME, message.append('}'), settings.approvalsTimeout());
    } catch (FailedException e) {
      throw Denial.failClosed("approval " + ticket.id() + " cannot be used: " + e.getMessage());
    }
  }

  private StringBuilder lookup(String id) {
    StringBuilder message = new StringBuilder("{\"approvalRequestId\":");
    Json.quote(id, message);
    message.append(",\"workspaceId\":");
    Json.quote(settings.workspaceId(), message);
    return message.append('}');
  }

  /** Waits for the answer that approves; null if the time is up. */
  private @Nullable Map<?, ?> decision(String id) throws Denial {
    StringBuilder message = lookup(id);
    long usual =
        Math.min(settings.pollInterval().toNanos(), settings.approvalTimeout().toNanos());
    long pause = usual;
    failure = "";
    while (true) {
      long left = end - System.nanoTime();
      if (left <= 0) {
        return null;
      }
      try {
        Duration timeout =
            Duration.ofNanos(Math.min(left, settings.approvalsTimeout().toNanos()));
        Map<?, ?> answer = service.call(GET, message, timeout);
        if (isDecided(answer, id)) {
          requireApproved(answer, id);
          return answer;
        }
        failure = "";
        pause = usual;
      } catch (
          FailedException
              e) { // a later look may succeed; the last one may only have been cut short
        if (end - System.nanoTime() > CUT_SHORT_NANOS) {
          failure = "; approval lookup failed: " + e.getMessage();
        }
        pause = Math.min(usual * MAX_GROWTH, pause + pause / 2);
      }
      pause(Math.min(pause, Math.max(0, end - System.nanoTime())));
    }
  }

  private String request(StringBuilder message) throws Denial {
    try {
      Map<?, ?> answer = service.call(REQUEST, message, settings.approvalsTimeout());
      if (Json.get(answer, "approvalRequest") instanceof Map<?, ?> created
          && created.get("id") instanceof String id
          && !GoText.trim(id).isEmpty()) {
        return usable(id);
      }
      throw Denial.failClosed("approval request failed: missing approval id");
    } catch (FailedException e) {
      throw Denial.failClosed("approval request failed: " + e.getMessage());
    }
  }

  /** It stands in a reason and in a file. */
  private static String usable(String id) throws Denial {
    for (int i = 0; i < id.length(); i++) {
      if (i == MAX_ID || Character.getType(id.charAt(i)) == Character.CONTROL) {
        throw Denial.failClosed("approval request failed: the approval id cannot be used");
      }
    }
    return id;
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
  private static void requireApproved(Map<?, ?> answer, String id) throws Denial, FailedException {
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
    if (!isApproval(newest)) {
      throw refusal(newest);
    }
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
      return Instant.parse(MORE_THAN_NANOSECONDS.matcher(String.valueOf(value)).replaceFirst("$1"));
    } catch (DateTimeParseException e) {
      throw new FailedException("decidedAt is no time");
    }
  }
}
