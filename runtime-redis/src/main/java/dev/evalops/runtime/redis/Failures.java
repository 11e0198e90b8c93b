package dev.evalops.runtime.redis;

import io.lettuce.core.RedisCommandExecutionException;
import io.netty.handler.ssl.NotSslRecordException;
import java.io.FileNotFoundException;
import java.nio.file.NoSuchFileException;
import java.security.GeneralSecurityException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletionException;
import javax.net.ssl.SSLException;

/** Tells failures that waiting cannot heal from the others, and says in one line what went wrong. */
final class Failures {
  /** How the server's answers begin that it gives again to every attempt. */
  private static final List<String> FINAL_ANSWERS = List.of(
      "WRONGPASS",
      "NOAUTH",
      "NOPERM",
      "DENIED", // protected mode
      "ERR invalid password", // WRONGPASS before Redis 6
      "ERR AUTH", // a password where the server wants none
      "ERR Client sent AUTH",
      "ERR wrong number of arguments for 'auth' command", // a user name before Redis 6
      "ERR SELECT is not allowed in cluster mode",
      "ERR DB index is out of range",
      "ERR invalid DB index");

  private Failures() {}

  /**
   * Whether no attempt that follows can succeed: credentials, permissions or database that the server refuses, and TLS that either
   * side refuses. Everything else can pass.
   */
  static boolean permanent(Throwable failure) {
    return chain(failure).stream().anyMatch(Failures::permanentItself);
  }

  private static boolean permanentItself(Throwable failure) {
    if (failure instanceof RedisCommandExecutionException && failure.getMessage() != null) {
      return FINAL_ANSWERS.stream().anyMatch(failure.getMessage()::startsWith);
    }
    // Other TLS failures come of a connection that breaks in the handshake, as it does when the
    // server stops.
    return failure instanceof GeneralSecurityException
        || failure instanceof NotSslRecordException
        || (failure instanceof SSLException
            && String.valueOf(failure.getMessage()).contains("fatal alert"))
        || failure instanceof FileNotFoundException
        || failure instanceof NoSuchFileException;
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
