package dev.evalops.runtime.outbox;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import javax.sql.DataSource;

/** A connection of the pool in auto-commit mode, on which a server that does not answer is not waited for. */
final class Lent implements AutoCloseable {
  private static final int QUERY_TIMEOUT_SECONDS = 4;
  private static final int NETWORK_TIMEOUT_MILLIS = 5000;
  private static final int MAX_TRIES = 20;
  private static final long MAX_NANOS = 1_000_000_000; // a deadlock takes the database as long

  private final Connection connection;
  private final boolean autoCommit;
  private final int networkTimeout;

  interface Query<T> {
    T run(Connection connection) throws SQLException;
  }

  Lent(DataSource db) throws SQLException {
    connection = db.getConnection();
    try {
      autoCommit = connection.getAutoCommit();
      networkTimeout = connection.getNetworkTimeout();
      connection.setAutoCommit(true);
      connection.setNetworkTimeout(Runnable::run, NETWORK_TIMEOUT_MILLIS);
    } catch (SQLException e) {
      connection.close();
      throw e;
    }
  }

  /**
   * Prepares a statement that is cancelled before the connection is given up: a server process that waits for a lock
   * does not notice that its client has gone, and each further try would leave one more of them.
   */
  static PreparedStatement prepare(Connection connection, String sql) throws SQLException {
    PreparedStatement statement = connection.prepareStatement(sql);
    statement.setQueryTimeout(QUERY_TIMEOUT_SECONDS);
    return statement;
  }

  /**
   * Runs it again when the database rolled it back for the sake of another transaction: in a pool that is serializable
   * a statement of ours meets the service's and another relay's.
   */
  <T> T run(Query<T> query) throws SQLException {
    long begin = System.nanoTime();
    for (int tries = 1; ; tries++) {
      try {
        return query.run(connection);
      } catch (SQLException e) {
        if (!rolledBackForAnother(e)
            || tries == MAX_TRIES
            || System.nanoTime() - begin > MAX_NANOS) {
          throw e;
        }
      }
    }
  }

  private static boolean rolledBackForAnother(SQLException e) {
    return "40001".equals(e.getSQLState())
        || "40P01".equals(e.getSQLState()); // serialization failure, deadlock
  }

  /** Gives it back as it was. */
  @Override
  public void close() throws SQLException {
    try (connection) {
      if (!connection.isClosed()) { // else it is broken
        connection.setNetworkTimeout(Runnable::run, networkTimeout);
        connection.setAutoCommit(autoCommit);
      }
    }
  }
}
