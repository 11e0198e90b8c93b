package dev.evalops.runtime.postgres;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.lang.ref.WeakReference;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Warns when a thread takes a second connection while its first one has a transaction open: with as many such threads as the pool
 * has connections, each waits for the others until the pool's time-out.
 */
final class ConnectionPool extends HikariDataSource {
  private static final Logger LOG = LoggerFactory.getLogger(Postgres.class);

  /** Places in the code that are told apart; more are not logged. */
  private static final int MAX_PLACES = 100;

  private static final StackWalker STACK = StackWalker.getInstance();

  /** Of this pool: a connection of another pool keeps nobody waiting. */
  @SuppressWarnings("ThreadLocalUsage")
  private final ThreadLocal<WeakReference<Connection>> lastTaken = new ThreadLocal<>();

  private final Set<String> places = ConcurrentHashMap.newKeySet();

  ConnectionPool(HikariConfig config) {
    super(config);
  }

  @Override
  public Connection getConnection() throws SQLException {
    WeakReference<Connection> reference = lastTaken.get();
    Connection held = reference == null ? null : reference.get();
    boolean inTransaction = held != null && inTransaction(held);
    if (inTransaction && places.size() < MAX_PLACES) {
      warn();
    }
    Connection connection = super.getConnection();
    if (!inTransaction) {
      lastTaken.set(new WeakReference<>(connection));
    }
    return connection;
  }

  private static boolean inTransaction(Connection connection) {
    try {
      return !connection.isClosed() && !connection.getAutoCommit();
    } catch (SQLException closedMeanwhile) {
      return false;
    }
  }

  private void warn() {
    String place = STACK.walk(frames -> frames
        .filter(frame -> !frame.getClassName().equals(ConnectionPool.class.getName())
            && !frame.getMethodName().equals("getConnection"))
        .findFirst()
        .map(StackWalker.StackFrame::toStackTraceElement)
        .map(StackTraceElement::toString)
        .orElse("unknown"));
    if (places.add(place)) {
      LOG.atWarn()
          .addKeyValue("pool", getPoolName())
          .addKeyValue("at", place)
          .setCause(new IllegalStateException("second connection taken here"))
          .log("postgres: second connection taken while this thread has a transaction open;"
              + " use the transaction's connection, or another pool");
    }
  }
}
