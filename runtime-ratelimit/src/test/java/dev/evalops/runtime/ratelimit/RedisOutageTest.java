package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.ratelimit.RateLimiter.RedisChange;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.testutil.FaultProxy;
import dev.evalops.runtime.testutil.RedisServer;
import dev.evalops.runtime.testutil.TestHttp;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisURI;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.resource.SocketAddressResolver;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.slf4j.LoggerFactory;

/** Redis is killed, or says nothing any more, while requests come in. */
@Timeout(180)
class RedisOutageTest {
  private static final Duration PATIENT = Duration.ofSeconds(30);

  /** Far above what an answer takes on a slow machine: who has waited for so long has waited for Redis. */
  private static final Duration TIMEOUT = Duration.ofSeconds(1);

  private static final double PER_SECOND = 50;
  private static final int BURST = 20;
  private static final int KEYS = 4;

  private final SimpleMeterRegistry registry = new SimpleMeterRegistry();
  private final List<RedisChange> changes = new CopyOnWriteArrayList<>();
  private RedisServer server;
  private Redis redis;
  private long serverPid;

  @BeforeEach
  void start() {
    server = RedisServer.start();
    redis = Redis.open(server.url());
    serverPid = pid();
  }

  @AfterEach
  void stop() {
    redis.close();
    server.close();
  }

  private long pid() {
    return redis
        .connection()
        .sync()
        .info("server")
        .lines()
        .filter(line -> line.startsWith("process_id:"))
        .mapToLong(line -> Long.parseLong(line.substring("process_id:".length())))
        .findFirst()
        .orElseThrow();
  }

  private RateLimiter.Builder limiter() {
    return RateLimiter.builder()
        .perSecond(PER_SECOND)
        .burst(BURST)
        .redis(redis.connection())
        .redisTimeout(TIMEOUT)
        .metrics("notes", registry)
        .onRedisChange(changes::add);
  }

  private void signal(String signal) throws Exception {
    Process kill = new ProcessBuilder("kill", "-" + signal, Long.toString(serverPid))
        .inheritIO()
        .start();
    assertThat(kill.waitFor()).isZero();
  }

  private interface Fault {
    void happens() throws Exception;
  }

  @Test
  void keepsTheLimitsWithoutRedis_whenItIsKilledUnderLoad() throws Exception {
    outage("killed", Duration.ofSeconds(2), () -> server.kill(), () -> server.restart());
  }

  @Test
  @Tag("soak")
  void keepsTheLimitsWithoutRedis_whenItIsKilledUnderLoadForLong() throws Exception {
    outage("killed", Duration.ofSeconds(20), () -> server.kill(), () -> server.restart());
  }

  @Test
  void keepsTheLimitsWithoutRedis_whenItSwallowsEverythingUnderLoad() throws Exception {
    outage("black hole", Duration.ofSeconds(2), () -> signal("STOP"), () -> signal("CONT"));
  }

  @Test
  @Tag("soak")
  void keepsTheLimitsWithoutRedis_whenItSwallowsEverythingUnderLoadForLong() throws Exception {
    outage("black hole", Duration.ofSeconds(20), () -> signal("STOP"), () -> signal("CONT"));
  }

  @Test
  void followsAFailover_whenTheOldMasterLivesOnAsAReplica() {
    AtomicInteger port = new AtomicInteger(server.port());
    SocketAddressResolver dns = new SocketAddressResolver() {
      @Override
      public SocketAddress resolve(RedisURI uri) {
        return new InetSocketAddress(InetAddress.getLoopbackAddress(), port.get());
      }
    };
    try (RedisServer promoted = RedisServer.start();
        Redis there = Redis.open(promoted.url());
        Redis following = Redis.builder("redis://cache.example")
            .configureResources(resources -> resources.socketAddressResolver(dns))
            .open()) {
      RateLimiter limiter = RateLimiter.builder()
          .redis(following.connection())
          .onRedisChange(changes::add)
          .open();
      limiter.decide("key");
      redis.connection().sync().replicaof("127.0.0.1", promoted.port());
      port.set(promoted.port());
      await().atMost(PATIENT).until(() -> {
        limiter.decide("key");
        return there.connection().sync().dbsize() == 1;
      });
    }
  }

  private void outage(String name, Duration length, Fault begins, Fault ends) throws Exception {
    RateLimiter limiter = limiter().open();
    Load load = new Load(limiter);
    try {
      await().atMost(PATIENT).until(() -> load.decisions.sum() > 200);
      begins.happens();
      await().atMost(PATIENT).until(() -> !changes.isEmpty());
      Load.Figures outage = load.measure(length);
      ends.happens();
      await().atMost(PATIENT).until(() -> changes.size() > 1);
      Load.Figures after = load.measure(Duration.ofSeconds(1));

      System.out.printf(
          "Redis %s for %s: p99 of the wait %.3f ms, longest %.1f ms, %d decisions, %d allowed of"
              + " at most %.0f; from the fault to recovery: longest wait %.1f ms; healthy again:"
              + " p99 %.3f ms%n",
          name,
          length,
          outage.p99Millis(),
          outage.maxMillis(),
          outage.decisions(),
          outage.allowed(),
          outage.mostAllowed(),
          load.longestMillis(),
          after.p99Millis());
      assertThat(outage.p99Millis()).isLessThan((double) TIMEOUT.toMillis());
      assertThat(outage.allowed()).isLessThanOrEqualTo((long) outage.mostAllowed());
      assertThat(outage.allowed()).isGreaterThan((long) (outage.mostAllowed() / 3));
      assertThat(load.errors).isEmpty();
    } finally {
      load.stop();
    }
    assertThat(changes).extracting(RedisChange::available).startsWith(false, true);
    assertThat(changes.getFirst().failure()).isPresent();
    assertThat(registry.get("notes_rate_limit_fallbacks_total").counter().count())
        .isGreaterThan(100);
    limiter.decide("probe");
    assertThat(redis.connection().sync().keys("ratelimit:notes:*")).isNotEmpty();
  }

  /** Asks far more often than is allowed, from four threads. */
  private static final class Load {
    final LongAdder decisions = new LongAdder();
    final Map<Class<?>, Throwable> errors = new ConcurrentHashMap<>();
    private final AtomicBoolean stopped = new AtomicBoolean();
    private final List<Thread> threads = new ArrayList<>();
    private final Object lock = new Object();
    private long[] waits = new long[1 << 20];
    private int count;
    private long allowed;
    private long longest;

    record Figures(
        long decisions, long allowed, double mostAllowed, double p99Millis, double maxMillis) {}

    Load(RateLimiter limiter) {
      for (int thread = 0; thread < 4; thread++) {
        threads.add(Thread.ofPlatform().start(() -> {
          for (int i = 0; !stopped.get(); i++) {
            long start = System.nanoTime();
            try {
              record(limiter.decide("key-" + i % KEYS).allowed(), System.nanoTime() - start);
            } catch (RuntimeException | Error e) {
              errors.put(e.getClass(), e);
            }
            LockSupport.parkNanos(500_000);
          }
        }));
      }
    }

    private void record(boolean wasAllowed, long wait) {
      decisions.increment();
      synchronized (lock) {
        if (count < waits.length) {
          waits[count++] = wait;
        }
        longest = Math.max(longest, wait);
        allowed += wasAllowed ? 1 : 0;
      }
    }

    Figures measure(Duration length) throws InterruptedException {
      long start = System.nanoTime();
      synchronized (lock) {
        count = 0;
        allowed = 0;
      }
      TimeUnit.NANOSECONDS.sleep(length.toNanos());
      synchronized (lock) {
        double seconds = (System.nanoTime() - start) / 1e9;
        long[] sorted = Arrays.copyOf(waits, count);
        Arrays.sort(sorted);
        return new Figures(
            count,
            allowed,
            KEYS * (PER_SECOND * seconds + BURST),
            sorted[(int) (count * 0.99)] / 1e6,
            sorted[count - 1] / 1e6);
      }
    }

    double longestMillis() {
      synchronized (lock) {
        return longest / 1e6;
      }
    }

    void stop() throws InterruptedException {
      stopped.set(true);
      for (Thread thread : threads) {
        thread.join(10_000);
      }
    }
  }

  @Test
  void clientsSeeNoError_whenRedisIsKilled() throws Exception {
    RateLimiter limiter = limiter().perSecond(0.5).open();
    HttpHandler handler =
        HttpFilters.chain(exchange -> exchange.sendResponseHeaders(204, -1), limiter.filter());
    Map<Integer, Integer> answers = new TreeMap<>();
    try (TestHttp http = TestHttp.start(handler);
        HttpClient client = HttpClient.newHttpClient()) {
      for (int i = 0; i < 300; i++) {
        if (i == 100) {
          server.kill();
        }
        if (i == 200) {
          server.restart();
        }
        int status = client
            .send(HttpRequest.newBuilder(http.uri("/v1/notes")).build(), BodyHandlers.discarding())
            .statusCode();
        answers.merge(status, 1, Integer::sum);
      }
    }

    assertThat(answers).containsOnlyKeys(204, 429);
  }

  @Test
  void anOutageIsToldOnce_andCostsOneScriptASecond() throws Exception {
    RateLimiter limiter = limiter().open();
    limiter.decide("a");
    signal("STOP");
    await().atMost(PATIENT).until(() -> {
      limiter.decide("a");
      return !changes.isEmpty();
    });
    long start = System.nanoTime();
    for (int i = 0; i < 100_000; i++) {
      limiter.decide("a");
    }
    signal("CONT");
    await().atMost(PATIENT).until(() -> {
      limiter.decide("a");
      return changes.size() == 2;
    });
    double seconds = (System.nanoTime() - start) / 1e9;

    assertThat(changes).extracting(RedisChange::available).containsExactly(false, true);
    assertThat(calls("cmdstat_eval")).isLessThanOrEqualTo((long) seconds + 2);
  }

  private long calls(String command) {
    return redis
        .connection()
        .sync()
        .info("commandstats")
        .lines()
        .filter(line -> line.startsWith(command + ":calls="))
        .mapToLong(line -> Long.parseLong(line.substring(line.indexOf('=') + 1, line.indexOf(','))))
        .sum();
  }

  @Test
  void aRedisThatStaysSlowIsNotTakenForBack_howeverRareTheRequests() {
    try (FaultProxy network = FaultProxy.start(server.port());
        Redis far = Redis.open(network.url(server.url()))) {
      RateLimiter limiter =
          limiter().redis(far.connection()).redisTimeout(Duration.ofMillis(100)).open();
      limiter.decide("a");
      network.delay(Duration.ofMillis(250));
      await().atMost(PATIENT).until(() -> {
        limiter.decide("a");
        return !changes.isEmpty();
      });
      // The answer to a script that was sent with one request is there at the next.
      await()
          .pollInterval(Duration.ofMillis(1200))
          .during(Duration.ofSeconds(5))
          .atMost(PATIENT)
          .until(() -> {
            limiter.decide("a");
            return changes.size() == 1;
          });
      network.heal();
      await().atMost(PATIENT).until(() -> {
        limiter.decide("a");
        return changes.size() == 2;
      });
    }
    assertThat(changes).extracting(RedisChange::available).containsExactly(false, true);
  }

  @Test
  void comesBack_whenRedisHasLostItsScripts() {
    RateLimiter limiter = limiter().open();
    limiter.decide("a");
    server.kill();
    await().atMost(PATIENT).until(() -> {
      limiter.decide("a");
      return !changes.isEmpty();
    });
    server.restart();

    await().atMost(PATIENT).until(() -> {
      limiter.decide("a");
      return changes.size() == 2;
    });
    assertThat(redis.connection().sync().keys("ratelimit:notes:*")).isNotEmpty();
  }

  @Test
  void neitherWaitsNorQueues_onAConnectionThatKeepsCommandsWhileDisconnected() {
    RedisClient client = RedisClient.create(server.url());
    try (StatefulRedisConnection<String, String> queueing = client.connect()) {
      RateLimiter limiter = limiter().redis(queueing).open();
      limiter.decide("a");
      server.kill();
      for (int i = 0; i < 10_000; i++) {
        limiter.decide("a");
      }
      assertThat(changes).extracting(RedisChange::available).containsExactly(false);
      server.restart();
      await().atMost(PATIENT).until(() -> {
        limiter.decide("a");
        return changes.size() == 2;
      });
      // What was given up is not sent after all.
      assertThat(calls("cmdstat_evalsha") + calls("cmdstat_eval")).isLessThan(20);
    } finally {
      client.shutdown(Duration.ZERO, Duration.ofSeconds(5));
    }
  }

  @Test
  void isUsedAgain_afterAShortHiccup_withoutTellingAnybody() throws Exception {
    RateLimiter limiter = limiter().open();
    limiter.decide("a");
    signal("STOP");
    limiter.decide("a");
    signal("CONT");
    await().atMost(PATIENT).until(() -> redis.connection().sync().ping().equals("PONG"));
    double before = registry.get("notes_rate_limit_fallbacks_total").counter().count();
    limiter.decide("a");

    assertThat(before).isEqualTo(1);
    assertThat(changes).isEmpty();
  }

  @Test
  void aListenerThatThrowsChangesNothing() {
    Logger logger = (Logger) LoggerFactory.getLogger(RedisBuckets.class);
    ListAppender<ILoggingEvent> log = new ListAppender<>();
    log.start();
    logger.addAppender(log);
    logger.setAdditive(false);
    try {
      RateLimiter limiter = limiter()
          .onRedisChange(change -> {
            changes.add(change);
            throw new IllegalStateException("listener");
          })
          .open();
      server.kill();
      await().atMost(PATIENT).until(() -> {
        limiter.decide("a");
        return !changes.isEmpty();
      });
      assertThat(limiter.decide("b").allowed()).isTrue();
      assertThat(log.list)
          .extracting(ILoggingEvent::getFormattedMessage)
          .containsExactly("rate limit: the listener failed");
    } finally {
      logger.detachAppender(log);
      logger.setAdditive(true);
    }
  }

  @Test
  void logsAChangeByDefault() {
    Logger logger = (Logger) LoggerFactory.getLogger(RateLimiter.class);
    ListAppender<ILoggingEvent> log = new ListAppender<>();
    log.start();
    logger.addAppender(log);
    logger.setAdditive(false);
    try {
      RateLimiter limiter = RateLimiter.builder().redis(redis.connection()).open();
      server.kill();
      await().atMost(PATIENT).until(() -> {
        limiter.decide("a");
        return !log.list.isEmpty();
      });
      assertThat(log.list.getFirst().getFormattedMessage())
          .startsWith(
              "rate limit: limits are kept by each process, without Redis (redis_ratelimit: ");
    } finally {
      logger.detachAppender(log);
      logger.setAdditive(true);
    }
  }

  @Test
  void decidesFromTheStart_whenRedisWasNeverThere() {
    Redis own = Redis.builder(server.url())
        .retry(Retry.builder().maxAttempts(1).build())
        .open();
    server.kill();
    try {
      RateLimiter limiter = limiter().redis(own.connection()).open();
      int allowed = 0;
      for (int i = 0; i < BURST; i++) {
        allowed += limiter.decide("a").allowed() ? 1 : 0;
      }
      assertThat(allowed).isEqualTo(BURST);
    } finally {
      own.close();
    }
  }
}
