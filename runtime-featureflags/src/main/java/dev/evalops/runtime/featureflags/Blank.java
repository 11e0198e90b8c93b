package dev.evalops.runtime.featureflags;

/**
 * White space as Unicode has it and as other readers of the file trim it: {@link String#strip} and {@code trim} both
 * differ.
 */
final class Blank {
  private Blank() {}

  static String trim(String text) {
    int start = start(text);
    int end = end(text, start);
    return start == 0 && end == text.length() ? text : text.substring(start, end);
  }

  /** Where the text begins; its length if there is none. */
  static int start(String text) {
    int start = 0;
    while (start < text.length() && isBlank(text.charAt(start))) {
      start++;
    }
    return start;
  }

  /** The end of a text that begins at start. */
  static int end(String text, int start) {
    int end = text.length();
    while (end > start && isBlank(text.charAt(end - 1))) {
      end--;
    }
    return end;
  }

  private static boolean isBlank(char c) {
    if (c < 0x80) {
      return c == ' ' || (c >= '\t' && c <= '\r');
    }
    return switch (c) {
      case 0x85, 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000 -> true;
      default -> c >= 0x2000 && c <= 0x200a;
    };
  }
}
