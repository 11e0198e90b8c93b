package dev.evalops.runtime.observability;

/** The name of a service as the beginning of its metrics' names. */
final class MetricPrefix {
  private static final String DEFAULT = "service";

  private MetricPrefix() {}

  /** Lower-case, letters and digits; anything else is {@code _}, at the ends nothing. */
  static String of(String service) {
    String name = trim(service);
    StringBuilder prefix = new StringBuilder();
    name.codePoints().forEach(point -> {
      boolean digit = Character.getType(point) == Character.DECIMAL_DIGIT_NUMBER;
      prefix.appendCodePoint(
          digit || Character.isLetter(point) ? Character.toLowerCase(point) : '_');
      if (digit && prefix.length() == Character.charCount(point)) {
        prefix.append('_');
      }
    });
    int start = 0;
    int end = prefix.length();
    while (start < end && prefix.charAt(start) == '_') {
      start++;
    }
    while (end > start && prefix.charAt(end - 1) == '_') {
      end--;
    }
    String bare = prefix.substring(start, end);
    if (bare.isEmpty()) {
      return DEFAULT;
    }
    char first = bare.charAt(0);
    return first >= '0' && first <= '9' ? DEFAULT + "_" + bare : bare;
  }

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

  /** White space as Unicode has it, which is neither what {@link String#strip} nor what {@code trim} takes away. */
  private static boolean isSpace(char c) {
    return (c >= '\t' && c <= '\r') || c == 0x85 || Character.isSpaceChar(c);
  }
}
