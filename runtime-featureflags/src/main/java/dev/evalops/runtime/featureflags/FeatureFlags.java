package dev.evalops.runtime.featureflags;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.featureflags.FlagFile.Contents;
import dev.evalops.runtime.featureflags.FlagFile.UnusableException;
import io.micrometer.core.instrument.MeterRegistry;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Feature flags from a file that somebody else writes, such as a mounted ConfigMap.
 *
 * <pre>{@code
 * FeatureFlags flags = life.add("flags", FeatureFlags.open("/etc/notes/flags.json"));
 * if (flags.enabledFor("notes.search.v2", tenant)) { ... }
 * }</pre>
 *
 * <p>The file is the JSON form of {@code config.v1.FeatureFlagSnapshot}; unknown fields are ignored:
 *
 * <pre>{@code
 * {"schema_version": 1, "flags": [
 *   {"key": "notes.search.v2", "enabled": true, "rollout_percent": 25,
 *    "owners": ["search"], "description": "new index"}]}
 * }</pre>
 *
 * <p>It is read every 5 seconds on a thread of its own, and compared by content. A file that is missing, larger than 4
 * MiB or cannot be read leaves the last good flags in force, with one warning, and a line when it is good again.
 * {@link #enabled} and {@link #enabledFor} never wait or lock, nor allocate for a key without white space at its ends.
 *
 * <p>Thread-safe. {@link #close()} only stops the reading.
 */
public final class FeatureFlags implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(FeatureFlags.class);
  private static final Duration RELOAD_EVERY = Duration.ofSeconds(5);

  private final Path path;
  /** Guards itself and {@link #problem}. */
  private final List<Consumer<? super Reload>> listeners = new ArrayList<>();

  private final Queue<Runnable> pending = new ConcurrentLinkedQueue<>();
  private final ReentrantLock reloading = new ReentrantLock();
  private final ReentrantLock telling = new ReentrantLock();
  private final CountDownLatch closed = new CountDownLatch(1);

  private volatile Map<String, Rollout> flags;
  private volatile long goodAt; // by System.nanoTime
  private final AtomicReference<Runnable> unregister = new AtomicReference<>(() -> {});
  private byte[] bytes;
  private @Nullable String problem;

  private FeatureFlags(Path path, byte[] bytes, Contents contents) {
    this.path = path;
    this.bytes = bytes;
    this.flags = contents.flags();
    this.goodAt = System.nanoTime();
    warn(contents.doubts());
  }

  /**
   * Reads the file and watches it, with the defaults of {@link #builder(String)}.
   *
   * @param path the file
   * @return the flags
   * @throws IllegalArgumentException if the path is missing or the file cannot be used
   */
  public static FeatureFlags open(@Nullable String path) {
    return builder(path).open();
  }

  /**
   * Reads the file and watches it, with the defaults of {@link #builder(Path)}.
   *
   * @param path the file
   * @return the flags
   * @throws IllegalArgumentException if the file cannot be used
   */
  public static FeatureFlags open(Path path) {
    return builder(path).open();
  }

  /**
   * Returns a builder.
   *
   * @param path the file, for example from the environment; null and blank are refused when it is opened
   * @return a builder with the defaults
   */
  public static Builder builder(@Nullable String path) {
    return new Builder(path == null ? "" : path);
  }

  /**
   * Returns a builder.
   *
   * @param path the file
   * @return a builder with the defaults
   */
  public static Builder builder(Path path) {
    return new Builder(requireNonNull(path, "path").toString());
  }

  /**
   * Whether a flag is on, whatever its rollout says.
   *
   * @param key the flag
   * @return false also if there is no such flag
   */
  public boolean enabled(String key) {
    Rollout rollout = find(key);
    return rollout != null && rollout.flag().enabled();
  }

  /**
   * Whether a flag is on for somebody. A subject that is in a rollout stays in it when the percentage grows.
   *
   * @param key the flag
   * @param subject for example a tenant; a blank one is only reached by a rollout of 100 percent
   * @return false also if there is no such flag
   */
  public boolean enabledFor(String key, String subject) {
    requireNonNull(subject, "subject");
    Rollout rollout = find(key);
    return rollout != null && rollout.reaches(subject);
  }

  /**
   * Whether the file says a percentage for a flag, be it on or off.
   *
   * @param key the flag
   * @return false for a percentage of 0, which cannot be told from none in other forms of the file
   */
  public boolean hasExplicitRollout(String key) {
    Rollout rollout = find(key);
    return rollout != null && rollout.flag().explicitRollout();
  }

  /**
   * A flag.
   *
   * @param key its key
   * @return the flag, if there is one
   */
  public Optional<Flag> lookup(String key) {
    return Optional.ofNullable(find(key)).map(Rollout::flag);
  }

  private @Nullable Rollout find(String key) {
    Map<String, Rollout> now = flags;
    Rollout found = now.get(requireNonNull(key, "key"));
    return found == null ? now.get(Blank.trim(key)) : found;
  }

  /**
   * All flags of the moment.
   *
   * @return a copy, by key
   */
  public Map<String, Flag> snapshot() {
    return flags.entrySet().stream()
        .collect(Collectors.toUnmodifiableMap(
            Map.Entry::getKey, entry -> entry.getValue().flag()));
  }

  /**
   * Returns how long ago the file was last read and found good, for an alert: much more than the interval of reading
   * means that the flags are stale.
   *
   * @return zero or more
   */
  public Duration age() {
    return Duration.ofNanos(System.nanoTime() - goodAt);
  }

  /**
   * Adds a listener. What it throws is logged and changes nothing; while it blocks, the file is read all the same, and
   * only the listeners wait.
   *
   * @param listener is told of every change, and of each problem once, one at a time and in their order, on the thread
   *     of {@link #reload()} or one for listeners alone; of a problem that there is already, at once
   */
  public void onReload(Consumer<? super Reload> listener) {
    requireNonNull(listener, "listener");
    synchronized (listeners) {
      listeners.add(listener);
      if (problem != null) {
        Reload failed = Reload.failed(problem);
        pending.add(() -> tell(listener, failed));
      }
    }
    tellElsewhere();
  }

  /**
   * Reads the file now, on the caller's thread, which also tells the listeners, unless another thread is at it.
   *
   * @return whether a flag has changed; false also when the file cannot be used, which is reported
   */
  public boolean reload() {
    boolean changed = read();
    tellAll();
    return changed;
  }

  private boolean read() {
    reloading.lock();
    try {
      Optional<Reload> news = look();
      news.ifPresent(this::publish);
      return news.isPresent() && !news.get().keys().isEmpty();
    } finally {
      reloading.unlock();
    }
  }

  private Optional<Reload> look() {
    byte[] next;
    @Nullable Contents contents;
    try {
      next = FlagFile.read(path);
      contents = Arrays.equals(next, bytes) ? null : FlagFile.parse(next);
      if (contents != null && !contents.deliberate()) { // {}, or the file of another program
        throw new UnusableException("unmarshal_feature_flags: the file has no flags; the last good"
            + " ones stay. To remove them all, write {\"flags\": []}");
      }
    } catch (UnusableException | RuntimeException e) {
      String text = e instanceof UnusableException ? String.valueOf(e.getMessage()) : e.toString();
      if (text.equals(problem)) {
        return Optional.empty();
      }
      LOG.atWarn()
          .addKeyValue("path", path)
          .addKeyValue("error", text)
          .log("reload feature flags failed");
      return Optional.of(Reload.failed(text));
    }
    goodAt = System.nanoTime();
    boolean recovered = problem != null;
    if (recovered) {
      LOG.atInfo().addKeyValue("path", path).log("feature flags reloaded after failure");
    }
    Map<String, Rollout> before = flags;
    if (contents != null) {
      bytes = next;
      flags = contents.flags();
      warn(contents.doubts());
    }
    Reload reload = Reload.between(before, flags);
    return recovered || !reload.keys().isEmpty() ? Optional.of(reload) : Optional.empty();
  }

  private void warn(List<String> doubts) {
    for (String doubt : doubts) {
      LOG.atWarn().addKeyValue("path", path).log("feature flags: {}", doubt);
    }
  }

  private void publish(Reload reload) {
    synchronized (listeners) {
      problem = reload.problem().orElse(null);
      listeners.forEach(listener -> pending.add(() -> tell(listener, reload)));
    }
  }

  /** Tells what has not been told; what comes meanwhile is told by who is at it, so that the order stays. */
  private void tellAll() {
    if (telling.isHeldByCurrentThread()) {
      return;
    }
    while (!pending.isEmpty() && telling.tryLock()) {
      try {
        for (Runnable next = pending.poll(); next != null; next = pending.poll()) {
          next.run();
        }
      } finally {
        telling.unlock();
      }
    }
  }

  /** On another thread: what a listener does to its own, such as blocking, must not reach the reading. */
  private void tellElsewhere() {
    if (!pending.isEmpty() && !telling.isLocked()) {
      Thread.ofPlatform().daemon().name("feature-flags-listeners").start(this::tellAll);
    }
  }

  private static void tell(Consumer<? super Reload> listener, Reload reload) {
    try {
      listener.accept(reload);
    } catch (Throwable e) { // the next listener is told all the same
      LOG.atWarn().setCause(e).log("feature flags listener failed");
    }
  }

  private FeatureFlags watch(Duration interval) {
    if (!interval.isZero()) {
      Thread.ofPlatform().daemon().name("feature-flags").start(() -> reloadUntilClosed(interval));
    }
    return this;
  }

  private void reloadUntilClosed(Duration interval) {
    try {
      while (!closed.await(TimeUnit.NANOSECONDS.convert(interval), TimeUnit.NANOSECONDS)) {
        try {
          read();
          tellElsewhere();
        } catch (Throwable e) { // a kill switch must reach the next look-up all the same
          LOG.atWarn().setCause(e).addKeyValue("path", path).log("reload feature flags failed");
        }
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt(); // nobody but close() has business with this thread
    }
  }

  /** Stops reading the file, and removes the gauge. Look-ups still work, with the last flags. */
  @Override
  public void close() {
    closed.countDown();
    unregister.getAndSet(() -> {}).run();
  }

  /**
   * What reading the file has brought.
   *
   * @param added keys of new flags
   * @param removed keys of flags that are gone
   * @param changed keys of flags that differ
   * @param problem why the file cannot be used, in which case the last good flags stay in force; empty when it can,
   *     also for the first time after a problem
   */
  public record Reload(
      Set<String> added, Set<String> removed, Set<String> changed, Optional<String> problem) {
    /** Copies the sets. */
    public Reload {
      added = Set.copyOf(added);
      removed = Set.copyOf(removed);
      changed = Set.copyOf(changed);
    }

    /**
     * All keys whose flag is another than before.
     *
     * @return added, removed and changed, sorted
     */
    public List<String> keys() {
      Set<String> keys = new TreeSet<>(added);
      keys.addAll(removed);
      keys.addAll(changed);
      return List.copyOf(keys);
    }

    private static Reload failed(String problem) {
      return new Reload(Set.of(), Set.of(), Set.of(), Optional.of(problem));
    }

    private static Reload between(Map<String, Rollout> before, Map<String, Rollout> after) {
      Set<String> added = new TreeSet<>(after.keySet());
      added.removeAll(before.keySet());
      Set<String> removed = new TreeSet<>(before.keySet());
      removed.removeAll(after.keySet());
      Set<String> changed = new TreeSet<>();
      before.forEach((key, old) -> {
        Rollout now = after.get(key);
        if (now != null && !now.flag().equals(old.flag())) {
          changed.add(key);
        }
      });
      return new Reload(added, removed, changed, Optional.empty());
    }
  }

  /** Describes where the flags are. Not thread-safe. */
  public static final class Builder {
    private final String path;
    private Duration reloadEvery = RELOAD_EVERY;
    private Function<FeatureFlags, Runnable> metrics = flags -> () -> {};

    private Builder(String path) {
      this.path = path;
    }

    /**
     * Sets how often the file is read (5 seconds), on a daemon thread named {@code feature-flags}.
     *
     * @param interval zero or more; zero starts no thread: then {@link FeatureFlags#reload()} alone reads
     * @return this
     */
    public Builder reloadEvery(Duration interval) {
      reloadEvery = requireNonNull(interval, "reloadEvery");
      return this;
    }

    /**
     * Registers the gauge {@code feature_flags_age_seconds}, which is {@link FeatureFlags#age()}, until the flags are
     * closed; one file for a registry, and the flags before these are closed first. Default: none.
     *
     * @param registry the registry; needs {@code micrometer-core}
     * @return this
     */
    public Builder metrics(MeterRegistry registry) {
      requireNonNull(registry, "registry");
      metrics = flags -> AgeGauge.register(registry, flags);
      return this;
    }

    /**
     * Reads the file and starts to watch it.
     *
     * @return the flags; the caller closes them
     * @throws IllegalArgumentException {@code feature_flags_path_required} without a path, {@code reloadEvery must be
     *     ...} if it is negative; if the file cannot be used, {@code stat_feature_flags: ...} (missing, or no file),
     *     {@code read_feature_flags: ...} or {@code unmarshal_feature_flags: ...}
     */
    public FeatureFlags open() {
      List<String> problems = new ArrayList<>();
      if (Blank.trim(path).isEmpty()) {
        problems.add("feature_flags_path_required");
      }
      if (reloadEvery.isNegative()) {
        problems.add("reloadEvery must be zero or more: " + reloadEvery);
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      try {
        Path file = Path.of(path);
        byte[] bytes = FlagFile.read(file);
        FeatureFlags flags = new FeatureFlags(file, bytes, FlagFile.parse(bytes));
        flags.unregister.set(metrics.apply(flags));
        return flags.watch(reloadEvery);
      } catch (InvalidPathException e) {
        throw new IllegalArgumentException("stat_feature_flags: " + e.getMessage(), e);
      } catch (UnusableException e) {
        throw new IllegalArgumentException(e.getMessage(), e);
      }
    }
  }
}
