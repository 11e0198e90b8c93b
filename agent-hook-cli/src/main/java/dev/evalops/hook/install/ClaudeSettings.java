package dev.evalops.hook.install;

import dev.evalops.hook.install.JsonDocument.Value;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** The hook's entry in the settings of Claude Code, which are strict JSON. */
final class ClaudeSettings implements HostSettings {
  private static final String MANAGED_ONLY = "allowManagedHooksOnly";

  private final boolean managed;

  ClaudeSettings(boolean managed) {
    this.managed = managed;
  }

  @Override
  public String install(String text, String command) throws NotUnderstoodException {
    if (text.isBlank()) {
      String only = managed ? "  \"" + MANAGED_ONLY + "\": true,\n" : "";
      return "{\n" + only + "  \"hooks\": " + hooks(command).indented("  ", "  ", "\n") + "\n}\n";
    }
    Value root = object(JsonDocument.parse(text), "the file");
    if (isTrue(root.member("disableAllHooks"))) {
      throw new NotUnderstoodException(
          "disableAllHooks is true in it: no hook runs; remove that first");
    }
    Layout layout = Layout.of(text, root);
    Edits edits = new Edits(text);
    List<Member> added = new ArrayList<>();
    if (managed) {
      Value only = root.member(MANAGED_ONLY);
      if (only == null) {
        added.add(new Member(MANAGED_ONLY, Json.of("true")));
      } else if (!isTrue(only)) {
        edits.replace(only.start(), only.end(), "true");
      }
    }
    Value hooks = root.member("hooks");
    if (hooks == null) {
      added.add(new Member("hooks", hooks(command)));
    } else {
      addTo(object(hooks, "hooks"), command, layout, edits);
    }
    layout.append(edits, root, added, 0);
    return edits.apply();
  }

  private static void addTo(Value hooks, String command, Layout layout, Edits edits)
      throws NotUnderstoodException {
    Value groups = hooks.member("PreToolUse");
    if (groups == null) {
      layout.append(edits, hooks, List.of(new Member("PreToolUse", Json.array(group(command)))), 1);
      return;
    }
    List<Value> ours = ours(hooks);
    if (ours.isEmpty()) {
      layout.append(edits, groups, List.of(new Member(null, group(command))), 2);
      return;
    }
    if (ours.size() > 1) {
      throw new NotUnderstoodException(
          "it has more than one entry of " + NAME + "; remove all but one");
    }
    Value group = ours.get(0);
    if (expected(command).equals(group.plain())) {
      return;
    }
    List<Value> handlers = elements(group.member("hooks"), "hooks.PreToolUse[].hooks");
    if (handlers.size() > 1) {
      throw new NotUnderstoodException(
          "its entry of " + NAME + " shares a matcher with other hooks; remove that entry");
    }
    edits.replace(
        group.start(),
        group.end(),
        group(command).indented(layout.indent(3), layout.unit(), layout.newline()));
  }

  @Override
  public List<String> problems(String text, String command) throws NotUnderstoodException {
    List<String> problems = new ArrayList<>();
    Value root = object(JsonDocument.parse(text), "the file");
    if (isTrue(root.member("disableAllHooks"))) {
      problems.add("disableAllHooks is true: no hook runs");
    }
    if (managed && !isTrue(root.member(MANAGED_ONLY))) {
      problems.add(MANAGED_ONLY + " is not true: hooks of users and repositories run as well");
    }
    Value hooks = root.member("hooks");
    List<Value> ours = hooks == null ? List.of() : ours(object(hooks, "hooks"));
    if (ours.isEmpty()) {
      problems.add("there is no entry of " + NAME + " in hooks.PreToolUse");
    } else if (ours.size() > 1) {
      problems.add("there is more than one entry of " + NAME);
    } else if (!expected(command).equals(ours.get(0).plain())) {
      problems.add("the entry of " + NAME
          + " is not as it was written (matcher, command, timeout, onFailure)");
    }
    return problems;
  }

  /** The groups with a handler of ours. */
  private static List<Value> ours(Value hooks) throws NotUnderstoodException {
    List<Value> ours = new ArrayList<>();
    Value groups = hooks.member("PreToolUse");
    if (groups == null) {
      return ours;
    }
    for (Value group : elements(groups, "hooks.PreToolUse")) {
      for (Value handler : elements(
          object(group, "hooks.PreToolUse[]").member("hooks"), "hooks.PreToolUse[].hooks")) {
        Value command = object(handler, "hooks.PreToolUse[].hooks[]").member("command");
        if (command != null && command.content() instanceof String line && line.contains(NAME)) {
          ours.add(group);
        }
      }
    }
    return ours;
  }

  private static Json hooks(String command) {
    return Json.object(new Member("PreToolUse", Json.array(group(command))));
  }

  private static Json group(String command) {
    return Json.object(
        new Member("matcher", Json.of("\"*\"")),
        new Member(
            "hooks",
            Json.array(Json.object(
                new Member("type", Json.of("\"command\"")),
                new Member("command", Json.of(JsonDocument.quote(command))),
                new Member("timeout", Json.of("600")),
                new Member("onFailure", Json.of("\"block\""))))));
  }

  private static Map<String, Object> expected(String command) {
    Map<String, Object> handler = new LinkedHashMap<>();
    handler.put("type", "command");
    handler.put("command", command);
    handler.put("timeout", new BigDecimal(600));
    handler.put("onFailure", "block");
    return Map.of("matcher", "*", "hooks", List.of(handler));
  }

  private static boolean isTrue(@Nullable Value value) {
    return value != null && Boolean.TRUE.equals(value.content());
  }

  private static Value object(Value value, String what) throws NotUnderstoodException {
    if (value.members() == null) {
      throw new NotUnderstoodException(what + " is not a JSON object");
    }
    return value;
  }

  private static List<Value> elements(@Nullable Value value, String what)
      throws NotUnderstoodException {
    List<Value> elements = value == null ? null : value.elements();
    if (elements == null) {
      throw new NotUnderstoodException(what + " is not a JSON array");
    }
    return elements;
  }

  /** A member of an object, or an element (without a name) of an array. */
  private record Member(@Nullable String name, Json value) {}

  /** Something to write: a literal, or an object or array of others. */
  private record Json(String open, List<Member> members, String close) {
    static Json of(String literal) {
      return new Json(literal, List.of(), "");
    }

    static Json object(Member... members) {
      return new Json("{", List.of(members), "}");
    }

    static Json array(Json element) {
      return new Json("[", List.of(new Member(null, element)), "]");
    }

    String indented(String indent, String unit, String newline) {
      if (members.isEmpty()) {
        return open;
      }
      StringBuilder json = new StringBuilder(open);
      String separator = "";
      for (Member member : members) {
        json.append(separator)
            .append(newline)
            .append(indent)
            .append(unit)
            .append(line(member, indent + unit, unit, newline));
        separator = ",";
      }
      return json.append(newline).append(indent).append(close).toString();
    }

    static String line(Member member, String indent, String unit, String newline) {
      String name = member.name() == null ? "" : JsonDocument.quote(member.name()) + ": ";
      return name + member.value().indented(indent, unit, newline);
    }
  }

  /** How the file is written: its line ends and its indentation. */
  private record Layout(String text, String unit, String newline) {
    static Layout of(String text, Value root) {
      String newline = text.contains("\r\n") ? "\r\n" : "\n";
      int first = root.start() + 1;
      int end = first;
      while (" \t\r\n".indexOf(text.charAt(end)) >= 0) {
        end++;
      }
      int line = text.lastIndexOf('\n', end) + 1;
      boolean indented = line > first && end > line && text.charAt(end) == '"';
      return new Layout(text, indented ? text.substring(line, end) : "  ", newline);
    }

    String indent(int depth) {
      return unit.repeat(depth);
    }

    /** Adds members behind the last one of an object or array. */
    void append(Edits edits, Value container, List<Member> members, int depth) {
      if (members.isEmpty()) {
        return;
      }
      int last = container.start() + 1;
      boolean empty = true;
      Map<String, Value> named = container.members();
      for (Value value :
          named == null ? List.copyOf(container.elements()) : List.copyOf(named.values())) {
        last = value.end();
        empty = false;
      }
      String indent = indent(depth + 1);
      StringBuilder added = new StringBuilder();
      for (Member member : members) {
        added
            .append(empty ? "" : ",")
            .append(newline)
            .append(indent)
            .append(Json.line(member, indent, unit, newline));
        empty = false;
      }
      boolean closesOnItsLine = text.substring(last, container.end()).indexOf('\n') < 0;
      edits.insert(last, closesOnItsLine ? added + newline + indent(depth) : added.toString());
    }
  }
}
