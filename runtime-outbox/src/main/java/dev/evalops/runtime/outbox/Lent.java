package dev.evalops.runtime.outbox;

import java.sql.Connection;
import java.sql.SQLException;
import javax.sql.DataSource;

/** A connection of the pool in auto-commit mode, on which a server that does not answer is not waited for. */
final class Lent implements AutoCloseable {
  private static final int NETWORK_TIMEOUT_MILLIS = 5000;

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

  <T> T run(Query<T> query) throws SQLException {
    return query.run(connection);
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
