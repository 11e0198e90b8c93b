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
    while (start < text.length() && isSpace(text.charAt(start))) {
      start++;
    }
    return start;
  }

  /** The end of a text that begins at start. */
  static int end(String text, int start) {
    int end = text.length();
    while (end > start && isSpace(text.charAt(end - 1))) {
      end--;
    }
    return end;
  }

  private static boolean isSpace(char c) {
    return (c >= '\t' && c <= '\r') || c == 0x85 || Character.isSpaceChar(c);
  }
}
