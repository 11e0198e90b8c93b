package dev.evalops.runtime.idempotency;

import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.sql.Connection;
import java.sql.SQLException;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A transaction that the handler works in and cannot end. */
final class TransactionConnection implements InvocationHandler {
  private static final Logger LOG = LoggerFactory.getLogger(Idempotency.class);

  private final Connection connection;
  private final Connection forHandler;
  private volatile boolean ended;

  TransactionConnection(Connection connection) {
    this.connection = connection;
    this.forHandler = (Connection) Proxy.newProxyInstance(
        TransactionConnection.class.getClassLoader(), new Class<?>[] {Connection.class}, this);
  }

  Connection forHandler() {
    return forHandler;
  }

  /** Takes the connection away from the handler. */
  Connection forCommit() throws SQLException {
    ended = true;
    if (connection.getAutoCommit()) {
      throw new SQLException("the handler has ended the transaction of its request by itself");
    }
    return connection;
  }

  /** Rolls back what is not committed and gives the connection back. */
  void close() {
    ended = true;
    boolean interrupted = Thread.interrupted();
    try (connection) {
      if (!connection.isClosed() && !connection.getAutoCommit()) {
        connection.rollback();
        connection.setAutoCommit(true);
      }
    } catch (SQLException e) {
      LOG.atDebug().setCause(e).log("rollback failed; the server does it when the connection ends");
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  @Override
  @SuppressWarnings("ReferenceEquality") // What Object.equals says.
  public @Nullable Object invoke(Object proxy, Method method, Object @Nullable [] args)
      throws Throwable {
    switch (method.getName()) {
      case "equals" -> {
        return args != null && proxy == args[0];
      }
      case "hashCode" -> {
        return System.identityHashCode(proxy);
      }
      case "isClosed" -> {
        return ended || connection.isClosed();
      }
      case "commit", "close", "abort", "setAutoCommit" -> throw refused(method);
      case "toString" -> {
        return "transaction of a request on " + connection;
      }
      default -> {
        if (ended) {
          throw new SQLException("the transaction has ended with its request");
        }
        if (method.getName().equals("rollback") && args == null) {
          throw refused(method);
        }
      }
    }
    try {
      return method.invoke(connection, args);
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
  }

  private static SQLException refused(Method method) {
    return new SQLException(method.getName()
        + " is refused: the transaction ends when the handler has returned, with the answer");
  }
}
