package dev.evalops.hook;

import dev.evalops.hook.TestService.Answer;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/** An approval service that keeps what it is asked, as the real one does: requests ap-1, ap-2 and so on. */
final class Approvers {
  private final AtomicInteger count = new AtomicInteger();
  private final Map<String, JsonNode> requests = new ConcurrentHashMap<>();
  private final Map<String, String> decisions = new ConcurrentHashMap<>();

  Approvers(TestService service) {
    service.evaluate(TestService.REQUIRE_APPROVAL);
    service.on(Approval.REQUEST, question -> {
      String id = "ap-" + count.incrementAndGet();
      requests.put(id, question);
      return Answer.json("{\"approvalRequest\":{\"id\":\"" + id + "\"}}");
    });
    service.on(Approval.GET, question -> {
      String id = question.get("approvalRequestId").asString();
      JsonNode request = requests.get(id);
      if (request == null) {
        return new Answer(404, "application/json", "{\"code\":\"not_found\"}");
      }
      ObjectNode copy = ((ObjectNode) request.deepCopy()).put("id", id);
      String decision = decisions.getOrDefault(id, decisions.get("*"));
      return Answer.json("{\"approvalRequest\":" + copy
          + (decision == null
              ? ",\"state\":\"pending\"}"
              : ",\"state\":\"resolved\",\"decisions\":[{\"approvalRequestId\":\"" + id
                  + "\",\"decision\":\"DECISION_TYPE_" + decision
                  + "\",\"reason\":\"by ann\",\"decidedAt\":\"2026-11-24T09:00:00Z\"}]}"));
    });
  }

  int requested() {
    return count.get();
  }

  /** Decides one request, or all with *. */
  void decide(String id, String decision) {
    decisions.put(id, decision);
  }

  /** Changes what the service has kept of a request. */
  void forge(String id, String member, String value) {
    ((ObjectNode) requests.get(id)).put(member, value);
  }
}
