package dev.evalops.runtime.idempotency;

import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.sql.Array;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Wrapper;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A transaction that the handler works in and cannot end, by whatever way it comes to the connection. */
final class TransactionConnection implements InvocationHandler {
  private static final Logger LOG = LoggerFactory.getLogger(Idempotency.class);

  /** What leads back to the connection. */
  private static final List<Class<?>> PARTS = List.of(
      CallableStatement.class,
      PreparedStatement.class,
      Statement.class,
      ResultSet.class,
      DatabaseMetaData.class,
      Array.class);

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
    return switch (method.getName()) {
      case "equals" -> args != null && proxy == args[0];
      case "hashCode" -> System.identityHashCode(proxy);
      case "toString" -> "transaction of a request on " + connection;
      case "isClosed" -> ended || connection.isClosed();
      case "commit", "close", "abort", "setAutoCommit" -> throw refused(method);
      default -> {
        if (method.getName().equals("rollback") && args == null) {
          throw refused(method);
        }
        yield call(proxy, connection, method, args);
      }
    };
  }

  private @Nullable Object call(
      Object proxy, Object target, Method method, Object @Nullable [] args) throws Throwable {
    if (ended) {
      throw new SQLException("the transaction has ended with its request");
    }
    if (args != null && method.getDeclaringClass() == Wrapper.class) {
      Class<?> wanted = (Class<?>) args[0];
      if (method.getName().equals("isWrapperFor")) {
        return wanted.isInstance(proxy);
      }
      if (wanted.isInstance(proxy)) {
        return proxy;
      }
      throw refused(method);
    }
    return guarded(perform(target, method, args));
  }

  private static @Nullable Object perform(Object target, Method method, Object @Nullable [] args)
      throws Throwable {
    @Nullable Object[] bare = args == null ? new Object[0] : args.clone();
    for (int i = 0; i < bare.length; i++) {
      Object each = bare[i];
      if (each != null
          && Proxy.isProxyClass(each.getClass())
          && Proxy.getInvocationHandler(each) instanceof Part part) {
        bare[i] = part.target; // drivers know their own
      }
    }
    try {
      return method.invoke(target, bare);
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
  }

  private @Nullable Object guarded(@Nullable Object result) {
    if (result instanceof Connection) {
      return forHandler;
    }
    for (Class<?> type : PARTS) {
      if (type.isInstance(result)) {
        return Proxy.newProxyInstance(
            TransactionConnection.class.getClassLoader(), new Class<?>[] {type}, new Part(result));
      }
    }
    return result;
  }

  /** A statement or the like. */
  private final class Part implements InvocationHandler {
    private final Object target;

    Part(Object target) {
      this.target = target;
    }

    @Override
    @SuppressWarnings("ReferenceEquality") // the same statement, not an equal one
    public @Nullable Object invoke(Object proxy, Method method, Object @Nullable [] args)
        throws Throwable {
      return switch (method.getName()) {
        case "equals" ->
          args != null
              && args[0] != null
              && Proxy.isProxyClass(args[0].getClass())
              && Proxy.getInvocationHandler(args[0]) instanceof Part other
              && other.target == target;
        case "hashCode" -> System.identityHashCode(target);
        case "toString", "close", "isClosed" -> perform(target, method, args);
        default -> call(proxy, target, method, args);
      };
    }
  }

  private static SQLException refused(Method method) {
    return new SQLException(method.getName()
        + " is refused: the transaction ends when the handler has returned, with the answer");
  }
}
