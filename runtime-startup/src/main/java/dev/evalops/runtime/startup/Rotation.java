package dev.evalops.runtime.startup;

import static java.util.Objects.requireNonNull;

import java.io.UncheckedIOException;
import java.nio.file.FileSystemException;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Something that is replaced while the process runs, such as {@link Credentials}: read in bounded time, with a number
 * for each value, so that connections made with an older one are told apart and replaced. Postgres, Redis and NATS of
 * this library use it; a service can, for its other clients.
 *
 * <pre>{@code
 * Rotation<Credentials> rotation = life.add("rotation", Rotation.of("credentials", supplier));
 * Rotation.Version<Credentials> used = rotation.read();                    // at each login
 * rotation.watch(Duration.ofSeconds(10), version -> client.renewAllBefore(version.number()));
 * }</pre>
 *
 * <p>A source that throws, gives null or takes more than 5 s fails the {@linkplain #read reading}, and is logged once
 * until it works again; never with what it says, unless that is a file that cannot be read.
 *
 * <p>Thread-safe.
 *
 * @param <T> what is replaced; told apart by {@code equals}
 */
public final class Rotation<T> implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Rotation.class);
  private static final Duration READ_TIMEOUT = Duration.ofSeconds(5);
  private static final int MAX_STUCK = 4;

  private final String name;
  private final Supplier<? extends T> source;
  private final ReentrantLock reading = new ReentrantLock();
  private final AtomicInteger running = new AtomicInteger();
  private final CountDownLatch closed = new CountDownLatch(1);
  private volatile @Nullable Version<T> last;
  private volatile long begun; // readings
  private long ended; // the last reading that did, well or not
  private @Nullable String failing; // why

  private Rotation(String name, Supplier<? extends T> source) {
    this.name = name;
    this.source = source;
  }

  /**
   * A value and its number.
   *
   * @param number 1 for the first, more for each one that is not equal to the one before
   * @param value the value, not printed
   * @param <T> the type of the value
   */
  public record Version<T>(long number, T value) {
    /** Returns the number alone. */
    @Override
    public String toString() {
      return "Version[" + number + "]";
    }
  }

  /**
   * Returns the rotation of what a source gives.
   *
   * @param name what it is, for the log and exceptions, such as {@code postgres credentials}
   * @param source called one call at a time, on a thread of its own
   * @param <T> what is replaced
   * @return a rotation without a thread, until it is {@linkplain #watch watched}
   */
  public static <T> Rotation<T> of(String name, Supplier<? extends T> source) {
    return new Rotation<>(requireNonNull(name, "name"), requireNonNull(source, "source"));
  }

  /**
   * Calls the source. While another call is under way this waits for it, and then at most 5 s more; callers that wait
   * together share one call, which began after they came.
   *
   * @return its value
   * @throws IllegalStateException if it throws, gives null or takes more than 5 s (then it is interrupted), also when
   *     the caller is interrupted, with the flag set again
   * @throws Error if it throws one before it has given any value
   */
  public Version<T> read() {
    long before = begun;
    try {
      reading.lockInterruptibly(); // no longer than the calls of others, which are bounded
    } catch (InterruptedException interrupted) {
      throw interrupted();
    }
    try {
      return ended > before ? ofAnother() : readNow();
    } catch (InterruptedException interrupted) {
      throw interrupted();
    } finally {
      reading.unlock();
    }
  }

  private Version<T> ofAnother() {
    if (failing != null) {
      throw new IllegalStateException(name + ": " + failing);
    }
    return requireNonNull(last);
  }

  private Version<T> readNow() throws InterruptedException {
    long mine = begun + 1;
    begun = mine;
    try {
      T value = call();
      ended = mine;
      if (failing != null) {
        failing = null;
        LOG.atInfo().addKeyValue("of", name).log("rotation: supplier works again");
      }
      Version<T> before = last;
      if (before != null && before.value().equals(value)) {
        return before;
      }
      Version<T> read = new Version<>(before == null ? 1 : before.number() + 1, value);
      last = read;
      return read;
    } catch (InterruptedException interrupted) {
      throw interrupted;
    } catch (Exception | Error failure) {
      ended = mine;
      String why = text(failure);
      if (failing == null) {
        LOG.atWarn()
            .addKeyValue("of", name)
            .addKeyValue("error", why)
            .log("rotation: supplier failed; open connections stay");
      }
      failing = why;
      if (failure instanceof Error broken && last == null) {
        throw broken; // the start fails by it, and shows where it comes from
      }
      // Later an Error, too, must end neither the watching nor a client that reconnects.
      throw new IllegalStateException(name + ": " + why);
    }
  }

  private T call() throws Exception {
    if (running.get() >= MAX_STUCK) {
      throw new TimeoutException("earlier calls have not ended");
    }
    T value = Bounded.<@Nullable T>call(
        "rotation-read",
        () -> {
          running.incrementAndGet(); // not before: the thread may not come to be
          try {
            return source.get();
          } finally {
            running.decrementAndGet();
          }
        },
        READ_TIMEOUT.toNanos());
    if (value == null) {
      throw new IllegalStateException("null");
    }
    return value;
  }

  /** What a source says may hold the secret, but for the name of a file. */
  private static String text(Throwable failure) {
    Throwable told = failure instanceof UncheckedIOException unchecked
        ? requireNonNull(unchecked.getCause())
        : failure;
    String type = "supplier failed: " + told.getClass().getSimpleName();
    return told instanceof FileSystemException || told instanceof TimeoutException
        ? type + ": " + told.getMessage()
        : type;
  }

  private IllegalStateException interrupted() {
    Thread.currentThread().interrupt();
    return new IllegalStateException(name + ": interrupted");
  }

  /**
   * Returns the last value that was read, without reading.
   *
   * @return empty before the first good reading
   */
  public Optional<Version<T>> latest() {
    return Optional.ofNullable(last);
  }

  /**
   * Reads again and again, on a daemon thread, until {@link #close}.
   *
   * @param every the time between two readings, more than zero
   * @param renew called with a version until it returns true: nothing is left that was made with an older one; what it
   *     throws counts as false and is logged
   * @throws IllegalArgumentException if the time is not more than zero
   */
  public void watch(Duration every, Predicate<? super Version<T>> renew) {
    requireNonNull(renew, "renew");
    if (!every.isPositive()) {
      throw new IllegalArgumentException("every must be more than zero: " + every);
    }
    Thread.ofPlatform().daemon().name(name + "-rotation").start(() -> {
      long done = 0;
      while (!isClosedWithin(every)) {
        Version<T> version;
        try {
          version = read();
        } catch (RuntimeException | Error logged) {
          continue;
        }
        try {
          if (version.number() > done && renew.test(version)) {
            done = version.number();
          }
        } catch (Throwable failure) {
          LOG.atWarn()
              .addKeyValue("of", name)
              .addKeyValue("error", failure.getClass().getSimpleName())
              .log("rotation: connections not renewed; will retry");
        }
        Thread.interrupted(); // somebody else's: only close() ends this thread
      }
    });
  }

  private boolean isClosedWithin(Duration time) {
    try {
      return closed.await(Bounded.nanos(time), TimeUnit.NANOSECONDS);
    } catch (InterruptedException notByClose) {
      return closed.getCount() == 0;
    }
  }

  /** Ends the watching. What is being renewed at the moment continues. A second call does nothing. */
  @Override
  public void close() {
    closed.countDown();
  }
}
