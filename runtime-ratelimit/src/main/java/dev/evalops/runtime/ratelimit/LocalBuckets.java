package dev.evalops.runtime.ratelimit;

import dev.evalops.runtime.ratelimit.RateLimiter.Decision;
import dev.evalops.runtime.ratelimit.RateLimiter.Policy;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * A bounded number of token buckets. A decision is a look-up and a compare-and-set; only a new key ever waits for a
 * lock.
 *
 * <p>A bucket is kept as the time at which it will be full. That one number says what a bucket is worth: one that is
 * full is like none, and of the others the one that is full soonest loses least when it is forgotten. Whoever floods
 * the limiter with keys has each of them used once, and so pushes out those keys and not a bucket that somebody has
 * emptied and still draws from.
 */
final class LocalBuckets {
  /**
   * Times are counted in sixteenths of a nanosecond, so that the time for one token hardly needs rounding at any rate
   * allowed.
   */
  private static final int TICK_BITS = 4;

  private static final double TICKS_PER_SECOND = 1e9 * (1 << TICK_BITS);
  private static final double SECONDS_PER_TICK = 1 / TICKS_PER_SECOND;
  private static final long SWEEP_TICKS = TimeUnit.MINUTES.toNanos(1) << TICK_BITS;
  private static final long MIN_RETRY_NANOS = TimeUnit.MILLISECONDS.toNanos(1);

  // In place of the time of a bucket that is no longer used.
  private static final long EVICTED = Long.MIN_VALUE;
  private static final long SUCCEEDED = Long.MIN_VALUE + 1;

  private final ConcurrentHashMap<Object, Bucket> buckets = new ConcurrentHashMap<>();
  private final AtomicInteger size = new AtomicInteger();
  private final AtomicLong nextSweep = new AtomicLong(SWEEP_TICKS);
  private final ReentrantLock makingRoom = new ReentrantLock();
  private final int max;

  /** At most so many buckets, and one more per thread that is just adding one. */
  LocalBuckets(int max) {
    this.max = max;
  }

  /**
   * Decides by a bucket that is there, and takes a token from it.
   *
   * @param key of any type with equals, best comparable
   * @param nanos the time since a fixed moment
   * @return null if there is no bucket of this key and policy
   */
  @Nullable
  Decision takeKnown(Object key, Policy policy, long nanos) {
    Bucket bucket = buckets.get(key);
    return bucket != null && bucket.isFor(policy) ? bucket.take(nanos << TICK_BITS) : null;
  }

  /** The same, by a new bucket if there is none. */
  Decision take(Object key, Policy policy, long nanos) {
    Decision decision = takeKnown(key, policy, nanos);
    while (decision == null) {
      long now = nanos << TICK_BITS;
      decision = current(key, policy, now).take(now);
    }
    return decision;
  }

  int size() {
    return size.get();
  }

  private Bucket current(Object key, Policy policy, long now) {
    if (size.get() >= max && !buckets.containsKey(key)) {
      makeRoom(now);
    }
    long sweep = nextSweep.get();
    if (now >= sweep && nextSweep.compareAndSet(sweep, now + SWEEP_TICKS)) {
      buckets.forEach((known, bucket) -> evictIf(known, bucket, now));
    }
    return buckets.compute(key, (k, known) -> {
      if (known == null) {
        size.incrementAndGet();
        return new Bucket(policy, now);
      }
      return known.isFor(policy) && !known.isEvicted() ? known : known.succeed(policy, now);
    });
  }

  /** Drops the buckets that are full, and if that frees less than an eighth, those that are full soonest. */
  private void makeRoom(long now) {
    makingRoom.lock();
    try {
      if (size.get() < max) {
        return;
      }
      long[] fullAt = new long[size.get() + 16];
      int count = 0;
      for (Map.Entry<Object, Bucket> entry : buckets.entrySet()) {
        long full = entry.getValue().fullAt;
        if (full > now) {
          fullAt = count < fullAt.length ? fullAt : Arrays.copyOf(fullAt, 2 * count);
          fullAt[count++] = full;
        } else {
          evictIf(entry.getKey(), entry.getValue(), now);
        }
      }
      int excess = Math.min(size.get() - (max - Math.max(1, max / 8)), count);
      if (excess > 0) {
        Arrays.sort(fullAt, 0, count);
        long soon = fullAt[excess - 1];
        for (Map.Entry<Object, Bucket> entry : buckets.entrySet()) {
          if (excess > 0 && evictIf(entry.getKey(), entry.getValue(), soon)) {
            excess--;
          }
        }
      }
    } finally {
      makingRoom.unlock();
    }
  }

  private boolean evictIf(Object key, Bucket bucket, long fullBy) {
    if (bucket.evictIf(fullBy) && buckets.remove(key, bucket)) {
      size.decrementAndGet();
      return true;
    }
    return false;
  }

  private static final class Bucket {
    private static final VarHandle FULL_AT;

    static {
      try {
        FULL_AT = MethodHandles.lookup().findVarHandle(Bucket.class, "fullAt", long.class);
      } catch (ReflectiveOperationException e) {
        throw new ExceptionInInitializerError(e);
      }
    }

    private final double perSecond;
    private final int burst;
    private final long ticksPerToken;
    private volatile long fullAt;

    Bucket(Policy policy, long fullAt) {
      this.perSecond = policy.perSecond();
      this.burst = policy.burst();
      // Rounded down: a token is there at the time that the rate says, and not a moment later.
      this.ticksPerToken = (long) (TICKS_PER_SECOND / perSecond);
      this.fullAt = fullAt;
    }

    boolean isFor(Policy policy) {
      return perSecond == policy.perSecond() && burst == policy.burst();
    }

    /** Null if the bucket is no longer used. */
    @Nullable
    Decision take(long now) {
      long capacity = burst * ticksPerToken;
      while (true) {
        long full = fullAt;
        if (full <= SUCCEEDED) {
          return null;
        }
        long owed = owed(full, now);
        long owedAfter = owed + ticksPerToken;
        if (owedAfter > capacity) {
          long retry = Math.max(MIN_RETRY_NANOS, nanos(owedAfter - capacity));
          return new Decision(0, retry, nanos(owed));
        }
        if (FULL_AT.compareAndSet(this, full, now + owedAfter)) {
          return new Decision(tokens(capacity - owedAfter), 0, nanos(owedAfter));
        }
      }
    }

    /** The time in which the missing tokens come back; a clock that goes back leaves the bucket as empty as it was. */
    private long owed(long full, long now) {
      return Math.min(Math.max(full - now, 0), burst * ticksPerToken);
    }

    /** Exactly ticks / ticksPerToken, without the division, which is a good part of a decision. */
    private int tokens(long ticks) {
      long tokens = (long) (ticks * (perSecond * SECONDS_PER_TICK));
      while (tokens * ticksPerToken > ticks) {
        tokens--;
      }
      while ((tokens + 1) * ticksPerToken <= ticks) {
        tokens++;
      }
      return (int) tokens;
    }

    private static long nanos(long ticks) {
      return (ticks + (1 << TICK_BITS) - 1) >> TICK_BITS;
    }

    boolean isEvicted() {
      return fullAt == EVICTED;
    }

    boolean evictIf(long fullBy) {
      long full = fullAt;
      return full > SUCCEEDED && full <= fullBy && FULL_AT.compareAndSet(this, full, EVICTED);
    }

    /** The bucket of the key under another policy: with the tokens of this one, as far as they fit. */
    Bucket succeed(Policy policy, long now) {
      while (true) {
        long full = fullAt;
        if (full <= SUCCEEDED) {
          return new Bucket(policy, now);
        }
        if (FULL_AT.compareAndSet(this, full, SUCCEEDED)) {
          double tokens = burst - (double) owed(full, now) / ticksPerToken;
          Bucket next = new Bucket(policy, now);
          next.fullAt =
              now + Math.round(Math.max(next.burst - tokens, 0) * (double) next.ticksPerToken);
          return next;
        }
      }
    }
  }
}
