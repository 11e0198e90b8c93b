package dev.evalops.runtime.idempotency;

import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ErrorResponse;
import dev.evalops.runtime.errors.FailureKind;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.RequestContext;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLTransientConnectionException;
import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One attempt at a request, with its transaction if the handler has asked for one. Ends with {@link #finish} or {@link
 * #abandon}. Belongs to the thread of the request.
 */
final class Execution {
  static final RequestContext.Key<Execution> KEY = RequestContext.Key.of("idempotency");

  private static final Logger LOG = LoggerFactory.getLogger(Idempotency.class);

  private final Idempotency idempotency;
  private final IdempotencyStore.Claim claim;
  private @Nullable TransactionConnection transaction;

  /** That of {@link Idempotency.Builder#transactions}. */
  private Transactions.@Nullable Transaction owned;

  private boolean ownedHasEnded;
  private boolean ended;

  Execution(Idempotency idempotency, IdempotencyStore.Claim claim) {
    this.idempotency = idempotency;
    this.claim = claim;
  }

  /** Begins the transaction that somebody else owns, if there is to be one. */
  void begin() {
    Transactions transactions = idempotency.transactions();
    if (transactions != null) {
      try {
        owned = transactions.begin();
      } catch (SQLException | RuntimeException e) {
        throw ServiceException.of(code(e, ErrorCode.INTERNAL_ERROR), e)
            .op("idempotency.transaction");
      }
    }
  }

  Connection transaction() throws SQLException {
    if (!(idempotency.store() instanceof PostgresStore store)) {
      throw new IllegalStateException("a transaction needs Idempotency.of(db) or"
          + " Idempotency.builder(db), not your own store");
    }
    if (ended) {
      throw new IllegalStateException("the outcome of this request is settled already");
    }
    if (transaction == null) {
      transaction = owned == null
          ? new TransactionConnection(store.transaction(), false)
          : new TransactionConnection(owned.connection(), true);
    }
    return transaction.forHandler();
  }

  /**
   * Settles the outcome of a request whose response is too large to be kept, before its first byte goes out.
   *
   * @throws IllegalStateException if there is a transaction: the response would have to wait for its commit
   */
  void finishTooLarge(int status, Map<String, String> headers) {
    if (transaction != null || owned != null) {
      throw new IllegalStateException(
          "the response of a request with a transaction is larger than maxResponse");
    }
    StoredResponse own = new StoredResponse(status, "", Map.of(), new byte[0]);
    if (own.isFinal()) {
      Map<String, String> kept = new HashMap<>(headers);
      kept.remove("Content-Encoding"); // of the body that is not kept
      ErrorResponse told = ErrorResponse.of(Idempotency.RESPONSE_TOO_LARGE);
      finish(new StoredResponse(
          told.status(), "application/json", kept, told.toJson().getBytes(StandardCharsets.UTF_8)));
    } else {
      abandon();
    }
  }

  /**
   * Keeps the response, together with the transaction.
   *
   * @throws ServiceException if the response must not go out
   */
  void finish(StoredResponse response) {
    if (ended) {
      return;
    }
    if (owned != null && response.isFinal()) {
      commit(owned, response);
      ended = true;
    } else if (transaction != null && response.isFinal()) {
      commit(transaction, response);
      ended = true;
      transaction.close(connection -> {});
    } else if (transaction != null || owned != null) {
      abandon();
    } else {
      // Before the store is asked: whatever it says, this attempt cannot be undone any more.
      ended = true;
      if (!idempotency.finish(claim, response)) {
        throw ServiceException.of(Idempotency.IN_PROGRESS).op("idempotency.finish");
      }
    }
  }

  private void commit(TransactionConnection transaction, StoredResponse response) {
    boolean kept;
    boolean interrupted = Thread.interrupted(); // else drivers could give up half-way
    try {
      Connection connection = transaction.forCommit();
      kept = ((PostgresStore) idempotency.store()).complete(connection, claim, response);
      if (kept) {
        connection.commit();
        transaction.committed();
      }
    } catch (SQLException e) {
      LOG.atError()
          .addKeyValue("error", e.toString())
          .addKeyValue("scope", claim.scope())
          .setCause(e)
          .log("failed to persist idempotent response");
      throw ServiceException.of(code(e, Idempotency.FAILED), e).op("idempotency.commit");
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
    if (!kept) {
      Idempotency.overtaken(claim);
      throw ServiceException.of(Idempotency.IN_PROGRESS).op("idempotency.commit");
    }
  }

  private void commit(Transactions.Transaction owned, StoredResponse response) {
    boolean interrupted = Thread.interrupted(); // else drivers could give up half-way
    try {
      complete(owned, response);
      ownedHasEnded = true; // also by a commit that fails
      owned.commit();
    } catch (SQLException | RuntimeException e) {
      throw e instanceof ServiceException known
          ? known
          : ServiceException.of(code(e, ErrorCode.INTERNAL_ERROR), e).op("idempotency.commit");
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
    if (transaction != null) {
      transaction.committed();
    }
  }

  private void complete(Transactions.Transaction owned, StoredResponse response) {
    boolean kept;
    try {
      if (transaction != null) {
        transaction.forCommit();
      }
      kept = ((PostgresStore) idempotency.store()).complete(owned.connection(), claim, response);
    } catch (SQLException e) {
      throw ServiceException.of(code(e, Idempotency.FAILED), e).op("idempotency.commit");
    }
    if (!kept) {
      Idempotency.overtaken(claim);
      throw ServiceException.of(Idempotency.IN_PROGRESS).op("idempotency.commit");
    }
  }

  /** The code of a failure of the database: 503 while it is away, else 500. */
  static ErrorCode code(Exception failure, ErrorCode internal) {
    return FailureKind.of(failure) == FailureKind.INTERNAL ? internal : ErrorCode.UNAVAILABLE;
  }

  /**
   * Undoes the request after its handler has thrown.
   *
   * @param route the route, for the log
   */
  void abandon(Throwable failure, String route) {
    if (transaction != null && !ended) {
      Throwable each = failure;
      for (int i = 0; each != null && i < 50; i++, each = each.getCause()) {
        if (each instanceof SQLTransientConnectionException && idempotency.isNews(route)) {
          LOG.atWarn()
              .addKeyValue("route", route)
              .addKeyValue("at", caller(each.getStackTrace()))
              .setCause(each)
              .log(
                  "handler found the connection pool exhausted while holding the connection of its transaction;"
                      + " use that of Idempotency.transaction for every statement");
        }
      }
    }
    abandon();
  }

  /** Who has called the pool. */
  private static String caller(StackTraceElement[] trace) {
    int i = 0;
    while (i < trace.length - 1
        && (trace[i].getClassName().startsWith("com.zaxxer.hikari.")
            || trace[i].getMethodName().equals("getConnection"))) {
      i++;
    }
    return trace.length == 0 ? "unknown" : trace[i].toString();
  }

  /** Undoes what can be undone, and frees the key. Does nothing once the outcome is settled. */
  void abandon() {
    if (ended) {
      return;
    }
    ended = true;
    if (owned != null) {
      if (!ownedHasEnded) {
        rollback(owned);
      }
      idempotency.release(claim);
    } else if (transaction == null || !transaction.close(this::release)) {
      // What is complete is not released: the commit may have come through after all.
      idempotency.release(claim);
    }
  }

  private void rollback(Transactions.Transaction owned) {
    if (transaction != null) {
      transaction.end();
    }
    try {
      owned.rollback();
    } catch (SQLException | RuntimeException e) {
      LOG.atWarn().setCause(e).log("rollback failed");
    }
  }

  /** With the connection that is there: the pool may have no other to give. */
  private void release(Connection connection) throws SQLException {
    ((PostgresStore) idempotency.store()).release(connection, claim);
  }
}
