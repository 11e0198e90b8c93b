package dev.evalops.runtime.redis;

import io.lettuce.core.RedisCommandExecutionException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletionException;

/** What an attempt to connect failed with. */
final class Failures {
  private Failures() {}

  /** A user who may not even ping will not be let in at the next attempt. */
  static boolean isNotPermitted(Throwable failure) {
    return chain(failure).stream()
        .anyMatch(each -> each instanceof RedisCommandExecutionException
            && String.valueOf(each.getMessage()).startsWith("NOPERM"));
  }

  /** All messages of the chain in one line, each once. */
  static String describe(Throwable failure) {
    String text = "";
    for (Throwable each : chain(failure)) {
      if (each instanceof CompletionException) {
        continue;
      }
      String message = each.getMessage() == null ? "" : each.getMessage();
      // The message of some is a bare name, such as that of the host or file.
      String said = message.indexOf(' ') >= 0
          ? message
          : each.getClass().getSimpleName() + (message.isEmpty() ? "" : ": " + message);
      if (!text.contains(said)) {
        text += text.isEmpty() ? said : ": " + said;
      }
    }
    return text.replaceAll("\\s+", " ");
  }

  private static List<Throwable> chain(Throwable failure) {
    List<Throwable> chain = new ArrayList<>();
    Set<Throwable> seen = Collections.newSetFromMap(new IdentityHashMap<>());
    for (Throwable each = failure; each != null && seen.add(each); each = each.getCause()) {
      chain.add(each);
    }
    return chain;
  }
}
