package dev.evalops.runtime.outbox;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Event;
import dev.evalops.runtime.events.EventHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Lets a handler process each event once, however often it is delivered: the id of the event is recorded in the
 * handler's own transaction.
 *
 * <pre>{@code
 * bus.consumer("notes.changes.>", "feed").deliver(DeliverPolicy.All).start(Inbox.of(db).handler(feed::apply));
 *
 * void apply(Event event, Connection tx) throws SQLException { … }
 * }</pre>
 *
 * <p>Ids are recorded under the name of the consumer, which the bus gives ({@link EventHandler#forConsumer}): each
 * consumer handles every event once.
 *
 * <p>The table {@code event_inbox} belongs to the service; {@link Outbox#schema} creates it. Ids are deleted after 7
 * days, in batches, by the threads of their consumer's handlers.
 *
 * <p>Thread-safe.
 */
public final class Inbox {
  private static final Logger LOG = LoggerFactory.getLogger(Inbox.class);
  private static final long SWEEP_EVERY = TimeUnit.MINUTES.toNanos(5);
  private static final int SWEEP_BATCH = 1000;
  private static final int SWEEP_BATCHES = 20;

  private static final String RECORD = "INSERT INTO event_inbox (consumer, event_id) VALUES (?, ?)"
      + " ON CONFLICT (consumer, event_id) DO NOTHING";
  static final String SWEEP =
      "DELETE FROM event_inbox WHERE consumer = ? AND event_id IN (SELECT event_id FROM event_inbox"
          + " WHERE consumer = ? AND received_at <= now() - ? * interval '1 millisecond'"
          + " ORDER BY received_at LIMIT " + SWEEP_BATCH + " FOR UPDATE SKIP LOCKED)";

  private final DataSource db;
  private final Duration keepFor;

  private Inbox(DataSource db, Duration keepFor) {
    this.db = db;
    this.keepFor = keepFor;
  }

  /**
   * What a service does with an event, in a transaction. Called by several threads at the same time; within a process,
   * events of one aggregate come one after the other, if they have an {@link Event#aggregateId()}, which those of peers
   * in Go lack.
   */
  @FunctionalInterface
  public interface Handler {
    /**
     * Handles one event.
     *
     * @param event the event, which has not been handled before
     * @param tx the transaction: committed when this method returns, rolled back when it throws. After a statement that
     *     fails, Postgres refuses all others and the commit: a handler that catches the failure and continues must roll
     *     back to a savepoint, else the event is delivered again
     * @throws Exception if the event is not handled; it is delivered again
     */
    void handle(Event event, Connection tx) throws Exception;
  }

  /**
   * Returns an inbox with the defaults.
   *
   * @param db the database of the effects
   * @return the inbox
   */
  public static Inbox of(DataSource db) {
    return builder(db).build();
  }

  /**
   * Returns a builder.
   *
   * @param db the database of the effects
   * @return a builder with the defaults
   */
  public static Builder builder(DataSource db) {
    return new Builder(db);
  }

  /**
   * Returns a handler for a consumer of the bus. {@link EventHandler#forConsumer} names the consumer for another
   * broker, and in a handler of your own around this one; without a name it throws an {@link IllegalStateException}.
   *
   * @param handler what to do with an event that has not been handled before
   * @return the handler
   * @throws StartupException if the database is away, or the table is missing, too old or lacks its key
   */
  public EventHandler handler(Handler handler) {
    Objects.requireNonNull(handler, "handler");
    check();
    return new Unnamed(this, handler);
  }

  /** Does not know yet whose ids it records. */
  private record Unnamed(Inbox inbox, Handler handler) implements EventHandler {
    @Override
    public void handle(Event event) {
      throw new IllegalStateException(
          "inbox: no consumer is named: a handler around this one calls its forConsumer(name)");
    }

    @Override
    public EventHandler forConsumer(String consumer) {
      if (consumer.isBlank()) {
        throw new IllegalArgumentException("consumer must not be blank");
      }
      AtomicLong sweptAt = new AtomicLong(System.nanoTime());
      return event -> {
        inbox.handle(event, consumer, handler);
        inbox.sweep(consumer, sweptAt);
      };
    }
  }

  private void handle(Event event, String consumer, Handler handler) throws Exception {
    try (Connection connection = db.getConnection()) {
      boolean before = connection.getAutoCommit();
      connection.setAutoCommit(false);
      try {
        if (isNew(connection, consumer, event.id())) {
          handler.handle(event, transaction(connection));
          requireGood(connection);
        }
        connection.commit();
      } catch (Throwable failure) {
        try {
          connection.rollback();
          connection.setAutoCommit(before);
        } catch (SQLException e) {
          failure.addSuppressed(e);
        }
        throw failure;
      }
      connection.setAutoCommit(before);
    }
  }

  /** Of a transaction in which a statement has failed, Postgres makes a rollback at the commit, without a word. */
  private static void requireGood(Connection tx) throws SQLException {
    try (PreparedStatement select = tx.prepareStatement("SELECT 1")) {
      select.execute();
    }
  }

  /** Keeps the handler from ending the transaction that its event is recorded in. */
  private static Connection transaction(Connection connection) {
    return (Connection) Proxy.newProxyInstance(
        Inbox.class.getClassLoader(), new Class<?>[] {Connection.class}, (proxy, method, args) -> {
          switch (method.getName()) {
            case "commit", "setAutoCommit", "close", "abort" -> throw refused(method.getName());
            case "rollback" -> {
              if (args == null) {
                throw refused("rollback");
              }
            }
            default -> {}
          }
          try {
            return method.invoke(connection, args);
          } catch (InvocationTargetException e) {
            throw e.getCause();
          }
        });
  }

  private static SQLException refused(String method) {
    return new SQLException(
        method + " is not allowed in a handler: the inbox ends the transaction");
  }

  /** Waits for another transaction that has the same event in hand. */
  private static boolean isNew(Connection tx, String consumer, String id) throws SQLException {
    try (PreparedStatement insert = tx.prepareStatement(RECORD)) {
      insert.setString(1, consumer);
      insert.setString(2, id);
      return insert.executeUpdate() == 1;
    }
  }

  private void check() {
    try (Connection connection = db.getConnection();
        Statement statement = connection.createStatement();
        PreparedStatement planned = connection.prepareStatement("EXPLAIN " + RECORD)) {
      statement.execute("SELECT consumer, event_id, received_at FROM event_inbox LIMIT 0");
      planned.setString(1, ""); // not run: it is planned alone if there is the key
      planned.setString(2, "");
      planned.execute();
    } catch (SQLException e) {
      throw Rows.failedCheck("inbox", e);
    }
  }

  private void sweep(String consumer, AtomicLong sweptAt) {
    long last = sweptAt.get();
    long now = System.nanoTime();
    if (now - last < SWEEP_EVERY || !sweptAt.compareAndSet(last, now)) {
      return;
    }
    try {
      for (int i = 0; i < SWEEP_BATCHES && sweepSome(consumer) == SWEEP_BATCH; i++) {
        // the next batch
      }
    } catch (SQLException | RuntimeException e) { // the event is handled all the same
      LOG.atWarn().setCause(e).log("inbox: sweep failed; will retry");
    }
  }

  int sweepSome(String consumer) throws SQLException {
    try (Connection connection = db.getConnection()) {
      boolean before = connection.getAutoCommit();
      connection.setAutoCommit(true);
      int deleted;
      try (PreparedStatement delete = connection.prepareStatement(SWEEP)) {
        delete.setString(1, consumer);
        delete.setString(2, consumer);
        delete.setLong(3, keepFor.toMillis());
        deleted = delete.executeUpdate();
      }
      connection.setAutoCommit(before);
      return deleted;
    }
  }

  /** Sets what differs from the defaults. Not thread-safe. */
  public static final class Builder {
    private final DataSource db;
    private Duration keepFor = Duration.ofDays(7);

    private Builder(DataSource db) {
      this.db = Objects.requireNonNull(db, "db");
    }

    /**
     * Sets how long an id is kept (7 days). An event that is delivered again after that is handled again, so set at
     * least the time for which the stream keeps its events.
     *
     * @param keepFor from a minute to 100 years
     * @return this
     */
    public Builder keepFor(Duration keepFor) {
      this.keepFor = Objects.requireNonNull(keepFor, "keepFor");
      return this;
    }

    /**
     * Checks the settings and builds.
     *
     * @return the inbox
     * @throws IllegalArgumentException if {@code keepFor} is out of its range
     */
    public Inbox build() {
      if (keepFor.compareTo(Duration.ofMinutes(1)) < 0
          || keepFor.compareTo(Duration.ofDays(36_500)) > 0) {
        throw new IllegalArgumentException(
            "keepFor must be from a minute to 100 years: " + keepFor);
      }
      return new Inbox(db, keepFor);
    }
  }
}
