package dev.evalops.runtime.natsbus.spool;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class BreakerTest {
  private final AtomicLong clock = new AtomicLong();
  private final Breaker breaker = new Breaker(3, Duration.ofNanos(100), clock::get);

  private Breaker.Call enter() {
    return Objects.requireNonNull(breaker.enter());
  }

  private void open() {
    for (int i = 0; i < 3; i++) {
      enter().failed();
    }
  }

  @Test
  void opensAfterFailuresInARow_andASuccessBeginsTheCountAnew() {
    enter().failed();
    enter().failed();
    enter().succeeded();
    enter().failed();
    enter().failed();
    assertThat(breaker.enter()).isNotNull();

    enter().failed();
    assertThat(breaker.enter()).isNull();
  }

  @Test
  void letsOneProbeThrough_andClosesWhenItSucceeds() {
    open();
    clock.set(100);

    Breaker.Call probe = enter();
    assertThat(breaker.enter()).isNull();
    probe.succeeded();

    assertThat(breaker.enter()).isNotNull();
    assertThat(breaker.enter()).isNotNull();
  }

  @Test
  void opensAgain_whenTheProbeFails() {
    open();
    clock.set(100);
    enter().failed();

    clock.set(199);
    assertThat(breaker.enter()).isNull();
    clock.set(200);
    assertThat(breaker.enter()).isNotNull();
  }

  @Test
  void takesNoResultOfACallThatBeganBefore() {
    Breaker.Call late = enter();
    Breaker.Call lateFailure = enter();
    open();
    clock.set(100);
    Breaker.Call probe = enter();

    late.succeeded();
    assertThat(breaker.enter()).as("still probing").isNull();
    lateFailure.failed();
    probe.succeeded();
    assertThat(breaker.enter()).isNotNull();
  }

  @Test
  void givesAnotherProbe_whenOneEndsWithoutAResultOrNever() {
    open();
    clock.set(100);
    enter().close();
    Breaker.Call hangs = enter();
    assertThat(breaker.enter()).isNull();

    clock.set(200);
    Breaker.Call next = enter();
    hangs.failed();
    next.succeeded();
    assertThat(breaker.enter()).isNotNull();
  }

  @Test
  void countsACallOnce() {
    Breaker.Call call = enter();
    call.failed();
    call.failed();
    call.failed();
    call.close();
    assertThat(breaker.enter()).isNotNull();
  }
}
