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
import java.net.ConnectException;
import java.nio.channels.ClosedByInterruptException;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.slf4j.LoggerFactory;

@Timeout(60)
class RetryTest {
  private static final Duration HOUR = Duration.ofHours(1);

  private final List<Retry.Attempt> seen = new ArrayList<>();
  private final AtomicInteger calls = new AtomicInteger();
  private final CountDownLatch release = new CountDownLatch(1);

  @AfterEach
  void endAllThatHangs() {
    release.countDown();
    assertThat(Thread.interrupted()).as("flag left over for the next test").isFalse();
  }

  private Retry.Builder atOnce() {
    return Retry.builder().delay(Duration.ZERO).onFailedAttempt(seen::add);
  }

  private String failTimes(int times) throws IOException {
    if (calls.incrementAndGet() <= times) {
      throw new ConnectException("refused " + calls);
    }
    return "up";
  }

  @Test
  void returnsTheValue_whenAnAttemptSucceeds() {
    assertThat(atOnce().build().<String>call(() -> failTimes(2))).isEqualTo("up");
    assertThat(calls).hasValue(3);
    assertThat(seen).extracting(Retry.Attempt::number).containsExactly(1, 2);
  }

  @Test
  void runsAnOperationWithoutAValue() {
    atOnce().build().run(() -> failTimes(1));
    assertThat(calls).hasValue(2);
  }

  @Test
  void passesOnANull() {
    assertThat(Retry.standard().<Object>call(() -> null)).isNull();
  }

  @Test
  void givesUpAfterTheLastAttempt_withTheLastFailureAsCause() {
    assertThatExceptionOfType(StartupException.class)
        .isThrownBy(() -> atOnce().maxAttempts(3).build().call(() -> failTimes(9)))
        .withMessage("startup failed after 3 attempts: refused 3")
        .havingCause()
        .isInstanceOf(ConnectException.class)
        .withMessage("refused 3");
    assertThat(calls).hasValue(3);
  }

  @Test
  void namesTheTypeOfAFailureWithoutAMessage() {
    assertThatExceptionOfType(StartupException.class)
        .isThrownBy(() -> atOnce().maxAttempts(1).build().run(() -> {
          throw new ConnectException();
        }))
        .withMessage("startup failed after 1 attempts: ConnectException");
  }

  @Test
  void triesThirtyTimesTwoSecondsApart_byDefault() {
    Retry retry = Retry.builder()
        .onFailedAttempt(attempt -> {
          seen.add(attempt);
          Thread.currentThread().interrupt(); // instead of waiting
        })
        .build();
    assertThatThrownBy(() -> retry.call(() -> failTimes(1))).hasMessage("startup interrupted");
    assertThat(Thread.interrupted()).isTrue();
    assertThat(seen).singleElement().satisfies(attempt -> {
      assertThat(attempt.maxAttempts()).isEqualTo(30);
      assertThat(attempt.nextDelay()).contains(Duration.ofSeconds(2));
    });
  }

  @Test
  void tellsOfEachFailedAttempt_andThatTheLastIsTheLast() {
    assertThatThrownBy(() -> atOnce().maxAttempts(2).build().call(() -> failTimes(9)))
        .isInstanceOf(StartupException.class);
    assertThat(seen)
        .extracting(Retry.Attempt::toString)
        .containsExactly(
            "attempt 1 of 2 failed: refused 1; next in 0 ms",
            "attempt 2 of 2 failed: refused 2; giving up");
    assertThat(seen.get(1).failure()).hasMessage("refused 2");
    assertThat(seen.get(1).nextDelay()).isEmpty();
  }

  @ParameterizedTest
  @CsvSource({
    "PT2S, 2 s",
    "PT1.5S, 1.5 s",
    "PT0.25S, 250 ms",
    "PT0S, 0 ms",
    "PT1M40S, 100 s",
    "PT0.9999S, 999 ms"
  })
  void attemptReadsWellInALogLine(Duration delay, String text) {
    Retry.Attempt attempt =
        new Retry.Attempt(3, 30, new IOException("connection refused"), Optional.of(delay));
    assertThat(attempt).hasToString("attempt 3 of 30 failed: connection refused; next in " + text);
  }

  @Test
  void attemptIsOneLine_howeverManyTheFailureHas() {
    Exception failure = new IOException("refused\r\n  Hint: INFO\u2028all is well\n");
    assertThat(new Retry.Attempt(3, 30, failure, Optional.empty()))
        .hasToString("attempt 3 of 30 failed: refused Hint: INFO all is well; giving up");
  }

  @Test
  void goesOn_whenTheListenerFails_andLogsIt() {
    Logger logger = (Logger) LoggerFactory.getLogger(Retry.class);
    ListAppender<ILoggingEvent> lines = new ListAppender<>();
    lines.start();
    logger.addAppender(lines);
    logger.setAdditive(false);
    try {
      Retry retry = Retry.builder()
          .delay(Duration.ZERO)
          .onFailedAttempt(attempt -> {
            throw new AssertionError("a bug of the listener");
          })
          .build();
      assertThat(retry.<String>call(() -> failTimes(1))).isEqualTo("up");
    } finally {
      logger.setAdditive(true);
      logger.detachAppender(lines);
    }
    assertThat(lines.list).singleElement().satisfies(line -> {
      assertThat(line.getFormattedMessage()).contains("attempt 1 of 30 failed: refused 1");
      assertThat(line.getThrowableProxy().getMessage()).isEqualTo("a bug of the listener");
    });
  }

  @Test
  void doesNotRetryAPermanentFailure() {
    SQLException refused = new SQLException("password authentication failed", "28P01");
    assertThatThrownBy(() -> atOnce().build().run(() -> {
          throw refused;
        }))
        .hasMessageContaining("after 1 attempts")
        .hasCause(refused);
    SQLException starting = new SQLException("the database system is starting up", "57P03");
    assertThatThrownBy(() -> atOnce().maxAttempts(3).build().run(() -> {
          throw starting;
        }))
        .hasMessageContaining("after 3 attempts");
  }

  @Test
  void stopsAtOnce_whenARuleSaysSo() {
    Retry retry = atOnce()
        .delay(HOUR)
        .stopWhen(failure -> failure instanceof IllegalArgumentException)
        .stopWhen(failure -> failure.getMessage().startsWith("refused"))
        .build();
    assertThatThrownBy(() -> retry.call(() -> failTimes(9)))
        .hasMessage("startup failed after 1 attempts: refused 1");
    assertThatThrownBy(() -> retry.run(() -> {
          throw new IllegalArgumentException("bad url");
        }))
        .hasMessage("startup failed after 1 attempts: bad url");
    assertThat(seen).extracting(Retry.Attempt::nextDelay).containsOnly(Optional.empty());
  }

  @Test
  void tellsTheFailureToo_whenTheRuleFails() {
    ClassCastException bug = new ClassCastException("a bug of the rule");
    Retry retry = atOnce()
        .stopWhen(failure -> {
          throw bug;
        })
        .build();
    assertThatThrownBy(() -> retry.call(() -> failTimes(9)))
        .isSameAs(bug)
        .satisfies(e -> assertThat(e.getSuppressed())
            .singleElement()
            .satisfies(failure -> assertThat(failure).hasMessage("refused 1")));
    assertThatThrownBy(() -> retry.run(() -> {
          throw bug;
        }))
        .isSameAs(bug);
  }

  @Test
  void addsARuleToACopy() {
    Retry base =
        atOnce().stopWhen(failure -> failure.getMessage().equals("refused 2")).build();
    Retry copy = base.stopWhen(failure -> failure.getMessage().equals("refused 1"));
    assertThatThrownBy(() -> copy.call(() -> failTimes(9)))
        .hasMessageContaining("after 1 attempts");
    calls.set(0);
    assertThatThrownBy(() -> base.call(() -> failTimes(9)))
        .hasMessageContaining("after 2 attempts");
    calls.set(1);
    assertThatThrownBy(() -> copy.call(() -> failTimes(9)))
        .hasMessageContaining("after 1 attempts");
    assertThat(seen).as("the copy keeps the listener").hasSize(4);
  }

  @Test
  void doesNotRetryAnError() {
    AssertionError error = new AssertionError("a bug");
    for (Retry retry : List.of(atOnce().build(), atOnce().attemptTimeout(HOUR).build())) {
      assertThatThrownBy(() -> retry.run(() -> {
            calls.incrementAndGet();
            throw error;
          }))
          .isSameAs(error);
    }
    assertThat(calls).hasValue(2);
    assertThat(seen).isEmpty();
  }

  @Test
  void backsOffWithFullJitter_upToTheMaximum() {
    Duration max = Duration.ofNanos(1000);
    Retry retry = atOnce()
        .maxAttempts(200)
        .delay(Duration.ofNanos(1))
        .exponentialBackoff(max)
        .build();
    assertThatThrownBy(() -> retry.call(() -> failTimes(999))).hasMessageContaining("200 attempts");
    List<Long> delays =
        seen.stream().limit(199).map(a -> a.nextDelay().get().toNanos()).toList();
    for (int i = 0; i < delays.size(); i++) {
      assertThat(delays.get(i)).isBetween(0L, i < 10 ? Math.min(1000, 1L << i) : 1000L);
    }
    assertThat(delays).anyMatch(delay -> delay > 500).anyMatch(delay -> delay < 500);
  }

  @Test
  void backsOffWithoutAMaximum() {
    Duration forEver = Duration.ofSeconds(Long.MAX_VALUE);
    assertWaits(atOnce().delay(forEver).exponentialBackoff(forEver));
  }

  @Test
  void waits_howeverLongTheDelayIs() {
    assertWaits(Retry.builder().delay(Duration.ofSeconds(Long.MAX_VALUE)));
  }

  private void assertWaits(Retry.Builder builder) {
    Retry retry = builder
        .onFailedAttempt(attempt -> {
          seen.add(attempt);
          Thread.currentThread().interrupt();
        })
        .build();
    assertThatThrownBy(() -> retry.call(() -> failTimes(9))).hasMessage("startup interrupted");
    assertThat(Thread.interrupted()).isTrue();
    assertThat(seen)
        .singleElement()
        .satisfies(attempt -> assertThat(attempt.nextDelay())
            .hasValueSatisfying(delay -> assertThat(delay).isPositive()));
  }

  @Test
  void stopsAtOnce_whenInterruptedInADelay() throws Exception {
    Retry retry = Retry.builder().delay(HOUR).build();
    CompletableFuture<Throwable> outcome = new CompletableFuture<>();
    AtomicReference<Boolean> flag = new AtomicReference<>();
    Thread thread = Thread.ofPlatform().start(() -> {
      try {
        retry.call(() -> failTimes(9));
      } catch (Throwable e) {
        flag.set(Thread.currentThread().isInterrupted());
        outcome.complete(e);
      }
    });
    while (thread.getState() != Thread.State.TIMED_WAITING) {
      Thread.onSpinWait();
    }
    thread.interrupt();
    Throwable thrown = outcome.get(30, TimeUnit.SECONDS);
    assertThat(thrown)
        .isInstanceOf(StartupException.class)
        .hasMessage("startup interrupted")
        .hasCauseInstanceOf(InterruptedException.class);
    assertThat(thrown.getSuppressed()).singleElement().isInstanceOf(ConnectException.class);
    assertThat(flag).hasValue(true);
    assertThat(calls).hasValue(1);
  }

  @Test
  void doesNotBegin_whenInterruptedBefore() {
    Thread.currentThread().interrupt();
    assertThatThrownBy(() -> Retry.standard().call(() -> failTimes(0)))
        .isInstanceOf(StartupException.class)
        .hasMessage("startup interrupted");
    assertThat(Thread.interrupted()).isTrue();
    assertThat(calls).hasValue(0);
  }

  @Test
  void stopsAtOnce_whenAnAttemptIsInterrupted() {
    assertThatThrownBy(() -> atOnce().build().run(() -> {
          throw new InterruptedException();
        }))
        .hasMessage("startup interrupted");
    assertThat(Thread.interrupted()).isTrue();

    assertThatThrownBy(() -> atOnce().build().run(() -> {
          Thread.currentThread().interrupt();
          throw new ClosedByInterruptException();
        }))
        .hasMessage("startup interrupted")
        .satisfies(e -> assertThat(e.getSuppressed())
            .singleElement()
            .isInstanceOf(ClosedByInterruptException.class));
    assertThat(Thread.interrupted()).isTrue();
    assertThat(seen).isEmpty();
  }

  @Test
  void givesUp_whenTheDelayWouldPassTheDeadline() {
    Retry retry = atOnce().delay(HOUR).totalTimeout(Duration.ofMinutes(30)).build();
    assertThatThrownBy(() -> retry.call(() -> failTimes(9)))
        .hasMessage("startup failed after 1 attempts: refused 1");
    assertThat(seen.getFirst().nextDelay()).isEmpty();
  }

  @Test
  void deadlineBoundsAnAttemptThatHangs() {
    Retry retry = atOnce().totalTimeout(Duration.ofMillis(50)).build();
    assertThatThrownBy(() -> retry.run(this::hangDeafly))
        .isInstanceOf(StartupException.class)
        .hasMessageStartingWith("startup failed after 1 attempts: not done within ")
        .hasCauseInstanceOf(TimeoutException.class);
  }

  @Test
  void tellsTheFailureBefore_whenTheDeadlineCutsAnAttemptOff() {
    Retry retry = atOnce().totalTimeout(Duration.ofSeconds(3)).build();
    assertThatThrownBy(() -> retry.run(() -> {
          failTimes(1);
          hangDeafly();
        }))
        .hasMessage("startup failed after 2 attempts: refused 1")
        .hasCauseInstanceOf(ConnectException.class)
        .satisfies(e -> assertThat(e.getCause().getSuppressed())
            .singleElement()
            .isInstanceOf(TimeoutException.class));
  }

  /** As a driver does that waits in native code. */
  private void hangDeafly() {
    boolean released = false;
    while (!released) {
      try {
        release.await();
        released = true;
      } catch (InterruptedException e) {
        // deaf
      }
    }
  }

  @Test
  void leavesBehindAnAttemptThatHangs_andTriesAgain() {
    Retry retry = atOnce().attemptTimeout(Duration.ofSeconds(3)).build();
    String result = retry.call(() -> {
      if (calls.incrementAndGet() == 1) {
        hangDeafly();
      }
      return Thread.currentThread().getName();
    });
    assertThat(result).isEqualTo("startup-attempt-2");
    assertThat(seen).singleElement().satisfies(attempt -> {
      assertThat(attempt).hasToString("attempt 1 of 30 failed: not done within 3 s; next in 0 ms");
      assertThat(attempt.failure().getStackTrace())
          .as("where it hangs")
          .anyMatch(frame -> frame.getMethodName().equals("hangDeafly"));
    });
  }

  @Test
  void interruptsAnAttemptThatTakesTooLong() throws Exception {
    CountDownLatch interrupted = new CountDownLatch(1);
    Retry retry = atOnce().maxAttempts(1).attemptTimeout(Duration.ofMillis(20)).build();
    assertThatThrownBy(() -> retry.run(() -> {
          try {
            release.await();
          } catch (InterruptedException e) {
            interrupted.countDown();
          }
        }))
        .isInstanceOf(StartupException.class);
    assertThat(interrupted.await(30, TimeUnit.SECONDS)).isTrue();
  }

  @Test
  void closesWhatAnAttemptBringsTooLate() throws Exception {
    CountDownLatch closed = new CountDownLatch(1);
    Retry retry = atOnce().maxAttempts(1).attemptTimeout(Duration.ofMillis(20)).build();
    assertThatThrownBy(() -> retry.<AutoCloseable>call(() -> {
          hangDeafly();
          return closed::countDown;
        }))
        .isInstanceOf(StartupException.class);
    release.countDown();
    assertThat(closed.await(30, TimeUnit.SECONDS)).isTrue();
  }

  @Test
  void interruptOfTheCallerEndsABoundedAttempt() throws Exception {
    CountDownLatch interrupted = new CountDownLatch(1);
    Thread caller = Thread.currentThread();
    Retry retry = atOnce().attemptTimeout(HOUR).build();
    assertThatThrownBy(() -> retry.run(() -> {
          caller.interrupt();
          try {
            release.await();
          } catch (InterruptedException e) {
            interrupted.countDown();
          }
        }))
        .hasMessage("startup interrupted");
    assertThat(Thread.interrupted()).isTrue();
    assertThat(interrupted.await(30, TimeUnit.SECONDS)).isTrue();
  }

  @Test
  void boundedAttemptFailsAsItDoesUnbounded() {
    assertThatThrownBy(
            () -> atOnce().maxAttempts(2).attemptTimeout(HOUR).build().call(() -> failTimes(9)))
        .hasMessage("startup failed after 2 attempts: refused 2")
        .hasCauseInstanceOf(ConnectException.class);
  }

  @Test
  void namesEverySettingOutOfRange() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Retry.builder()
            .maxAttempts(0)
            .delay(Duration.ofMillis(-1))
            .exponentialBackoff(Duration.ZERO)
            .totalTimeout(Duration.ZERO)
            .attemptTimeout(Duration.ofSeconds(-1))
            .build())
        .withMessage("maxAttempts must be 1 or more: 0; delay must be zero or more: PT-0.001S;"
            + " maxBackoff must be more than zero and not below the delay: PT0S;"
            + " totalTimeout must be more than zero: PT0S;"
            + " attemptTimeout must be more than zero: PT-1S");
    assertThatIllegalArgumentException()
        .isThrownBy(
            () -> Retry.builder().exponentialBackoff(Duration.ofSeconds(1)).build())
        .withMessage("maxBackoff must be more than zero and not below the delay: PT1S");
  }

  @Test
  void takesDurationsBeyondALongOfNanoseconds() {
    Duration forEver = Duration.ofSeconds(Long.MAX_VALUE);
    Retry retry = Retry.builder()
        .delay(forEver)
        .exponentialBackoff(forEver)
        .totalTimeout(forEver)
        .attemptTimeout(forEver)
        .build();
    assertThat(retry.<String>call(() -> failTimes(0))).isEqualTo("up");
  }
}
