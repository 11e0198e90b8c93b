package dev.evalops.runtime.events;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** How the subjects of events are made. */
final class Subjects {
  private static final String CHANGES = ".changes";

  private Subjects() {}

  static String of(String prefix, String aggregateType, String operation) {
    return prefix + "." + aggregateType + "." + operation;
  }

  /** The prefix, without a last {@code .changes}. */
  static String source(String prefix) {
    return prefix.endsWith(CHANGES)
        ? prefix.substring(0, prefix.length() - CHANGES.length())
        : prefix;
  }

  static void checkToken(String name, String token, List<String> problems) {
    String problem = problem(token, false);
    if (problem != null) {
      problems.add(name + " must be one token of a subject, and " + problem + ": " + token);
    }
  }

  static void checkPrefix(String prefix) {
    String problem = problem(prefix, true);
    if (problem != null) {
      throw new IllegalArgumentException(
          "subjectPrefix must be tokens with dots between them, and " + problem + ": " + prefix);
    }
  }

  private static @Nullable String problem(String text, boolean dots) {
    char before = '.';
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c == '.' && dots && before != '.') {
        before = c;
        continue;
      }
      if (c == '.' || c == '*' || c == '>') {
        return "holds a " + c;
      }
      if (c <= ' ' || c == 127) {
        return "holds a blank or control character";
      }
      if (c > 127) {
        return "holds a character that is not ASCII";
      }
      before = c;
    }
    return before == '.' ? "is empty or ends in a dot" : null;
  }
}
