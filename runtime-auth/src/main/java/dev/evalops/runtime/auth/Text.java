package dev.evalops.runtime.auth;

import java.util.Objects;
import java.util.Optional;

/**
 * White space as Go's {@code unicode.IsSpace} has it, so that Go and Java services agree; {@code strip} and {@code
 * trim} differ.
 */
final class Text {
  private Text() {}

  static String trim(String text) {
    int start = 0;
    int end = text.length();
    while (start < end && isSpace(text.charAt(start))) {
      start++;
    }
    while (start < end && isSpace(text.charAt(end - 1))) {
      end--;
    }
    return text.substring(start, end);
  }

  static boolean isBlank(String text) {
    for (int i = 0; i < text.length(); i++) {
      if (!isSpace(text.charAt(i))) {
        return false;
      }
    }
    return true;
  }

  /** A blank text is absent. */
  static Optional<String> unblank(String name, Optional<String> text) {
    return Objects.requireNonNull(text, name).filter(value -> !isBlank(value));
  }

  private static boolean isSpace(char c) {
    return (c >= '\t' && c <= '\r') || c == 0x85 || Character.isSpaceChar(c);
  }
}
