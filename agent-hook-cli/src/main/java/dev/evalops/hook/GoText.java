package dev.evalops.hook;

import java.math.BigDecimal;
import java.time.Duration;

/** White space and durations as the operators of the Go services know them. */
final class GoText {
  private static final long SECOND = 1_000_000_000L;

  private GoText() {}

  /** As Go's {@code unicode.IsSpace}; neither {@link String#strip()} nor {@link String#trim()} agrees with it. */
  static boolean isSpace(int c) {
    if (c < 0x80) {
      return c == ' ' || (c >= '\t' && c <= '\r');
    }
    return c == 0x85
        || c == 0xa0
        || c == 0x1680
        || (c >= 0x2000 && c <= 0x200a)
        || c == 0x2028
        || c == 0x2029
        || c == 0x202f
        || c == 0x205f
        || c == 0x3000;
  }

  static String trim(String text) {
    int begin = 0;
    int end = text.length();
    while (begin < end && isSpace(text.charAt(begin))) {
      begin++;
    }
    while (end > begin && isSpace(text.charAt(end - 1))) {
      end--;
    }
    return text.substring(begin, end);
  }

  /**
   * Reads {@code 1h2m3.5s} or whole seconds.
   *
   * @throws IllegalArgumentException if it is neither, or beyond 292 years; the message completes "the value …"
   */
  static Duration duration(String text) {
    String unsigned = text.startsWith("-") || text.startsWith("+") ? text.substring(1) : text;
    try {
      long nanos = isNumber(unsigned)
          ? Math.multiplyExact(Long.parseLong(unsigned), SECOND)
          : nanos(unsigned);
      return Duration.ofNanos(text.startsWith("-") ? -nanos : nanos);
    } catch (ArithmeticException | NumberFormatException e) {
      throw new IllegalArgumentException("is too long", e);
    }
  }

  private static boolean isNumber(String text) {
    return !text.isEmpty() && digits(text, 0) == text.length();
  }

  private static int digits(String text, int from) {
    int i = from;
    while (i < text.length() && text.charAt(i) >= '0' && text.charAt(i) <= '9') {
      i++;
    }
    return i;
  }

  private static long nanos(String text) {
    long total = 0;
    int i = 0;
    do {
      int point = digits(text, i);
      boolean fraction = point < text.length() && text.charAt(point) == '.';
      int end = fraction ? digits(text, point + 1) : point;
      int digits = end - i - (fraction ? 1 : 0);
      int next = end;
      while (next < text.length() && !isNumberPart(text.charAt(next))) {
        next++;
      }
      long unit = unit(text.substring(end, next));
      if (digits == 0 || unit == 0) {
        throw new IllegalArgumentException("is neither a duration such as 1m30s nor whole seconds");
      }
      if (point > i) {
        long whole = Long.parseLong(text.substring(i, point));
        total = Math.addExact(total, Math.multiplyExact(whole, unit));
      }
      if (end > point + 1) {
        BigDecimal part = new BigDecimal("0" + text.substring(point, end));
        total = Math.addExact(total, part.multiply(BigDecimal.valueOf(unit)).longValue());
      }
      i = next;
    } while (i < text.length());
    return total;
  }

  private static boolean isNumberPart(char c) {
    return c == '.' || (c >= '0' && c <= '9');
  }

  /** In nanoseconds; zero if there is no such unit. */
  private static long unit(String name) {
    return switch (name) {
      case "ns" -> 1;
      case "us", "\u00b5s", "\u03bcs" -> 1_000; // micro sign, Greek mu
      case "ms" -> 1_000_000;
      case "s" -> SECOND;
      case "m" -> 60 * SECOND;
      case "h" -> 3600 * SECOND;
      default -> 0;
    };
  }
}
