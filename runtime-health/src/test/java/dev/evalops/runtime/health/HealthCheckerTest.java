package dev.evalops.runtime.health;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.LoggerFactory;
import org.slf4j.event.KeyValuePair;
import tools.jackson.databind.json.JsonMapper;

@Timeout(60)
class HealthCheckerTest {
  private static final Duration SHORT = Duration.ofMillis(100);
  private static final HealthCheck HEALTHY = () -> {};

  private final AtomicLong clock = new AtomicLong();
  private final HealthChecker health = HealthChecker.builder()
      .checkTimeout(Duration.ofSeconds(30))
      .nanoTime(clock::get)
      .build();
  private final ExecutorService callers = Executors.newCachedThreadPool();
  private final Logger logger = (Logger) LoggerFactory.getLogger(HealthChecker.class);
  private final ListAppender<ILoggingEvent> log = new ListAppender<>();

  @BeforeEach
  void captureTheLog() {
    log.list = Collections.synchronizedList(new ArrayList<>());
    log.start();
    logger.addAppender(log);
  }

  @AfterEach
  void release() {
    logger.detachAppender(log);
    callers.shutdownNow();
  }

  @Test
  void isHealthyWithAnEmptyList_whenThereAreNoChecks() throws Exception {
    assertThat(JsonMapper.shared().writeValueAsString(health.report()))
        .isEqualTo("{\"healthy\":true,\"checks\":[],\"duration_ms\":0}");
  }

  @Test
  void writesTheReportAsJson() {
    HealthReport report = new HealthReport(
        false,
        List.of(
            new HealthReport.Check("a", true, false, Duration.ofMillis(12), Optional.empty()),
            new HealthReport.Check(
                "b", false, true, Duration.ofNanos(1), Optional.of("check failed"))),
        Duration.ofMillis(13));

    assertThat(JsonMapper.shared().writeValueAsString(report))
        .isEqualTo("{\"healthy\":false,\"checks\":["
            + "{\"name\":\"a\",\"healthy\":true,\"latency_ms\":12},"
            + "{\"name\":\"b\",\"healthy\":false,\"latency_ms\":0,\"error\":\"check failed\",\"optional\":true}],"
            + "\"duration_ms\":13}");
  }

  @Test
  void reportsTheChecksInTheOrderAdded_withLatencyAndDuration() throws Exception {
    CountDownLatch first = new CountDownLatch(1);
    health.add("z", () -> {
      clock.addAndGet(Duration.ofMillis(7).toNanos());
      first.countDown();
    });
    health.add("a", first::await);

    HealthReport report = health.report();

    assertThat(report.healthy()).isTrue();
    assertThat(report.checks()).extracting(HealthReport.Check::name).containsExactly("z", "a");
    assertThat(report.checks().getFirst().latency()).isEqualTo(Duration.ofMillis(7));
    assertThat(report.duration()).isEqualTo(Duration.ofMillis(7));
  }

  @Test
  void countsALatencyUntilTheCheckEnded_notUntilItWasLookedAt() throws Exception {
    CountDownLatch failed = new CountDownLatch(1);
    health.add("slow", () -> {
      failed.await();
      await().until(() -> threadEnded("health-check-failing"));
      clock.addAndGet(Duration.ofMillis(500).toNanos());
    });
    health.add("failing", () -> {
      failed.countDown();
      throw new IOException();
    });

    assertThat(health.report().checks().get(1).latency()).isZero();
  }

  private static boolean threadEnded(String name) {
    return Thread.getAllStackTraces().keySet().stream()
        .noneMatch(thread -> thread.getName().equals(name));
  }

  @Test
  void isUnhealthy_whenOneRequiredCheckFails() throws Exception {
    health.add("good", HEALTHY).add("bad", failing(new UnhealthyException("queue_full")));

    HealthReport report = health.report();

    assertThat(report.healthy()).isFalse();
    assertThat(report.checks().get(0).healthy()).isTrue();
    assertThat(report.checks().get(1).healthy()).isFalse();
    assertThat(report.checks().get(1).error()).contains("queue_full");
  }

  @Test
  void staysHealthyButReportsIt_whenOnlyAnOptionalCheckFails() throws Exception {
    health.add("good", HEALTHY).addOptional("extra", failing(new UnhealthyException("queue_full")));

    HealthReport report = health.report();

    assertThat(report.healthy()).isTrue();
    assertThat(report.checks().get(1).healthy()).isFalse();
    assertThat(report.checks().get(1).optional()).isTrue();
  }

  @Test
  void showsAFixedText_whenTheTextWasNotChosen() throws Exception {
    health.add("db", failing(new IOException("user \"admin\" at db-7.internal refused")));
    health.add("wrapped", failing(new IOException(new UnhealthyException("inner"))));
    health.add("slow", failing(new TimeoutException("db-7.internal took too long")));
    health.add("textless", failing(new RuntimeException()));

    assertThat(health.report().checks())
        .extracting(check -> check.error().orElseThrow())
        .containsExactly("check failed", "check failed", "timed out", "check failed");
  }

  @Test
  void countsAnErrorAsUnhealthy() throws Exception {
    health.add("assertion", () -> {
      throw new AssertionError("boom");
    });
    health.add("stack", () -> recurse(1));
    health.add("good", HEALTHY);

    assertThat(health.report().checks())
        .extracting(HealthReport.Check::healthy)
        .containsExactly(false, false, true);
  }

  private static int recurse(int depth) {
    return depth == 0 ? 0 : recurse(depth + 1) + 1;
  }

  @Test
  void runsTheChecksAtTheSameTime() throws Exception {
    CyclicBarrier both = new CyclicBarrier(2);
    health.add("one", both::await).add("two", both::await);

    assertThat(health.report().healthy()).isTrue();
  }

  @Test
  void runsACheckOnItsOwnNamedDaemonThread() throws Exception {
    AtomicReference<Thread> thread = new AtomicReference<>();
    health.add("db", () -> thread.set(Thread.currentThread()));
    health.report();

    assertThat(thread.get().getName()).isEqualTo("health-check-db");
    assertThat(thread.get().isDaemon()).isTrue();
    thread.get().join();
  }

  @Test
  void interruptsACheck_whenItsTimeIsUp() throws Exception {
    HealthChecker shortly = HealthChecker.builder().checkTimeout(SHORT).build();
    CountDownLatch interrupted = new CountDownLatch(1);
    shortly.add("slow", () -> {
      try {
        new CountDownLatch(1).await();
      } catch (InterruptedException e) {
        interrupted.countDown();
        throw e;
      }
    });

    assertThat(shortly.report().checks().getFirst().error()).contains("timed out");
    interrupted.await();
  }

  @Test
  void startsNoSecondExecution_whileOneIgnoresItsInterrupt() throws Exception {
    HealthChecker shortly = HealthChecker.builder()
        .checkTimeout(SHORT)
        .cacheFor(Duration.ZERO)
        .nanoTime(() -> System.nanoTime() + clock.get())
        .build();
    CountDownLatch release = new CountDownLatch(1);
    AtomicInteger starts = new AtomicInteger();
    AtomicReference<Thread> hung = new AtomicReference<>();
    shortly.add("good", HEALTHY);
    shortly.add("hung", () -> {
      if (starts.incrementAndGet() == 1) {
        hung.set(Thread.currentThread());
        awaitUninterruptibly(release);
      }
    });

    for (int probe = 0; probe < 20; probe++) {
      HealthReport report = shortly.report();
      assertThat(report.healthy()).isFalse();
      assertThat(report.checks().get(0).healthy()).isTrue();
      assertThat(report.checks().get(1).error()).contains("timed out");
      assertThat(report.checks().get(1).latency())
          .isGreaterThanOrEqualTo(Duration.ofMinutes(probe).plus(SHORT));
      clock.addAndGet(Duration.ofMinutes(1).toNanos());
    }
    assertThat(starts).hasValue(1);

    release.countDown();
    hung.get().join();
    assertThat(shortly.report().healthy()).isTrue();
    assertThat(starts).hasValue(2);
  }

  @Test
  void sharesOneRunAmongConcurrentCallers() throws Exception {
    Gate gate = new Gate();
    health.add("gate", gate);

    List<Future<HealthReport>> reports = new ArrayList<>();
    List<Thread> waiting = new ArrayList<>();
    for (int i = 0; i < 32; i++) {
      reports.add(call(health, waiting));
    }
    awaitParked(waiting);
    gate.open.countDown();

    HealthReport first = reports.getFirst().get();
    for (Future<HealthReport> report : reports) {
      assertThat(report.get()).isSameAs(first);
    }
    assertThat(gate.starts).hasValue(1);
  }

  @Test
  void leavesTheRunToTheOthers_whenOneCallerIsInterrupted() throws Exception {
    Gate gate = new Gate();
    health.add("gate", gate);
    List<Thread> waiting = new ArrayList<>();
    Future<HealthReport> starter = call(health, waiting);
    awaitParked(waiting);
    Future<HealthReport> other = call(health, waiting);
    awaitParked(waiting);

    waiting.getFirst().interrupt();
    assertThatThrownBy(starter::get).hasCauseInstanceOf(InterruptedException.class);
    gate.open.countDown();

    assertThat(other.get().healthy()).isTrue();
    assertThat(gate.starts).hasValue(1);
  }

  @Test
  void keepsTheReportForTheCacheTime() throws Exception {
    AtomicInteger runs = new AtomicInteger();
    health.add("counted", runs::incrementAndGet);

    HealthReport first = health.report();
    clock.addAndGet(Duration.ofSeconds(5).toNanos() - 1);
    assertThat(health.report()).isSameAs(first);
    clock.incrementAndGet();
    assertThat(health.report()).isNotSameAs(first);
    assertThat(runs).hasValue(2);
  }

  @Test
  void keepsNothing_whenTheCacheTimeIsZero() throws Exception {
    HealthChecker uncached =
        HealthChecker.builder().cacheFor(Duration.ZERO).nanoTime(clock::get).build();
    AtomicInteger runs = new AtomicInteger();
    uncached.add("counted", runs::incrementAndGet);

    uncached.report();
    uncached.report();

    assertThat(runs).hasValue(2);
  }

  @Test
  void keepsAFailureToo() throws Exception {
    AtomicInteger runs = new AtomicInteger();
    health.add("bad", () -> {
      runs.incrementAndGet();
      throw new IOException();
    });

    assertThat(health.report()).isSameAs(health.report());
    assertThat(runs).hasValue(1);
  }

  @Test
  void forgetsTheReport_whenACheckIsAdded() throws Exception {
    health.add("one", HEALTHY);
    assertThat(health.report().checks()).hasSize(1);

    health.add("two", HEALTHY);

    assertThat(health.report().checks()).hasSize(2);
  }

  @Test
  void joinsTheExecutionInProgress_whenACheckIsAddedDuringARun() throws Exception {
    Gate gate = new Gate();
    health.add("gate", gate);
    List<Thread> waiting = new ArrayList<>();
    Future<HealthReport> before = call(health, waiting);
    gate.entered.await();

    CountDownLatch lateRan = new CountDownLatch(1);
    health.add("late", lateRan::countDown);
    Future<HealthReport> after = call(health, waiting);
    lateRan.await();
    gate.open.countDown();

    assertThat(before.get().checks()).hasSize(1);
    assertThat(after.get().checks()).hasSize(2);
    assertThat(after.get().healthy()).isTrue();
    assertThat(gate.starts).hasValue(1);
    assertThat(health.report()).isSameAs(after.get());
  }

  @Test
  void takesChecksWhileOthersReport() throws Exception {
    HealthChecker busy = HealthChecker.builder().cacheFor(Duration.ZERO).build();
    int adders = 4;
    int each = 25;
    CyclicBarrier start = new CyclicBarrier(adders + 4);
    List<Future<?>> all = new ArrayList<>();
    for (int adder = 0; adder < adders; adder++) {
      String prefix = "check-" + adder + "-";
      all.add(callers.submit(() -> {
        start.await();
        for (int i = 0; i < each; i++) {
          busy.add(prefix + i, HEALTHY);
        }
        return null;
      }));
    }
    for (int reader = 0; reader < 4; reader++) {
      all.add(callers.submit(() -> {
        start.await();
        int size = 0;
        while (size < adders * each) {
          HealthReport report = busy.report();
          assertThat(report.healthy()).isTrue();
          assertThat(report.checks()).hasSizeGreaterThanOrEqualTo(size);
          size = report.checks().size();
        }
        return null;
      }));
    }
    for (Future<?> one : all) {
      one.get();
    }
  }

  @Test
  void refusesBlankAndTakenNames() {
    health.add("db", HEALTHY);

    assertThatThrownBy(() -> health.add(" ", HEALTHY))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("name must not be blank");
    assertThatThrownBy(() -> health.addOptional("db", HEALTHY))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("name is taken by another check: db");
    assertThatThrownBy(() -> health.add("null", null))
        .isInstanceOf(NullPointerException.class)
        .hasMessage("check");
  }

  @ParameterizedTest
  @ValueSource(strings = {"PT0S", "PT-1S", "PT24H0.000000001S", "PT2562047788015H"})
  void refusesATimeoutThatMakesNoSense(Duration timeout) {
    assertThatThrownBy(() -> HealthChecker.builder().checkTimeout(timeout).build())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("checkTimeout must be");
  }

  @ParameterizedTest
  @ValueSource(strings = {"PT-1S", "PT24H0.000000001S", "PT2562047788015H"})
  void refusesACacheTimeThatMakesNoSense(Duration cacheFor) {
    assertThatThrownBy(() -> HealthChecker.builder().cacheFor(cacheFor).build())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("cacheFor must be");
  }

  @Test
  void refusesABlankPublicText() {
    assertThatThrownBy(() -> new UnhealthyException("")).hasMessage("publicText must not be blank");
  }

  @Test
  void logsTheDetailOncePerChangeOfState() throws Exception {
    HealthChecker logged = HealthChecker.builder().cacheFor(Duration.ZERO).build();
    AtomicReference<Exception> failure = new AtomicReference<>();
    logged.add("db", () -> {
      if (failure.get() != null) {
        throw failure.get();
      }
    });

    logged.report();
    failure.set(new IOException("db-7.internal refused"));
    logged.report();
    awaitLogged(1);
    logged.report();
    failure.set(
        new UnhealthyException("nats_not_ready: CLOSED", new IOException("nats-3.internal")));
    logged.report();
    awaitLogged(2);
    failure.set(null);
    logged.report();
    awaitLogged(3);
    logged.report();

    assertThat(log.list)
        .extracting(ILoggingEvent::getLevel)
        .containsExactly(Level.WARN, Level.WARN, Level.INFO);
    assertThat(log.list.get(0).getMessage()).isEqualTo("health check failed");
    assertThat(log.list.get(0).getKeyValuePairs())
        .containsExactly(
            new KeyValuePair("check", "db"), new KeyValuePair("error", "check failed"));
    assertThat(log.list.get(0).getThrowableProxy().getMessage()).isEqualTo("db-7.internal refused");
    assertThat(log.list.get(1).getThrowableProxy().getMessage()).isEqualTo("nats-3.internal");
    assertThat(log.list.get(2).getMessage()).isEqualTo("health check recovered");
  }

  @Test
  void logsWhereACheckHangs() throws Exception {
    HealthChecker shortly = HealthChecker.builder().checkTimeout(SHORT).build();
    CountDownLatch never = new CountDownLatch(1);
    shortly.add("hung", () -> awaitUninterruptibly(never));

    shortly.report();
    awaitLogged(1);
    never.countDown();

    assertThat(log.list.getFirst().getThrowableProxy().getStackTraceElementProxyArray())
        .anyMatch(line -> line.getSTEAsString().contains("awaitUninterruptibly"));
  }

  private void awaitLogged(int lines) {
    await().until(() -> log.list.size() >= lines);
  }

  private static HealthCheck failing(Exception failure) {
    return () -> {
      throw failure;
    };
  }

  private Future<HealthReport> call(HealthChecker checker, List<Thread> threads)
      throws InterruptedException {
    CountDownLatch started = new CountDownLatch(1);
    AtomicReference<Thread> thread = new AtomicReference<>();
    Future<HealthReport> report = callers.submit(() -> {
      thread.set(Thread.currentThread());
      started.countDown();
      return checker.report();
    });
    started.await();
    threads.add(thread.get());
    return report;
  }

  private static void awaitParked(List<Thread> threads) {
    await()
        .until(
            () -> threads.stream().allMatch(thread -> thread.getState() == Thread.State.WAITING));
  }

  private static void awaitUninterruptibly(CountDownLatch latch) {
    boolean done = false;
    while (!done) {
      try {
        latch.await();
        done = true;
      } catch (InterruptedException ignored) {
        // That is the point.
      }
    }
  }

  /** A check that waits until it is let through. */
  private static final class Gate implements HealthCheck {
    final AtomicInteger starts = new AtomicInteger();
    final CountDownLatch entered = new CountDownLatch(1);
    final CountDownLatch open = new CountDownLatch(1);

    @Override
    public void check() throws InterruptedException {
      starts.incrementAndGet();
      entered.countDown();
      open.await();
    }
  }
}
