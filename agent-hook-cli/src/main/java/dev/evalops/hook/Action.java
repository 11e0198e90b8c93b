package dev.evalops.hook;

import java.util.Arrays;
import java.util.Base64;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** A tool call as the services know it. */
record Action(String workspaceId, String agentId, String surface, ToolUse toolUse) {
  /** What all requests have in common, without the brace at the end. */
  StringBuilder json() {
    byte[] payload = toolUse.action();
    StringBuilder json = new StringBuilder(payload.length / 3 * 4 + 512);
    json.append("{\"workspaceId\":");
    Json.quote(workspaceId, json);
    json.append(",\"agentId\":");
    Json.quote(agentId, json);
    json.append(",\"actionType\":");
    Json.quote(toolUse.toolName(), json);
    return json.append(",\"actionPayload\":\"")
        .append(Base64.getEncoder().encodeToString(payload))
        .append('"');
  }

  /** Whether the approval service means this call by what it has kept of a request. */
  boolean isSameAs(@Nullable Object request) {
    if (!(request instanceof Map<?, ?> kept)
        || !workspaceId.equals(kept.get("workspaceId"))
        || !agentId.equals(kept.get("agentId"))
        || !surface.equals(kept.get("surface"))
        || !toolUse.toolName().equals(kept.get("actionType"))
        || !(kept.get("actionPayload") instanceof String payload)) {
      return false;
    }
    try {
      return Arrays.equals(
          ToolUse.exactInput(toolUse.toolName(), Base64.getDecoder().decode(payload)),
          toolUse.exactInput());
    } catch (IllegalArgumentException | Json.MalformedException e) {
      return false;
    }
  }
}
