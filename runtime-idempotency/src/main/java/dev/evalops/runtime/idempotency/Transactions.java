package dev.evalops.runtime.idempotency;

import java.sql.Connection;
import java.sql.SQLException;

/**
 * Begins transactions that something else owns, such as Spring, so that its work, the key and the answer commit
 * together. See {@link Idempotency.Builder#transactions}. Implementations are thread-safe; what they return is used by
 * the thread of one request.
 */
@FunctionalInterface
public interface Transactions {
  /**
   * Begins a transaction before the handler runs.
   *
   * @return the transaction, to be ended by one call of {@code commit} or {@code rollback}
   * @throws SQLException if it cannot begin
   */
  Transaction begin() throws SQLException;

  /** One transaction. */
  interface Transaction {
    /**
     * Returns the connection of the transaction, on which the key and the answer are written.
     *
     * @return the connection; not closed by the caller
     * @throws SQLException if there is none
     */
    Connection connection() throws SQLException;

    /**
     * Commits. After an exception the request is answered with an error and its key is freed, unless it has been
     * committed all the same.
     *
     * @throws SQLException if it cannot commit
     */
    void commit() throws SQLException;

    /**
     * Rolls back.
     *
     * @throws SQLException if it cannot
     */
    void rollback() throws SQLException;
  }
}
