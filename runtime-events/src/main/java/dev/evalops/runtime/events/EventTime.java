package dev.evalops.runtime.events;

import java.time.DateTimeException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.format.DateTimeFormatter;
import java.time.temporal.ChronoUnit;
import java.util.Locale;
import java.util.regex.Pattern;

/** Times as RFC 3339 writes them. */
final class EventTime {
  static final Instant MIN = Instant.parse("0001-01-01T00:00:00Z");
  static final Instant MAX = Instant.parse("9999-12-31T23:59:59.999999999Z");

  private static final Pattern RFC_3339 =
      Pattern.compile("\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d+)?(Z|[+-]\\d{2}:\\d{2})");
  private static final Pattern BEYOND_NANOS = Pattern.compile("(\\.\\d{9})\\d+");

  /** Most events are published in the second of the one before. */
  private static volatile Second lastWritten = new Second(0, "1970-01-01T00:00:00Z");

  private static volatile Second lastRead = lastWritten;

  private record Second(long epochSecond, String text) {}

  private EventTime() {}

  static boolean canBeWritten(Instant time) {
    return !time.isBefore(MIN) && !time.isAfter(MAX);
  }

  /** In UTC, without what is below a second. */
  static String seconds(Instant time) {
    Second last = lastWritten;
    if (last.epochSecond != time.getEpochSecond()) {
      last = new Second(
          time.getEpochSecond(),
          DateTimeFormatter.ISO_INSTANT.format(time.truncatedTo(ChronoUnit.SECONDS)));
      lastWritten = last;
    }
    return last.text;
  }

  /**
   * Reads a time with any offset. Digits beyond nanoseconds are cut off.
   *
   * @throws IllegalArgumentException if it is none; the message begins with {@code time}
   */
  static Instant parse(String text) {
    Second last = lastRead;
    if (text.equals(last.text)) {
      return Instant.ofEpochSecond(last.epochSecond);
    }
    Instant time = parseAny(text);
    if (time.getNano() == 0) {
      lastRead = new Second(time.getEpochSecond(), text);
    }
    return time;
  }

  private static Instant parseAny(String text) {
    String upper = text.toUpperCase(Locale.ROOT);
    if (!RFC_3339.matcher(upper).matches()) {
      throw new IllegalArgumentException("time: it is not an RFC 3339 time");
    }
    try {
      return OffsetDateTime.parse(BEYOND_NANOS.matcher(upper).replaceFirst("$1"))
          .toInstant();
    } catch (DateTimeException invalid) {
      throw new IllegalArgumentException("time: it is not an RFC 3339 time", invalid);
    }
  }
}
