package dev.evalops.runtime.startup;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.runtime.errors.StartupException;
import java.io.IOException;
import java.net.ConnectException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class OpeningTest {
  private final List<String> closed = new CopyOnWriteArrayList<>();
  private final CountDownLatch never = new CountDownLatch(1);
  private final Lifecycle life = Lifecycle.open();

  @AfterEach
  void close() {
    never.countDown();
    life.close();
    assertThat(Thread.interrupted()).as("flag left over for the next test").isFalse();
  }

  private AutoCloseable closes(String name) {
    return () -> closed.add(name);
  }

  @Test
  void opensAtTheSameTime_andClosesInReverseOrder() {
    CyclicBarrier both = new CyclicBarrier(2);
    Opening<AutoCloseable> a = life.open("a", () -> {
      both.await();
      return closes("a");
    });
    Opening<AutoCloseable> b = life.open("b", () -> {
      both.await();
      return closes("b");
    });
    life.add("c", closes("c"));

    assertThat(b.get()).isNotSameAs(a.get());
    assertThat(a.get()).isSameAs(a.get());
    life.close();

    assertThat(closed).containsExactly("c", "b", "a");
  }

  @Test
  void oneMayNeedAnother() {
    Opening<AutoCloseable> a = life.open("a", () -> closes("a"));
    Opening<AutoCloseable> b = life.open("b", () -> {
      a.get();
      return closes("b");
    });

    assertThat(b.get()).isNotNull();
  }

  @Test
  void saysWhatIsWaitedFor() throws Exception {
    CountDownLatch failed = new CountDownLatch(2);
    Opening<AutoCloseable> open = life.open("open", () -> closes("open"));
    open.get();
    life.open(
        "postgres",
        () -> Retry.builder()
            .delay(Duration.ofDays(1))
            .onFailedAttempt(attempt -> failed.countDown())
            .build()
            .call(() -> {
              throw new IOException(new ConnectException("db-7.internal refused"));
            }));
    life.open("redis", () -> {
      failed.countDown();
      never.await();
      return closes("redis");
    });

    failed.await();

    assertThat(life.pending())
        .extracting(Opening.Pending::name)
        .containsExactly("postgres", "redis");
    Opening.Pending postgres = life.pending().getFirst();
    assertThat(postgres.failedAttempts()).isEqualTo(1);
    assertThat(postgres.lastFailure()).contains("ConnectException");
    assertThat(postgres.toString())
        .matches("postgres: for .* m?s, attempt 1 failed: ConnectException");
    assertThat(life.pending().get(1).toString()).matches("redis: for .* m?s");
  }

  @Test
  void failsAtOnce_whenAnotherHasFailed_andNamesAllFailures() throws Exception {
    Opening<AutoCloseable> hangs = life.open("hangs", () -> {
      never.await();
      return closes("hangs");
    });
    StartupException refused = new StartupException("no such role");
    IllegalArgumentException wrong = new IllegalArgumentException("url must be …");
    fails("postgres", refused);
    fails("redis", wrong);

    assertThatThrownBy(hangs::get).isSameAs(refused);
    assertThat(refused.getSuppressed()).containsExactly(wrong);
    assertThatThrownBy(life.open("late", () -> closes("late"))::get).isSameAs(refused);
    assertThat(refused.getSuppressed()).hasSize(1);
  }

  /** Opens what fails, and waits until it has. */
  private void fails(String name, RuntimeException failure) throws Exception {
    CompletableFuture<Thread> thread = new CompletableFuture<>();
    life.open(name, () -> {
      thread.complete(Thread.currentThread());
      throw failure;
    });
    thread.get().join();
  }

  @Test
  void wrapsACheckedFailure() {
    Opening<AutoCloseable> opening = life.open("disk", () -> {
      throw new IOException("disk full");
    });

    assertThatThrownBy(opening::get)
        .isInstanceOf(StartupException.class)
        .hasMessage("disk: disk full")
        .hasCauseInstanceOf(IOException.class);
  }

  @Test
  void interruptsWhatIsNotOpenYet_whenTheLifecycleCloses() throws Exception {
    CountDownLatch begun = new CountDownLatch(1);
    Opening<AutoCloseable> opening = life.open(
        "postgres",
        () -> Retry.standard().call(() -> {
          begun.countDown();
          never.await();
          return closes("postgres");
        }));
    AtomicReference<Throwable> seen = new AtomicReference<>();
    Thread waiting = Thread.ofPlatform().start(() -> {
      try {
        opening.get();
      } catch (RuntimeException e) {
        seen.set(e);
      }
    });
    begun.await();

    life.close();
    waiting.join();

    assertThat(seen.get())
        .isInstanceOf(StartupException.class)
        .hasMessage("postgres: the service is closing");
    assertThat(closed).isEmpty();
    assertThatThrownBy(() -> life.open("late", () -> closes("late")))
        .isInstanceOf(StartupException.class)
        .hasMessage("late: the service is closing");
    assertThat(closed).isEmpty();
  }

  @Test
  void closesWhatOpensAfterItsTime() throws Exception {
    CountDownLatch release = new CountDownLatch(1);
    CountDownLatch begun = new CountDownLatch(1);
    CountDownLatch done = new CountDownLatch(1);
    AtomicReference<Thread> thread = new AtomicReference<>();
    Lifecycle hasty = Lifecycle.builder().closeTimeout(Duration.ofMillis(50)).open();
    hasty.open("deaf", () -> {
      thread.set(Thread.currentThread());
      begun.countDown();
      boolean released = false;
      while (!released) {
        try {
          release.await();
          released = true;
        } catch (InterruptedException e) {
          // Deaf.
        }
      }
      return () -> {
        closed.add("deaf");
        done.countDown();
      };
    });
    begun.await();

    assertThatThrownBy(hasty::close).isInstanceOf(ShutdownException.class);
    release.countDown();
    thread.get().join();
    done.await(); // the thread that opened it closes it, or the one that was to close it

    assertThat(closed).containsExactly("deaf");
  }

  @Test
  void stopsWaiting_whenInterrupted() {
    Opening<AutoCloseable> opening = life.open("redis", () -> {
      never.await();
      return closes("redis");
    });

    Thread.currentThread().interrupt();

    assertThatThrownBy(opening::get)
        .isInstanceOf(StartupException.class)
        .hasMessage("startup interrupted");
    assertThat(Thread.interrupted()).isTrue();
  }
}
