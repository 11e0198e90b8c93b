package dev.evalops.runtime.natsbus;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.natsbus.Delivery.Place;
import io.nats.client.Message;
import java.time.Duration;
import java.time.Instant;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class LanesTest {
  private final AtomicInteger refused = new AtomicInteger();
  private final LinkedBlockingQueue<Long> handled = new LinkedBlockingQueue<>();
  private final Logs logs = new Logs();
  private final Acknowledgements none = new Acknowledgements(null, "indexer", () -> 1000);
  private final Lanes lanes =
      new Lanes(null, "indexer", 1, this::thread, this::handle, none, () -> 10);

  @AfterEach
  void close() {
    logs.close();
  }

  /** The first cannot be started, as where the number of threads is limited. */
  private Thread thread(Runnable task) {
    return new Thread(task) {
      @Override
      public void start() {
        if (refused.incrementAndGet() == 1) {
          throw new OutOfMemoryError("unable to create native thread");
        }
        super.start();
      }
    };
  }

  private boolean handle(Delivery delivery) {
    return handled.add(delivery.place.sequence());
  }

  private static Message message(long sequence) {
    return message(sequence, 1);
  }

  private static Message message(long sequence, long deliveries) {
    String reply = "$JS.ACK.NOTES.indexer." + deliveries + "." + sequence + "." + sequence
        + ".1600000000000000000.0";
    return Servers.delivered(reply);
  }

  @Test
  void handlesAnEvent_whoseThreadCouldNotBeStarted_withTheNext() throws InterruptedException {
    lanes.received(message(1));
    lanes.received(message(2));

    assertThat(handled.poll(20, TimeUnit.SECONDS)).isEqualTo(1);
    assertThat(handled.poll(20, TimeUnit.SECONDS)).isEqualTo(2);
    assertThat(lanes.awaitIdle(Duration.ofSeconds(20))).isTrue();
    assertThat(lanes.size()).isZero();
    assertThat(logs.count("ERROR consumer thread could not be started; will retry"))
        .isEqualTo(1);
    assertThat(logs.count("INFO consumer threads start again")).isEqualTo(1);
  }

  /** As a virtual thread can, where no carrier can be added to those that are there. */
  @Test
  void handlesAnEventOnce_whoseThreadRunsThoughItsStartHasFailed() throws InterruptedException {
    AtomicInteger begun = new AtomicInteger();
    AtomicInteger atOnce = new AtomicInteger();
    AtomicInteger most = new AtomicInteger();
    Lanes failing = new Lanes(
        null,
        "indexer",
        1,
        task -> new Thread(task) {
          @Override
          public void start() {
            int before = begun.get();
            super.start();
            while (begun.get() == before) {
              Thread.onSpinWait();
            }
            throw new OutOfMemoryError("unable to create native thread");
          }
        },
        delivery -> {
          begun.incrementAndGet();
          most.accumulateAndGet(atOnce.incrementAndGet(), Math::max);
          boolean done = handle(delivery);
          atOnce.decrementAndGet();
          return done;
        },
        none,
        () -> 10);
    failing.received(message(1));
    failing.received(message(2));

    assertThat(handled.poll(20, TimeUnit.SECONDS)).isEqualTo(1);
    assertThat(handled.poll(20, TimeUnit.SECONDS)).isEqualTo(2);
    assertThat(failing.awaitIdle(Duration.ofSeconds(20))).isTrue();
    assertThat(handled).isEmpty();
    assertThat(most).hasValue(1);
  }

  @Test
  void handlesIt_atTheNextLook() throws InterruptedException {
    lanes.received(message(1));
    assertThat(lanes.held())
        .extracting(delivery -> delivery.place)
        .extracting(Place::sequence)
        .containsExactly(1L);
    assertThat(lanes.awaitIdle(Duration.ZERO)).isTrue();

    lanes.startReady();

    assertThat(handled.poll(20, TimeUnit.SECONDS)).isEqualTo(1);
  }

  @Test
  void suspectsWhatComesMoreOftenThanOthers_whoseDependencyIsAway() throws InterruptedException {
    Set<Long> suspects = ConcurrentHashMap.newKeySet();
    Lanes suspecting = new Lanes(
        null,
        "indexer",
        1,
        Thread::new,
        delivery -> !delivery.suspect || suspects.add(delivery.place.sequence()),
        none,
        () -> 10);
    suspecting.failedAlone(new Place(1, Instant.EPOCH), 50, 0);
    suspecting.received(message(2, 75));
    suspecting.received(message(3, 76));

    assertThat(suspecting.awaitIdle(Duration.ofSeconds(20))).isTrue();
    assertThat(suspects).containsExactly(3L);
  }
}
