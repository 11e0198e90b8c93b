package dev.evalops.hook;

import org.jspecify.annotations.Nullable;

/** Enums of protobuf in JSON: a name, or its number. */
final class Enums {
  private static final String UNKNOWN = "";

  private Enums() {}

  /**
   * The name of a value.
   *
   * @param value as read; may be null
   * @param names in the order of their numbers
   * @return one of the names, or an empty text
   */
  static String name(@Nullable Object value, String[] names) {
    for (int number = 0; number < names.length; number++) {
      if (names[number].equals(value)
          || (value instanceof Json.Numeral given && given.text().equals(String.valueOf(number)))) {
        return names[number];
      }
    }
    return UNKNOWN;
  }
}
