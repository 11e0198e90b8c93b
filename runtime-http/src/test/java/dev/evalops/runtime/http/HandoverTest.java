package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class HandoverTest {
  @Test
  void startsEachTaskOnce_whenManyThreadsHandThemOver() throws InterruptedException {
    int threads = 4;
    int each = 50_000;
    AtomicInteger ran = new AtomicInteger();
    CountDownLatch all = new CountDownLatch(threads * each);
    try (Handover handover = new Handover(Runnable::run)) {
      List<Thread> givers = new ArrayList<>();
      for (int i = 0; i < threads; i++) {
        givers.add(Thread.ofPlatform().start(() -> {
          for (int task = 0; task < each; task++) {
            handover.execute(() -> {
              ran.incrementAndGet();
              all.countDown();
            });
          }
        }));
      }
      for (Thread giver : givers) {
        giver.join();
      }
      assertThat(all.await(30, TimeUnit.SECONDS)).isTrue();
    }
    assertThat(ran).hasValue(threads * each);
  }

  @Test
  void startsOneByOne_whenItIsIdleInBetween() throws InterruptedException {
    LinkedBlockingQueue<Integer> ran = new LinkedBlockingQueue<>();
    try (Handover handover = new Handover(Runnable::run)) {
      for (int i = 0; i < 20_000; i++) {
        int task = i;
        handover.execute(() -> ran.add(task));
        assertThat(ran.poll(30, TimeUnit.SECONDS)).isEqualTo(i);
      }
    }
  }

  @Test
  void startsTheNext_whenOneCannotBeStarted() throws InterruptedException {
    AtomicInteger given = new AtomicInteger();
    LinkedBlockingQueue<String> ran = new LinkedBlockingQueue<>();
    try (Handover handover = new Handover(task -> {
      switch (given.incrementAndGet()) {
        case 1 -> throw new OutOfMemoryError("unable to create native thread");
        case 2 -> throw new RejectedExecutionException("closed");
        default -> task.run();
      }
    })) {
      handover.execute(() -> ran.add("first"));
      handover.execute(() -> ran.add("second"));
      handover.execute(() -> ran.add("third"));

      assertThat(ran.poll(30, TimeUnit.SECONDS)).isEqualTo("third");
      assertThat(ran).isEmpty();
    }
  }

  @Test
  void startsWhatIsWaiting_thenEndsItsThread_whenItIsClosed() throws InterruptedException {
    LinkedBlockingQueue<Thread> ran = new LinkedBlockingQueue<>();
    CountDownLatch closed = new CountDownLatch(1);
    Handover handover = new Handover(Runnable::run);
    handover.execute(() -> await(closed));
    handover.execute(() -> ran.add(Thread.currentThread()));
    handover.close();
    closed.countDown();

    Thread thread = ran.poll(30, TimeUnit.SECONDS);
    assertThat(thread).isNotNull();
    assertThat(thread.join(Duration.ofSeconds(30))).isTrue();
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }
}
