package dev.evalops.runtime.changejournal;

import java.nio.charset.StandardCharsets;
import java.util.Objects;
import java.util.Optional;

/** The texts of both rows. */
final class Text {
  private Text() {}

  /** The text itself, when Postgres can store it: the driver turns half a surrogate pair into a question mark. */
  static String storable(String name, String text) {
    Objects.requireNonNull(text, name);
    if (!isStorable(text)) {
      throw new IllegalArgumentException(name + " must not contain NUL or half a surrogate pair");
    }
    return text;
  }

  static boolean isStorable(String text) {
    return text.indexOf('\0') < 0 && StandardCharsets.UTF_8.newEncoder().canEncode(text);
  }

  /** The id; empty when it is blank. */
  static Optional<String> id(String name, String id) {
    String trimmed = trim(storable(name, id));
    if (trimmed.length() != id.length() && !trimmed.isEmpty()) {
      throw new IllegalArgumentException(name + " must not begin or end with white space");
    }
    return trimmed.isEmpty() ? Optional.empty() : Optional.of(id);
  }

  /**
   * Unicode's white space, as the other writers of the tables trim it: {@link String#strip} and {@code trim} both
   * differ.
   */
  static String trim(String text) {
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
}
