package dev.evalops.examples.notes;

import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.HttpService.ClientCertificates;
import dev.evalops.runtime.mtls.ServerTls;
import java.io.IOException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** A small policy, and the approvals of one person, over TLS for clients with a certificate. */
final class PolicyServer implements AutoCloseable {

  // The hook uses an approval once, and remembers that across runs of the demo.
  private final String run = UUID.randomUUID().toString().substring(0, 8);
  private final Map<String, Map<?, ?>> requests = new ConcurrentHashMap<>();
  private final Set<String> approved = ConcurrentHashMap.newKeySet();
  private final ServerTls tls;
  private final HttpService http;
  private final CountDownLatch waitedFor = new CountDownLatch(1);

  PolicyServer(Certificates certificates) {
    tls = ServerTls.builder()
        .certificate(certificates.certificateFile(), certificates.keyFile())
        .requireClients(certificates.caFile())
        .open();
    http = HttpService.builder(0)
        .host("127.0.0.1")
        .tls(tls.sslContext(), ClientCertificates.REQUIRED)
        .handle("/governance.v1.GovernanceService/EvaluateAction", this::evaluate)
        .handle("/approvals.v1.ApprovalService/RequestApproval", this::request)
        .handle("/approvals.v1.ApprovalService/GetApproval", this::approval)
        .start();
  }

  URI url() {
    return URI.create("https://localhost:" + http.port());
  }

  private void evaluate(HttpExchange exchange) throws IOException {
    String payload = (String) HttpRequests.json(exchange, Map.class).get("actionPayload");
    String input = new String(Base64.getDecoder().decode(payload), StandardCharsets.UTF_8);
    String decision = "ALLOW";
    String reason = "reading is for everybody";
    if (input.contains("rm -rf")) {
      decision = "DENY";
      reason = "nothing is deleted by an agent";
    } else if (input.contains("git push")) {
      decision = "REQUIRE_APPROVAL";
      reason = "a person looks at what is published";
    }
    HttpResponses.json(
        exchange,
        200,
        Map.of(
            "evaluation",
            Map.of(
                "decision",
                "ACTION_DECISION_" + decision,
                "riskLevel",
                "RISK_LEVEL_MEDIUM",
                "reasons",
                List.of(reason),
                "matchedRules",
                List.of("demo"))));
  }

  private void request(HttpExchange exchange) throws IOException {
    Map<?, ?> request = HttpRequests.json(exchange, Map.class);
    String id;
    synchronized (requests) {
      id = "request-" + run + "-" + (requests.size() + 1);
      requests.put(id, request);
    }
    HttpResponses.json(exchange, 200, Map.of("approvalRequest", Map.of("id", id)));
  }

  private void approval(HttpExchange exchange) throws IOException {
    String request = (String) HttpRequests.json(exchange, Map.class).get("approvalRequestId");
    Map<Object, Object> copy = new HashMap<>(requests.get(request));
    copy.put("id", request);
    boolean resolved = approved.contains(request);
    List<Map<String, String>> decisions = resolved
        ? List.of(Map.of(
            "approvalRequestId",
            request,
            "decision",
            "DECISION_TYPE_APPROVED",
            "reason",
            "looks good",
            "decidedAt",
            Instant.now().toString()))
        : List.of();
    HttpResponses.json(
        exchange,
        200,
        Map.of(
            "approvalRequest",
            copy,
            "state",
            resolved ? "resolved" : "pending",
            "decisions",
            decisions));
    waitedFor.countDown();
  }

  /** Whether somebody has asked in this time for an approval that is not there yet. */
  boolean awaitSomebodyWaiting(Duration atMost) throws InterruptedException {
    return waitedFor.await(atMost.toMillis(), TimeUnit.MILLISECONDS);
  }

  /** Approves everything that was requested until now. */
  void approve() {
    approved.addAll(requests.keySet());
  }

  int requested() {
    return requests.size();
  }

  @Override
  public void close() {
    http.close();
    tls.close();
  }
}
