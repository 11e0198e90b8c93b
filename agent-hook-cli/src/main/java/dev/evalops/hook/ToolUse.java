package dev.evalops.hook;

import static java.nio.charset.StandardCharsets.US_ASCII;
import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.ByteArrayOutputStream;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** One tool call that a host asks about. What is sent to the service are the very bytes that were judged. */
final class ToolUse {
  private static final String GEMINIS = "BeforeTool";
  private static final String CURSORS = "preToolUse";

  /** A tool call, by any name, and a shell command within the text of a skill; to a policy all are the same. */
  private static final List<String> EVENTS =
      List.of("PreToolUse", "PreSkillShellCommand", GEMINIS, CURSORS);

  /** The tools that run a command of a shell, with a description of it. */
  private static final List<String> SHELLS = List.of("Bash", "run_shell_command", "Shell");

  /** What the doctor lets a host call. It is no program, so that nothing happens where no hook stops it. */
  private static final byte[] CANARY = "{\"command\":\"evalops-doctor-canary\"}".getBytes(US_ASCII);

  private final byte[] text;
  private final int length;
  private final String toolName;
  private final int inputBegin;
  private final int inputEnd;
  private final byte[] workingDirectory;
  private final @Nullable String agentId;
  private final String surface;

  private ToolUse(
      byte[] text,
      int length,
      String toolName,
      int inputBegin,
      int inputEnd,
      byte[] workingDirectory,
      @Nullable String agentId,
      String surface) {
    this.text = text;
    this.length = length;
    this.toolName = toolName;
    this.inputBegin = inputBegin;
    this.inputEnd = inputEnd;
    this.workingDirectory = workingDirectory;
    this.agentId = agentId;
    this.surface = surface;
  }

  /**
   * Reads an event.
   *
   * @param text has it from its beginning on
   */
  static ToolUse parse(byte[] text, int length) throws Denial {
    Event event = new Event(text);
    try {
      Json.parseObject(text, length, event);
      return event.toolUse(length);
    } catch (Json.MalformedException e) {
      throw Denial.failClosed("decode_tool_use_payload: " + e.getMessage());
    }
  }

  String toolName() {
    return toolName;
  }

  /** What the event says of the agent; the operator's word counts for more. */
  @Nullable
  String agentId() {
    return agentId;
  }

  /** What the event says of the host; the operator's word counts for more. */
  String surface() {
    return surface;
  }

  /** Whether this is the doctor's question if a "no" reaches the host. */
  boolean isCanary() {
    return Arrays.equals(text, inputBegin, inputEnd, CANARY, 0, CANARY.length);
  }

  /** The tool's input, or the whole event if it has none. */
  byte[] action() {
    return inputEnd == 0
        ? Arrays.copyOf(text, length)
        : Arrays.copyOfRange(text, inputBegin, inputEnd);
  }

  /** Where the call would run, as the event has it; empty if it does not say. */
  byte[] workingDirectory() {
    return workingDirectory;
  }

  /** What two calls that are the same have in common of {@link #action}. */
  byte[] exactInput() {
    try {
      return exactInput(toolName, action());
    } catch (Json.MalformedException e) {
      throw new IllegalStateException("the input has been judged", e);
    }
  }

  /**
   * For a shell command all but its description, which models word differently each time; else the bytes as they are.
   */
  static byte[] exactInput(String toolName, byte[] action) throws Json.MalformedException {
    if (!SHELLS.contains(toolName)) {
      return action;
    }
    ByteArrayOutputStream exact = new ByteArrayOutputStream();
    Json.parseObject(action, action.length, new Json.Members() {
      @Override
      public void member(String name, Json value) throws Json.MalformedException {
        int begin = value.position();
        value.skip();
        if (!name.equals("description")) {
          StringBuilder quoted = new StringBuilder();
          Json.quote(name, quoted);
          byte[] key = quoted.append(':').toString().getBytes(UTF_8);
          exact.write(key, 0, key.length);
          exact.write(action, begin, value.position() - begin);
          exact.write(',');
        }
      }
    });
    return exact.toByteArray();
  }

  /** The whole event. */
  String event() {
    return new String(text, 0, length, UTF_8);
  }

  /** Gathers the members that count; all others are checked and passed by. */
  private static final class Event implements Json.Members {
    private final byte[] text;
    private final Map<String, Object> known = new HashMap<>();
    private int inputBegin;
    private int inputEnd;
    private byte[] workingDirectory = new byte[0];
    private boolean fromCodex;
    private boolean fromQwen;
    private boolean dated;
    private boolean fromAHost;

    Event(byte[] text) {
      this.text = text;
    }

    @Override
    public void member(String name, Json value) throws Json.MalformedException {
      switch (name) {
        case "tool_input" -> {
          int begin = value.position();
          int first = value.peek();
          value.skip();
          known.put(name, first == '{' ? "object" : first == 'n' ? Json.NULL : "other");
          if (first == '{') {
            inputBegin = begin;
            inputEnd = value.position();
          }
        }
        case "cwd" -> {
          int begin = value.position();
          value.skip();
          workingDirectory = Arrays.copyOfRange(text, begin, value.position());
        }
        case "hook_event_name",
            "tool_name",
            "agent_id",
            "session_id",
            "conversation_id",
            "surface",
            "context",
            "metadata" -> known.put(name, value.read());
        case "turn_id", "model" -> {
          fromCodex = true;
          value.skip();
        }
        case "tool_call_id" -> {
          fromQwen = true;
          value.skip();
        }
        case "timestamp" -> {
          dated = true;
          value.skip();
        }
        case "transcript_path", "permission_mode", "prompt_id" -> {
          fromAHost = true;
          value.skip();
        }
        default -> value.skip();
      }
    }

    ToolUse toolUse(int length) throws Denial {
      Object event = known.get("hook_event_name");
      if (event != null && !EVENTS.contains(event)) {
        throw Denial.failClosed("hook_event_name is not " + EVENTS.get(0));
      }
      if ("other".equals(known.get("tool_input"))) {
        throw Denial.failClosed("tool_input is not an object");
      }
      return new ToolUse(
          text,
          length,
          toolName(Json.get(known, "tool_name")),
          inputBegin,
          inputEnd,
          workingDirectory,
          CURSORS.equals(event)
              ? first("agent_id", "session_id", "conversation_id")
              : first("agent_id", "session_id"),
          surface());
    }

    /** What the event says, or the host that it comes from, which is known by what it alone sends. */
    private String surface() throws Denial {
      String named = first("surface");
      if (named != null) {
        return named;
      }
      if (GEMINIS.equals(known.get("hook_event_name"))) {
        return "gemini";
      }
      if (CURSORS.equals(known.get("hook_event_name"))) {
        return "cursor";
      }
      if (fromCodex) {
        return "codex";
      }
      return fromQwen ? "qwen" : dated ? "copilot" : fromAHost ? "claude" : "codex";
    }

    /** A rule for "Bash" does not fit "Bash ", so such a name is not asked about at all. */
    private static String toolName(@Nullable Object name) throws Denial {
      if (name == null) {
        throw Denial.failClosed("tool_name is required");
      }
      if (!(name instanceof String text)) {
        throw Denial.failClosed("tool_name is not a string");
      }
      if (GoText.trim(text).isEmpty()) {
        throw Denial.failClosed("tool_name is required");
      }
      for (int i = 0; i < text.length(); i++) {
        if (Character.getType(text.charAt(i)) == Character.CONTROL) {
          throw Denial.failClosed("tool_name has control characters");
        }
      }
      if (GoText.trim(text).length() != text.length()) {
        throw Denial.failClosed("tool_name has white space around it");
      }
      return text;
    }

    /** The first that is not blank of these, each looked for in the event, its context and its metadata. */
    private @Nullable String first(String... names) throws Denial {
      String found = null;
      for (String name : names) {
        for (String place : new String[] {"", "context", "metadata"}) {
          Object value;
          if (place.isEmpty()) {
            value = Json.get(known, name);
          } else {
            Object inner = Json.get(known, place);
            if (inner != null && !(inner instanceof Map)) {
              throw Denial.failClosed(place + " is not an object");
            }
            value = inner == null ? null : Json.get((Map<?, ?>) inner, name);
          }
          if (value != null && !(value instanceof String)) {
            throw Denial.failClosed(name + " is not a string");
          }
          if (found == null && value != null && !GoText.trim((String) value).isEmpty()) {
            found = GoText.trim((String) value);
          }
        }
      }
      return found;
    }
  }
}
