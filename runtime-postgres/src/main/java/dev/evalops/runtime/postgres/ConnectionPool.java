package dev.evalops.runtime.postgres;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.lang.ref.WeakReference;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
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

  /** For how long nobody gets a connection until another primary is looked for. */
  private static final Duration STUCK_FOR = Duration.ofSeconds(1);

  private static final StackWalker STACK = StackWalker.getInstance();

  /** Of this pool: a connection of another pool keeps nobody waiting. */
  @SuppressWarnings("ThreadLocalUsage")
  private final ThreadLocal<WeakReference<Connection>> lastTaken = new ThreadLocal<>();

  private final Set<String> places = ConcurrentHashMap.newKeySet();

  private final AtomicLong lent = new AtomicLong();
  private final AtomicBoolean watching = new AtomicBoolean();
  private volatile @Nullable Callable<Connection> primary;

  ConnectionPool(HikariConfig config) {
    super(config);
  }

  /** Lets a primary be looked for outside the pool when all connections of the pool are stuck with one that is silent. */
  void findPrimaryWith(Callable<Connection> connect) {
    primary = connect;
  }

  private void watchForSilence() {
    Callable<Connection> connect = primary;
    if (connect != null
        && getHikariPoolMXBean().getActiveConnections() >= getMaximumPoolSize()
        && watching.compareAndSet(false, true)) {
      Thread.ofPlatform()
          .daemon()
          .name(getPoolName() + "-failover")
          .start(() -> findPrimary(connect));
    }
  }

  private void findPrimary(Callable<Connection> connect) {
    try {
      do {
        long before = lent.get();
        Thread.sleep(STUCK_FOR);
        if (lent.get() == before && isWaitedFor()) {
          connectOnce(connect);
        }
      } while (isWaitedFor());
    } catch (InterruptedException end) {
      Thread.currentThread().interrupt();
    } finally {
      watching.set(false);
    }
  }

  /** A connection to another primary cuts those to the silent one, see {@link Failover}. */
  private void connectOnce(Callable<Connection> connect) throws InterruptedException {
    try {
      Duration limit = Duration.ofMillis(getConnectionTimeout()).plus(STUCK_FOR);
      Cancellable.call(limit, connect).close();
    } catch (InterruptedException end) {
      throw end;
    } catch (Exception noneYet) {
      LOG.atDebug().setCause(noneYet).log("postgres: no other primary yet");
    }
  }

  private boolean isWaitedFor() {
    return !isClosed() && getHikariPoolMXBean().getThreadsAwaitingConnection() > 0;
  }

  @Override
  public Connection getConnection() throws SQLException {
    WeakReference<Connection> reference = lastTaken.get();
    Connection held = reference == null ? null : reference.get();
    boolean inTransaction = held != null && inTransaction(held);
    if (inTransaction && places.size() < MAX_PLACES) {
      warn();
    }
    watchForSilence();
    Connection connection = super.getConnection();
    lent.incrementAndGet();
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
