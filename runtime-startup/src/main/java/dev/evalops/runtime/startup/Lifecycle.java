package dev.evalops.runtime.startup;

import dev.evalops.runtime.errors.StartupException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * Closes what a service has opened, last opened first, when the process receives SIGTERM or SIGINT or {@link #close()}
 * is called.
 *
 * <pre>{@code
 * public static void main(String[] args) throws InterruptedException {
 *   try (Lifecycle life = Lifecycle.untilTerminated()) {
 *     DataSource db = life.add("postgres", Postgres.open(url));
 *     life.add("http", HttpService.builder(8080).handle("/", handler(db)).start());
 *     life.await();
 *   }
 * }
 * }</pre>
 *
 * <p>Each resource is closed once, on a thread of its own, even when others fail or hang, and all within one time limit
 * (10 s). A resource that takes too long is interrupted and no longer waited for. It may use all the time that is left
 * except 250 ms for each resource after it, or its equal share if the time is too short for that.
 *
 * <p>Thread-safe.
 */
public final class Lifecycle implements AutoCloseable {
  private static final long RESERVED_PER_RESOURCE_NANOS = TimeUnit.MILLISECONDS.toNanos(250);
  private static final long EXIT_GRACE_NANOS = TimeUnit.SECONDS.toNanos(1);

  private record Hook(String name, AutoCloseable resource) {}

  private final long closeTimeoutNanos;
  private final Thread owner = Thread.currentThread();
  private final @Nullable Thread jvmHook;

  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private final Deque<Hook> hooks = new ArrayDeque<>(); // the next to close comes first
  private final Openings openings = new Openings();
  // Of a type that needs no loading: the jars may have been replaced under the process.
  private final List<Map.Entry<String, Throwable>> failures = new ArrayList<>();
  private final Set<Thread> closingThreads = ConcurrentHashMap.newKeySet(); // of hooks that run
  private boolean terminated;
  private boolean closing;
  private boolean closed;
  private long begun; // when the time began to count, by System.nanoTime

  private Lifecycle(long closeTimeoutNanos, boolean untilTerminated) {
    this.closeTimeoutNanos = closeTimeoutNanos;
    this.jvmHook = untilTerminated
        ? Thread.ofPlatform().name("lifecycle").unstarted(this::onJvmShutdown)
        : null;
  }

  /**
   * Returns a lifecycle that also ends on SIGTERM, SIGINT or {@code System.exit}. Call it from {@code main}, in a
   * try-with-resources statement.
   *
   * <p>When the signal comes, {@link #await()} returns. If the calling thread is not in {@code await} yet, because the
   * service is still starting, it is interrupted, so that {@link Retry} stops with {@code startup interrupted}. The
   * thread must begin to close this lifecycle within half of the close timeout, which counts from the signal. If it
   * does not, or has ended, everything is closed without it, and a {@link ShutdownException} goes to the handler for
   * uncaught exceptions, which prints it. The exit status is that of the JVM for the signal: 143 for SIGTERM, 130 for
   * SIGINT. Code in {@code main} after the closing has one second to run.
   *
   * @return the lifecycle
   */
  public static Lifecycle untilTerminated() {
    return builder().untilTerminated().open();
  }

  /**
   * Returns a lifecycle that ignores signals, for tests and for a service inside another program.
   *
   * @return the lifecycle
   */
  public static Lifecycle open() {
    return builder().open();
  }

  /**
   * Returns a builder, to set another time limit than the default.
   *
   * @return a builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * Adds a resource, which is closed before all that were added earlier. Adding it again moves it to the front, so that
   * a server that was started first, to answer probes, is closed before the dependencies of its handlers.
   *
   * @param name the name in the message of a failure to close; if blank, {@code shutdown hook}
   * @param resource what to close; may be a lambda
   * @param <T> its type
   * @return the resource
   * @throws StartupException if this lifecycle has begun to close; the resource is closed then
   */
  public <T extends AutoCloseable> T add(String name, T resource) {
    Objects.requireNonNull(resource, "resource");
    openings.step(name);
    return register(name, resource);
  }

  @SuppressWarnings("ReferenceEquality") // the same resource, not an equal one
  private <T extends AutoCloseable> T register(String name, T resource) {
    Hook hook = new Hook(name.isBlank() ? "shutdown hook" : name, resource);
    lock.lock();
    try {
      if (!closing) {
        hooks.removeIf(earlier -> earlier.resource == resource);
        hooks.addFirst(hook);
        return resource;
      }
    } finally {
      lock.unlock();
    }
    StartupException refused = new StartupException(hook.name + ": the service is closing");
    boolean interrupted = Thread.interrupted();
    try {
      close(hook, closeTimeoutNanos);
    } catch (Throwable e) {
      interrupted |= e instanceof InterruptedException;
      refused.addSuppressed(e);
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
    throw refused;
  }

  /**
   * Opens a resource on a thread of its own, so that several dependencies are waited for at the same time. It is closed
   * before all that were added or begun earlier; one that is not open yet is interrupted.
   *
   * <pre>{@code
   * Opening<HikariDataSource> db = life.open("postgres", () -> Postgres.open(databaseUrl));
   * Opening<Redis> redis = life.open("redis", () -> Redis.open(redisUrl));
   * NoteStore store = new NoteStore(db.get());
   * }</pre>
   *
   * @param name the name in {@link #pending()}, the log and the message of a failure to close
   * @param resource opens the resource, on that thread
   * @param <T> its type
   * @return the opening
   * @throws StartupException if this lifecycle has begun to close
   */
  public <T extends AutoCloseable> Opening<T> open(String name, Callable<? extends T> resource) {
    Opening<T> opening = openings.of(name, resource);
    register(name, opening::close);
    opening.start();
    return opening;
  }

  /**
   * Returns the resources that {@link #open(String, Callable)} is still waiting for.
   *
   * @return those that are not open yet, in the order of the calls; empty when everything is open
   */
  public List<Opening.Pending> pending() {
    return openings.pending();
  }

  /**
   * Waits until the process is told to end or another thread calls {@link #close()}. The first call logs {@code startup
   * finished} at INFO, with the time since the process began and the three slowest of what was opened, and of what the
   * thread that made this lifecycle did before it added each resource.
   *
   * @throws InterruptedException if the calling thread is interrupted for any other reason
   */
  public void await() throws InterruptedException {
    if (!isEnding()) {
      openings
          .started(); // not under the lock: a log that is stuck must not keep it from being closed
    }
    lock.lock();
    try {
      while (!terminated && !closing) {
        changed.await();
      }
      if (terminated && Thread.currentThread().equals(owner)) {
        Thread.interrupted(); // that was the signal
      }
    } finally {
      lock.unlock();
    }
  }

  private boolean isEnding() {
    lock.lock();
    try {
      return terminated || closing;
    } finally {
      lock.unlock();
    }
  }

  /**
   * Closes everything, last added first, and returns when that is done, at the latest when the time is up. A second
   * call waits for the first and then does nothing; so does one that a resource makes while it is closed, without
   * waiting. An interrupt does not cut it short; the flag stays set.
   *
   * @throws ShutdownException if something failed to close or took too long
   */
  @Override
  public void close() {
    lock.lock();
    try {
      if (closing) {
        while (!closed && !closingThreads.contains(Thread.currentThread())) {
          changed.awaitUninterruptibly();
        }
        return;
      }
      Thread.ofPlatform().daemon().name("shutdown").start(this::closeAll);
      closing = true;
      if (!terminated) {
        begun = System.nanoTime();
      }
      changed.signalAll();
      while (!closed) {
        changed.awaitUninterruptibly();
      }
    } finally {
      lock.unlock();
    }
    if (jvmHook != null) {
      try {
        Runtime.getRuntime().removeShutdownHook(jvmHook);
      } catch (IllegalStateException e) {
        // It runs.
      }
    }
    if (!failures.isEmpty()) {
      throw failure();
    }
  }

  private ShutdownException failure() {
    ShutdownException joined = new ShutdownException(failures.stream()
        .map(failed -> failed.getKey() + ": " + Bounded.text(failed.getValue()))
        .collect(Collectors.joining("; ")));
    failures.forEach(failed -> joined.addSuppressed(failed.getValue()));
    return joined;
  }

  private void closeAll() {
    try {
      closeInOrder();
    } finally {
      lock.lock();
      try {
        closed = true;
        changed.signalAll();
      } finally {
        lock.unlock();
      }
    }
  }

  private void closeInOrder() {
    List<Hook> inOrder;
    lock.lock();
    try {
      inOrder = List.copyOf(hooks);
    } finally {
      lock.unlock();
    }
    int later = inOrder.size();
    for (Hook hook : inOrder) {
      later--;
      long left = Math.max(0, left());
      long kept = later * Math.min(RESERVED_PER_RESOURCE_NANOS, left / (later + 1));
      try {
        close(hook, left - kept);
      } catch (Throwable e) {
        failures.add(Map.entry(hook.name, e));
      }
    }
  }

  private void close(Hook hook, long nanos) throws Exception {
    Bounded.call(
        "shutdown-" + hook.name,
        () -> {
          closingThreads.add(Thread.currentThread());
          try {
            hook.resource.close();
            return Optional.empty();
          } finally {
            closingThreads.remove(Thread.currentThread());
          }
        },
        nanos);
  }

  private long left() {
    return closeTimeoutNanos - (System.nanoTime() - begun);
  }

  private void onJvmShutdown() {
    try {
      letOwnerClose();
      try {
        close();
      } finally {
        long start = System.nanoTime();
        while (owner.isAlive() && !exits(owner) && System.nanoTime() - start < EXIT_GRACE_NANOS) {
          owner.join(10);
        }
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt(); // nobody does
    }
  }

  /** Tells the owner, and returns when it has begun to close, or will not. */
  private void letOwnerClose() throws InterruptedException {
    lock.lock();
    try {
      terminated = true;
      if (closing) {
        return;
      }
      begun = System.nanoTime();
      changed.signalAll(); // before the interrupt, so that await returns
      owner.interrupt();
      while (!closing && owner.isAlive() && !exits(owner) && left() > closeTimeoutNanos / 2) {
        changed.await(10, TimeUnit.MILLISECONDS);
      }
    } finally {
      lock.unlock();
    }
  }

  /** Whether the thread has called System.exit, and so waits for this shutdown itself. */
  private static boolean exits(Thread thread) {
    return Arrays.stream(thread.getStackTrace())
        .anyMatch(frame -> frame.getClassName().equals("java.lang.Runtime")
            && frame.getMethodName().equals("exit"));
  }

  /** Sets what differs from the defaults. Not thread-safe. */
  public static final class Builder {
    private Duration closeTimeout = Duration.ofSeconds(10);
    private boolean untilTerminated;

    private Builder() {}

    /**
     * Sets how long closing may take in all (10 s).
     *
     * @param closeTimeout more than zero; less than what the platform waits from SIGTERM to SIGKILL
     * @return this
     */
    public Builder closeTimeout(Duration closeTimeout) {
      this.closeTimeout = Objects.requireNonNull(closeTimeout, "closeTimeout");
      return this;
    }

    /**
     * Ends the lifecycle when the process is told to end, as {@link Lifecycle#untilTerminated()} says. Default: signals
     * are left alone.
     *
     * @return this
     */
    public Builder untilTerminated() {
      untilTerminated = true;
      return this;
    }

    /**
     * Opens the lifecycle.
     *
     * @return the lifecycle; the caller closes it
     * @throws IllegalArgumentException if the time limit is not more than zero
     * @throws StartupException if it ends with the process and the process is ending already
     */
    public Lifecycle open() {
      if (!closeTimeout.isPositive()) {
        throw new IllegalArgumentException("closeTimeout must be more than zero: " + closeTimeout);
      }
      Lifecycle life = new Lifecycle(Bounded.nanos(closeTimeout), untilTerminated);
      if (life.jvmHook != null) {
        try {
          Runtime.getRuntime().addShutdownHook(life.jvmHook);
        } catch (IllegalStateException e) {
          throw new StartupException("lifecycle: the process is ending", e);
        }
      }
      return life;
    }
  }
}
