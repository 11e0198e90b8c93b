package dev.evalops.hook.install;

import dev.evalops.hook.install.JsonDocument.Value;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * The hook's entries in settings that are strict JSON: for each event a list of handlers, or of groups of handlers with
 * a matcher.
 */
final class JsonSettings implements HostSettings {
  private static final String NO_HOOKS = "disableAllHooks";

  /**
   * What must be set beside the hooks.
   *
   * @param name of a member of the file, or of one of its objects with a dot between
   * @param value a Boolean, or the number that says how the file is to be read
   * @param otherwise what happens when it is not
   */
  private record Switch(String name, Object value, String otherwise) {}

  private final boolean grouped;
  private final List<String> events;
  private final List<Switch> switches;
  private final List<Member> handler;

  private JsonSettings(
      boolean grouped, List<String> events, List<Switch> switches, List<Member> handler) {
    this.grouped = grouped;
    this.events = events;
    this.switches = switches;
    this.handler = handler;
  }

  /**
   * Claude Code's, of one user or of all: a tool call, and a shell command within the text of a skill. Versions that do
   * not know an event pass it by.
   *
   * @param skillsAsk whether the shell commands of skills ask the hook; where they do not, they must not run
   */
  static JsonSettings claude(boolean managed, boolean skillsAsk) {
    List<Switch> switches = new ArrayList<>();
    if (managed) {
      switches.add(
          new Switch("allowManagedHooksOnly", true, "hooks of users and repositories run as well"));
    }
    if (!skillsAsk) {
      switches.add(new Switch(
          "disableSkillShellExecution",
          true,
          "before Claude Code " + Host.SKILLS_ASK + " the shell commands of skills run unasked"));
    }
    return new JsonSettings(
        true,
        List.of("PreToolUse", "PreSkillShellCommand"),
        switches,
        List.of(
            member("timeout", "600"),
            member("onFailure", "\"block\""),
            member("statusMessage", JsonDocument.quote(STATUS_MESSAGE))));
  }

  /** Gemini CLI's, of all users. Its timeouts are in milliseconds. */
  static JsonSettings gemini() {
    return new JsonSettings(
        true,
        List.of("BeforeTool"),
        List.of(new Switch("hooksConfig.enabled", true, "a repository can switch all hooks off")),
        List.of(member("name", "\"" + NAME + "\""), member("timeout", "600000")));
  }

  /** Qwen Code's, of all users. Its timeouts are in milliseconds. */
  static JsonSettings qwen() {
    return new JsonSettings(
        true,
        List.of("PreToolUse"),
        List.of(new Switch(NO_HOOKS, false, "a repository can switch all hooks off")),
        List.of(member("timeout", "60000")));
  }

  /** Cursor's, of all users. Without {@code failClosed} a hook that fails lets the tool run. */
  static JsonSettings cursor() {
    return new JsonSettings(
        false,
        List.of("preToolUse"),
        List.of(new Switch("version", BigDecimal.ONE, "Cursor does not read the file")),
        List.of(member("timeout", "600"), member("failClosed", "true")));
  }

  private static Member member(String name, String literal) {
    return new Member(name, Json.of(literal));
  }

  @Override
  public String install(String text, String command) throws NotUnderstoodException {
    if (text.isBlank()) {
      List<Member> members = new ArrayList<>();
      for (Switch wanted : switches) {
        members.add(written(wanted));
      }
      members.add(new Member("hooks", hooks(command)));
      return Json.object(members.toArray(Member[]::new)).indented("", "  ", "\n") + "\n";
    }
    Value root = object(JsonDocument.parse(text), "the file");
    if (isTrue(root.member(NO_HOOKS)) && !sets(NO_HOOKS)) {
      throw new NotUnderstoodException(
          "disableAllHooks is true in it: no hook runs; remove that first");
    }
    Layout layout = Layout.of(text, root);
    Edits edits = new Edits(text);
    List<Member> added = new ArrayList<>();
    for (Switch wanted : switches) {
      String[] path = wanted.name().split("\\.", -1);
      Value holder = path.length == 1 ? root : root.member(path[0]);
      Value there = holder == null ? null : object(holder, path[0]).member(path[path.length - 1]);
      if (there != null) {
        if (!wanted.value().equals(there.content())) {
          if (!(wanted.value() instanceof Boolean)) {
            throw new NotUnderstoodException("its " + wanted.name() + " is not " + wanted.value());
          }
          edits.replace(there.start(), there.end(), String.valueOf(wanted.value()));
        }
      } else if (holder == null || path.length == 1) {
        added.add(written(wanted));
      } else {
        layout.append(edits, holder, List.of(member(path[1], String.valueOf(wanted.value()))), 1);
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

  private void addTo(Value hooks, String command, Layout layout, Edits edits)
      throws NotUnderstoodException {
    List<Member> added = new ArrayList<>();
    for (String event : events) {
      Value groups = hooks.member(event);
      if (groups == null) {
        added.add(new Member(event, Json.array(group(command))));
        continue;
      }
      List<Value> ours = ours(hooks, event);
      if (ours.isEmpty()) {
        layout.append(edits, groups, List.of(new Member(null, group(command))), 2);
        continue;
      }
      if (ours.size() > 1) {
        throw new NotUnderstoodException(
            "it has more than one entry of " + NAME + "; remove all but one");
      }
      Value group = ours.get(0);
      if (expected(command).equals(group.plain())) {
        continue;
      }
      if (handlers(group, event).size() > 1) {
        throw new NotUnderstoodException(
            "its entry of " + NAME + " shares a matcher with other hooks; remove that entry");
      }
      edits.replace(
          group.start(),
          group.end(),
          group(command).indented(layout.indent(3), layout.unit(), layout.newline()));
    }
    layout.append(edits, hooks, added, 1);
  }

  @Override
  public String uninstall(String text) throws NotUnderstoodException {
    if (text.isBlank()) {
      return text;
    }
    Value root = object(JsonDocument.parse(text), "the file");
    Value hooks = root.member("hooks");
    if (hooks == null) {
      return text;
    }
    Removal removal = new Removal(text);
    List<Value> emptied = new ArrayList<>();
    for (String event : events) {
      Value groups = object(hooks, "hooks").member(event);
      List<Value> whole = new ArrayList<>();
      for (Value group : ours(hooks, event)) {
        List<Value> handlers = new ArrayList<>();
        for (Value handler : handlers(group, event)) {
          if (isOurs(handler, event)) {
            handlers.add(handler);
          }
        }
        if (handlers.size() == handlers(group, event).size()) {
          whole.add(group);
        } else {
          removal.remove(group.member("hooks"), handlers);
        }
      }
      if (groups == null || whole.isEmpty()) {
        continue;
      }
      if (whole.size() == children(groups).size()) {
        emptied.add(groups);
      } else {
        removal.remove(groups, whole);
      }
    }
    if (!emptied.isEmpty() && emptied.size() == children(hooks).size()) {
      removal.remove(root, List.of(hooks));
    } else {
      removal.remove(hooks, emptied);
    }
    return removal.apply();
  }

  @Override
  public List<String> problems(String text, List<String> dropIns, String command)
      throws NotUnderstoodException {
    List<String> problems = new ArrayList<>();
    Value root = object(JsonDocument.parse(text), "the file");
    for (String dropIn : dropIns) {
      root = merged(root, object(JsonDocument.parse(dropIn), "a file that is merged into it"));
    }
    if (isTrue(root.member(NO_HOOKS))) {
      problems.add("disableAllHooks is true: no hook runs");
    }
    for (Switch wanted : switches) {
      Value there = root;
      for (String name : wanted.name().split("\\.", -1)) {
        there = there == null ? null : there.member(name);
      }
      if (there == null || !wanted.value().equals(there.content())) {
        problems.add(wanted.name() + " is not " + wanted.value() + ": " + wanted.otherwise());
      }
    }
    Value hooks = root.member("hooks");
    List<String> missing = new ArrayList<>();
    List<String> several = new ArrayList<>();
    List<String> changed = new ArrayList<>();
    for (String event : events) {
      List<Value> ours = hooks == null ? List.of() : ours(object(hooks, "hooks"), event);
      if (ours.isEmpty()) {
        missing.add("hooks." + event);
      } else if (ours.size() > 1) {
        several.add("hooks." + event);
      } else if (!expected(command).equals(ours.get(0).plain())) {
        changed.add("hooks." + event);
      }
    }
    if (!missing.isEmpty()) {
      problems.add("there is no entry of " + NAME + " in " + String.join(", ", missing));
    }
    if (!several.isEmpty()) {
      problems.add("there is more than one entry of " + NAME + " in " + String.join(", ", several));
    }
    if (!changed.isEmpty()) {
      problems.add("the entry of " + NAME + " in " + String.join(", ", changed)
          + " is not as it was written (" + (grouped ? "matcher, " : "") + "command" + names()
          + ")");
    }
    return problems;
  }

  /**
   * As Claude Code merges its managed settings: objects by name, arrays one after the other, anything else by the later
   * file.
   */
  private static Value merged(Value base, Value over) {
    Map<String, Value> members = base.members();
    Map<String, Value> more = over.members();
    if (members != null && more != null) {
      Map<String, Value> all = new LinkedHashMap<>(members);
      more.forEach((name, value) -> all.merge(name, value, JsonSettings::merged));
      return new Value(base.start(), base.end(), all);
    }
    List<Value> elements = base.elements();
    List<Value> others = over.elements();
    if (elements != null && others != null) {
      List<Value> all = new ArrayList<>(elements);
      for (Value other : others) {
        if (all.stream().noneMatch(value -> Objects.equals(value.plain(), other.plain()))) {
          all.add(other);
        }
      }
      return new Value(base.start(), base.end(), all);
    }
    return over;
  }

  /** The groups of an event with a handler of ours, or the handlers where there are no groups. */
  private List<Value> ours(Value hooks, String event) throws NotUnderstoodException {
    List<Value> ours = new ArrayList<>();
    Value groups = hooks.member(event);
    if (groups == null) {
      return ours;
    }
    for (Value group : elements(groups, "hooks." + event)) {
      boolean found = false;
      for (Value handler : handlers(group, event)) {
        found |= isOurs(handler, event);
      }
      if (found) {
        ours.add(group);
      }
    }
    return ours;
  }

  private List<Value> handlers(Value group, String event) throws NotUnderstoodException {
    if (!grouped) {
      return List.of(group);
    }
    String what = "hooks." + event + "[]";
    return elements(object(group, what).member("hooks"), what + ".hooks");
  }

  private boolean isOurs(Value handler, String event) throws NotUnderstoodException {
    String what = "hooks." + event + (grouped ? "[].hooks[]" : "[]");
    Value command = object(handler, what).member("command");
    return command != null && command.content() instanceof String line && line.contains(NAME);
  }

  /** The values of an object or array, in the order of the text. */
  private static List<Value> children(Value container) {
    Map<String, Value> members = container.members();
    if (members != null) {
      return List.copyOf(members.values());
    }
    List<Value> elements = container.elements();
    return elements == null ? List.of() : elements;
  }

  /** Takes values out of objects and arrays, each with its name and one comma. */
  private static final class Removal {
    private final String text;
    private final Edits edits;

    Removal(String text) {
      this.text = text;
      edits = new Edits(text);
    }

    void remove(@Nullable Value container, List<Value> removed) {
      List<Value> all = container == null ? List.of() : children(container);
      int begin = container == null ? 0 : container.start() + 1; // behind what comes before a value
      boolean kept = false;
      for (int i = 0; i < all.size(); i++) {
        Value value = all.get(i);
        int end = value.end();
        if (!removed.contains(value)) {
          kept = true;
        } else {
          if (!kept && i < all.size() - 1) {
            end = text.indexOf(',', end) + 1;
          }
          edits.replace(begin, end, "");
        }
        begin = end;
      }
    }

    String apply() {
      return edits.apply();
    }
  }

  private static Member written(Switch wanted) {
    String[] path = wanted.name().split("\\.", -1);
    Member last = member(path[path.length - 1], String.valueOf(wanted.value()));
    return path.length == 1 ? last : new Member(path[0], Json.object(last));
  }

  private boolean sets(String name) {
    return switches.stream().anyMatch(wanted -> wanted.name().equals(name));
  }

  private Json hooks(String command) {
    return Json.object(events.stream()
        .map(event -> new Member(event, Json.array(group(command))))
        .toArray(Member[]::new));
  }

  private Json group(String command) {
    List<Member> members = new ArrayList<>();
    if (grouped) {
      members.add(member("type", "\"command\""));
    }
    members.add(member("command", JsonDocument.quote(command)));
    members.addAll(handler);
    Json entry = Json.object(members.toArray(Member[]::new));
    return grouped
        ? Json.object(member("matcher", "\"*\""), new Member("hooks", Json.array(entry)))
        : entry;
  }

  private Object expected(String command) throws NotUnderstoodException {
    return Objects.requireNonNull(
        JsonDocument.parse(group(command).indented("", "", " ")).plain());
  }

  private String names() {
    return handler.stream().map(member -> ", " + member.name()).collect(Collectors.joining());
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
      List<Value> there = children(container);
      boolean empty = there.isEmpty();
      int last = empty ? container.start() + 1 : there.get(there.size() - 1).end();
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
