package dev.evalops.hook;

import org.jspecify.annotations.Nullable;

/**
 * The text that the hosts show and give to the model: one line, at most 2,000 characters, valid Unicode without control
 * or invisible formatting characters, never blank.
 */
final class Reason {
  private static final String PROGRAM = "evalops-agent-hook: ";
  private static final String UNSPECIFIED = Denial.FAIL_CLOSED + "no reason was given";
  private static final String MASK = "[secret]";
  private static final int LIMIT = 2000;

  private Reason() {}

  /**
   * Makes a reason of any text.
   *
   * @param secret masked wherever it occurs
   */
  static String of(String text, @Nullable String secret) {
    String masked = secret == null || secret.isEmpty() ? text : text.replace(secret, MASK);
    StringBuilder line = new StringBuilder(PROGRAM);
    boolean space = true;
    for (int i = 0; i < masked.length() && line.length() < LIMIT; ) {
      int c = masked.codePointAt(i);
      i += Character.charCount(c);
      if (isSpace(c)) {
        if (!space) {
          line.append(' ');
        }
        space = true;
      } else if (!isHidden(c)) {
        line.appendCodePoint(Character.getType(c) == Character.SURROGATE ? '\ufffd' : c);
        space = false;
      }
    }
    if (line.length() == PROGRAM.length()) {
      line.append(UNSPECIFIED);
    }
    if (line.length() >= LIMIT) {
      int end = LIMIT - 1;
      line.setLength(Character.isHighSurrogate(line.charAt(end - 1)) ? end - 1 : end);
      line.append('\u2026');
    }
    return line.toString();
  }

  private static boolean isSpace(int c) {
    return Character.getType(c) == Character.CONTROL || GoText.isSpace(c);
  }

  /** Such as the marks that turn the direction of text around. */
  private static boolean isHidden(int c) {
    return Character.getType(c) == Character.FORMAT;
  }

  /** The one line of standard output that both hosts take for a "no". */
  static String hostLine(String reason) {
    StringBuilder line = new StringBuilder(reason.length() + 128);
    line.append("{\"hookSpecificOutput\":{\"hookEventName\":\"PreToolUse\","
        + "\"permissionDecision\":\"deny\",\"permissionDecisionReason\":");
    Json.quote(reason, line);
    return line.append("}}\n").toString();
  }
}
