package dev.evalops.runtime.natsbus;

import java.util.List;
import org.jspecify.annotations.Nullable;

/** The rules of NATS subjects and names. */
final class Subjects {
  /**
   * Of a subject. Servers and clients end the connection at a line of more than 4096 bytes, in which there are a reply
   * subject and numbers, too.
   */
  static final int MAX_LENGTH = 3000;

  private Subjects() {}

  /** What a stream of this prefix takes. */
  static String filter(String prefix) {
    return prefix + ".>";
  }

  /**
   * The prefix as it is used: without white space around it and without one last dot, as peers read the same setting.
   */
  static String prefix(String setting) {
    String stripped = trim(setting);
    return stripped.endsWith(".") ? stripped.substring(0, stripped.length() - 1) : stripped;
  }

  /** Takes off Unicode's white space, as peers do it: {@link String#strip} and {@code trim} both differ. */
  private static String trim(String text) {
    int start = 0;
    int end = text.length();
    while (start < end && isSpace(text.charAt(start))) {
      start++;
    }
    while (end > start && isSpace(text.charAt(end - 1))) {
      end--;
    }
    return text.substring(start, end);
  }

  private static boolean isSpace(char c) {
    return (c >= '\t' && c <= '\r') || c == 0x85 || Character.isSpaceChar(c);
  }

  /** Checks one or more tokens with dots between them. */
  static void checkSubject(String name, String subject, boolean wildcards, List<String> problems) {
    if (subject.length() > MAX_LENGTH) {
      problems.add(name + " must have at most " + MAX_LENGTH + " characters, and it has "
          + subject.length());
      return;
    }
    String[] tokens = subject.split("\\.", -1);
    for (int i = 0; i < tokens.length; i++) {
      String token = tokens[i];
      if (wildcards && (token.equals("*") || (token.equals(">") && i == tokens.length - 1))) {
        continue;
      }
      String problem = tokenProblem(token, false);
      if (problem != null) {
        problems.add(
            name + " must be a NATS subject, and a token of it " + problem + ": " + subject);
        return;
      }
    }
  }

  /** Checks the name of a stream or durable. */
  static void checkName(String name, String value, List<String> problems) {
    String problem = tokenProblem(value, true);
    if (problem != null) {
      problems.add(name + " must be a name that NATS takes, and it " + problem + ": " + value);
    }
  }

  private static @Nullable String tokenProblem(String token, boolean name) {
    if (token.isEmpty()) {
      return "is empty";
    }
    for (int i = 0; i < token.length(); i++) {
      char c = token.charAt(i);
      if (c == '.' || c == '*' || c == '>') {
        return "holds a " + c;
      }
      if (c <= ' ' || c == 127) {
        return "holds a blank or control character";
      }
      if (c > 127) {
        return "holds a character that is not ASCII";
      }
      if (name && (c == '/' || c == '\\')) {
        return "holds a slash";
      }
    }
    return null;
  }

  /** Whether everything on the second subject, which may have wildcards too, is also on the first. */
  static boolean covers(String filter, String subject) {
    String[] wide = filter.split("\\.", -1);
    String[] narrow = subject.split("\\.", -1);
    for (int i = 0; i < wide.length; i++) {
      if (wide[i].equals(">")) {
        return i < narrow.length;
      }
      if (i >= narrow.length
          || narrow[i].equals(">")
          || !(wide[i].equals("*") || wide[i].equals(narrow[i]))) {
        return false;
      }
    }
    return wide.length == narrow.length;
  }
}
