package dev.evalops.runtime.startup;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import dev.evalops.runtime.errors.StartupException;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.slf4j.LoggerFactory;
import org.slf4j.event.KeyValuePair;

@Timeout(60)
class LifecycleTest {
  private final List<String> closed = new CopyOnWriteArrayList<>();
  private final CountDownLatch release = new CountDownLatch(1);
  private final CountDownLatch interrupted = new CountDownLatch(1);
  private final Lifecycle life = Lifecycle.open();

  @AfterEach
  void endAllThatHangs() {
    release.countDown();
    assertThat(Thread.interrupted()).as("flag left over for the next test").isFalse();
  }

  private AutoCloseable closes(String name) {
    return () -> closed.add(name);
  }

  private void hangDeafly() {
    boolean released = false;
    while (!released) {
      try {
        release.await();
        released = true;
      } catch (InterruptedException e) {
        interrupted.countDown();
      }
    }
  }

  private static void awaitWaiting(Thread thread) {
    while (thread.getState() != Thread.State.WAITING) {
      Thread.onSpinWait();
    }
  }

  @Test
  void closesTheLastAddedFirst() {
    life.add("a", closes("a"));
    life.add("b", closes("b"));
    life.add("c", closes("c"));
    life.close();
    assertThat(closed).containsExactly("c", "b", "a");
  }

  @Test
  void movesWhatIsAddedAgain() {
    AutoCloseable server = life.add("server", closes("server"));
    life.add("db", closes("db"));
    life.add("server", server);
    life.close();
    assertThat(closed).containsExactly("server", "db");
  }

  @Test
  void saysOnceWhatWasSlow_whenTheServiceIsUp() throws InterruptedException {
    Logger logger = (Logger) LoggerFactory.getLogger(Lifecycle.class);
    ListAppender<ILoggingEvent> lines = new ListAppender<>();
    lines.start();
    logger.addAppender(lines);
    Thread main = Thread.currentThread();
    try {
      life.add("tls", closes("tls"));
      life.open("db", () -> closes("db")).get();
      life.add("server", closes("server"));
      Thread ends = Thread.ofPlatform().start(() -> {
        awaitWaiting(main);
        life.close();
      });
      life.await();
      life.await();
      ends.join();
    } finally {
      logger.detachAppender(lines);
    }
    List<ILoggingEvent> started = lines.list.stream()
        .filter(line -> line.getFormattedMessage().equals("startup finished"))
        .toList();
    assertThat(started).singleElement().satisfies(line -> {
      List<KeyValuePair> values = line.getKeyValuePairs();
      assertThat(values.get(0).key).isEqualTo("since_process_start_ms");
      assertThat((long) values.get(0).value).isNotNegative();
      assertThat((String) values.get(1).value)
          .matches("(\\w+ in [0-9.]+ m?s(, )?){3}")
          .contains("tls in ", "db in ", "server in ");
    });
  }

  @Test
  void givesBackWhatItTakes() {
    ExecutorService executor = life.add("executor", Executors.newSingleThreadExecutor());
    life.close();
    assertThat(executor.isTerminated()).isTrue();
  }

  @Test
  void closesEveryResource_whateverTheOthersThrow_andJoinsTheFailures() {
    AssertionError error = new AssertionError("a bug");
    IOException failure = new IOException("disk full");
    life.add("first", closes("first"));
    life.add("journal", () -> {
      throw failure;
    });
    life.add(" ", () -> {
      throw error;
    });
    life.add("silent", () -> {
      throw new IllegalStateException();
    });
    life.add("last", closes("last"));
    assertThatExceptionOfType(ShutdownException.class)
        .isThrownBy(life::close)
        .withMessage("silent: IllegalStateException; shutdown hook: a bug; journal: disk full")
        .satisfies(e -> assertThat(e.getSuppressed()).hasSize(3).contains(error, failure));
    assertThat(closed).containsExactly("last", "first");
  }

  @Test
  void cleansUpAPartialStart() {
    assertThatThrownBy(() -> {
          try (Lifecycle partial = Lifecycle.open()) {
            partial.add("postgres", closes("postgres"));
            partial.add("redis", () -> {
              throw new IOException("already gone");
            });
            Retry.builder().maxAttempts(1).build().run(() -> {
              throw new IOException("no nats");
            });
          }
        })
        .isInstanceOf(StartupException.class)
        .hasMessage("startup failed after 1 attempts: no nats")
        .satisfies(e -> assertThat(e.getSuppressed())
            .singleElement()
            .extracting(Throwable::getMessage)
            .isEqualTo("redis: already gone"));
    assertThat(closed).containsExactly("postgres");
  }

  @Test
  void leavesBehindWhatHangs_andKeepsTimeForTheOthers() throws InterruptedException {
    Lifecycle brief = Lifecycle.builder().closeTimeout(Duration.ofMillis(1999)).open();
    brief.add("a", closes("a"));
    brief.add("b", closes("b"));
    brief.add("stuck", this::hangDeafly);
    brief.add("stuck, too", this::hangDeafly);
    assertThatExceptionOfType(ShutdownException.class)
        .isThrownBy(brief::close)
        .withMessageMatching("stuck, too: not done within .+ m?s; stuck: not done within .+ m?s")
        .satisfies(e -> assertThat(e.getSuppressed())
            .allSatisfy(failure -> assertThat(failure)
                .isInstanceOf(TimeoutException.class)
                .satisfies(timeout -> assertThat(timeout.getStackTrace())
                    .as("where it hangs")
                    .anyMatch(frame -> frame.getMethodName().equals("hangDeafly")))));
    assertThat(closed).containsExactly("b", "a");
    interrupted.await();
  }

  @Test
  void keepsAQuarterOfASecondForEachLaterOne() {
    List<Integer> given = timesGiven(Duration.ofMillis(1400), 3);
    assertThat(given.getFirst()).isBetween(251, 900);
    assertThat(given).hasSize(3);
    assertThat(given.subList(1, 3)).allSatisfy(one -> assertThat(one).isBetween(0, 250));
  }

  @Test
  void keepsAnEqualShareForEachLaterOne_whenTimeIsShort() {
    assertThat(timesGiven(Duration.ofMillis(400), 4))
        .allSatisfy(given -> assertThat(given).isBetween(0, 100))
        .anySatisfy(given -> assertThat(given).isGreaterThan(0));
  }

  private List<Integer> timesGiven(Duration deadline, int stuck) {
    Lifecycle brief = Lifecycle.builder().closeTimeout(deadline).open();
    for (int i = 0; i < stuck; i++) {
      brief.add("stuck", this::hangDeafly);
    }
    List<Integer> given = new ArrayList<>();
    assertThatExceptionOfType(ShutdownException.class).isThrownBy(brief::close).satisfies(e -> {
      for (Throwable failure : e.getSuppressed()) {
        given.add(Integer.valueOf(failure.getMessage().replaceAll("\\D", "")));
      }
    });
    return given;
  }

  @Test
  void closesOnce_andASecondCallDoesNothing() {
    AtomicInteger times = new AtomicInteger();
    life.add("failing", () -> {
      times.incrementAndGet();
      throw new IOException("once");
    });
    assertThatThrownBy(life::close).hasMessage("failing: once");
    life.close();
    assertThat(times).hasValue(1);
  }

  @Test
  void closesOnce_whenSeveralThreadsDo_andAllWait() throws Exception {
    AtomicInteger times = new AtomicInteger();
    life.add("slow", () -> {
      times.incrementAndGet();
      release.await();
      closed.add("slow");
    });
    List<Thread> threads = new CopyOnWriteArrayList<>();
    try (ExecutorService callers = Executors.newThreadPerTaskExecutor(task -> {
      Thread thread = new Thread(task);
      threads.add(thread);
      return thread;
    })) {
      List<Future<List<String>>> seen = new ArrayList<>();
      for (int i = 0; i < 4; i++) {
        seen.add(callers.submit(() -> {
          life.close();
          return List.copyOf(closed);
        }));
      }
      threads.forEach(LifecycleTest::awaitWaiting);
      release.countDown();
      for (Future<List<String>> one : seen) {
        assertThat(one.get(30, TimeUnit.SECONDS)).containsExactly("slow");
      }
    }
    assertThat(times).hasValue(1);
  }

  @Test
  void closesAtOnceWhatComesTooLate() {
    life.close();
    assertThatThrownBy(() -> life.add("late", closes("late")))
        .isInstanceOf(StartupException.class)
        .hasMessage("late: the service is closing");
    assertThat(closed).containsExactly("late");
    assertThatThrownBy(() -> life.add("late", () -> {
          throw new IOException("stuck");
        }))
        .isInstanceOf(StartupException.class)
        .satisfies(
            e -> assertThat(e.getSuppressed()).singleElement().isInstanceOf(IOException.class));
  }

  @Test
  void closesAtOnceWhatComesTooLate_evenIfTheThreadIsInterrupted() {
    life.close();
    Thread.currentThread().interrupt();
    assertThatThrownBy(() -> life.add("late", closes("late")))
        .isInstanceOf(StartupException.class)
        .hasNoSuppressedExceptions();
    assertThat(Thread.interrupted()).isTrue();
    assertThat(closed).containsExactly("late");
  }

  @Test
  void closesInFull_whenTheThreadIsInterrupted_andKeepsTheFlag() {
    life.add("a", () -> {
      assertThat(Thread.currentThread().isInterrupted()).isFalse();
      closed.add("a");
    });
    Thread.currentThread().interrupt();
    life.close();
    assertThat(Thread.interrupted()).isTrue();
    assertThat(closed).containsExactly("a");
  }

  @Test
  void aResourceMayCloseTheLifecycleItself() {
    life.add("a", closes("a"));
    life.add("b", life);
    life.close();
    assertThat(closed).containsExactly("a");
  }

  @Test
  void aResourceMayCloseTheLifecycleItself_whenAnotherCameTooLate() {
    life.add("a", () -> {
      assertThatThrownBy(() -> life.add("late", closes("late")))
          .isInstanceOf(StartupException.class);
      life.close();
      closed.add("a");
    });
    life.close();
    assertThat(closed).containsExactly("late", "a");
  }

  @Test
  void awaitEnds_whenAnotherThreadCloses() throws Exception {
    Thread main = Thread.currentThread();
    Thread other = Thread.ofPlatform().start(() -> {
      awaitWaiting(main);
      life.close();
    });
    life.await();
    other.join();
    life.await();
  }

  @Test
  void awaitEnds_whenInterrupted() {
    Thread.currentThread().interrupt();
    assertThatExceptionOfType(InterruptedException.class).isThrownBy(life::await);
  }

  @Test
  void refusesATimeoutOutOfRange() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Lifecycle.builder().closeTimeout(Duration.ZERO).open())
        .withMessage("closeTimeout must be more than zero: PT0S");
  }

  @Test
  void takesATimeoutBeyondALongOfNanoseconds() {
    Lifecycle patient =
        Lifecycle.builder().closeTimeout(Duration.ofSeconds(Long.MAX_VALUE)).open();
    patient.add("a", closes("a"));
    patient.close();
    assertThat(closed).containsExactly("a");
  }
}
