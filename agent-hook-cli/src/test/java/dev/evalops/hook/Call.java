package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayInputStream;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** One call of {@code governance-check} within this process. */
final class Call {
  static final String EVENT =
      "{\"session_id\":\"s-1\",\"hook_event_name\":\"PreToolUse\",\"tool_name\":\"Bash\","
          + "\"tool_input\":{\"command\":\"FAKE-SECRET\"}}";

  private final Map<String, String> environment = new HashMap<>();
  private byte[] event = EVENT.getBytes(UTF_8);
  private Tickets tickets = new Tickets(Path.of("/nonexistent"), "ann");

  Call(String governanceUrl) {
    with("EVALOPS_GOVERNANCE_URL", governanceUrl);
    with("EVALOPS_WORKSPACE_ID", "w-1");
    with("EVALOPS_APPROVAL_POLL_INTERVAL", "10ms");
    with("EVALOPS_GOVERNANCE_TIMEOUT", "20s");
    with("EVALOPS_APPROVALS_TIMEOUT", "20s");
    with("EVALOPS_APPROVAL_TIMEOUT", "30s");
    with("EVALOPS_APPROVAL_MODE", "wait");
  }

  Call with(String key, String value) {
    environment.put(key, value);
    return this;
  }

  Call event(byte[] bytes) {
    event = bytes;
    return this;
  }

  Call event(String text) {
    return event(text.getBytes(UTF_8));
  }

  Map<String, String> environment() {
    return environment;
  }

  /** Keeps approvals that come late. */
  Call tickets(Path folder) {
    return tickets(folder, "ann");
  }

  Call tickets(Path folder, String caller) {
    tickets = new Tickets(folder, caller);
    return with("EVALOPS_APPROVAL_MODE", "ticket");
  }

  Verdict verdict() {
    ManagedFile none = new ManagedFile(Path.of("/nonexistent/agent-hook.properties"), false, null);
    return AgentHook.governanceCheck(
        environment, none, tickets, new Stdin(new ByteArrayInputStream(event)), new HookProcess());
  }

  /** Why the tool does not run, or "allowed". */
  String reason() {
    return verdict().reason();
  }
}
