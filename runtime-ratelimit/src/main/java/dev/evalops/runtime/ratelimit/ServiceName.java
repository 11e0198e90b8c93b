package dev.evalops.runtime.ratelimit;

/** The name of a service as metrics and Redis keys begin with it. */
final class ServiceName {
  private ServiceName() {}

  /**
   * Lower case, everything but letters and digits an underscore, none at the ends; never empty and never begins with 0
   * to 9.
   */
  static String prefix(String service) {
    StringBuilder name = new StringBuilder(service.length());
    service
        .codePoints()
        .map(c -> Character.isLetter(c) || Character.isDigit(c) ? Character.toLowerCase(c) : '_')
        .forEach(name::appendCodePoint);
    int start = 0;
    int end = name.length();
    while (start < end && name.charAt(start) == '_') {
      start++;
    }
    while (end > start && name.charAt(end - 1) == '_') {
      end--;
    }
    if (start == end) {
      return "service";
    }
    char first = name.charAt(start);
    return (first >= '0' && first <= '9' ? "service_" : "") + name.substring(start, end);
  }
}
