package dev.evalops.runtime.health;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import dev.evalops.runtime.health.HealthReport.Dependency;
import dev.evalops.runtime.health.HealthReport.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
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
  private static final Duration SOON = Duration.ofMillis(20);
  private static final Duration NEVER = Duration.ofDays(1);
  private static final HealthCheck HEALTHY = () -> {};

  private final List<HealthChecker> opened = new ArrayList<>();
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
    opened.forEach(HealthChecker::close);
    logger.detachAppender(log);
  }

  private HealthChecker open(HealthChecker.Builder builder) {
    HealthChecker health = builder.open();
    opened.add(health);
    return health;
  }

  /** Checks once, and then every day. */
  private static HealthChecker.Builder once() {
    return HealthChecker.builder().checkTimeout(Duration.ofSeconds(30)).checkEvery(NEVER);
  }

  private static HealthChecker.Builder often() {
    return HealthChecker.builder().checkTimeout(Duration.ofSeconds(30)).checkEvery(SOON);
  }

  @Test
  void isHealthyWithAnEmptyList_whenThereAreNoChecks() {
    assertThat(JsonMapper.shared().writeValueAsString(open(once()).report()))
        .isEqualTo("{\"healthy\":true,\"checks\":[],\"duration_ms\":0}");
  }

  @Test
  void writesTheReportAsJson() {
    HealthReport report = new HealthReport(
        false,
        List.of(
            new HealthReport.Check(
                "a",
                Dependency.REQUIRED,
                Status.HEALTHY,
                Duration.ofMillis(12),
                Duration.ofMillis(3),
                Optional.empty()),
            new HealthReport.Check(
                "b",
                Dependency.OPTIONAL,
                Status.UNHEALTHY,
                Duration.ofNanos(1),
                Duration.ZERO,
                Optional.of("check failed")),
            new HealthReport.Check(
                "c",
                Dependency.SHARED,
                Status.UNKNOWN,
                Duration.ofMillis(13),
                Duration.ofSeconds(4),
                Optional.of("timed out"))),
        Duration.ofMillis(13));

    assertThat(JsonMapper.shared().writeValueAsString(report))
        .isEqualTo("{\"healthy\":false,\"checks\":["
            + "{\"name\":\"a\",\"healthy\":true,\"latency_ms\":12,\"age_ms\":3},"
            + "{\"name\":\"b\",\"healthy\":false,\"latency_ms\":0,\"error\":\"check "
            + "failed\",\"age_ms\":0,\"optional\":true},"
            + "{\"name\":\"c\",\"healthy\":false,\"latency_ms\":13,\"error\":\"timed "
            + "out\",\"status\":\"unknown\",\"age_ms\":4000,\"shared\":true}],"
            + "\"duration_ms\":13}");
  }

  @Test
  void reportsTheChecksInTheOrderDeclared_withLatencyAgeAndDuration() {
    AtomicLong clock = new AtomicLong();
    CountDownLatch first = new CountDownLatch(1);
    HealthChecker health = open(once()
        .nanoTime(clock::get)
        .required("z", () -> {
          clock.addAndGet(Duration.ofMillis(7).toNanos());
          first.countDown();
        })
        .required("a", first::await));

    clock.addAndGet(Duration.ofSeconds(3).toNanos());
    HealthReport report = health.report();

    assertThat(report.healthy()).isTrue();
    assertThat(report.checks()).extracting(HealthReport.Check::name).containsExactly("z", "a");
    assertThat(report.checks().getFirst().latency()).isEqualTo(Duration.ofMillis(7));
    assertThat(report.checks().getFirst().age()).isEqualTo(Duration.ofSeconds(3));
    assertThat(report.duration()).isEqualTo(Duration.ofMillis(7));
  }

  @Test
  void isUnhealthy_whenARequiredCheckFails() {
    HealthReport report = open(once()
            .required("good", HEALTHY)
            .required("bad", failing(new UnhealthyException("queue_full"))))
        .report();

    assertThat(report.healthy()).isFalse();
    assertThat(report.checks().get(0).healthy()).isTrue();
    assertThat(report.checks().get(1).healthy()).isFalse();
    assertThat(report.checks().get(1).error()).contains("queue_full");
  }

  @Test
  void staysHealthyButReportsIt_whenASharedOrAnOptionalCheckFails() {
    HealthReport report = open(once()
            .required("good", HEALTHY)
            .shared("database", failing(new UnhealthyException("away")))
            .optional("extra", failing(new UnhealthyException("queue_full"))))
        .report();

    assertThat(report.healthy()).isTrue();
    assertThat(report.checks())
        .extracting(HealthReport.Check::status)
        .containsExactly(Status.HEALTHY, Status.UNHEALTHY, Status.UNHEALTHY);
    assertThat(report.checks())
        .extracting(HealthReport.Check::dependency)
        .containsExactly(Dependency.REQUIRED, Dependency.SHARED, Dependency.OPTIONAL);
  }

  @Test
  void showsAFixedText_whenTheTextWasNotChosen() {
    HealthChecker health = open(once()
        .required("db", failing(new IOException("user \"admin\" at db-7.internal refused")))
        .required("wrapped", failing(new IOException(new UnhealthyException("inner"))))
        .required("slow", failing(new TimeoutException("db-7.internal took too long")))
        .required("textless", failing(new RuntimeException())));

    assertThat(health.report().checks())
        .extracting(check -> check.error().orElseThrow())
        .containsExactly("check failed", "check failed", "timed out", "check failed");
  }

  @Test
  void countsAnErrorAsUnhealthy() {
    HealthChecker health = open(once()
        .required("assertion", () -> {
          throw new AssertionError("boom");
        })
        .required("stack", () -> recurse(1))
        .required("good", HEALTHY));

    assertThat(health.report().checks())
        .extracting(HealthReport.Check::healthy)
        .containsExactly(false, false, true);
  }

  private static int recurse(int depth) {
    return depth == 0 ? 0 : recurse(depth + 1) + 1;
  }

  @Test
  void runsTheChecksAtTheSameTime() {
    CyclicBarrier both = new CyclicBarrier(2);

    assertThat(open(once().required("one", both::await).required("two", both::await))
            .report()
            .healthy())
        .isTrue();
  }

  @Test
  void runsACheckOnItsOwnNamedDaemonThread() throws Exception {
    AtomicReference<Thread> thread = new AtomicReference<>();
    open(once().required("db", () -> thread.set(Thread.currentThread())));

    assertThat(thread.get().getName()).isEqualTo("health-check-db");
    assertThat(thread.get().isDaemon()).isTrue();
    thread.get().join();
  }

  @Test
  void readsTheLastResult_andRunsNothing() {
    AtomicInteger runs = new AtomicInteger();
    HealthChecker health = open(once().required("counted", runs::incrementAndGet));

    for (int probe = 0; probe < 100; probe++) {
      health.report();
    }

    assertThat(runs).hasValue(1);
  }

  @Test
  void checksAgainInTheBackground() {
    AtomicInteger runs = new AtomicInteger();
    open(often().required("counted", runs::incrementAndGet));

    await().until(() -> runs.get() >= 5);
  }

  @Test
  void doesNotChange_whileResultsFlap() {
    AtomicInteger runs = new AtomicInteger();
    List<Boolean> seen = Collections.synchronizedList(new ArrayList<>());
    AtomicReference<HealthChecker> health = new AtomicReference<>();
    health.set(open(often().required("flapping", () -> {
      if (health.get() != null) {
        seen.add(health.get().report().healthy());
      }
      if (runs.incrementAndGet() % 2 == 0) {
        throw new IOException();
      }
    })));

    await().until(() -> seen.size() >= 20);
    assertThat(seen).containsOnly(true);
    assertThat(logged("flapping")).isEmpty();
  }

  @Test
  void changesWithTheSecondResultInARow_andBack() {
    AtomicBoolean away = new AtomicBoolean();
    AtomicInteger failures = new AtomicInteger();
    HealthChecker health = open(often().required("db", () -> {
      if (away.get()) {
        failures.incrementAndGet();
        throw new IOException();
      }
    }));

    away.set(true);
    await().until(() -> !health.report().healthy());
    assertThat(failures).hasValueGreaterThanOrEqualTo(2);
    away.set(false);
    await().until(() -> health.report().healthy());
  }

  @Test
  void interruptsACheck_whenItsTimeIsUp() throws Exception {
    CountDownLatch interrupted = new CountDownLatch(1);
    HealthChecker health =
        open(HealthChecker.builder().checkTimeout(SHORT).checkEvery(NEVER).required("slow", () -> {
          try {
            new CountDownLatch(1).await();
          } catch (InterruptedException e) {
            interrupted.countDown();
            throw e;
          }
        }));

    interrupted.await();
    await()
        .untilAsserted(() ->
            assertThat(health.report().checks().getFirst().status()).isEqualTo(Status.UNHEALTHY));
    assertThat(health.report().checks().getFirst().error()).contains("timed out");
  }

  @Test
  void isUnknownAndStartsNoSecondExecution_whileOneIgnoresItsInterrupt() {
    CountDownLatch release = new CountDownLatch(1);
    AtomicInteger starts = new AtomicInteger();
    HealthChecker health = open(HealthChecker.builder()
        .checkTimeout(SHORT)
        .checkEvery(SOON)
        .required("good", HEALTHY)
        .required("hung", () -> {
          if (starts.incrementAndGet() == 1) {
            awaitUninterruptibly(release);
          }
        }));

    HealthReport report = await()
        .until(
            health::report,
            each -> each.checks().get(0).healthy()
                && each.checks().get(1).latency().compareTo(SHORT.multipliedBy(5)) > 0);
    assertThat(report.healthy()).isFalse();
    assertThat(report.checks().get(1).status()).isEqualTo(Status.UNKNOWN);
    assertThat(report.checks().get(1).error()).contains("timed out");
    assertThat(report.checks().get(1).age()).isGreaterThanOrEqualTo(SHORT);
    assertThat(starts).hasValue(1);

    release.countDown();
    await().until(() -> health.report().healthy());
    assertThat(starts).hasValueGreaterThanOrEqualTo(2);
  }

  @Test
  void becomesUnknown_whenACheckHangsLater() {
    AtomicBoolean hangs = new AtomicBoolean();
    CountDownLatch release = new CountDownLatch(1);
    HealthChecker health =
        open(HealthChecker.builder().checkTimeout(SHORT).checkEvery(SOON).shared("hung", () -> {
          if (hangs.get()) {
            awaitUninterruptibly(release);
          }
        }));
    await().until(() -> health.report().checks().getFirst().healthy());

    hangs.set(true);
    await().until(() -> health.report().checks().getFirst().status() == Status.UNKNOWN);
    assertThat(health.report().healthy()).isTrue();
    release.countDown();
  }

  @Test
  void closes_withoutWaitingForACheckThatHangs_andKeepsTheLastReport() {
    CountDownLatch release = new CountDownLatch(1);
    HealthChecker health = open(HealthChecker.builder()
        .checkTimeout(SHORT)
        .checkEvery(SOON)
        .required("hung", () -> awaitUninterruptibly(release))
        .required("good", HEALTHY));
    await().until(() -> health.report().checks().get(1).healthy());

    health.close();
    health.close();

    assertThat(health.report().checks())
        .extracting(HealthReport.Check::healthy)
        .containsExactly(false, true);
    release.countDown();
  }

  @Test
  void checksNothingAfterItWasClosed() throws Exception {
    AtomicInteger runs = new AtomicInteger();
    AtomicReference<Thread> last = new AtomicReference<>();
    HealthChecker health = open(often().required("counted", () -> {
      runs.incrementAndGet();
      last.set(Thread.currentThread());
    }));
    await().until(() -> runs.get() >= 2);

    health.close();
    last.get().join();
    int before = runs.get();

    assertThat(Thread.getAllStackTraces().keySet())
        .noneMatch(thread -> thread.getName().equals("health-check-counted"));
    assertThat(runs).hasValue(before);
  }

  @Test
  void namesEveryWrongSetting() {
    assertThatThrownBy(() -> HealthChecker.builder()
            .required(" ", HEALTHY)
            .required("db", HEALTHY)
            .optional("db", HEALTHY)
            .checkEvery(Duration.ZERO)
            .checkTimeout(Duration.ofSeconds(-1))
            .open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("name must not be blank; name must be declared once: db;"
            + " checkEvery must be more than zero and at most a day: PT0S;"
            + " checkTimeout must be more than zero and at most a day: PT-1S");
    assertThatThrownBy(() -> HealthChecker.builder().required("null", null))
        .isInstanceOf(NullPointerException.class)
        .hasMessage("check");
  }

  @ParameterizedTest
  @ValueSource(strings = {"PT24H0.000000001S", "PT2562047788015H"})
  void refusesTimesThatMakeNoSense(Duration time) {
    assertThatThrownBy(() -> HealthChecker.builder().checkTimeout(time).open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("checkTimeout must be");
    assertThatThrownBy(() -> HealthChecker.builder().checkEvery(time).open())
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageStartingWith("checkEvery must be");
  }

  @Test
  void refusesABlankPublicText() {
    assertThatThrownBy(() -> new UnhealthyException("")).hasMessage("publicText must not be blank");
  }

  @Test
  void logsTheDetailOncePerChangeOfState() {
    AtomicReference<Exception> failure = new AtomicReference<>();
    AtomicInteger runs = new AtomicInteger();
    open(often().required("logged", () -> {
      runs.incrementAndGet();
      if (failure.get() != null) {
        throw failure.get();
      }
    }));

    failure.set(new IOException("db-7.internal refused"));
    awaitLogged("logged", 1);
    int before = runs.get();
    await().until(() -> runs.get() > before + 3);
    failure.set(
        new UnhealthyException("nats_not_ready: CLOSED", new IOException("nats-3.internal")));
    awaitLogged("logged", 2);
    failure.set(null);
    awaitLogged("logged", 3);

    List<ILoggingEvent> lines = logged("logged");
    assertThat(lines)
        .extracting(ILoggingEvent::getLevel)
        .containsExactly(Level.WARN, Level.WARN, Level.INFO);
    assertThat(lines.get(0).getMessage()).isEqualTo("health check failed");
    assertThat(lines.get(0).getKeyValuePairs())
        .containsExactly(
            new KeyValuePair("check", "logged"), new KeyValuePair("error", "check failed"));
    assertThat(lines.get(0).getThrowableProxy().getMessage()).isEqualTo("db-7.internal refused");
    assertThat(lines.get(1).getThrowableProxy().getMessage()).isEqualTo("nats-3.internal");
    assertThat(lines.get(2).getMessage()).isEqualTo("health check recovered");
  }

  @Test
  void logsWhereACheckHangs() {
    CountDownLatch never = new CountDownLatch(1);
    open(HealthChecker.builder()
        .checkTimeout(Duration.ofSeconds(3)) // long enough for its thread to get there
        .required("hanging", () -> awaitUninterruptibly(never)));

    awaitLogged("hanging", 1);
    never.countDown();

    assertThat(logged("hanging").getFirst().getThrowableProxy().getStackTraceElementProxyArray())
        .anyMatch(line -> line.getSTEAsString().contains("awaitUninterruptibly"));
  }

  private void awaitLogged(String check, int lines) {
    await().until(() -> logged(check).size() >= lines);
  }

  /** Of this check alone: a thread of its own logs, which may come late and in the next test. */
  private List<ILoggingEvent> logged(String check) {
    KeyValuePair name = new KeyValuePair("check", check);
    return new ArrayList<>(log.list)
        .stream().filter(line -> line.getKeyValuePairs().contains(name)).toList();
  }

  private static HealthCheck failing(Exception failure) {
    return () -> {
      throw failure;
    };
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
}
