package dev.evalops.runtime.natsbus;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.natsbus.Encoder.Outgoing;
import dev.evalops.runtime.natsbus.NatsBusException.Reason;
import io.nats.client.api.PublishAck;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.InstantSource;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.IntSupplier;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Publishes changes so that none is lost when NATS is away: what the stream does not take after some attempts is written to a
 * directory, durably, and sent later. Changes of the same aggregate stay in order: while one waits on disk, those after it join it.
 *
 * <pre>{@code
 * ReliablePublisher publisher = life.add("publisher", bus.reliable(Path.of("/var/lib/notes/events")).open());
 * publisher.publish(change);   // STORED or DEAD_LETTERED: safe either way
 * }</pre>
 *
 * <p>After five failures in a row nothing is tried for 30 s, and changes go to disk at once. What is on disk is sent from 30 s to 30
 * s, the oldest first and 10 at a time, one batch after the other as long as NATS takes them; what no stream takes keeps back the rest
 * of its aggregate alone. A stream or account that is full is an outage like another. A record that cannot be read, or that NATS has refused three times, is set aside in {@code quarantine}.
 *
 * <p>Processes may share a directory: one of them sends. The order within an aggregate is that of the calls in one process.
 *
 * <p>Thread-safe.
 */
public final class ReliablePublisher implements ChangePublisher, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(ReliablePublisher.class);
  private static final int THRESHOLD = 5;
  private static final Duration FIRST_BACKOFF = Duration.ofMillis(100);
  private static final Duration MAX_BACKOFF = Duration.ofSeconds(10);
  private static final String WAITS_ON_DISK =
      "an earlier change of the same aggregate waits on disk";
  private static final int BATCH = 10;
  private static final int MAX_REFUSALS = 3;

  private final NatsBus bus;
  private final DeadLetterDirectory letters;
  private final int attempts;
  private final Duration attemptTimeout;
  private final Duration replayInterval;
  private final Breaker breaker;
  private final Turns turns = new Turns();
  private final AtomicBoolean keeping = new AtomicBoolean(); // as the last that was tried ended
  private final IntSupplier size;
  private final CountDownLatch closed = new CountDownLatch(1);
  private final Thread replayer;

  private final ReentrantLock replayLock = new ReentrantLock();
  // Guarded by the replay lock.
  private final Map<String, Integer> refusals = new HashMap<>();
  private final Set<String> sent = new HashSet<>(); // and could not be deleted
  private boolean told;

  private ReliablePublisher(Builder builder, DeadLetterDirectory letters) {
    this.bus = builder.bus;
    this.letters = letters;
    this.attempts = builder.attempts;
    this.attemptTimeout = builder.attemptTimeout;
    this.replayInterval = builder.replayInterval;
    this.breaker = new Breaker(THRESHOLD, builder.breakerOpen, builder.nanoTime);
    this.size = letters::size;
    this.replayer =
        Thread.ofPlatform().daemon().name("natsbus-dead-letters").unstarted(this::replayForEver);
  }

  /**
   * Publishes a change, or writes it to disk.
   *
   * <p>Takes at most attempts × attempt timeout and the pauses between them (3 × 2 s, and 0.3 s), and what the disk takes; twice that
   * where calls for the same aggregate meet, which go one after the other.
   *
   * @param change what has happened
   * @return {@link ChangePublisher.Outcome#STORED}, or {@link ChangePublisher.Outcome#DEAD_LETTERED}, also when interrupted, with the
   *     flag set again
   * @throws IllegalArgumentException {@inheritDoc}
   * @throws NatsBusException if neither NATS nor the disk takes it
   */
  @Override
  public Outcome publish(Change change) {
    String subject = bus.encoder().subject(change);
    Telemetry telemetry = bus.telemetry();
    Telemetry.Running span = telemetry == null ? null : telemetry.publish(subject);
    Throwable failure = null;
    try {
      Outgoing message = bus.encode(change, span);
      bus.checkSize(message);
      String problem = sendOrKeep(message, change);
      if (problem == null) {
        keeping.set(false);
        LOG.atDebug()
            .addKeyValue("seq", NatsBus.sequence(change))
            .addKeyValue("subject", subject)
            .log("published reliable change event");
        return Outcome.STORED;
      }
      return Outcome.DEAD_LETTERED;
    } catch (RuntimeException | Error thrown) {
      failure = thrown;
      throw thrown;
    } finally {
      if (span != null) {
        span.end(failure);
      }
    }
  }

  /** Why the message is on disk; null if the stream has it. */
  private @Nullable String sendOrKeep(Outgoing message, Change change) {
    Instant begun = letters.now();
    String lane = message.lane();
    if (lane == null) {
      return keep(message, change, begun, send(message));
    }
    if (keepBehind(message, change, begun)) {
      return WAITS_ON_DISK;
    }
    try (Turns.Turn turn = turns.take(lane, attemptTimeout.multipliedBy(attempts))) {
      if (turn == null) {
        return keep(
            message, change, begun, "an earlier change of the same aggregate takes too long");
      }
      return keepBehind(message, change, begun)
          ? WAITS_ON_DISK
          : keep(message, change, begun, send(message));
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      return keep(message, change, begun, "interrupted");
    }
  }

  /** Why the stream does not have the message; null if it has. */
  private @Nullable String send(Outgoing message) {
    long backoff = FIRST_BACKOFF.toNanos();
    for (int attempt = 1; ; attempt++) {
      try (Breaker.Call call = breaker.enter()) {
        if (call == null) {
          return "circuit_open";
        }
        try {
          NatsBus.await(bus.send(message, attemptTimeout), message.subject(), attemptTimeout);
          call.succeeded();
          return null;
        } catch (NatsBusException failure) {
          if (failure.reason() == Reason.REFUSED || Thread.currentThread().isInterrupted()) {
            return message(failure);
          }
          call.failed();
          if (attempt == attempts) {
            return message(failure);
          }
        }
      }
      try {
        TimeUnit.NANOSECONDS.sleep(ThreadLocalRandom.current().nextLong(backoff / 2, backoff));
      } catch (InterruptedException interrupted) {
        Thread.currentThread().interrupt();
        return "interrupted";
      }
      backoff = Math.min(backoff * 2, MAX_BACKOFF.toNanos());
    }
  }

  private static String message(Throwable failure) {
    return String.valueOf(failure.getMessage());
  }

  /** Writes it to disk if there is a problem; returns that. */
  private @Nullable String keep(
      Outgoing message, Change change, Instant begun, @Nullable String problem) {
    if (problem != null) {
      write(message, change, problem, () -> letters.add(message, begun, problem));
    }
    return problem;
  }

  /** Writes it to disk if a change of the same aggregate is there. */
  private boolean keepBehind(Outgoing message, Change change, Instant begun) {
    return write(
        message, change, WAITS_ON_DISK, () -> letters.addBehind(message, begun, WAITS_ON_DISK));
  }

  @FunctionalInterface
  private interface Writing {
    @Nullable
    Path write() throws IOException;
  }

  private boolean write(Outgoing message, Change change, String problem, Writing writing) {
    Path file;
    try {
      file = writing.write();
    } catch (IOException | RuntimeException failure) {
      countFailure();
      throw new NatsBusException(
          "publish " + message.subject() + ": " + problem + "; and could not be dead-lettered: "
              + failure,
          failure);
    }
    if (file == null) {
      return false;
    }
    countFailure();
    // The first loudly: there may be thousands. One that waits behind another says nothing new.
    boolean begins = !problem.equals(WAITS_ON_DISK) && !keeping.getAndSet(true);
    (begins ? LOG.atWarn() : LOG.atDebug())
        .addKeyValue(
            "error",
            "publish " + message.subject() + " failed after retries and was dead-lettered: "
                + problem)
        .addKeyValue("seq", NatsBus.sequence(change))
        .addKeyValue("path", file)
        .log("failed to publish reliable change event");
    return true;
  }

  private void countFailure() {
    BusMetrics metrics = bus.metrics();
    if (metrics != null) {
      metrics.publishFailed();
    }
  }

  /**
   * How many changes are on disk.
   *
   * @return the number of records, without those set aside
   */
  public int size() {
    return letters.size();
  }

  private void replayForEver() {
    try {
      while (!closed.await(replayInterval.toNanos(), TimeUnit.NANOSECONDS)) {
        try {
          replay();
        } catch (UncheckedIOException failure) {
          LOG.atWarn()
              .addKeyValue("error", failure.getMessage())
              .log("natsbus dead-letter replay failed");
        } catch (RuntimeException | Error failure) {
          LOG.atError()
              .setCause(failure)
              .addKeyValue("error", failure.toString())
              .log("natsbus dead-letter replay failed");
        }
      }
    } catch (InterruptedException closing) {
      // Nobody interrupts it but to end it.
    }
  }

  /** The first of a replay loudly: there may be thousands. */
  private void tellReplayFailure(@Nullable String error) {
    (told ? LOG.atDebug() : LOG.atWarn())
        .addKeyValue("error", error)
        .log("natsbus dead-letter replay failed");
    told = true;
  }

  /**
   * Sends what is on disk now, until NATS does not take it, or all is gone. It is what happens every 30 s anyway.
   *
   * @return how many changes were sent; 0 while another thread or process sends
   * @throws UncheckedIOException if the directory cannot be read
   */
  public int replay() {
    if (!replayLock.tryLock()) {
      return 0;
    }
    try (DeadLetterDirectory.Replaying right = letters.tryReplaying()) {
      letters.refresh();
      if (right == null) {
        return 0;
      }
      letters.sweep();
      told = false;
      int replayed = 0;
      Set<String> blocked = new HashSet<>();
      while (closed.getCount() > 0 && !Thread.currentThread().isInterrupted()) {
        // What a call has in hand may have to be written before what is here.
        Set<String> without = turns.taken();
        without.addAll(blocked);
        List<String> batch = letters.next(BATCH, without);
        if (batch.isEmpty()) {
          break;
        }
        Round round = send(batch, blocked);
        replayed += round.sent();
        if (!round.available()) {
          break;
        }
      }
      return replayed;
    } catch (IOException failure) {
      throw new UncheckedIOException("dead letters: " + failure, failure);
    } finally {
      replayLock.unlock();
    }
  }

  /** How a batch went, and whether NATS answered. */
  private record Round(int sent, boolean available) {}

  private Round send(List<String> batch, Set<String> blocked) throws IOException {
    Map<String, CompletableFuture<PublishAck>> underWay = new LinkedHashMap<>();
    Map<String, String> subjects = new HashMap<>();
    for (String name : batch) {
      if (sent.contains(name)) {
        remove(name, blocked);
        continue;
      }
      try {
        DeadLetter letter = letters.read(name);
        subjects.put(name, letter.subject());
        underWay.put(
            name,
            bus.send(
                letter.subject(), letter.headers(), letter.data(), letter.lane(), attemptTimeout));
      } catch (NoSuchFileException gone) {
        letters.forget(name); // taken away by hand
      } catch (IllegalArgumentException unreadable) {
        refused(name, message(unreadable), !subjects.containsKey(name), blocked);
      } catch (IOException unreadable) {
        blocked.add(letters.laneOf(name));
        tellReplayFailure(name + ": " + unreadable);
      }
    }
    int count = 0;
    boolean available = true;
    for (Map.Entry<String, CompletableFuture<PublishAck>> each : underWay.entrySet()) {
      String name = each.getKey();
      String subject = subjects.getOrDefault(name, "");
      try {
        NatsBus.await(each.getValue(), subject, attemptTimeout);
      } catch (NatsBusException failure) {
        if (failure.reason() == Reason.REFUSED) {
          refused(name, message(failure), false, blocked);
        } else {
          available &= failure.reason() == Reason.NOT_TAKEN;
          blocked.add(letters.laneOf(name));
          tellReplayFailure(message(failure));
        }
        continue;
      }
      count++;
      keeping.set(false);
      LOG.atInfo()
          .addKeyValue("path", letters.path(name))
          .addKeyValue("subject", subject)
          .log("replayed natsbus dead letter");
      remove(name, blocked);
    }
    letters.sync();
    return new Round(count, available);
  }

  private void remove(String name, Set<String> blocked) {
    try {
      letters.delete(name);
      sent.remove(name);
      refusals.remove(name);
    } catch (IOException failure) {
      sent.add(name);
      blocked.add(letters.laneOf(name));
      tellReplayFailure(name + " was sent and cannot be deleted: " + failure);
    }
  }

  private void refused(String name, String why, boolean unreadable, Set<String> blocked) {
    if (!unreadable && refusals.merge(name, 1, Integer::sum) < MAX_REFUSALS) {
      blocked.add(letters.laneOf(name));
      tellReplayFailure(why);
      return;
    }
    Path aside;
    try {
      aside = letters.quarantine(name);
    } catch (IOException failure) {
      blocked.add(letters.laneOf(name));
      tellReplayFailure(name + " (" + why + ") cannot be set aside: " + failure);
      return;
    }
    refusals.remove(name);
    LOG.atError()
        .addKeyValue("path", aside)
        .addKeyValue("error", why)
        .log("natsbus dead letter set aside");
  }

  /**
   * Ends the sending of what is on disk, after the batch that is under way (at most the attempt timeout). What is there stays there for
   * the next start. Close it before its bus. A second call does nothing.
   */
  @Override
  public void close() {
    closed.countDown();
    BusMetrics metrics = bus.metrics();
    if (metrics != null) {
      metrics.removeDeadLetters(size);
    }
    try {
      replayer.join(attemptTimeout.plusSeconds(1));
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** Describes a reliable publisher. Not thread-safe. */
  public static final class Builder {
    private final NatsBus bus;
    private final Path directory;
    private int attempts = 3;
    private Duration attemptTimeout = Duration.ofSeconds(2);
    private Duration replayInterval = Duration.ofSeconds(30);
    private int limit = 100_000;
    private Duration breakerOpen = Duration.ofSeconds(30);
    private InstantSource clock = InstantSource.system();
    private LongSupplier nanoTime = System::nanoTime;

    Builder(NatsBus bus, Path directory) {
      this.bus = bus;
      this.directory = requireNonNull(directory, "directory");
    }

    /**
     * Says how often a change is tried before it goes to disk (3), with pauses of 100 ms, 200 ms and so on, up to half less at random.
     *
     * @param attempts one or more
     * @return this
     */
    public Builder attempts(int attempts) {
      this.attempts = attempts;
      return this;
    }

    /**
     * Limits each attempt (2 s).
     *
     * @param timeout more than zero
     * @return this
     */
    public Builder attemptTimeout(Duration timeout) {
      this.attemptTimeout = requireNonNull(timeout, "attemptTimeout");
      return this;
    }

    /**
     * Says how often what is on disk is tried (30 s).
     *
     * @param interval more than zero
     * @return this
     */
    public Builder replayInterval(Duration interval) {
      this.replayInterval = requireNonNull(interval, "replayInterval");
      return this;
    }

    /**
     * Limits how many records the directory may hold (100 000); beyond it publishing fails.
     *
     * @param records one or more
     * @return this
     */
    public Builder limit(int records) {
      this.limit = records;
      return this;
    }

    Builder breakerOpen(Duration open) {
      this.breakerOpen = open;
      return this;
    }

    Builder clock(InstantSource clock) {
      this.clock = clock;
      return this;
    }

    Builder nanoTime(LongSupplier nanoTime) {
      this.nanoTime = nanoTime;
      return this;
    }

    /**
     * Opens the directory, makes it if it is not there, and begins to send what is in it.
     *
     * @return the publisher; the caller closes it, before its bus
     * @throws IllegalArgumentException if parameters are missing or wrong; the message names all of them
     * @throws UncheckedIOException if the directory cannot be used
     */
    public ReliablePublisher open() {
      List<String> problems = new ArrayList<>();
      if (directory.toString().isBlank()) {
        problems.add("dead_letter_dir_required");
      }
      if (attempts < 1) {
        problems.add("attempts must be one or more");
      }
      if (!attemptTimeout.isPositive()) {
        problems.add("attemptTimeout must be more than zero");
      }
      if (!replayInterval.isPositive()) {
        problems.add("replayInterval must be more than zero");
      }
      if (limit < 1) {
        problems.add("limit must be one or more");
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      try {
        ReliablePublisher publisher =
            new ReliablePublisher(this, DeadLetterDirectory.open(directory, limit, clock));
        BusMetrics metrics = bus.metrics();
        if (metrics != null) {
          metrics.addDeadLetters(publisher.size);
        }
        publisher.replayer.start();
        return publisher;
      } catch (IOException failure) {
        throw new UncheckedIOException("dead letters: " + failure, failure);
      }
    }
  }
}
