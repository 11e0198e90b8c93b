package dev.evalops.runtime.startup;

import dev.evalops.runtime.errors.StartupException;
import java.time.Duration;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;

/**
 * A resource that {@link Lifecycle#open(String, Callable)} opens on a thread of its own. Thread-safe.
 *
 * @param <T> its type
 */
public final class Opening<T extends AutoCloseable> {
  private static final ThreadLocal<Opening<?>> CURRENT = new ThreadLocal<>();

  private final Openings all;
  private final String name;
  private final Callable<? extends T> resource;
  private final Thread thread;
  private final long startedAt = System.nanoTime();

  // Guarded by the lock of all.
  private @Nullable T opened;
  private @Nullable Throwable failure;
  private Duration took = Duration.ZERO;
  private boolean ended;
  private boolean cancelled;
  private boolean abandoned;
  private int failedAttempts;
  private @Nullable String lastFailure;

  Opening(Openings all, String name, Callable<? extends T> resource) {
    this.all = all;
    this.name = name;
    this.resource = resource;
    this.thread = Thread.ofPlatform().daemon().name("startup-" + name).unstarted(this::run);
  }

  /**
   * Waits until the resource is open, or any of those that the same lifecycle opens has failed.
   *
   * @return the resource
   * @throws StartupException if a dependency does not come up, or refuses; if the lifecycle closes; or if interrupted
   *     ({@code startup interrupted}, with the flag set again). Failures of others are suppressed in it
   * @throws IllegalArgumentException if a setting is wrong; any other unchecked exception of the opening passes, too
   */
  public T get() {
    return all.await(this);
  }

  /**
   * A dependency that is waited for. Its text holds neither hosts nor users and may be shown to anybody.
   *
   * @param name the name given to {@link Lifecycle#open(String, Callable)}
   * @param waiting how long it has been waited for
   * @param failedAttempts how many attempts of a {@link Retry} have failed
   * @param lastFailure the type of the last failure, such as {@code ConnectException}; empty before the first
   */
  public record Pending(
      String name, Duration waiting, int failedAttempts, Optional<String> lastFailure) {
    /** Returns for example {@code postgres: for 4.2 s, attempt 3 failed: ConnectException}. */
    @Override
    public String toString() {
      return name + ": for " + Bounded.text(waiting)
          + lastFailure
              .map(type -> ", attempt " + failedAttempts + " failed: " + type)
              .orElse("");
    }
  }

  /** Unless it is cancelled already. */
  void start() {
    all.change(() -> {
      if (!ended) {
        thread.start();
      }
    });
  }

  private void run() {
    CURRENT.set(this);
    T result = null;
    Throwable thrown = null;
    try {
      result = Objects.requireNonNull(resource.call(), name);
    } catch (Throwable e) {
      thrown = e;
    }
    boolean late = all.end(this, result, thrown);
    if (late && result != null) {
      try {
        result.close();
      } catch (Exception e) {
        Openings.LOG.atWarn().setCause(e).log("{}: closing failed", name);
      }
    }
  }

  /** Tells the opening of the calling thread, if it is one, of a failed attempt. */
  static void failed(Retry.Attempt attempt) {
    Opening<?> current = CURRENT.get();
    if (current != null) {
      current.all.change(() -> {
        current.failedAttempts++;
        current.lastFailure = type(attempt.failure());
      });
    }
  }

  private static String type(Throwable failure) {
    Throwable root = failure;
    for (int i = 0; root.getCause() != null && i < 50; i++) {
      root = root.getCause();
    }
    return root.getClass().getSimpleName();
  }

  /** Cancels what is not open yet and waits for its end; closes what is open. */
  void close() throws Exception {
    T resource = all.cancel(this);
    if (resource != null) {
      resource.close();
    }
  }

  /** Under the lock of {@link Openings}, as all that follow. */
  void end(@Nullable T result, @Nullable Throwable thrown) {
    ended = true;
    opened = result;
    failure = thrown;
    took = Duration.ofNanos(System.nanoTime() - startedAt);
  }

  void cancel() {
    cancelled = true;
    if (thread.getState() == Thread.State.NEW) {
      ended = true;
    } else if (!ended) {
      thread.interrupt();
    }
  }

  void abandon() {
    abandoned = true;
  }

  boolean isAbandoned() {
    return abandoned;
  }

  boolean isCancelled() {
    return cancelled;
  }

  boolean hasEnded() {
    return ended;
  }

  @Nullable
  T opened() {
    return opened;
  }

  @Nullable
  Throwable failure() {
    return failure;
  }

  Duration took() {
    return took;
  }

  String name() {
    return name;
  }

  Pending pending() {
    return new Pending(
        name,
        Duration.ofNanos(System.nanoTime() - startedAt),
        failedAttempts,
        Optional.ofNullable(lastFailure));
  }
}
