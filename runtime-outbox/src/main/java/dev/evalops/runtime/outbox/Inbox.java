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
 * bus.consumer("notes.changes.>", "feed").start(Inbox.of(db, "feed").handler(feed::apply));
 *
 * void apply(Event event, Connection tx) throws SQLException { … }
 * }</pre>
 *
 * <p>The table {@code event_inbox} belongs to the service; the resource {@code outbox.sql} beside this class creates
 * it. Ids are deleted after 7 days, in batches, by the threads of their consumer's handlers.
 *
 * <p>Thread-safe.
 */
public final class Inbox {
  private static final Logger log = LoggerFactory.getLogger(Inbox.class);
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
  private final String consumer;
  private final Duration keepFor;
  private final AtomicLong sweptAt = new AtomicLong(System.nanoTime());

  private Inbox(DataSource db, String consumer, Duration keepFor) {
    this.db = db;
    this.consumer = consumer;
    this.keepFor = keepFor;
  }

  /** What a service does with an event, in a transaction. */
  @FunctionalInterface
  public interface Handler {
    /**
     * Handles one event.
     *
     * @param event the event, which has not been handled before
     * @param tx the transaction: committed when this method returns, rolled back when it throws
     * @throws Exception if the event is not handled; it is delivered again
     */
    void handle(Event event, Connection tx) throws Exception;
  }

  /**
   * Returns an inbox with the defaults.
   *
   * @param db the database of the effects
   * @param consumer the name of the consumer; each consumer handles every event once
   * @return the inbox
   * @throws IllegalArgumentException if the consumer is blank
   */
  public static Inbox of(DataSource db, String consumer) {
    return builder(db, consumer).build();
  }

  /**
   * Returns a builder.
   *
   * @param db the database of the effects
   * @param consumer the name of the consumer; each consumer handles every event once
   * @return a builder with the defaults
   */
  public static Builder builder(DataSource db, String consumer) {
    return new Builder(db, consumer);
  }

  /**
   * Returns a handler for a consumer of the bus.
   *
   * @param handler what to do with an event that has not been handled before
   * @return the handler
   * @throws StartupException if the database is away, or the table is missing, too old or lacks its key
   */
  public EventHandler handler(Handler handler) {
    Objects.requireNonNull(handler, "handler");
    check();
    return event -> {
      handle(event, handler);
      sweep();
    };
  }

  private void handle(Event event, Handler handler) throws Exception {
    try (Connection connection = db.getConnection()) {
      boolean before = connection.getAutoCommit();
      connection.setAutoCommit(false);
      try {
        if (isNew(connection, event.id())) {
          handler.handle(event, transaction(connection));
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
  private boolean isNew(Connection tx, String id) throws SQLException {
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
      planned.setString(1, consumer); // not run: it is planned alone if there is the key
      planned.setString(2, "");
      planned.execute();
    } catch (SQLException e) {
      throw Rows.failedCheck("inbox", e);
    }
  }

  private void sweep() {
    long last = sweptAt.get();
    long now = System.nanoTime();
    if (now - last < SWEEP_EVERY || !sweptAt.compareAndSet(last, now)) {
      return;
    }
    try {
      for (int i = 0; i < SWEEP_BATCHES && sweepSome() == SWEEP_BATCH; i++) {
        // the next batch
      }
    } catch (SQLException | RuntimeException e) { // the event is handled all the same
      log.atWarn().setCause(e).log("inbox: sweep failed; will retry");
    }
  }

  int sweepSome() throws SQLException {
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
    private final String consumer;
    private Duration keepFor = Duration.ofDays(7);

    private Builder(DataSource db, String consumer) {
      this.db = Objects.requireNonNull(db, "db");
      this.consumer = Objects.requireNonNull(consumer, "consumer");
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
     * @throws IllegalArgumentException if a setting is out of its range; names each of them
     */
    public Inbox build() {
      String problems = "";
      if (consumer.isBlank()) {
        problems = "consumer must not be blank";
      }
      if (keepFor.compareTo(Duration.ofMinutes(1)) < 0
          || keepFor.compareTo(Duration.ofDays(36_500)) > 0) {
        problems += (problems.isEmpty() ? "" : "; ")
            + "keepFor must be from a minute to 100 years: " + keepFor;
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(problems);
      }
      return new Inbox(db, consumer, keepFor);
    }
  }
}
