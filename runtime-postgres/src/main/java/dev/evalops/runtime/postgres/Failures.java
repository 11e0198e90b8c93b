package dev.evalops.runtime.postgres;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.file.NoSuchFileException;
import java.security.GeneralSecurityException;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;
import javax.net.ssl.SSLException;
import org.jspecify.annotations.Nullable;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/** Tells failures that waiting cannot heal from the others, and says in one line what went wrong. */
final class Failures {
  /** Made twice at once by two starting replicas; the next attempt finds it made. */
  private static final Set<String> ALREADY_THERE = Set.of("42P04", "42P06", "42P07", "42710");

  private Failures() {}

  /**
   * Whether no attempt that follows can succeed: refused credentials or roles (SQLSTATE class 28), an unknown database (3D000),
   * missing permissions, bad SQL and unknown settings (42, 22), features that the server lacks (0A), and TLS that either side
   * refuses. Everything else can pass, a failure without SQLSTATE too.
   */
  static boolean permanent(Throwable failure) {
    return chain(failure).stream().anyMatch(Failures::permanentItself);
  }

  private static boolean permanentItself(Throwable failure) {
    if (failure instanceof IllegalArgumentException) {
      return true; // a setting that the pool refuses
    }
    if (failure instanceof SSLException || failure instanceof GeneralSecurityException) {
      return !cutOff(failure);
    }
    if (!(failure instanceof SQLException sql) || sql.getSQLState() == null) {
      return false;
    }
    String state = sql.getSQLState();
    if (state.equals("08006")
        && failure instanceof PSQLException driver
        && driver.getServerErrorMessage() == null) {
      // The driver's own, also for a certificate, key or host name that does not do.
      return !cutOff(failure);
    }
    return switch (state.substring(0, Math.min(2, state.length()))) {
      case "28", "22", "0A" -> true;
      case "42" -> !ALREADY_THERE.contains(state);
      default -> state.equals("3D000") || state.equals("08004");
    };
  }

  /** Whether the connection broke, as it does when the server stops; a bad key or certificate can have such a cause too. */
  private static boolean cutOff(Throwable failure) {
    List<Throwable> chain = chain(failure);
    return chain.stream().noneMatch(GeneralSecurityException.class::isInstance)
        && chain.stream()
            .anyMatch(cause -> cause instanceof IOException
                && !(cause instanceof SSLException)
                && !(cause instanceof FileNotFoundException)
                && !(cause instanceof NoSuchFileException));
  }

  /** The failure of one attempt, with a message in one line and the SQLSTATE of its cause. */
  static SQLException of(String what, Throwable cause) {
    for (Throwable each : chain(cause)) {
      if (each instanceof SQLException sql && sql.getSQLState() != null) {
        return new SQLException(
            what + describe(cause), sql.getSQLState(), sql.getErrorCode(), cause);
      }
    }
    return new SQLException(what + describe(cause), cause);
  }

  private static String describe(Throwable failure) {
    String text = message(failure);
    for (Throwable cause : chain(failure)) {
      String more = message(cause);
      if (!text.contains(more)) {
        text += ": " + more;
      }
    }
    return text.replaceAll("\\s+", " ");
  }

  private static String message(Throwable failure) {
    ServerErrorMessage fromServer =
        failure instanceof PSQLException driver ? driver.getServerErrorMessage() : null;
    @Nullable String text = fromServer != null ? fromServer.getMessage() : failure.getMessage();
    if (text == null || text.isBlank()) {
      return failure.getClass().getSimpleName();
    }
    // The message of some is a bare name, such as that of the host or file.
    return failure instanceof SQLException || text.indexOf(' ') >= 0
        ? text
        : failure.getClass().getSimpleName() + ": " + text;
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
