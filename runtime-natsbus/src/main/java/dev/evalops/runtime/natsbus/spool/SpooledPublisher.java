package dev.evalops.runtime.natsbus.spool;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.events.Change;
import dev.evalops.runtime.events.ChangePublisher;
import dev.evalops.runtime.events.EncodedEvent;
import dev.evalops.runtime.events.PublishException;
import dev.evalops.runtime.events.PublishException.Reason;
import io.micrometer.core.instrument.MeterRegistry;
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
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Publishes changes so that none is lost while the broker is away: a change that the broker does not store after some
 * attempts is spooled, which means that it is written durably to a directory and sent later. Changes of the same
 * aggregate stay in order: while one is spooled, later ones are spooled too.
 *
 * <pre>{@code
 * SpooledPublisher publisher =
 *     life.add("spool", SpooledPublisher.builder(bus, Path.of("/var/lib/notes/events")).open());
 * publisher.publish(change);   // STORED or SPOOLED: safe either way
 * }</pre>
 *
 * <p>After five failures in a row no attempt is made for 30 s, and changes are spooled at once. Spooled changes are
 * replayed every 30 s, the oldest first and 10 at a time, one batch after the other as long as the broker stores them.
 * A change whose subject no stream has holds back only its aggregate and its subject. A full stream or account counts
 * as an outage. A record that cannot be read, or that the broker has refused three times, is dead-lettered: it goes to
 * the folder {@code quarantine}, and is not tried again.
 *
 * <p>Processes may share a directory: one of them replays. The order within an aggregate is that of the calls in one
 * process.
 *
 * <p>Thread-safe.
 */
public final class SpooledPublisher implements ChangePublisher, AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(SpooledPublisher.class);
  private static final int THRESHOLD = 5;
  private static final Duration FIRST_BACKOFF = Duration.ofMillis(100);
  private static final Duration MAX_BACKOFF = Duration.ofSeconds(10);
  private static final Duration TURN_TIMEOUT = Duration.ofSeconds(10);
  private static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(5);
  private static final String BEHIND = "an earlier change of the same aggregate is spooled";
  private static final int BATCH = 10;
  private static final int MAX_REFUSALS = 3;
  private static final int MAX_SUBJECTS_AWAY = 5;

  private final ChangePublisher publisher;
  private final SpoolDirectory directory;
  private final int maxAttempts;
  private final Duration replayEvery;
  private final Breaker breaker;
  private final Turns turns = new Turns();
  private final AtomicBoolean spooling = new AtomicBoolean(); // as the last that was tried ended
  private final @Nullable SpoolMetrics metrics;
  private final CountDownLatch closed = new CountDownLatch(1);
  private final Thread replayer;

  private final ReentrantLock replayLock = new ReentrantLock();
  // Guarded by the replay lock.
  private final Map<String, Integer> refusals = new HashMap<>();
  private final Set<String> sent = new HashSet<>(); // and could not be deleted
  private boolean told;

  private SpooledPublisher(Builder builder, SpoolDirectory directory) {
    this.publisher = builder.publisher;
    this.directory = directory;
    this.maxAttempts = builder.maxAttempts;
    this.replayEvery = builder.replayEvery;
    this.breaker = new Breaker(THRESHOLD, builder.breakerOpen, builder.nanoTime);
    this.metrics =
        builder.registry == null ? null : new SpoolMetrics(builder.registry, directory::size);
    this.replayer =
        Thread.ofPlatform().daemon().name("natsbus-spool").unstarted(this::replayForEver);
  }

  /**
   * Returns a builder.
   *
   * @param publisher what sends the changes, such as a {@link dev.evalops.runtime.natsbus.NatsBus}
   * @param directory where they are spooled; created if it does not exist. It must survive a restart of the process
   * @return a builder with the defaults
   */
  public static Builder builder(ChangePublisher publisher, Path directory) {
    return new Builder(publisher, directory);
  }

  @Override
  public EncodedEvent encode(Change change) {
    return publisher.encode(change);
  }

  /**
   * Sends an event in the calling thread, or spools it: the result is complete when this returns.
   *
   * <p>Takes at most {@link Builder#maxAttempts} times the time limit of the underlying publisher, the pauses between
   * the attempts, and what the disk takes; up to 10 s more where calls for the same aggregate meet, which go one after
   * the other.
   *
   * @param event the event
   * @return {@link ChangePublisher.Outcome#STORED}, or {@link ChangePublisher.Outcome#SPOOLED}, also when interrupted,
   *     with the flag set again; or a {@link PublishException} if neither the broker nor the disk takes it
   */
  @Override
  public CompletableFuture<Outcome> send(EncodedEvent event) {
    try {
      if (sendOrSpool(event) != null) {
        return CompletableFuture.completedFuture(Outcome.SPOOLED);
      }
      spooling.set(false);
      LOG.atDebug().addKeyValue("subject", event.subject()).log("published change event");
      return CompletableFuture.completedFuture(Outcome.STORED);
    } catch (PublishException failure) {
      return CompletableFuture.failedFuture(failure);
    }
  }

  @Override
  public Optional<Duration> duplicateWindow() {
    return publisher.duplicateWindow();
  }

  /** Why the event is on disk; null if the broker has it. */
  private @Nullable String sendOrSpool(EncodedEvent event) {
    Instant begun = directory.now();
    if (spoolBehind(event, begun)) {
      return BEHIND;
    }
    try (Turns.Turn turn = turns.take(event.lane(), TURN_TIMEOUT)) {
      if (turn == null) {
        return spool(event, begun, "an earlier change of the same aggregate takes too long");
      }
      return spoolBehind(event, begun) ? BEHIND : spool(event, begun, attempt(event));
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      return spool(event, begun, "interrupted");
    }
  }

  /** Why the broker does not have the event; null if it has. */
  private @Nullable String attempt(EncodedEvent event) {
    long backoff = FIRST_BACKOFF.toNanos();
    for (int attempt = 1; ; attempt++) {
      try (Breaker.Call call = breaker.enter()) {
        if (call == null) {
          return "circuit_open";
        }
        try {
          await(publisher.send(event));
          call.succeeded();
          return null;
        } catch (PublishException failure) {
          if (failure.reason() == Reason.REFUSED || Thread.currentThread().isInterrupted()) {
            return message(failure);
          }
          call.failed();
          if (attempt == maxAttempts) {
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

  /** Waits within the bound of the publisher. */
  private static void await(CompletableFuture<Outcome> outcome) {
    try {
      var unused = outcome.get();
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new PublishException(Reason.AWAY, "interrupted", interrupted);
    } catch (ExecutionException failure) {
      if (failure.getCause() instanceof PublishException known) {
        throw known;
      }
      throw new PublishException(Reason.AWAY, String.valueOf(failure.getCause()), failure);
    }
  }

  private static String message(Throwable failure) {
    return String.valueOf(failure.getMessage());
  }

  /** Writes it to disk if there is a problem; returns that. */
  private @Nullable String spool(EncodedEvent event, Instant begun, @Nullable String problem) {
    if (problem != null) {
      write(event, problem, () -> directory.add(event, begun, problem));
    }
    return problem;
  }

  /** Writes it to disk if a change of the same aggregate is there. */
  private boolean spoolBehind(EncodedEvent event, Instant begun) {
    return write(event, BEHIND, () -> directory.addBehind(event, begun, BEHIND));
  }

  @FunctionalInterface
  private interface Writing {
    @Nullable
    Path write() throws IOException;
  }

  private boolean write(EncodedEvent event, String problem, Writing writing) {
    Path file;
    try {
      file = writing.write();
    } catch (IOException | RuntimeException failure) {
      throw new PublishException(
          Reason.AWAY,
          "publish " + event.subject() + ": " + problem + "; and could not be spooled: " + failure,
          failure);
    }
    if (file == null) {
      return false;
    }
    if (metrics != null) {
      metrics.spooled();
    }
    // The first loudly: there may be thousands. One that waits behind another says nothing new.
    boolean begins = !problem.equals(BEHIND) && !spooling.getAndSet(true);
    (begins ? LOG.atWarn() : LOG.atDebug())
        .addKeyValue("subject", event.subject())
        .addKeyValue("error", problem)
        .addKeyValue("path", file)
        .log("change spooled");
    return true;
  }

  /** How many changes are spooled, without those in {@code quarantine}. */
  int size() {
    return directory.size();
  }

  private void replayForEver() {
    try {
      while (!closed.await(TimeUnit.NANOSECONDS.convert(replayEvery), TimeUnit.NANOSECONDS)) {
        try {
          replay();
        } catch (UncheckedIOException failure) {
          LOG.atWarn()
              .addKeyValue("error", failure.getMessage())
              .log("spool replay failed; will retry");
        } catch (RuntimeException | Error failure) {
          LOG.atError()
              .setCause(failure)
              .addKeyValue("error", failure.toString())
              .log("spool replay failed; will retry");
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
        .log("spool replay failed; will retry");
    told = true;
  }

  /**
   * Replays the spooled changes now, as otherwise happens every 30 s, until none is left or the broker stores no more.
   *
   * @return how many changes were sent; 0 while another thread or process replays
   * @throws UncheckedIOException if the directory cannot be read
   */
  int replay() {
    if (!replayLock.tryLock()) {
      return 0;
    }
    try (SpoolDirectory.Replaying right = directory.tryReplaying()) {
      directory.refresh();
      if (right == null) {
        return 0;
      }
      directory.sweep();
      told = false;
      int replayed = 0;
      int subjectsAway = 0; // in a row
      Set<String> awaySubjects = new HashSet<>();
      Set<String> blocked = new HashSet<>();
      while (closed.getCount() > 0 && !Thread.currentThread().isInterrupted()) {
        // What a call has in hand may have to be written before what is here.
        Set<String> without = turns.taken();
        without.addAll(blocked);
        List<String> batch = directory.next(BATCH, without, awaySubjects);
        if (batch.isEmpty()) {
          break;
        }
        Round round = send(batch, blocked);
        replayed += round.sent();
        awaySubjects.addAll(round.away());
        subjectsAway = round.sent() > 0 ? 0 : subjectsAway + round.away().size();
        if (subjectsAway >= MAX_SUBJECTS_AWAY) {
          break; // it is the broker
        }
      }
      return replayed;
    } catch (IOException failure) {
      throw new UncheckedIOException("spool directory: " + failure, failure);
    } finally {
      replayLock.unlock();
    }
  }

  /** How many of a batch were sent, and the subjects of which none was and one or more could not be. */
  private record Round(int sent, Set<String> away) {}

  private Round send(List<String> batch, Set<String> blocked) throws IOException {
    Map<String, CompletableFuture<Outcome>> underWay = new LinkedHashMap<>();
    Map<String, String> subjects = new HashMap<>();
    for (String name : batch) {
      if (sent.contains(name)) {
        remove(name, blocked);
        continue;
      }
      try {
        EncodedEvent event = directory.read(name).event();
        subjects.put(name, event.subject());
        underWay.put(name, publisher.send(event));
      } catch (NoSuchFileException gone) {
        directory.forget(name); // taken away by hand
      } catch (IllegalArgumentException unreadable) {
        giveUp(name, message(unreadable), blocked);
      } catch (IOException unreadable) {
        blocked.add(directory.laneOf(name));
        tellReplayFailure(name + ": " + unreadable);
      }
    }
    int count = 0;
    Set<String> away = new HashSet<>();
    Set<String> taken = new HashSet<>();
    for (Map.Entry<String, CompletableFuture<Outcome>> each : underWay.entrySet()) {
      String name = each.getKey();
      String subject = subjects.getOrDefault(name, "");
      try {
        await(each.getValue());
      } catch (PublishException failure) {
        if (failure.reason() == Reason.REFUSED) {
          refused(name, message(failure), blocked);
        } else {
          away.add(subject);
          blocked.add(directory.laneOf(name));
          tellReplayFailure(message(failure));
        }
        continue;
      }
      count++;
      taken.add(subject);
      spooling.set(false);
      if (metrics != null) {
        metrics.replayed();
      }
      LOG.atInfo()
          .addKeyValue("path", directory.path(name))
          .addKeyValue("subject", subject)
          .log("spooled change replayed");
      remove(name, blocked);
    }
    directory.sync();
    away.removeAll(taken);
    return new Round(count, away);
  }

  private void remove(String name, Set<String> blocked) {
    try {
      directory.delete(name);
      sent.remove(name);
      refusals.remove(name);
    } catch (IOException failure) {
      sent.add(name);
      blocked.add(directory.laneOf(name));
      tellReplayFailure(name + " was sent and cannot be deleted: " + failure);
    }
  }

  private void refused(String name, String why, Set<String> blocked) {
    if (refusals.merge(name, 1, Integer::sum) < MAX_REFUSALS) {
      blocked.add(directory.laneOf(name));
      tellReplayFailure(why);
    } else {
      giveUp(name, why, blocked);
    }
  }

  private void giveUp(String name, String why, Set<String> blocked) {
    Path aside;
    try {
      aside = directory.quarantine(name);
    } catch (IOException failure) {
      blocked.add(directory.laneOf(name));
      tellReplayFailure(name + " (" + why + ") cannot be moved to quarantine: " + failure);
      return;
    }
    refusals.remove(name);
    if (metrics != null) {
      metrics.deadLettered();
    }
    LOG.atError()
        .addKeyValue("path", aside)
        .addKeyValue("error", why)
        .log("spooled change dead-lettered");
  }

  /**
   * Ends the replays, and waits up to 5 s for the batch that is being sent. Spooled changes stay in the directory for
   * the next start. Close this before its publisher. A second call does nothing.
   */
  @Override
  public void close() {
    closed.countDown();
    if (metrics != null) {
      metrics.close();
    }
    try {
      replayer.join(CLOSE_TIMEOUT);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** The settings of a spooled publisher. Not thread-safe. */
  public static final class Builder {
    private final ChangePublisher publisher;
    private final Path directory;
    private int maxAttempts = 3;
    private Duration replayEvery = Duration.ofSeconds(30);
    private int maxSpooled = 100_000;
    private @Nullable MeterRegistry registry;
    private Duration breakerOpen = Duration.ofSeconds(30);
    private LongSupplier nanoTime = System::nanoTime;

    Builder(ChangePublisher publisher, Path directory) {
      this.publisher = requireNonNull(publisher, "publisher");
      this.directory = requireNonNull(directory, "directory");
    }

    /**
     * Sets the number of attempts before a change is spooled (3), with pauses of 100 ms, 200 ms and so on, up to half
     * less at random. Each attempt has the time limit of the underlying publisher.
     *
     * @param attempts one or more
     * @return this
     */
    public Builder maxAttempts(int attempts) {
      this.maxAttempts = attempts;
      return this;
    }

    /**
     * Sets how often spooled changes are replayed (30 s).
     *
     * @param interval more than zero
     * @return this
     */
    public Builder replayEvery(Duration interval) {
      this.replayEvery = requireNonNull(interval, "replayEvery");
      return this;
    }

    /**
     * Limits how many changes may be spooled (100 000); beyond it publishing fails.
     *
     * @param changes one or more
     * @return this
     */
    public Builder maxSpooled(int changes) {
      this.maxSpooled = changes;
      return this;
    }

    /**
     * Registers {@code natsbus_spool_spooled_total}, {@code natsbus_spool_replayed_total}, {@code
     * natsbus_spool_dead_lettered_total} and the gauge {@code natsbus_spool_size} (default: nothing).
     *
     * @param registry gets the meters
     * @return this
     */
    public Builder metrics(MeterRegistry registry) {
      this.registry = requireNonNull(registry, "registry");
      return this;
    }

    Builder breakerOpen(Duration open) {
      this.breakerOpen = open;
      return this;
    }

    Builder nanoTime(LongSupplier nanoTime) {
      this.nanoTime = nanoTime;
      return this;
    }

    /**
     * Opens the directory, creates it if it does not exist, and begins to send what is in it.
     *
     * @return the publisher; the caller closes it, before its publisher
     * @throws IllegalArgumentException if settings are missing or wrong; the message names all of them
     * @throws StartupException if the directory cannot be used
     */
    public SpooledPublisher open() {
      List<String> problems = new ArrayList<>();
      if (directory.toString().isBlank()) {
        problems.add("dead_letter_dir_required");
      }
      if (maxAttempts < 1) {
        problems.add("maxAttempts must be 1 or more: " + maxAttempts);
      }
      if (!replayEvery.isPositive()) {
        problems.add("replayEvery must be more than zero: " + replayEvery);
      }
      if (maxSpooled < 1) {
        problems.add("maxSpooled must be 1 or more: " + maxSpooled);
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      try {
        SpooledPublisher opened = new SpooledPublisher(
            this, SpoolDirectory.open(directory, maxSpooled, InstantSource.system()));
        opened.replayer.start();
        return opened;
      } catch (IOException failure) {
        throw new StartupException("spool directory " + directory + ": " + failure, failure);
      }
    }
  }
}
