package dev.evalops.runtime.ratelimit;

import dev.evalops.runtime.ratelimit.RateLimiter.Decision;
import dev.evalops.runtime.ratelimit.RateLimiter.Policy;
import dev.evalops.runtime.ratelimit.RateLimiter.RedisChange;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.RedisNoScriptException;
import io.lettuce.core.ScriptOutputType;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.async.RedisScriptingAsyncCommands;
import io.lettuce.core.cluster.api.StatefulRedisClusterConnection;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Token buckets in Redis, shared by all processes that use the same prefix. One script call decides. A decision that
 * takes longer than the budget is given up; after a few failures in a row no decision waits any more, and a script that
 * nobody waits for finds out each second whether Redis is back.
 *
 * <p>Apart, so that nobody else needs Lettuce's classes.
 */
final class RedisBuckets {
  private static final Logger LOG = LoggerFactory.getLogger(RedisBuckets.class);

  private static final int FAILURES_UNTIL_DOWN = 5;
  private static final long PROBE_EVERY_NANOS = TimeUnit.SECONDS.toNanos(1);
  private static final long IDLE_MILLIS = TimeUnit.MINUTES.toMillis(5);

  /**
   * The time is the server's. The field rate is the one at which the tokens since updated_at_ms come back; other
   * writers of the same bucket may not know it. A time in the future is that of a writer with a wrong clock, and counts
   * as now.
   */
  static final String SCRIPT = """
      local time = redis.call('TIME')
      local now = time[1] * 1000 + math.floor(time[2] / 1000)
      local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
      local state = redis.call('HMGET', KEYS[1], 'tokens', 'updated_at_ms', 'rate')
      local tokens, updated = tonumber(state[1]), tonumber(state[2])
      if tokens == nil or updated == nil then
        tokens = burst
      elseif now > updated then
        tokens = tokens + (now - updated) / 1000 * (tonumber(state[3]) or rate)
      end
      tokens = math.min(tokens, burst)
      local allowed, retry = 0, 0
      if tokens >= 1 then
        tokens = tokens - 1
        allowed = 1
      else
        retry = math.ceil((1 - tokens) / rate * 1000)
      end
      redis.call('HSET', KEYS[1], 'tokens', tokens, 'updated_at_ms', now, 'rate', ARGV[1])
      redis.call('PEXPIRE', KEYS[1], ARGV[3])
      return {allowed, math.floor(tokens), retry, math.ceil((burst - tokens) / rate * 1000)}
      """;

  private static final String SCRIPT_SHA = Digest.sha1(SCRIPT);

  private final RedisScriptingAsyncCommands<String, String> redis;
  private final String prefix;
  private final long budgetNanos;
  private final Consumer<? super RedisChange> listener;

  private final AtomicInteger failures = new AtomicInteger();
  private volatile boolean down;
  private volatile boolean closed;

  /** Guards the two fields below, and the order in which the listener is told; never waited for. */
  private final ReentrantLock changing = new ReentrantLock();

  private @Nullable Probe probe;
  private long probedAt;

  /**
   * A script that nobody waits for.
   *
   * @param inTime whether it was answered as fast as a decision must be, which may be looked at long after that
   */
  private record Probe(
      RedisFuture<List<Object>> sent, CompletableFuture<Boolean> inTime, long sentAt) {}

  // Connections, so that the builder can be loaded without Lettuce.
  RedisBuckets(
      StatefulRedisConnection<String, String> connection,
      Optional<String> service,
      Duration budget,
      Consumer<? super RedisChange> listener) {
    this(connection.async(), service, budget, listener);
  }

  RedisBuckets(
      StatefulRedisClusterConnection<String, String> connection,
      Optional<String> service,
      Duration budget,
      Consumer<? super RedisChange> listener) {
    this(connection.async(), service, budget, listener);
  }

  private RedisBuckets(
      RedisScriptingAsyncCommands<String, String> redis,
      Optional<String> service,
      Duration budget,
      Consumer<? super RedisChange> listener) {
    this.redis = redis;
    this.prefix = "ratelimit:" + service.map(ServiceName::prefix).orElse("shared") + ":";
    this.budgetNanos = budget.toNanos();
    this.listener = listener;
  }

  /** Decides and takes a token; empty if Redis cannot, and the decision is to be made locally. */
  Optional<Decision> take(String key, Policy policy) {
    if (closed || (down && !isBack(key, policy))) {
      return Optional.empty();
    }
    return ask(keys(key, policy), arguments(policy));
  }

  private String[] keys(String key, Policy policy) {
    return new String[] {bucketKey(prefix, policy.scope(), key)};
  }

  static String bucketKey(String prefix, String scope, String key) {
    return prefix + Digest.sha256(scope + "\n" + key);
  }

  private static String[] arguments(Policy policy) {
    double fillMillis = Math.ceil(policy.burst() / policy.perSecond() * 1000);
    return new String[] {
      Double.toString(policy.perSecond()),
      Integer.toString(policy.burst()),
      Long.toString(Math.max(IDLE_MILLIS, (long) fillMillis))
    };
  }

  private Optional<Decision> ask(String[] keys, String[] arguments) {
    long start = System.nanoTime();
    Throwable failure;
    try {
      List<Object> answer;
      try {
        answer = await(redis.evalsha(SCRIPT_SHA, ScriptOutputType.MULTI, keys, arguments), start);
      } catch (ExecutionException e) {
        if (!(e.getCause() instanceof RedisNoScriptException)) {
          throw e;
        }
        answer = await(eval(keys, arguments), start);
      }
      if (failures.get() != 0) {
        failures.set(0);
      }
      return Optional.of(decision(answer));
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      return Optional.empty();
    } catch (ExecutionException e) {
      failure = e.getCause() == null ? e : e.getCause();
    } catch (TimeoutException e) {
      failure = noAnswer();
    } catch (RuntimeException e) {
      failure = e;
    }
    if (failures.incrementAndGet() >= FAILURES_UNTIL_DOWN && !down && changing.tryLock()) {
      try {
        if (!down) {
          probedAt = System.nanoTime();
          change(true, failure);
        }
      } finally {
        changing.unlock();
      }
    }
    return Optional.empty();
  }

  private TimeoutException noAnswer() {
    return new TimeoutException(
        "no answer within " + TimeUnit.NANOSECONDS.toMillis(budgetNanos) + " ms");
  }

  private List<Object> await(RedisFuture<List<Object>> sent, long start)
      throws InterruptedException, ExecutionException, TimeoutException {
    boolean answered = false;
    try {
      List<Object> answer =
          sent.get(budgetNanos - (System.nanoTime() - start), TimeUnit.NANOSECONDS);
      answered = true;
      return answer;
    } finally {
      if (!answered) {
        sent.cancel(true);
      }
    }
  }

  private RedisFuture<List<Object>> eval(String[] keys, String[] arguments) {
    return redis.eval(SCRIPT, ScriptOutputType.MULTI, keys, arguments);
  }

  private static Decision decision(List<Object> answer) {
    long retryMillis = ((Number) answer.get(0)).longValue() == 1
        ? 0
        : Math.max(1, ((Number) answer.get(2)).longValue());
    return new Decision(
        ((Number) answer.get(1)).intValue(),
        TimeUnit.MILLISECONDS.toNanos(retryMillis),
        TimeUnit.MILLISECONDS.toNanos(((Number) answer.get(3)).longValue()));
  }

  /** Looks after the probe, without waiting for anything. */
  private boolean isBack(String key, Policy policy) {
    if (!changing.tryLock()) {
      return false;
    }
    try {
      long now = System.nanoTime();
      Probe last = probe;
      if (last == null) {
        if (down && now - probedAt >= PROBE_EVERY_NANOS) {
          probe = probe(key, policy, now);
        }
      } else if (last.inTime().isDone()) {
        probe = null;
        probedAt = now;
        if (last.inTime().join()) {
          failures.set(0);
          change(false, null);
        }
      } else if (now - last.sentAt() > budgetNanos) {
        last.sent().cancel(true);
        probe = null;
        probedAt = now;
      }
      return !down;
    } catch (RuntimeException e) {
      probedAt = System.nanoTime();
      return false;
    } finally {
      changing.unlock();
    }
  }

  private Probe probe(String key, Policy policy, long now) {
    RedisFuture<List<Object>> sent = eval(keys(key, policy), arguments(policy));
    CompletableFuture<Boolean> inTime = sent.handle(
            (answer, failure) -> failure == null && System.nanoTime() - now <= budgetNanos)
        .toCompletableFuture();
    return new Probe(sent, inTime, now);
  }

  private void change(boolean nowDown, @Nullable Throwable failure) {
    down = nowDown;
    try {
      listener.accept(new RedisChange(!nowDown, Optional.ofNullable(failure)));
    } catch (RuntimeException e) {
      LOG.atError().setCause(e).log("rate limit: the listener failed");
    }
  }

  void close() {
    closed = true;
  }
}
