package dev.evalops.runtime.errors;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.net.BindException;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import java.net.UnknownHostException;
import java.net.http.HttpTimeoutException;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.UnresolvedAddressException;
import java.nio.file.NoSuchFileException;
import java.security.GeneralSecurityException;
import java.sql.SQLException;
import java.sql.SQLInvalidAuthorizationSpecException;
import java.sql.SQLRecoverableException;
import java.sql.SQLTransientException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.TimeoutException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.SSLException;
import org.jspecify.annotations.Nullable;

/**
 * Whether a failure of a dependency can pass. One answer for Postgres (by {@linkplain SQLException#getSQLState()
 * SQLSTATE}, also behind PgBouncer), HikariCP, Lettuce, jnats, {@link java.net.http.HttpClient}, the JDK's network
 * exceptions and those of these modules, whatever they are wrapped in:
 *
 * <pre>{@code
 * } catch (SQLException e) {
 *   if (FailureKind.of(e) == FailureKind.UNAVAILABLE) { … } // try again later
 * }
 * }</pre>
 *
 * <p>{@link ErrorResponse#of(Throwable)} answers the first two with 503 and the last with 500.
 */
public enum FailureKind {
  /**
   * The dependency is away, busy, full or changing its leader, or a transaction lost against another: the same call may
   * succeed later.
   */
  UNAVAILABLE,
  /**
   * The dependency refuses this service: credentials, database, TLS or a setting of the connection. Waiting does not
   * help; somebody has to change something. Stop at start.
   */
  PERMANENT,
  /** Anything else: a bad statement, a violated constraint, a bug. The same call fails again. */
  INTERNAL;

  private static final Set<String> UNAVAILABLE_STATES = Set.of(
      "25006", // read-only: this server is no longer the primary
      "25P03", // idle_in_transaction_session_timeout
      "25P04", // transaction_timeout
      "55P03"); // lock_timeout

  /** PgBouncer gives 08P01 for all that it refuses; these it refuses again. */
  private static final Pattern PGBOUNCER_REFUSAL = Pattern.compile(
      "no such (database|user)|password authentication failed|authentication failed|auth failed"
          + "|unsupported startup parameter|(tls|ssl) required|not allowed to connect"
          + "|transaction blocks not allowed");

  /** HikariCP of itself, and of a connection that it has closed because it was lost. */
  private static final Pattern POOL_CLOSED =
      Pattern.compile("HikariDataSource .* has been closed\\.|Connection is closed");

  private static final List<String> REDIS_UNAVAILABLE = List.of(
      "LOADING",
      "BUSY ",
      "READONLY",
      "MASTERDOWN",
      "CLUSTERDOWN",
      "TRYAGAIN",
      "NOREPLICAS",
      "MISCONF",
      "OOM",
      "UNBLOCKED",
      "EXECABORT", // not run, as a command of it was refused, by a replica for one
      "ERR max number of clients reached");

  private static final List<String> REDIS_REFUSAL = List.of(
      "WRONGPASS",
      "NOAUTH",
      "DENIED", // protected mode
      "ERR invalid password", // WRONGPASS before Redis 6
      "ERR AUTH", // a password where the server wants none
      "ERR Client sent AUTH",
      "ERR wrong number of arguments for 'auth' command", // a user name before Redis 6
      "ERR DB index is out of range",
      "ERR invalid DB index",
      "ERR SELECT is not allowed in cluster mode");

  /** What a command of a script was answered, as Redis says it before version 7, or EXEC itself. */
  private static final Pattern REDIS_INNER = Pattern.compile(
      "(?s)(?:ERR Error running script .*? -|EXECABORT Transaction discarded because of: )"
          + "([A-Z]+ .*)");

  private static final Pattern JETSTREAM_CODE = Pattern.compile("\\[(\\d{5})]");

  private static final Set<String> JETSTREAM_UNAVAILABLE = Set.of(
      "10002", // insufficient resources
      "10008", // the system is temporarily unavailable
      "10009", // the cluster has no leader
      "10023", // insufficient storage
      "10028", // insufficient memory
      "10047", // insufficient storage of the account
      "10077", // the stream is full
      "10109", // the stream is sealed
      "10118", // the stream is offline
      "10120", // the account has no limits, which is none of JetStream
      "10158", // the same message id is being stored
      "10167", // too many requests
      "10194"); // the stream is offline, with a reason

  private static final Set<String> JETSTREAM_REFUSAL = Set.of("10039", "10076"); // not enabled

  private static final Pattern CUT_OFF =
      Pattern.compile("closed|closing|terminated|timed out|reset|aborted");

  /**
   * Returns the kind of a failure: of the {@link ErrorCode} of the first {@link ServiceException} in its chain of
   * causes ({@link #UNAVAILABLE} if the {@linkplain ErrorCode.Retry#SAME_CALL same call} may succeed, else {@link
   * #INTERNAL}); without one, what the exceptions of the chain say, {@link #PERMANENT} before {@link #UNAVAILABLE}; and
   * {@link #INTERNAL} if they say nothing.
   *
   * @param failure any failure
   * @return the kind
   */
  public static FailureKind of(Throwable failure) {
    ServiceException coded = ErrorCode.serviceException(failure);
    if (coded != null) {
      return coded.code().retry() == ErrorCode.Retry.SAME_CALL ? UNAVAILABLE : INTERNAL;
    }
    List<Throwable> chain = chain(failure);
    FailureKind kind = INTERNAL;
    boolean client = false; // whether a client library has thrown what comes next in the chain
    for (int i = 0; i < chain.size(); i++) {
      Throwable each = chain.get(i);
      FailureKind its = ofOne(each, chain.subList(i, chain.size()), client);
      if (its == PERMANENT) {
        return PERMANENT;
      }
      kind = its == UNAVAILABLE ? UNAVAILABLE : kind;
      client |= each instanceof SQLException
          || each instanceof SSLException
          || each.getClass().getName().startsWith("io.lettuce.")
          || each.getClass().getName().startsWith("io.nats.");
    }
    return kind;
  }

  private static FailureKind ofOne(Throwable failure, List<Throwable> chain, boolean client) {
    if (failure instanceof SQLException sql) {
      return ofSql(sql, chain);
    }
    if (failure instanceof SSLException) {
      return cutOff(chain) ? UNAVAILABLE : PERMANENT;
    }
    String name = failure.getClass().getName();
    if (name.startsWith("io.lettuce.core.")) {
      return ofLettuce(failure, name);
    }
    if (name.startsWith("io.nats.client.")) {
      return ofNats(failure, name);
    }
    if (name.equals("dev.evalops.runtime.identity.IdentityException")) {
      return message(failure)
              .matches(
                  "(?s)identity_unavailable.*|issue_service_token: unexpected_status_(5|429).*")
          ? UNAVAILABLE
          : INTERNAL;
    }
    if (name.equals("dev.evalops.runtime.events.PublishException")) {
      return isAway(failure) ? UNAVAILABLE : INTERNAL;
    }
    if (client
        && (failure instanceof GeneralSecurityException
            || failure instanceof FileNotFoundException
            || failure instanceof NoSuchFileException)) {
      return PERMANENT; // a certificate or key that cannot be used
    }
    return isNetwork(failure) ? UNAVAILABLE : INTERNAL;
  }

  private static FailureKind ofSql(SQLException failure, List<Throwable> chain) {
    String state = failure.getSQLState();
    if (failure instanceof SQLInvalidAuthorizationSpecException) {
      return PERMANENT;
    }
    if (state != null && state.length() == 5) {
      switch (state.substring(0, 2)) {
        case "28" -> {
          return PERMANENT;
        }
        case "40", "53", "57" -> {
          return UNAVAILABLE;
        }
        case "08" -> {
          return ofConnection(failure, state, chain);
        }
        default -> {
          if (state.equals("3D000")) {
            return PERMANENT;
          }
          if (UNAVAILABLE_STATES.contains(state) || isStalePlan(state, failure)) {
            return UNAVAILABLE;
          }
        }
      }
    }
    return failure instanceof SQLTransientException // a pool that is exhausted, a time-out
            || failure instanceof SQLRecoverableException
            || (state == null && POOL_CLOSED.matcher(message(failure)).matches())
        ? UNAVAILABLE
        : INTERNAL;
  }

  /** A table was changed since its statement was prepared; the driver prepares it again the next time. */
  private static boolean isStalePlan(String state, SQLException failure) {
    return state.equals("0A000") && message(failure).contains("cached plan must not change");
  }

  private static FailureKind ofConnection(
      SQLException failure, String state, List<Throwable> chain) {
    String text = message(failure).toLowerCase(Locale.ROOT);
    boolean refused = switch (state) {
      case "08004" -> true;
      case "08P01" -> PGBOUNCER_REFUSAL.matcher(text).find();
      // The driver's own state also for a certificate, key or host name that it refuses.
      case "08006" ->
        failure.getClass().getName().equals("org.postgresql.util.PSQLException")
            && !text.matches("(?s)\\p{L}+: .*") // a severity: from the server
            && !cutOff(chain);
      default -> false;
    };
    return refused ? PERMANENT : UNAVAILABLE;
  }

  /**
   * Whether the connection broke, as it does when the server stops; a bad key or certificate can have such a cause too.
   */
  private static boolean cutOff(List<Throwable> chain) {
    return chain.stream().noneMatch(GeneralSecurityException.class::isInstance)
        && chain.stream()
            .anyMatch(cause -> (cause instanceof IOException
                    && !(cause instanceof SSLException)
                    && !(cause instanceof FileNotFoundException)
                    && !(cause instanceof NoSuchFileException))
                || (cause instanceof SSLException
                    && CUT_OFF.matcher(message(cause).toLowerCase(Locale.ROOT)).find()));
  }

  private static FailureKind ofLettuce(Throwable failure, String name) {
    if (isA(failure, "io.lettuce.core.RedisCommandExecutionException")) {
      Matcher inner = REDIS_INNER.matcher(message(failure));
      String answer = inner.matches() ? inner.group(1) : message(failure);
      if (REDIS_REFUSAL.stream().anyMatch(answer::startsWith)) {
        return PERMANENT;
      }
      return REDIS_UNAVAILABLE.stream().anyMatch(answer::startsWith) ? UNAVAILABLE : INTERNAL;
    }
    boolean away = isA(failure, "io.lettuce.core.RedisConnectionException")
        || isA(failure, "io.lettuce.core.RedisCommandTimeoutException")
        || isA(failure, "io.lettuce.core.cluster.PartitionSelectorException")
        // not connected, closed, queue full; with a cause it is a mere wrapper
        || (name.equals("io.lettuce.core.RedisException") && failure.getCause() == null);
    return away ? UNAVAILABLE : INTERNAL;
  }

  private static FailureKind ofNats(Throwable failure, String name) {
    if (name.equals("io.nats.client.AuthenticationException")) {
      return PERMANENT;
    }
    Matcher code = JETSTREAM_CODE.matcher(message(failure));
    if (code.find()) {
      return JETSTREAM_REFUSAL.contains(code.group(1))
          ? PERMANENT
          : JETSTREAM_UNAVAILABLE.contains(code.group(1)) ? UNAVAILABLE : INTERNAL;
    }
    return failure instanceof IOException ? UNAVAILABLE : INTERNAL;
  }

  private static boolean isNetwork(Throwable failure) {
    return (failure instanceof SocketException && !(failure instanceof BindException))
        || failure instanceof SocketTimeoutException
        || failure instanceof UnknownHostException
        || failure instanceof UnresolvedAddressException
        || failure instanceof ClosedChannelException
        || failure instanceof HttpTimeoutException
        || failure instanceof TimeoutException
        // HttpClient and jnats have no type of their own for a connection that is lost or closed
        || (failure instanceof IOException && comesFrom(failure, "jdk.internal.net.http."))
        || ((failure instanceof IOException || failure instanceof IllegalStateException)
            && comesFrom(failure, "io.nats.client."));
  }

  /** By its own word, as it often has no cause; this module knows none of the others. */
  private static boolean isAway(Throwable publishException) {
    try {
      return String.valueOf(
              publishException.getClass().getMethod("reason").invoke(publishException))
          .equals("AWAY");
    } catch (ReflectiveOperationException other) {
      return false;
    }
  }

  /** Whether one of the first frames, the thrower's own, is in this package. */
  private static boolean comesFrom(Throwable failure, String packagePrefix) {
    return Arrays.stream(failure.getStackTrace())
        .limit(3)
        .anyMatch(frame -> frame.getClassName().startsWith(packagePrefix));
  }

  private static boolean isA(Throwable failure, String className) {
    for (Class<?> type = failure.getClass(); type != null; type = type.getSuperclass()) {
      if (type.getName().equals(className)) {
        return true;
      }
    }
    return false;
  }

  private static String message(Throwable failure) {
    @Nullable String message = failure.getMessage();
    return message == null ? "" : message;
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
