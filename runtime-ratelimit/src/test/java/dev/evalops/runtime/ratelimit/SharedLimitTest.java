package dev.evalops.runtime.ratelimit;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.testutil.RedisServer;
import dev.evalops.runtime.testutil.TestRedis;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * Two processes of a service, one of them with its clock an hour ahead, that are asked ten times as often as is
 * allowed.
 */
@Timeout(180)
@ExtendWith(TestRedis.class)
class SharedLimitTest {
  private static final int PER_SECOND = 50;
  // Two seconds' worth: what comes back while the machine is too busy to ask is not lost.
  private static final int BURST = 100;
  private static final int THREADS = 2;

  @Test
  void twoProcessesTogetherKeepTheLimit(RedisServer server) throws Exception {
    // Beside one percent: the times are known to a millisecond at both ends, which is 0.1 tokens,
    // and whole tokens are counted.
    keepTheLimit(server, Duration.ofSeconds(4), 2);
  }

  @Test
  @Tag("soak")
  void twoProcessesTogetherKeepTheLimitForLong(RedisServer server) throws Exception {
    keepTheLimit(server, Duration.ofSeconds(20), 0);
  }

  private static void keepTheLimit(RedisServer server, Duration length, double tolerance)
      throws Exception {
    List<Process> processes = new ArrayList<>();
    try {
      for (long hoursAhead = 0; hoursAhead < 2; hoursAhead++) {
        processes.add(start(server.url(), hoursAhead, length));
      }
      List<BufferedReader> outputs = new ArrayList<>();
      for (Process process : processes) {
        BufferedReader output = process.inputReader(StandardCharsets.UTF_8);
        assertThat(output.readLine()).isEqualTo("ready");
        outputs.add(output);
      }
      for (Process process : processes) {
        process.outputWriter(StandardCharsets.UTF_8).append("go\n").flush();
      }
      long offered = 0;
      long accepted = 0;
      long firstSent = Long.MAX_VALUE;
      long firstAnswered = Long.MAX_VALUE;
      long lastSent = 0;
      long lastAnswered = 0;
      for (BufferedReader output : outputs) {
        String line = output.readLine();
        assertThat(line).startsWith("done ");
        String[] figures = line.split(" ", -1);
        offered += Long.parseLong(figures[1]);
        accepted += Long.parseLong(figures[2]);
        firstSent = Math.min(firstSent, Long.parseLong(figures[3]));
        firstAnswered = Math.min(firstAnswered, Long.parseLong(figures[4]));
        lastSent = Math.max(lastSent, Long.parseLong(figures[5]));
        lastAnswered = Math.max(lastAnswered, Long.parseLong(figures[6]));
      }
      // Redis has seen the first and the last of them somewhere between question and answer.
      double seconds = (lastAnswered - firstSent) / 1e3;
      double most = PER_SECOND * seconds + BURST;
      double least = PER_SECOND * (lastSent - firstAnswered) / 1e3 + BURST;
      System.out.printf(
          "two processes, %.3f s: %d offered, %d accepted, %.1f to %.1f expected%n",
          seconds, offered, accepted, least, most);

      assertThat((double) accepted).isBetween(least * 0.99 - tolerance, most * 1.01 + tolerance);
      // A busy machine asks less often; it must be far too often all the same.
      assertThat(offered).isGreaterThan((long) (3 * PER_SECOND * seconds));
    } finally {
      processes.forEach(Process::destroyForcibly);
      for (Process process : processes) {
        process.waitFor(10, TimeUnit.SECONDS);
      }
    }
  }

  private static Process start(String redisUrl, long hoursAhead, Duration length)
      throws IOException {
    return new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-Xmx128m",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            System.getProperty("java.class.path"),
            Service.class.getName(),
            redisUrl,
            Long.toString(hoursAhead),
            length.toString())
        .redirectError(ProcessBuilder.Redirect.INHERIT)
        .start();
  }

  /** What runs in each process. */
  static final class Service {
    private Service() {}

    public static void main(String[] args) throws Exception {
      long ahead = TimeUnit.HOURS.toNanos(Long.parseLong(args[1]));
      long length = Duration.parse(args[2]).toNanos();
      AtomicBoolean away = new AtomicBoolean();
      try (Redis redis = Redis.open(args[0])) {
        RateLimiter limiter = RateLimiter.builder()
            .perSecond(PER_SECOND)
            .burst(BURST)
            .redis(redis.connection())
            .redisTimeout(Duration.ofSeconds(30))
            .onRedisChange(change -> away.set(true))
            .nanoTime(() -> System.nanoTime() + ahead)
            .open();
        limiter.decide("warm-up");
        System.out.println("ready");
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)).readLine();

        AtomicLong offered = new AtomicLong();
        AtomicLong accepted = new AtomicLong();
        AtomicLong firstAnswered = new AtomicLong(Long.MAX_VALUE);
        AtomicLong lastSent = new AtomicLong();
        long firstSent = System.currentTimeMillis();
        long start = System.nanoTime();
        List<Thread> threads = new ArrayList<>();
        for (int thread = 0; thread < THREADS; thread++) {
          threads.add(Thread.ofPlatform().start(() -> {
            // Each process has half of ten times the rate.
            long period = TimeUnit.SECONDS.toNanos(1) * THREADS / (5 * PER_SECOND);
            for (long next = start; System.nanoTime() - start < length; next += period) {
              LockSupport.parkNanos(next - System.nanoTime());
              offered.incrementAndGet();
              lastSent.accumulateAndGet(System.currentTimeMillis(), Math::max);
              if (limiter.decide("tenant-7").allowed()) {
                accepted.incrementAndGet();
              }
              firstAnswered.accumulateAndGet(System.currentTimeMillis(), Math::min);
            }
          }));
        }
        for (Thread thread : threads) {
          thread.join();
        }
        long lastAnswered = System.currentTimeMillis();
        System.out.println((away.get() ? "away " : "done ") + offered + " " + accepted + " "
            + firstSent + " " + firstAnswered + " " + lastSent + " " + lastAnswered);
      }
    }
  }
}
