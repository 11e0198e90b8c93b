package dev.evalops.examples.notes;

import com.google.protobuf.Timestamp;
import dev.evalops.examples.notes.events.NoteChanged;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher.Outcome;
import dev.evalops.runtime.natsbus.NatsBus;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.propagation.TextMapGetter;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Publishes every committed change at least once, whatever dies in between: a change is put here in its own transaction, and taken away
 * when the stream has acknowledged it. Changes of one note are published in their order, but for one that the stream refuses, which
 * comes again behind others: readers go by the version. Of several instances one publishes at a time.
 */
final class Outbox implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(Outbox.class);
  private static final Duration LOOK_EVERY = Duration.ofSeconds(1);
  private static final Duration LAST_ROUND = Duration.ofSeconds(2);
  private static final int BATCH = 100;
  private static final String TRACE = "traceparent";
  private static final TextMapGetter<Map<String, String>> TRACE_OF =
      (carrier, key) -> carrier == null ? null : carrier.get(key);

  private final DataSource db;
  private final NatsBus bus;
  private final BlockingQueue<Boolean> news = new ArrayBlockingQueue<>(1);
  private final Thread thread = Thread.ofPlatform().daemon().name("outbox").unstarted(this::run);
  private volatile boolean stopping;

  private record Entry(long sequence, Map<String, String> trace, Change change) {}

  private record Sent(long sequence, CompletableFuture<Outcome> acknowledged) {}

  private Outbox(DataSource db, NatsBus bus) {
    this.db = db;
    this.bus = bus;
  }

  static Outbox start(DataSource db, NatsBus bus) {
    Outbox outbox = new Outbox(db, bus);
    outbox.thread.start();
    return outbox;
  }

  /** Puts a row of the change journal here, with the trace that it belongs to. */
  static void add(Connection tx, long sequence) throws SQLException {
    Map<String, String> trace = new HashMap<>();
    W3CTraceContextPropagator.getInstance()
        .inject(Context.current(), trace, (carrier, name, value) -> trace.put(name, value));
    try (PreparedStatement insert = tx.prepareStatement("INSERT INTO outbox VALUES (?, ?)")) {
      insert.setLong(1, sequence);
      insert.setString(2, trace.get(TRACE));
      insert.execute();
    }
  }

  /** Says that a change was committed; it is found without, only later. */
  void wake() {
    news.offer(true);
  }

  private void run() {
    boolean healthy = true;
    try {
      while (true) {
        boolean last = stopping;
        boolean more = false;
        try {
          more = publishSome();
          if (!healthy) {
            log.info("changes are published again");
          }
          healthy = true;
        } catch (SQLException | ExecutionException | RuntimeException e) {
          if (healthy) {
            log.atWarn().addKeyValue("error", e.getMessage()).log("changes wait to be published");
          }
          healthy = false;
        }
        if (last && !more) {
          return;
        }
        if (!more) {
          news.poll(LOOK_EVERY.toMillis(), TimeUnit.MILLISECONDS);
        }
      }
    } catch (InterruptedException e) {
      log.debug("closed before everything was published");
    }
  }

  /** Returns whether there may be more. */
  private boolean publishSome() throws SQLException, InterruptedException, ExecutionException {
    try (Connection tx = db.getConnection()) {
      tx.setAutoCommit(false);
      List<Entry> entries = isOurTurn(tx) ? oldest(tx) : List.of();
      List<Sent> sent = new ArrayList<>();
      ExecutionException failure = null;
      for (Entry entry : entries) {
        sent.add(new Sent(entry.sequence, publish(entry)));
      }
      List<Long> stored = new ArrayList<>();
      for (Sent each : sent) {
        try {
          var ignored = each.acknowledged.get(); // the bus bounds it
          stored.add(each.sequence);
        } catch (ExecutionException e) {
          failure = e;
        }
      }
      remove(tx, stored);
      tx.commit();
      if (failure != null) {
        throw failure;
      }
      return entries.size() == BATCH;
    }
  }

  private static boolean isOurTurn(Connection tx) throws SQLException {
    try (PreparedStatement lock = tx.prepareStatement(
            "SELECT pg_try_advisory_xact_lock('outbox'::regclass::oid::bigint)");
        ResultSet row = lock.executeQuery()) {
      row.next();
      return row.getBoolean(1);
    }
  }

  private static List<Entry> oldest(Connection tx) throws SQLException {
    String sql = "SELECT seq, traceparent, organization_id, aggregate_id, operation,"
        + " aggregate_version, recorded_at, payload ->> 'title'"
        + " FROM outbox JOIN change_journal USING (seq) ORDER BY seq LIMIT " + BATCH;
    List<Entry> entries = new ArrayList<>();
    try (PreparedStatement select = tx.prepareStatement(sql);
        ResultSet row = select.executeQuery()) {
      while (row.next()) {
        String trace = row.getString(2);
        entries.add(new Entry(
            row.getLong(1), trace == null ? Map.of() : Map.of(TRACE, trace), change(row)));
      }
    }
    return entries;
  }

  private static Change change(ResultSet row) throws SQLException {
    long sequence = row.getLong(1);
    Instant at = row.getObject(7, OffsetDateTime.class).toInstant();
    NoteChanged payload = NoteChanged.newBuilder()
        .setTitle(row.getString(8))
        .setChangedAt(Timestamp.newBuilder().setSeconds(at.getEpochSecond()).setNanos(at.getNano()))
        .build();
    return Change.of("note", row.getString(4), row.getString(5))
        .organization(row.getString(3))
        .sequence(sequence)
        .version(row.getLong(6))
        .recordedAt(at)
        .eventId(eventId(sequence, at))
        .payload(payload);
  }

  /** The same whenever a change is published, so that the stream knows it again. */
  private static UUID eventId(long sequence, Instant at) {
    return UUID.nameUUIDFromBytes(
        ("notes:" + sequence + ":" + at).getBytes(StandardCharsets.UTF_8));
  }

  private CompletableFuture<Outcome> publish(Entry entry) {
    Context request =
        W3CTraceContextPropagator.getInstance().extract(Context.root(), entry.trace, TRACE_OF);
    try {
      return request.wrapSupplier(() -> bus.publishAsync(entry.change)).get();
    } catch (IllegalArgumentException e) { // which must not hold up the others
      return CompletableFuture.failedFuture(e);
    }
  }

  private static void remove(Connection tx, List<Long> sequences) throws SQLException {
    if (sequences.isEmpty()) {
      return;
    }
    try (PreparedStatement delete = tx.prepareStatement("DELETE FROM outbox WHERE seq = ANY (?)")) {
      delete.setArray(1, tx.createArrayOf("bigint", sequences.toArray()));
      delete.execute();
    }
  }

  /** Publishes what is there, for two seconds at most; the rest is for the next start. */
  @Override
  public void close() {
    stopping = true;
    wake();
    try {
      thread.join(LAST_ROUND);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    thread.interrupt();
  }
}
