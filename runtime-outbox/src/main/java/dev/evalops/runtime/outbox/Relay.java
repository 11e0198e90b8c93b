package dev.evalops.runtime.outbox;

import dev.evalops.runtime.events.ChangePublisher;
import dev.evalops.runtime.events.PublishException;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

/**
 * Sends what is in the table, one event of a lane at a time, and removes what is stored. Of several processes only the
 * one with the lease does. A process that was stopped and continues may send again what another has sent since; the
 * order of a lane still holds, because nobody sends an event before the one ahead of it is stored, and the broker drops
 * repeats.
 *
 * <p>All state belongs to the one thread; acknowledgements come to it through a queue.
 */
final class Relay implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Outbox.class);

  static final Duration LEASE = Duration.ofMillis(1450);
  private static final long RENEW_EVERY = TimeUnit.MILLISECONDS.toNanos(800);
  private static final long MIN_STANDBY = TimeUnit.MILLISECONDS.toNanos(20);
  private static final long MAX_STANDBY = TimeUnit.SECONDS.toNanos(1);
  private static final long LEASE_MARGIN = TimeUnit.MILLISECONDS.toNanos(150);
  private static final long MIN_POLL = TimeUnit.MILLISECONDS.toNanos(10);

  /** From then on the renewals of the lease tell whether something waits. */
  private static final long MAX_POLL = TimeUnit.MILLISECONDS.toNanos(640);

  private static final long NEVER = TimeUnit.DAYS.toNanos(1000);
  private static final long DATABASE_RETRY = TimeUnit.MILLISECONDS.toNanos(500);
  private static final long MIN_BETWEEN_FETCHES = TimeUnit.MILLISECONDS.toNanos(2);
  private static final long MAX_FETCH = LEASE.toNanos() / 3;

  /** The others take a lease of twice as long for one of a time before the clock was set back. */
  private static final long MAX_MORE = LEASE.toNanos() - 2 * LEASE_MARGIN;

  private static final long REMOVE_WITHIN = TimeUnit.MILLISECONDS.toNanos(5);
  private static final int REMOVE_AT_ONCE = 512;
  private static final long MIN_BACKOFF = TimeUnit.MILLISECONDS.toNanos(100);
  private static final long MAX_BACKOFF = TimeUnit.SECONDS.toNanos(2);
  private static final long HAND_OVER_AFTER = TimeUnit.SECONDS.toNanos(5);
  private static final long HAND_OVER_PAUSE = MAX_STANDBY + MAX_STANDBY / 2; // another is first
  private static final long DEPTH_EVERY = TimeUnit.SECONDS.toNanos(5);
  private static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(2);

  /** A broker that did not take so many in a row is away for all lanes. */
  private static final int AWAY_FOR_ALL = 8;

  private static final int MAX_ATTEMPTS = 3;
  private static final int MAX_IN_MEMORY = 2048;
  private static final long MAX_BYTES_IN_MEMORY = 16 << 20;
  private static final long MIN_PAGE_BYTES = 256 << 10;

  /** From when on a repeat may find the id forgotten: a takeover, with a start-up in it. */
  private static final Duration TAKEOVER = Duration.ofSeconds(30);

  private final RelayRows rows;
  private final ChangePublisher publisher;
  private final int maxInFlight;
  private final @Nullable OutboxMetrics metrics;
  private final String holder = UUID.randomUUID().toString();
  private final Thread thread = Thread.ofPlatform().daemon().name("outbox").unstarted(this::run);
  private final BlockingQueue<Result> results = new LinkedBlockingQueue<>();
  private final AtomicBoolean woken = new AtomicBoolean();
  private volatile boolean stopping;

  private final Map<String, Lane> lanes = new HashMap<>();
  private final Deque<Lane> ready = new ArrayDeque<>(); // have a row and none in flight
  private final Map<String, Long> pausedLanes = new HashMap<>(); // until when
  private final List<RelayRows.Row> stored = new ArrayList<>(); // and not removed yet
  private int inMemory;
  private long bytesInMemory;
  private int inFlight;
  private boolean leads;
  private boolean healthy = true;
  private boolean databaseHealthy = true;
  private int awayInARow;
  private long leaseUntil;
  private long renewAt;
  private long fetchAt;
  private long lastFetch;
  private long betweenFetches = MIN_BETWEEN_FETCHES;
  private long pageBytes = MAX_BYTES_IN_MEMORY;
  private Duration lease = LEASE;
  private long poll = MIN_POLL;
  private boolean backlog; // the last page was full
  private long removeAt;
  private long pausedUntil;
  private long depthAt;
  private boolean unanswered; // something was sent, and since then nothing stored or refused
  private long unansweredSince;

  private static final class Lane {
    private final String name;
    private final Deque<RelayRows.Row> waiting = new ArrayDeque<>(); // the first may be in flight
    private boolean inFlight;

    Lane(String name) {
      this.name = name;
    }
  }

  /** What became of a row; none to wake up. */
  private record Result(
      @Nullable Lane lane,
      RelayRows.@Nullable Row row,
      @Nullable Throwable failure) {
    static final Result WAKE = new Result(null, null, null);
  }

  Relay(
      RelayRows rows, ChangePublisher publisher, int maxInFlight, @Nullable OutboxMetrics metrics) {
    this.rows = rows;
    this.publisher = publisher;
    this.maxInFlight = maxInFlight;
    this.metrics = metrics;
  }

  void start() {
    publisher
        .duplicateWindow()
        .filter(window -> window.compareTo(TAKEOVER) < 0)
        .ifPresent(window -> LOG.atWarn()
            .addKeyValue("duplicate_window", window)
            .addKeyValue("needed", TAKEOVER)
            .log("outbox: duplicate window is short; events may be stored twice after a takeover"));
    long now = System.nanoTime();
    leaseUntil = now;
    renewAt = now;
    fetchAt = now;
    lastFetch = now - MIN_BETWEEN_FETCHES;
    pausedUntil = now;
    depthAt = now;
    thread.start();
  }

  void wake() {
    if (woken.compareAndSet(false, true)) {
      results.add(Result.WAKE);
    }
  }

  @Override
  public void close() {
    stopping = true;
    results.add(Result.WAKE);
    boolean interrupted = false;
    try {
      thread.join(CLOSE_TIMEOUT);
      thread.interrupt();
      thread.join(CLOSE_TIMEOUT);
    } catch (InterruptedException e) {
      thread.interrupt();
      interrupted = true;
    }
    if (metrics != null) {
      metrics.close();
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private void run() {
    try {
      while (!stopping || inFlight > 0) {
        try {
          stepOrRest();
        } catch (RuntimeException | Error e) {
          report(e);
          forget();
          TimeUnit.NANOSECONDS.sleep(DATABASE_RETRY);
        }
      }
    } catch (InterruptedException e) {
      LOG.debug("outbox: closed with changes in flight");
    }
    Thread.interrupted(); // what was stored is removed all the same
    try {
      remove();
      rows.release(holder);
      rows.rest();
    } catch (SQLException | RuntimeException e) {
      LOG.atDebug().setCause(e).log("outbox: lease not released; it expires");
    }
  }

  private void stepOrRest() throws InterruptedException {
    try {
      step();
    } catch (SQLException e) {
      databaseFailed(e);
    }
  }

  private static void report(Throwable failure) {
    try {
      LOG.atError().setCause(failure).log("outbox: relay failed; will retry");
    } catch (RuntimeException | Error unlogged) {
      // Such as no memory: without this thread nothing of this process would be sent any more.
    }
  }

  private void step() throws SQLException, InterruptedException {
    long now = System.nanoTime();
    boolean looks = !stopping && looksNow(now);
    if (!stored.isEmpty()
        && (looks || inFlight == 0 || stored.size() >= REMOVE_AT_ONCE || now - removeAt >= 0)) {
      remove();
    }
    if (looks) {
      look(now);
    }
    if (!stopping) {
      send();
      depth(now);
    }
    if (!leads && stored.isEmpty()) {
      rows.rest();
    }
    Result result = results.poll(nextStep() - System.nanoTime(), TimeUnit.NANOSECONDS);
    while (result != null) {
      apply(result);
      result = results.poll();
    }
  }

  private void databaseAnswered() {
    if (!databaseHealthy) {
      databaseHealthy = true;
      LOG.info("outbox: database available again");
    }
  }

  private boolean looksNow(long now) {
    if (now - renewAt >= 0) {
      return true;
    }
    boolean due = now - fetchAt >= 0 || woken.get();
    return leads
        && due
        && now - pausedUntil >= 0
        && now - lastFetch >= betweenFetches
        && room() > 0;
  }

  /** How many rows to read; of a backlog no small pages. */
  private int room() {
    if (awayInARow >= AWAY_FOR_ALL) {
      return 1 - inMemory;
    }
    boolean full =
        bytesInMemory >= MAX_BYTES_IN_MEMORY || (backlog && inMemory > MAX_IN_MEMORY / 2);
    return full ? 0 : MAX_IN_MEMORY - inMemory;
  }

  private long nextStep() {
    long next = renewAt;
    if (stopping) {
      return System.nanoTime() + MIN_POLL;
    }
    if (leads && room() > 0) {
      long allowed = later(lastFetch + betweenFetches, pausedUntil);
      next = earlier(next, woken.get() ? allowed : later(allowed, fetchAt));
    }
    if (!ready.isEmpty() && inFlight < maxInFlight && pausedUntil - System.nanoTime() > 0) {
      next = earlier(next, pausedUntil);
    }
    return stored.isEmpty() ? next : earlier(next, removeAt);
  }

  private static long earlier(long a, long b) {
    return a - b < 0 ? a : b;
  }

  private static long later(long a, long b) {
    return a - b < 0 ? b : a;
  }

  private void look(long now) throws SQLException {
    if (!databaseHealthy) {
      rows.probe();
    }
    if (now - renewAt >= 0) {
      lease(now);
      send(); // before the next page, which may take longer than the lease
    }
    if (!leads || now - pausedUntil < 0 || now - lastFetch < betweenFetches || room() <= 0) {
      return;
    }
    if (!woken.getAndSet(false) && now - fetchAt < 0) {
      return;
    }
    pausedLanes.values().removeIf(until -> now - until >= 0);
    List<Long> without = new ArrayList<>(inMemory);
    lanes.values().forEach(lane -> lane.waiting.forEach(row -> without.add(row.seq())));
    int room = room();
    lastFetch = System.nanoTime();
    long bytes = Math.min(pageBytes, MAX_BYTES_IN_MEMORY - bytesInMemory);
    List<RelayRows.Row> found;
    try {
      found = rows.fetch(without, pausedLanes.keySet(), room, bytes);
    } catch (SQLException e) { // such as a statement_timeout, which a smaller page may keep
      pageBytes = Math.max(MIN_PAGE_BYTES, bytes / 2);
      throw e;
    }
    databaseAnswered();
    long took = System.nanoTime() - lastFetch;
    limitPages(found, took);
    for (RelayRows.Row row : found) {
      Lane lane = lanes.computeIfAbsent(row.event().lane(), Lane::new);
      lane.waiting.addLast(row);
      inMemory++;
      bytesInMemory += row.bytes();
      if (!lane.inFlight && lane.waiting.size() == 1) {
        ready.addLast(lane);
      }
    }
    backlog = found.size() == room && room > 1;
    // A long look that finds little goes past what is held or paused: it may be half of the time.
    betweenFetches = backlog ? MIN_BETWEEN_FETCHES : Math.max(MIN_BETWEEN_FETCHES, 2 * took);
    if (found.isEmpty()) {
      fetchAt = now + (poll <= MAX_POLL ? poll : NEVER);
      poll = Math.min(2 * poll, 2 * MAX_POLL);
    } else {
      poll = MIN_POLL;
      fetchAt = backlog ? now : now + poll;
    }
  }

  /**
   * While a page takes longer than the lease another takes over, and what was read is of no use. A small page can take
   * long, too: where a long transaction keeps what was removed, each look goes past all of it.
   */
  private void limitPages(List<RelayRows.Row> page, long took) {
    if (took > MAX_FETCH) {
      lease = pageBytes > MIN_PAGE_BYTES ? LEASE : LEASE.plusNanos(Math.min(took, MAX_MORE));
      long bytes = page.stream().mapToLong(RelayRows.Row::bytes).sum();
      pageBytes = Math.max(MIN_PAGE_BYTES, Math.min(pageBytes, bytes) / 2);
    } else if (took < MAX_FETCH / 4) {
      lease = LEASE;
      pageBytes = Math.min(2 * pageBytes, MAX_BYTES_IN_MEMORY);
    }
  }

  private void lease(long now) throws SQLException {
    if (leads && unanswered && now - unansweredSince >= HAND_OVER_AFTER) {
      rows.release(holder); // another may reach the broker
      lead(false);
      renewAt = now + HAND_OVER_PAUSE;
      return;
    }
    long asked = System.nanoTime();
    RelayRows.Lease answer = rows.lease(holder, lease, fetchAt - now >= RENEW_EVERY);
    databaseAnswered();
    if (!answer.kept()) {
      forget(); // another may have sent it since
    }
    if (answer.held()) {
      leaseUntil = asked + lease.toNanos() - LEASE_MARGIN;
      renewAt = asked + RENEW_EVERY;
      if (answer.waiting()) {
        fetchAt = now;
      }
    } else {
      long expires = TimeUnit.MILLISECONDS.toNanos(answer.otherMillis().orElse(0));
      renewAt = System.nanoTime() + Math.clamp(expires, MIN_STANDBY, MAX_STANDBY);
    }
    lead(answer.held());
  }

  private void lead(boolean now) {
    if (leads != now) {
      // Not at each turn of an outage, in which the processes try one after the other.
      LOG.atLevel(unanswered || awayInARow > 0 ? Level.DEBUG : Level.INFO)
          .log(now ? "outbox: lease acquired" : "outbox: lease lost");
      poll = MIN_POLL;
      fetchAt = System.nanoTime();
      unanswered = false;
    }
    leads = now;
    if (!now) {
      forget();
    }
  }

  /** Drops what is not in flight: it is read again. */
  private void forget() {
    ready.clear();
    lanes.values().removeIf(lane -> {
      drop(lane, lane.inFlight ? 1 : 0);
      return !lane.inFlight;
    });
    backlog = false;
  }

  private void drop(Lane lane, int butTheFirst) {
    while (lane.waiting.size() > butTheFirst) {
      inMemory--;
      bytesInMemory -= lane.waiting.removeLast().bytes();
    }
  }

  private void send() {
    while (inFlight < maxInFlight && !ready.isEmpty()) {
      long now = System.nanoTime();
      if (!leads || now - leaseUntil >= 0 || now - pausedUntil < 0) {
        return;
      }
      Lane lane = ready.removeFirst();
      RelayRows.Row row = lane.waiting.getFirst();
      lane.inFlight = true;
      inFlight++;
      if (!unanswered) {
        unanswered = true;
        unansweredSince = now;
      }
      try {
        var unused = publisher
            .send(row.event())
            .whenComplete((outcome, failure) -> results.add(new Result(lane, row, failure)));
      } catch (RuntimeException | Error e) { // else the lane would count as in flight for ever
        results.add(new Result(lane, row, e));
      }
    }
  }

  private void apply(Result result) throws SQLException {
    Lane lane = result.lane();
    RelayRows.Row row = result.row();
    if (lane == null || row == null) {
      return;
    }
    inFlight--;
    inMemory--;
    bytesInMemory -= row.bytes();
    lane.inFlight = false;
    lane.waiting.removeFirst();
    if (result.failure() == null) {
      onStored(row);
      if (lane.waiting.isEmpty()) {
        lanes.remove(lane.name);
      } else {
        ready.addLast(lane);
      }
      return;
    }
    Throwable failure =
        result.failure() instanceof CompletionException wrapped && wrapped.getCause() != null
            ? wrapped.getCause()
            : result.failure();
    drop(lane, 0);
    lanes.remove(lane.name);
    if (failure instanceof PublishException e && e.reason() == PublishException.Reason.REFUSED) {
      onRefused(lane, row, e);
    } else {
      onAway(lane, failure);
    }
  }

  private void onStored(RelayRows.Row row) {
    if (stored.isEmpty()) {
      removeAt = System.nanoTime() + REMOVE_WITHIN;
    }
    stored.add(row);
    awayInARow = 0;
    answered();
    if (!healthy) {
      healthy = true;
      LOG.info("outbox: publishing again");
    }
  }

  private void answered() {
    unanswered = inFlight > 0;
    unansweredSince = System.nanoTime();
  }

  private void onAway(Lane lane, Throwable failure) {
    awayInARow++;
    long now = System.nanoTime();
    pausedLanes.put(lane.name, now + backoff(awayInARow));
    if (awayInARow >= AWAY_FOR_ALL) {
      // The lanes stay paused, so that the next probe is another one.
      pausedUntil = now + backoff(Math.min(awayInARow - AWAY_FOR_ALL + 1, 3));
      forget();
      if (healthy) {
        healthy = false;
        LOG.atWarn()
            .addKeyValue("error", String.valueOf(failure.getMessage()))
            .log("outbox: broker unavailable; changes wait");
      }
    }
  }

  private static long backoff(int failures) {
    long most = Math.min(MAX_BACKOFF, MIN_BACKOFF << Math.min(failures - 1, 10));
    return most / 2 + ThreadLocalRandom.current().nextLong(most / 2);
  }

  private void onRefused(Lane lane, RelayRows.Row row, PublishException failure)
      throws SQLException {
    answered();
    boolean park = row.attempts() + 1 >= MAX_ATTEMPTS;
    String reason = String.valueOf(failure.getMessage());
    pausedLanes.put(lane.name, System.nanoTime() + backoff(row.attempts() + 1));
    rows.refused(row, park, reason);
    LOG.atWarn()
        .addKeyValue("event_id", row.event().id())
        .addKeyValue("lane", row.event().lane())
        .addKeyValue("attempt", row.attempts() + 1)
        .addKeyValue("error", reason)
        .log(park ? "outbox: change parked" : "outbox: change refused; will retry");
  }

  private void remove() throws SQLException {
    if (!stored.isEmpty()) {
      rows.remove(stored);
      if (metrics != null) {
        metrics.published(stored.size());
      }
      stored.clear();
    }
  }

  private void depth(long now) {
    if (metrics != null && now - depthAt >= 0) {
      depthAt = now + DEPTH_EVERY;
      try {
        metrics.depth(rows.depth());
      } catch (SQLException e) { // the relay has other things to do
        LOG.atDebug().setCause(e).log("outbox: backlog not read");
      }
    }
  }

  private void databaseFailed(SQLException failure) throws InterruptedException {
    if (databaseHealthy) {
      databaseHealthy = false;
      LOG.atWarn()
          .addKeyValue("error", failure.getMessage())
          .log("outbox: database unavailable; will retry");
    }
    forget();
    long now = System.nanoTime();
    renewAt = now + DATABASE_RETRY;
    fetchAt = renewAt;
    Result result = results.poll(DATABASE_RETRY, TimeUnit.NANOSECONDS);
    while (result != null) {
      try {
        apply(result);
      } catch (SQLException e) {
        LOG.atDebug().setCause(e).log("outbox: refusal not recorded");
      }
      result = results.poll();
    }
  }
}
