package dev.evalops.runtime.postgres;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.startup.Rotation;
import java.lang.ref.WeakReference;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Warns when a thread takes a second connection while its first one has a transaction open: with as many such threads
 * as the pool has connections, each waits for the others until the pool's time-out.
 */
final class ConnectionPool extends HikariDataSource {
  private static final Logger LOG = LoggerFactory.getLogger(Postgres.class);

  /** Places in the code that are told apart; more are not logged. */
  private static final int MAX_PLACES = 100;

  /** For how long nobody gets a connection until another primary is looked for. */
  private static final Duration STUCK_FOR = Duration.ofSeconds(1);
  /** Of the secret, within the time in which all connections are replaced. */
  private static final int READINGS = 6;

  private static final StackWalker STACK = StackWalker.getInstance();

  /** Of this pool: a connection of another pool keeps nobody waiting. */
  @SuppressWarnings("ThreadLocalUsage")
  private final ThreadLocal<WeakReference<Connection>> lastTaken = new ThreadLocal<>();

  private final Set<String> places = ConcurrentHashMap.newKeySet();

  private final AtomicLong lent = new AtomicLong();
  private final AtomicBoolean watching = new AtomicBoolean();
  private volatile @Nullable Callable<Connection> primary;
  private volatile @Nullable Renewal renewal;

  ConnectionPool(HikariConfig config) {
    super(config);
  }

  /**
   * Lets a primary be looked for outside the pool when all connections of the pool are stuck with one that is silent.
   */
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
    if (isWaitedFor()) {
      watchForSilence(); // who came in between has seen a watcher
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

  /** Lets connections be retired that were made with a secret that has been replaced. */
  void renewWith(Rotation<Secret> rotation, PgDataSource driver, Duration within) {
    Renewal begun = new Renewal(rotation, driver, within);
    renewal = begun;
    rotation.watch(within.dividedBy(READINGS), begun::renew);
  }

  @Override
  public void close() {
    Renewal begun = renewal;
    if (begun != null) {
      begun.rotation.close();
    }
    super.close();
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
    if (primary != null) {
      lent.incrementAndGet();
    }
    Renewal renewing = renewal;
    while (renewing != null && renewing.retires(connection)) {
      connection = super.getConnection();
    }
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

  /**
   * Retires the connections that were made with an older secret, one after the other over half of the time that there
   * is: those that are lent when they are asked for, those that are idle from time to time. Nothing is retired before a
   * login with the new secret was good.
   */
  private final class Renewal {
    private static final String TOO_MANY_CONNECTIONS = "53300";

    final Rotation<Secret> rotation;
    private final PgDataSource driver;
    private final Duration within;
    private final AtomicLong nextAt = new AtomicLong();
    private final AtomicLong triedWith = new AtomicLong();
    private volatile long version; // older ones are retired; zero: there are none
    private volatile long stepNanos;
    private long refused;
    private long announced;
    private long cleared;

    Renewal(Rotation<Secret> rotation, PgDataSource driver, Duration within) {
      this.rotation = rotation;
      this.driver = driver;
      this.within = within;
    }

    /** Whether none is left that was made with an older version. */
    boolean renew(Rotation.Version<Secret> wanted) {
      int older = driver.countOlderThan(wanted.number());
      if (older == 0) {
        // The second look sees what was logging in at the first.
        boolean done = cleared == wanted.number();
        cleared = wanted.number();
        version = 0;
        return done;
      }
      if (isClosed() || (!driver.isProven(wanted.number()) && !prove(wanted.number()))) {
        return isClosed();
      }
      stepNanos = TimeUnit.NANOSECONDS.convert(within) / Math.max(READINGS, 2 * older);
      nextAt.set(System.nanoTime());
      version = wanted.number();
      if (announced != version) {
        announced = version;
        LOG.atInfo()
            .addKeyValue("pool", getPoolName())
            .addKeyValue("connections", older)
            .log("postgres: credentials or certificates changed; replacing connections");
      }
      for (int i = 0; i < older && !isClosed(); i++) {
        try {
          retireIdle();
          if (driver.countOlderThan(version) == 0) {
            return false; // until the next look
          }
          TimeUnit.NANOSECONDS.sleep(stepNanos);
        } catch (SQLException exhausted) {
          // who borrows next retires
        } catch (InterruptedException somebodyElses) {
          return false;
        }
      }
      return false;
    }

    /** Whether the server takes the new secret: until then what there is stays. */
    private boolean prove(long number) {
      try {
        Postgres.connect(ConnectionPool.this).close();
        return true;
      } catch (SQLException failure) {
        if (TOO_MANY_CONNECTIONS.equals(failure.getSQLState())) {
          return true; // which is no answer; a login instead of one old connection tells
        }
        if (refused != number) {
          refused = number;
          LOG.atWarn()
              .addKeyValue("pool", getPoolName())
              .addKeyValue("error", failure.getMessage())
              .log("postgres: no login with the replaced credentials or certificates;"
                  + " open connections stay");
        }
        return false;
      }
    }

    private void retireIdle() throws SQLException {
      List<Connection> younger = new ArrayList<>();
      try {
        while (System.nanoTime() - nextAt.get() >= 0
            && getHikariPoolMXBean().getIdleConnections() > 0
            && getHikariPoolMXBean().getThreadsAwaitingConnection() == 0) {
          Connection connection = ConnectionPool.super.getConnection();
          if (retires(connection)) {
            return;
          }
          younger.add(connection);
        }
      } finally {
        for (Connection each : younger) {
          each.close();
        }
      }
    }

    /** Retires the connection if it is an older one, and if its turn has come. */
    boolean retires(Connection connection) {
      long next = nextAt.get();
      long wanted = version;
      if (wanted == 0
          || System.nanoTime() - next < 0
          || !driver.isOlderThan(wanted, connection)
          || !nextAt.compareAndSet(next, System.nanoTime() + stepNanos)
          || !(driver.isProven(wanted) || triedWith.getAndSet(wanted) != wanted)) {
        return false;
      }
      evictConnection(connection);
      return true;
    }
  }
}
