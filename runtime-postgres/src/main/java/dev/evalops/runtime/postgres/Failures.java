package dev.evalops.runtime.postgres;

import dev.evalops.runtime.errors.FailureKind;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/** Tells permanent failures from the others, and describes a failure in one line. */
final class Failures {
  /** 25001 is what does not run in a transaction, such as CREATE INDEX CONCURRENTLY. */
  private static final Pattern MISTAKE = Pattern.compile("(0A|22|2B|3F|42).*|25001");

  /** Made twice at once by two starting instances; the next attempt finds it made. */
  private static final Set<String> ALREADY_THERE =
      Set.of("42P04", "42P06", "42P07", "42701", "42710", "42723");

  private Failures() {}

  /**
   * Whether no attempt that follows can succeed: what is {@linkplain FailureKind#PERMANENT permanent} for requests,
   * too, a setting that the pool refuses, and bad SQL, unknown settings or missing permissions (SQLSTATE classes 0A,
   * 22, 2B, 3F and 42, and 25001). Everything else can pass, a failure without SQLSTATE too.
   */
  static boolean permanent(Throwable failure) {
    return FailureKind.of(failure) == FailureKind.PERMANENT
        || chain(failure).stream().anyMatch(Failures::isMistake);
  }

  private static boolean isMistake(Throwable failure) {
    if (failure instanceof SQLException sql && sql.getSQLState() != null) {
      String state = sql.getSQLState();
      return MISTAKE.matcher(state).matches() && !ALREADY_THERE.contains(state);
    }
    return failure instanceof IllegalArgumentException;
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
