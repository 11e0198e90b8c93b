package dev.evalops.hook.install;

import dev.evalops.hook.install.TomlDocument.Kind;
import dev.evalops.hook.install.TomlDocument.Statement;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/** The hook's entry in Codex's {@code config.toml}, or in its managed {@code requirements.toml}. */
final class CodexConfig implements HostSettings {
  private static final List<String> GROUP = List.of("hooks", "PreToolUse");
  private static final List<String> HANDLER = List.of("hooks", "PreToolUse", "hooks");
  private static final String NOTE = "# Written by \"evalops-agent-hook install\".";
  private static final Pattern WRITTEN =
      Pattern.compile("(\\r?\\n)?" + Pattern.quote(NOTE) + "\\s*\\z");
  private static final String MANAGED_ONLY = "allow_managed_hooks_only";

  private final boolean managed;
  private final String home;

  /**
   * The settings of one user, or of all.
   *
   * @param home the folder of the hook, which managed settings name
   */
  CodexConfig(boolean managed, String home) {
    this.managed = managed;
    this.home = home;
  }

  @Override
  public String install(String text, String command) throws NotUnderstoodException {
    TomlDocument toml = TomlDocument.parse(text);
    Content content = Content.of(toml);
    String newline = text.contains("\r\n") ? "\r\n" : "\n";
    Edits edits = new Edits(text);
    StringBuilder appended = new StringBuilder();
    if (managed) {
      rootKey(content, text, edits, newline);
      TableKeys keys = new TableKeys(toml, edits, appended, newline);
      keys.set(content.features, "features", "hooks", "true", true);
      keys.set(content.hooks, "hooks", "managed_dir", quote(home), false);
    } else if (isFalse(content.features, "hooks", toml)) {
      throw new NotUnderstoodException(
          "[features] hooks is false in it: no hook runs; remove that first");
    }
    List<Group> ours = content.ours();
    if (ours.size() > 1) {
      throw new NotUnderstoodException(
          "it has more than one entry of " + NAME + "; remove all but one");
    }
    if (ours.isEmpty()) {
      appended.append('\n').append(NOTE).append('\n').append(group(command));
    } else if (!isAsWritten(ours.get(0), command)) {
      Group group = ours.get(0);
      group.checkAlone();
      edits.replace(group.start, group.end, group(command).strip().replace("\n", newline));
    }
    if (appended.length() > 0) {
      String before = text.isBlank() ? "" : text.endsWith("\n") ? "" : newline;
      String block =
          text.isBlank() && !managed ? appended.toString().stripLeading() : appended.toString();
      edits.insert(text.length(), before + block.replace("\n", newline));
    }
    return edits.apply();
  }

  @Override
  public String uninstall(String text) throws NotUnderstoodException {
    TomlDocument toml = TomlDocument.parse(text);
    Edits edits = new Edits(text);
    for (Group group : Content.of(toml).ours()) {
      group.checkAlone();
      int start = group.start;
      Matcher note = WRITTEN.matcher(text.substring(0, start));
      if (note.find()) {
        start = note.start();
      }
      int line = text.indexOf('\n', group.end);
      edits.replace(start, line < 0 ? text.length() : line + 1, "");
    }
    return edits.apply();
  }

  @Override
  public List<String> problems(String text, List<String> dropIns, String command)
      throws NotUnderstoodException {
    TomlDocument toml = TomlDocument.parse(text);
    Content content = Content.of(toml);
    List<String> problems = new ArrayList<>();
    if (managed) {
      Statement only = content.root.get(MANAGED_ONLY);
      if (only == null || !toml.value(only).equals("true")) {
        problems.add(MANAGED_ONLY + " is not true: hooks of users and repositories run as well");
      }
      Statement hooks = content.features == null ? null : content.features.keys.get("hooks");
      if (hooks == null || !toml.value(hooks).equals("true")) {
        problems.add("[features] hooks is not true: a repository can switch the hook off");
      }
    } else if (isFalse(content.features, "hooks", toml)) {
      problems.add("[features] hooks is false: no hook runs");
    }
    List<Group> ours = content.ours();
    if (ours.isEmpty()) {
      problems.add("there is no entry of " + NAME + " in hooks.PreToolUse");
    } else if (ours.size() > 1) {
      problems.add("there is more than one entry of " + NAME);
    } else if (!isAsWritten(ours.get(0), command)) {
      problems.add(
          "the entry of " + NAME + " is not as it was written (matcher, command, timeout)");
    }
    return problems;
  }

  private static void rootKey(Content content, String text, Edits edits, String newline) {
    Statement only = content.root.get(MANAGED_ONLY);
    if (only != null) {
      edits.replace(only.valueStart(), only.end(), "true");
      return;
    }
    // A key of the root must stand before the first table.
    edits.insert(0, MANAGED_ONLY + " = true" + newline + (text.isBlank() ? "" : newline));
  }

  /** Sets keys of tables, which are appended if they are not there. */
  private record TableKeys(TomlDocument toml, Edits edits, StringBuilder appended, String newline) {
    void set(@Nullable Table table, String name, String key, String value, boolean must) {
      if (table == null) {
        appended
            .append("\n[")
            .append(name)
            .append("]\n")
            .append(key)
            .append(" = ")
            .append(value)
            .append('\n');
        return;
      }
      Statement there = table.keys.get(key);
      if (there == null) {
        int end = toml.endOfLine(table.header.end());
        edits.insert(end, newline + key + " = " + value);
      } else if (must && !toml.value(there).equals(value)) {
        edits.replace(there.valueStart(), there.end(), value);
      }
    }
  }

  private static boolean isFalse(@Nullable Table table, String key, TomlDocument toml) {
    Statement there = table == null ? null : table.keys.get(key);
    return there != null && toml.value(there).equals("false");
  }

  private static String group(String command) {
    return "[[hooks.PreToolUse]]\nmatcher = \".*\"\n\n[[hooks.PreToolUse.hooks]]\ntype = \"command\"\ncommand = "
        + quote(command)
        + "\ntimeout = 600\nstatusMessage = " + quote(STATUS_MESSAGE) + "\n";
  }

  private static boolean isAsWritten(Group group, String command) {
    return group.keys.equals(Map.of("matcher", ".*"))
        && group.handlers.equals(List.of(Map.of(
            "type",
            "command",
            "command",
            command,
            "timeout",
            "600",
            "statusMessage",
            STATUS_MESSAGE)));
  }

  private static String quote(String string) {
    return JsonDocument.quote(string);
  }

  private static final class Table {
    final Statement header;
    final Map<String, Statement> keys = new LinkedHashMap<>();

    Table(Statement header) {
      this.header = header;
    }
  }

  /** An element of hooks.PreToolUse; the values are strings without their quotes, others as they are written. */
  private static final class Group {
    final int start;
    int end;
    final Map<String, String> keys = new LinkedHashMap<>();
    final List<Map<String, String>> handlers = new ArrayList<>();

    /** Whether another table stands between the headers, which is nobody's business but its owner's. */
    boolean parted;

    Group(Statement header) {
      start = header.start();
      end = header.end();
    }

    /** Whether its text holds nothing else, so that it can be replaced. */
    void checkAlone() throws NotUnderstoodException {
      if (handlers.size() > 1) {
        throw new NotUnderstoodException(
            "its entry of " + NAME + " shares a matcher with other hooks; remove that entry");
      }
      if (parted) {
        throw new NotUnderstoodException(
            "its entry of " + NAME + " has another table within it; remove that entry");
      }
    }
  }

  /** What matters to us in the file. */
  private static final class Content {
    final Map<String, Statement> root = new LinkedHashMap<>();
    final List<Group> groups = new ArrayList<>();

    @Nullable
    Table features;

    @Nullable
    Table hooks;

    static Content of(TomlDocument toml) throws NotUnderstoodException {
      Content content = new Content();
      List<String> table = List.of();
      Table known = null;
      for (Statement statement : toml.all()) {
        List<String> path = statement.path();
        if (statement.kind() == Kind.KEY) {
          content.key(table, known, statement, toml);
          continue;
        }
        List<String> before = table;
        table = path;
        known = null;
        boolean array = statement.kind() == Kind.ARRAY_OF_TABLES;
        if (path.equals(List.of("features")) && !array) {
          known = content.features = new Table(statement);
        } else if (path.equals(List.of("hooks")) && !array) {
          known = content.hooks = new Table(statement);
        } else if (path.equals(GROUP) && array) {
          content.groups.add(new Group(statement));
        } else if (path.equals(HANDLER) && array && !content.groups.isEmpty()) {
          Group group = content.last();
          group.parted |= !before.equals(GROUP) && !before.equals(HANDLER);
          group.handlers.add(new LinkedHashMap<>());
          group.end = statement.end();
        } else if (path.get(0).equals("features")
            || path.equals(List.of("hooks"))
            || (path.size() > 1 && path.subList(0, 2).equals(GROUP))) {
          throw new NotUnderstoodException(
              "it has [" + String.join(".", path) + "] in a form that we do not understand");
        }
      }
      return content;
    }

    private void key(
        List<String> table, @Nullable Table known, Statement statement, TomlDocument toml)
        throws NotUnderstoodException {
      List<String> path = statement.path();
      String name = path.get(0);
      if (known != null
          && (path.size() > 1 || (table.equals(List.of("hooks")) && name.equals("PreToolUse")))) {
        throw new NotUnderstoodException("it has " + String.join(".", table) + "."
            + String.join(".", path) + " in a form that we do not understand");
      }
      if (table.isEmpty()) {
        if (name.equals("hooks")
            || name.equals("features")
            || (name.equals(MANAGED_ONLY) && path.size() > 1)) {
          throw new NotUnderstoodException(
              "it has " + name + " as a key, which we do not understand; write it as a table");
        }
        root.put(name, statement);
      } else if (known != null) {
        known.keys.put(name, statement);
      } else if (table.equals(GROUP) || table.equals(HANDLER)) {
        Group group = last();
        if (path.size() > 1 || name.equals("hooks")) {
          throw new NotUnderstoodException(
              "it has hooks.PreToolUse in a form that we do not understand");
        }
        String string = toml.string(statement);
        Map<String, String> keys =
            table.equals(GROUP) ? group.keys : group.handlers.get(group.handlers.size() - 1);
        // What is not a string is never equal to one that looks like it.
        keys.put(name, string == null || string.equals("600") ? toml.value(statement) : string);
        group.end = statement.end();
      }
    }

    private Group last() {
      return groups.get(groups.size() - 1);
    }

    List<Group> ours() {
      List<Group> ours = new ArrayList<>();
      for (Group group : groups) {
        if (group.handlers.stream()
            .anyMatch(handler -> Objects.toString(handler.get("command"), "").contains(NAME))) {
          ours.add(group);
        }
      }
      return ours;
    }
  }
}
