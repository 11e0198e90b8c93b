package dev.evalops.hook.install;

import java.util.List;

/** The difference between two texts, as {@code diff -u} has it, in one hunk. */
final class UnifiedDiff {
  private static final int CONTEXT = 3;

  private UnifiedDiff() {}

  static String of(String file, String before, String after) {
    List<String> old = lines(before);
    List<String> now = lines(after);
    int head = 0;
    while (head < old.size() && head < now.size() && old.get(head).equals(now.get(head))) {
      head++;
    }
    int tail = 0;
    while (tail < old.size() - head
        && tail < now.size() - head
        && old.get(old.size() - 1 - tail).equals(now.get(now.size() - 1 - tail))) {
      tail++;
    }
    int from = Math.max(0, head - CONTEXT);
    int shown = Math.min(CONTEXT, tail);
    int oldEnd = old.size() - tail + shown;
    int newEnd = now.size() - tail + shown;
    StringBuilder diff = new StringBuilder();
    diff.append("--- ").append(old.isEmpty() ? "/dev/null" : file).append('\n');
    diff.append("+++ ").append(file).append('\n');
    diff.append("@@ -")
        .append(range(from, oldEnd))
        .append(" +")
        .append(range(from, newEnd))
        .append(" @@\n");
    add(diff, ' ', old.subList(from, head));
    add(diff, '-', old.subList(head, old.size() - tail));
    add(diff, '+', now.subList(head, now.size() - tail));
    add(diff, ' ', old.subList(old.size() - tail, oldEnd));
    return diff.toString();
  }

  private static String range(int from, int end) {
    return (end > from ? from + 1 : from) + "," + (end - from);
  }

  private static void add(StringBuilder diff, char sign, List<String> lines) {
    for (String line : lines) {
      diff.append(sign).append(line);
      if (!line.endsWith("\n")) {
        diff.append("\n\\ No newline at end of file\n");
      }
    }
  }

  /** With their line breaks. */
  private static List<String> lines(String text) {
    return text.isEmpty() ? List.of() : List.of(text.split("(?<=\n)", 0));
  }
}
