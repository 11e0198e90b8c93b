package dev.evalops.runtime.outbox;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher;
import dev.evalops.runtime.events.EncodedEvent;
import io.micrometer.core.instrument.MeterRegistry;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.Executor;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;

/**
 * Publishes every committed change, whatever dies in between: a change is stored in its mutation's own transaction, and
 * a relay sends it to the broker and deletes it when the broker has stored it.
 *
 * <pre>{@code
 * Outbox outbox = life.add("outbox", Outbox.start(db, bus));
 *
 * Note note = insert(tx, command);
 * outbox.add(tx, Change.of("note", note.id(), "create").payload(toProto(note)));
 * tx.commit();
 * }</pre>
 *
 * <p>Changes of one aggregate (a lane) reach the broker in the order of their commits; lanes do not wait for each
 * other. While the broker is away or full, changes wait. A change that the broker refuses is parked after 3 attempts,
 * and by default its lane waits until it is requeued or discarded.
 *
 * <p>Give it the bus itself, not a spool: a change on the disk of one process would lose its place in the order. The
 * process that relays holds a connection of its pool, which needs two or more.
 *
 * <p>An event that was sent and not yet deleted is sent again after a failure, with the same id. The stream drops it
 * within its duplicate window, and {@link Inbox} after that.
 *
 * <p>Every process of the service may start an outbox. One of them relays at a time; another takes over when the lease
 * of that process expires, 1.45 seconds after it was last renewed, or when it has heard nothing from the broker for 5
 * seconds. The tables belong to the service; {@link #schema} creates them.
 *
 * <p>Thread-safe.
 */
public final class Outbox implements AutoCloseable {
  /** What an index of Postgres can hold: a longer one could not be parked. */
  private static final int MAX_LANE_BYTES = 2000;

  private final Rows rows;
  private final ChangePublisher publisher;
  private final Relay relay;

  private Outbox(Rows rows, ChangePublisher publisher, Relay relay) {
    this.rows = rows;
    this.publisher = publisher;
    this.relay = relay;
  }

  /**
   * Returns the SQL that creates {@code change_outbox} and {@code change_outbox_lease}, and {@code event_inbox} of
   * {@link Inbox}, for the service's own migration or {@code init}.
   *
   * @return statements that change nothing where the tables exist; they name no schema, and end with a semicolon
   */
  public static String schema() {
    try (InputStream sql = Objects.requireNonNull(Outbox.class.getResourceAsStream("outbox.sql"))) {
      return new String(sql.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * Starts an outbox with the defaults.
   *
   * @param db the database of the mutations
   * @param publisher sends the events
   * @return the outbox; the caller closes it
   * @throws StartupException if the database is away, or its tables are missing, too old or lack a key or the rights
   *     that the relay needs
   */
  public static Outbox start(DataSource db, ChangePublisher publisher) {
    return builder(db, publisher).start();
  }

  /**
   * Returns a builder.
   *
   * @param db the database of the mutations
   * @param publisher sends the events
   * @return a builder with the defaults
   */
  public static Builder builder(DataSource db, ChangePublisher publisher) {
    return new Builder(db, publisher);
  }

  /**
   * Stores a change, to be published after its transaction has committed. It locks the lane until then, so that the
   * changes of one aggregate have the order of their commits. Lock the aggregate first, as a mutation does.
   *
   * @param tx the connection with the mutation's transaction, not in auto-commit mode; the caller commits
   * @param change what has happened
   * @return the id of the event
   * @throws IllegalArgumentException if the connection is in auto-commit mode, the change cannot be encoded, or its
   *     aggregate's type and id have more than 2000 bytes together; nothing is sent to the database
   * @throws SQLException if it cannot be stored
   */
  public String add(Connection tx, Change change) throws SQLException {
    EncodedEvent event = publisher.encode(change);
    if (tx.getAutoCommit()) {
      throw new IllegalArgumentException(
          "tx must not be in auto-commit mode: nothing would tie the event to the mutation");
    }
    int laneBytes = event.lane().getBytes(StandardCharsets.UTF_8).length;
    if (laneBytes > MAX_LANE_BYTES) {
      throw new IllegalArgumentException(
          "aggregateId must have at most " + MAX_LANE_BYTES + " bytes with its type: " + laneBytes);
    }
    Rows.insert(tx, event);
    if (tx.isWrapperFor(
        Executor.class)) { // as that of runtime-idempotency: runs it after the commit
      tx.unwrap(Executor.class).execute(this::wake);
    }
    return event.id();
  }

  /**
   * Sends committed changes at once. Without this call the relay finds a change within 10 ms while changes keep coming,
   * else within 0.8 s.
   */
  public void wake() {
    relay.wake();
  }

  /**
   * Counts the changes that wait to be published, without the parked ones.
   *
   * @return zero or more
   * @throws SQLException if the database cannot be asked
   */
  public long pending() throws SQLException {
    return rows.pending();
  }

  /**
   * Returns when the change that has waited longest was stored. Parked changes do not count.
   *
   * @return the time by the database's clock; empty if no change waits
   * @throws SQLException if the database cannot be asked
   */
  public Optional<Instant> oldest() throws SQLException {
    return rows.oldest();
  }

  /**
   * Checks that changes are published. As a health check: {@code () -> outbox.check(Duration.ofMinutes(1))}.
   *
   * @param maxAge how long a change may wait, more than zero
   * @throws IllegalArgumentException if the age is not more than zero
   * @throws IllegalStateException if a change has waited longer, or is parked
   * @throws SQLException if the database cannot be asked
   */
  public void check(Duration maxAge) throws SQLException {
    if (!maxAge.isPositive()) {
      throw new IllegalArgumentException("maxAge must be more than zero: " + maxAge);
    }
    Optional<Duration> age = rows.oldestAge();
    if (age.isPresent() && age.get().compareTo(maxAge) > 0) {
      throw new IllegalStateException(
          "outbox: a change has waited for " + age.get().toSeconds() + " s");
    }
    if (!parked(1).isEmpty()) {
      throw new IllegalStateException("outbox: changes are parked");
    }
  }

  /**
   * Returns the changes that the broker has refused, the oldest first.
   *
   * @param max how many at most, 1 or more
   * @return the changes
   * @throws IllegalArgumentException if {@code max} is less than 1
   * @throws SQLException if the database cannot be asked
   */
  public List<Parked> parked(int max) throws SQLException {
    if (max < 1) {
      throw new IllegalArgumentException("max must be 1 or more: " + max);
    }
    return rows.parked(max);
  }

  /**
   * Publishes a parked change after all, for example when the broker accepts larger messages. The changes of its lane
   * that have waited follow it.
   *
   * @param id the event's id
   * @return whether it was parked
   * @throws SQLException if the database cannot be asked
   */
  public boolean requeue(String id) throws SQLException {
    boolean found = rows.requeue(id);
    wake();
    return found;
  }

  /**
   * Deletes a parked change. The changes of its lane that have waited are published.
   *
   * @param id the event's id
   * @return whether it was parked
   * @throws SQLException if the database cannot be asked
   */
  public boolean discard(String id) throws SQLException {
    boolean found = rows.discard(id);
    wake();
    return found;
  }

  /**
   * Stops the relay. Waits up to 4 seconds for the events that are being sent; another process publishes the rest, or
   * this one after its next start. A second call does nothing.
   */
  @Override
  public void close() {
    relay.close();
  }

  /**
   * A change that the broker has refused.
   *
   * @param id the event's id
   * @param lane the aggregate's type and id
   * @param subject the subject of the event
   * @param reason why it was last refused
   * @param createdAt when it was stored
   * @param parkedAt when it was parked
   */
  public record Parked(
      String id, String lane, String subject, String reason, Instant createdAt, Instant parkedAt) {}

  /** Sets what differs from the defaults. Not thread-safe. */
  public static final class Builder {
    private final DataSource db;
    private final ChangePublisher publisher;
    private int maxInFlight = 512;
    private boolean holdParkedLanes = true;
    private @Nullable MeterRegistry registry;

    private Builder(DataSource db, ChangePublisher publisher) {
      this.db = Objects.requireNonNull(db, "db");
      this.publisher = Objects.requireNonNull(publisher, "publisher");
    }

    /**
     * Sets how many changes are sent at the same time (512), each of another lane. More than the publisher takes at a
     * time ({@code NatsBus.Builder.maxPending}, 1024) make the relay wait for it.
     *
     * @param maxInFlight 1 to 10 000
     * @return this
     */
    public Builder maxInFlight(int maxInFlight) {
      this.maxInFlight = maxInFlight;
      return this;
    }

    /**
     * Publishes the changes after a parked one. By default the lane waits until the parked change is requeued or
     * discarded, so that no consumer sees later changes first.
     *
     * @return this
     */
    public Builder passParked() {
      holdParkedLanes = false;
      return this;
    }

    /**
     * Registers the gauges {@code outbox_pending} (up to 100 000), {@code outbox_oldest_seconds} and {@code
     * outbox_parked}, which are updated every 5 seconds, and the counter {@code outbox_published_total}. Two outboxes
     * with one registry share the gauges, and the first that is closed takes them away: let one of them have it.
     *
     * @param registry gets the meters
     * @return this
     */
    public Builder metrics(MeterRegistry registry) {
      this.registry = Objects.requireNonNull(registry, "registry");
      return this;
    }

    /**
     * Checks the settings and the tables, and starts the relay.
     *
     * @return the outbox; the caller closes it
     * @throws IllegalArgumentException if a setting is out of its range
     * @throws StartupException if the database is away, or its tables are missing, too old or lack a key or the rights
     *     that the relay needs
     */
    public Outbox start() {
      if (maxInFlight < 1 || maxInFlight > 10_000) {
        throw new IllegalArgumentException("maxInFlight must be from 1 to 10000: " + maxInFlight);
      }
      Rows rows = new Rows(db);
      rows.check();
      OutboxMetrics metrics = registry == null ? null : new OutboxMetrics(registry);
      Relay relay = new Relay(new RelayRows(db, holdParkedLanes), publisher, maxInFlight, metrics);
      relay.start();
      return new Outbox(rows, publisher, relay);
    }
  }
}
