package dev.evalops.runtime.natsbus;

import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/** Keeps the user-info of NATS URLs out of what is said. */
final class Secrets {
  private static final Pattern USER_INFO = Pattern.compile("[^/\\s,\\[\\]]*@");

  private Secrets() {}

  static String hide(@Nullable String text) {
    return text == null ? "" : USER_INFO.matcher(text.replaceAll("\\s+", " ")).replaceAll("");
  }

  /** The throwable if no message of its chain holds such a thing, else nothing. */
  static @Nullable Throwable harmless(@Nullable Throwable failure) {
    int depth = 0;
    for (Throwable each = failure; each != null && depth < 20; each = each.getCause(), depth++) {
      String message = each.getMessage();
      if (message != null && USER_INFO.matcher(message).find()) {
        return null;
      }
    }
    return failure;
  }
}
