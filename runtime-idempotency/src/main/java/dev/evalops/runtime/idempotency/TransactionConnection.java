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
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.locks.ReentrantLock;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A transaction that the handler works in and cannot end, by whatever way it comes to the connection. A statement that
 * fails takes back itself alone, as it would with auto-commit: Postgres would roll back everything, also if the handler
 * has caught the failure and answers. For that there is a savepoint before each statement but the first. They are set
 * here and not by the driver's {@code autosave}, which prepares its own on the server (PgBouncer gives the next
 * transaction another one), and either keeps them all, each with a lock of its own, or releases those of the handler.
 */
final class TransactionConnection implements InvocationHandler {
  private static final Logger LOG = LoggerFactory.getLogger(Idempotency.class);
  private static final String SAVEPOINT = "SAVEPOINT runtime_idempotency";
  private static final String RELEASE = "RELEASE " + SAVEPOINT;
  private static final String ROLLBACK = "ROLLBACK TO " + SAVEPOINT;

  /** Beside {@code execute...}, what sends a command in the transaction. */
  private static final Set<String> COMMANDS = Set.of(
      "insertRow",
      "updateRow",
      "deleteRow",
      "setSavepoint",
      "releaseSavepoint",
      "rollback",
      "setSchema");

  /** SQL that may set, release or return to a savepoint of the handler. */
  private static final Pattern SAVEPOINT_SQL =
      Pattern.compile("\\b(savepoint|release|rollback)\\b", Pattern.CASE_INSENSITIVE);

  /**
   * SQL that ends the transaction. Not found behind other commands, where {@code ; END} may belong to a function's
   * body.
   */
  private static final Pattern ENDING_SQL = Pattern.compile(
      "(commit|end|abort|prepare\\s+transaction|rollback(?!(\\s+(work|transaction))?\\s+to\\b))\\b",
      Pattern.CASE_INSENSITIVE);

  /** Where a failed statement is rolled back to. */
  private enum Point {
    /** The begin of the transaction. */
    BEGIN,
    /** Our savepoint. */
    SAVEPOINT,
    /** Nothing: the last savepoint is, or may be, one of the handler's. */
    NONE
  }

  /** What leads back to the connection. */
  private static final List<Class<?>> PARTS = List.of(
      CallableStatement.class,
      PreparedStatement.class,
      Statement.class,
      ResultSet.class,
      DatabaseMetaData.class,
      Array.class);

  private final Connection connection;
  private final boolean shared;
  private final Connection forHandler;

  /** Held while a command is sent, with its savepoint. */
  private final ReentrantLock lock = new ReentrantLock();

  private Point point;

  /** What has sent the one command since the point, or null. */
  private @Nullable Object last;

  /** The failure with which more than the failed statement was rolled back. */
  private @Nullable Throwable lost;

  /** What waits for the commit. */
  private final Queue<Runnable> afterCommit = new ConcurrentLinkedQueue<>();

  private volatile boolean ended;

  /**
   * Makes one.
   *
   * @param shared whether others work in the transaction, too, and are not seen here: a statement that fails must not
   *     take back what they have done since an earlier one, so a savepoint stands for its statement only
   */
  TransactionConnection(Connection connection, boolean shared) {
    this.connection = connection;
    this.shared = shared;
    this.point = shared ? Point.NONE : Point.BEGIN;
    this.forHandler = (Connection) Proxy.newProxyInstance(
        TransactionConnection.class.getClassLoader(), new Class<?>[] {Connection.class}, this);
  }

  Connection forHandler() {
    return forHandler;
  }

  /** Takes the connection away from the handler. */
  Connection forCommit() throws SQLException {
    ended = true;
    lock.lock();
    try {
      if (lost != null) {
        throw new SQLException(
            "more was rolled back than the statement that failed: " + lost, lost);
      }
    } finally {
      lock.unlock();
    }
    if (connection.getAutoCommit()) {
      throw new SQLException("the handler has ended the transaction of its request by itself");
    }
    return connection;
  }

  /** Takes the connection away from the handler, whose transaction somebody else ends. */
  void end() {
    ended = true;
  }

  /** Runs what waits for the commit. */
  void committed() {
    for (Runnable task = afterCommit.poll(); task != null; task = afterCommit.poll()) {
      try {
        task.run();
      } catch (RuntimeException e) { // the answer goes out all the same
        LOG.atWarn().setCause(e).log("after-commit task failed");
      }
    }
  }

  /** What is done with the connection before it is given back. */
  interface Last {
    void run(Connection connection) throws SQLException;
  }

  /**
   * Rolls back what is not committed and gives the connection back.
   *
   * @param then run after the rollback, in auto-commit mode
   * @return false if the rollback or what followed has failed
   */
  boolean close(Last then) {
    ended = true;
    boolean interrupted = Thread.interrupted();
    try (connection) {
      if (connection.isClosed()) {
        return false;
      }
      if (!connection.getAutoCommit()) {
        connection.rollback();
        connection.setAutoCommit(true);
      }
      then.run(connection);
      return true;
    } catch (SQLException e) {
      LOG.atDebug().setCause(e).log("rollback failed; the server does it when the connection ends");
      return false;
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
        yield call(proxy, connection, connection, takesSavepoint(method, args), method, args);
      }
    };
  }

  private static boolean takesSavepoint(Method method, Object @Nullable [] args) {
    return switch (method.getName()) {
      case "setSavepoint", "releaseSavepoint", "rollback" -> true;
      default -> SAVEPOINT_SQL.matcher(sql(method, args)).find();
    };
  }

  /** The SQL that the call brings, or nothing. */
  private static String sql(Method method, Object @Nullable [] args) {
    String name = method.getName();
    return args != null
            && args.length > 0
            && args[0] instanceof String text
            && (name.startsWith("execute") || name.startsWith("prepare") || name.equals("addBatch"))
        ? text
        : "";
  }

  private static boolean endsTransaction(String sql) {
    int at = 0;
    while (at < sql.length()) {
      char c = sql.charAt(at);
      if (c == ';' || Character.isWhitespace(c)) {
        at++;
      } else if (sql.startsWith("--", at)) {
        while (at < sql.length() && sql.charAt(at) != '\n' && sql.charAt(at) != '\r') {
          at++;
        }
      } else if (sql.startsWith("/*", at)) {
        at = endOfComment(sql, at);
      } else {
        return ENDING_SQL.matcher(sql).region(at, sql.length()).lookingAt();
      }
    }
    return false;
  }

  /** Comments nest. */
  private static int endOfComment(String sql, int begin) {
    int depth = 0;
    for (int at = begin; at < sql.length(); at++) {
      if (sql.startsWith("/*", at)) {
        depth++;
        at++;
      } else if (sql.startsWith("*/", at)) {
        depth--;
        at++;
        if (depth == 0) {
          return at + 1;
        }
      }
    }
    return sql.length();
  }

  /**
   * Calls a method of the connection or of what has come from it.
   *
   * @param origin the statement that the target is or has come from
   * @param savepoints whether it may set, release or return to a savepoint of the handler
   */
  private @Nullable Object call(
      Object proxy,
      Object target,
      Object origin,
      boolean savepoints,
      Method method,
      Object @Nullable [] args)
      throws Throwable {
    if (ended) {
      throw new SQLException("the transaction has ended with its request");
    }
    if (args != null && method.getDeclaringClass() == Wrapper.class) {
      Class<?> wanted = (Class<?>) args[0];
      boolean executor = wanted.equals(Executor.class) && target.equals(connection);
      if (method.getName().equals("isWrapperFor")) {
        return executor || wanted.isInstance(proxy);
      }
      if (executor) {
        return (Executor) afterCommit::add;
      }
      if (wanted.isInstance(proxy)) {
        return proxy;
      }
      throw refused(method);
    }
    if (endsTransaction(sql(method, args))) {
      throw refused(method);
    }
    String name = method.getName();
    Object result = name.startsWith("execute") || COMMANDS.contains(name)
        ? send(target, origin, savepoints, method, args)
        : read(target, origin, method, args);
    return guarded(result, origin, savepoints);
  }

  private @Nullable Object send(
      Object target, Object origin, boolean savepoints, Method method, Object @Nullable [] args)
      throws Throwable {
    lock.lock();
    try {
      if (shared || last != null) {
        try {
          keepLast();
        } catch (SQLException failed) {
          // By something that was not seen here, such as a large object that could not be read.
          lose(failed);
          undo(failed);
          throw failed;
        }
      }
      try {
        Object result = perform(target, method, args);
        last = origin;
        if (savepoints) {
          point = Point.NONE;
        }
        leaveIfShared();
        return result;
      } catch (Throwable failure) {
        undo(failure);
        throw failure;
      }
    } finally {
      lock.unlock();
    }
  }

  private @Nullable Object read(
      Object target, Object origin, Method method, Object @Nullable [] args) throws Throwable {
    try {
      return perform(target, method, args);
    } catch (SQLException failure) {
      lock.lock();
      try {
        if (!ended && (last != null || point != Point.BEGIN)) {
          undoIfFailed(origin, failure);
        }
      } finally {
        lock.unlock();
      }
      throw failure;
    }
  }

  /**
   * A failure of the driver, such as an unknown column, changes nothing; one of the server, as it fetches rows, ends it
   * all.
   */
  @SuppressWarnings("ReferenceEquality") // the same statement, not an equal one
  private void undoIfFailed(Object origin, SQLException failure) {
    boolean onlyItself = !shared && (last == null || last == origin);
    try {
      keepLast();
      leaveIfShared();
    } catch (SQLException failed) {
      if (!onlyItself) {
        lose(failure);
      }
      undo(failure);
    }
  }

  /** Makes the point of return the one behind the last command. Fails if the transaction has. */
  private void keepLast() throws SQLException {
    execute(point == Point.SAVEPOINT ? RELEASE + ";" + SAVEPOINT : SAVEPOINT);
    point = Point.SAVEPOINT;
    last = null;
  }

  private void leaveIfShared() throws SQLException {
    if (shared && point == Point.SAVEPOINT) {
      execute(RELEASE);
      point = Point.NONE;
    }
  }

  /** Returns to the point, so that the handler can continue. If it cannot, nothing will commit. */
  private void undo(Throwable failure) {
    boolean interrupted = Thread.interrupted();
    try {
      if (point == Point.SAVEPOINT) {
        execute(ROLLBACK);
        leaveIfShared();
      } else {
        if (point == Point.NONE) {
          lose(failure);
        }
        connection.rollback();
        point = Point.BEGIN;
      }
      last = null;
    } catch (SQLException e) {
      lose(failure);
      LOG.atDebug().setCause(e).log("rollback to savepoint failed");
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  private void execute(String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  private void lose(Throwable failure) {
    if (lost == null) {
      lost = failure;
    }
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

  private @Nullable Object guarded(@Nullable Object result, Object origin, boolean savepoints) {
    if (result instanceof Connection) {
      return forHandler;
    }
    for (Class<?> type : PARTS) {
      if (type.isInstance(result)) {
        return Proxy.newProxyInstance(
            TransactionConnection.class.getClassLoader(),
            new Class<?>[] {type},
            new Part(result, result instanceof Statement ? result : origin, savepoints));
      }
    }
    return result;
  }

  /** A statement or the like. */
  private final class Part implements InvocationHandler {
    private final Object target;
    private final Object origin;
    private volatile boolean savepoints;

    Part(Object target, Object origin, boolean savepoints) {
      this.target = target;
      this.origin = origin;
      this.savepoints = savepoints;
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
        case "toString", "close", "isClosed", "cancel" -> perform(target, method, args);
        default -> {
          savepoints |= takesSavepoint(method, args);
          yield call(proxy, target, origin, savepoints, method, args);
        }
      };
    }
  }

  private static SQLException refused(Method method) {
    return new SQLException(method.getName()
        + " is refused: the transaction ends when the handler has returned, with the answer");
  }
}
