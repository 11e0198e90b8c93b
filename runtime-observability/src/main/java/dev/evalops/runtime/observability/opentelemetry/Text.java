package dev.evalops.runtime.observability.opentelemetry;

/** White space as Unicode has it, which is neither what {@link String#strip} nor what {@code trim} takes away. */
final class Text {
  private Text() {}

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
