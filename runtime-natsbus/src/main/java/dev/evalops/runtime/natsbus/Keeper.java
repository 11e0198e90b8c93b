package dev.evalops.runtime.natsbus;

import io.nats.client.Connection;
import io.nats.client.JetStreamApiException;
import io.nats.client.impl.AckType;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Tells the server that the events of a consumer are in hand, and checks whether it still knows the durable.
 * Thread-safe.
 */
final class Keeper {
  private static final Logger LOG = LoggerFactory.getLogger(EventConsumer.class);
  private static final Duration CHECK_EVERY = Duration.ofSeconds(10);
  private static final Duration RETRY_CHECK = Duration.ofSeconds(1);

  private final Connection connection;
  private final String name;
  private final Durable durable;
  private final Lanes lanes;
  private final DeadLetters deadLetters;
  private final Semaphore checks = new Semaphore(0);
  private final Thread thread;

  Keeper(
      Connection connection, String name, Durable durable, Lanes lanes, DeadLetters deadLetters) {
    this.connection = connection;
    this.name = name;
    this.durable = durable;
    this.lanes = lanes;
    this.deadLetters = deadLetters;
    this.thread = Thread.ofPlatform().daemon().name("natsbus-keeper-" + name).unstarted(this::keep);
  }

  void start() {
    thread.start();
  }

  void stop() {
    thread.interrupt();
  }

  /** Has the durable checked soon, without waiting for it. */
  void checkNow() {
    checks.release();
  }

  private void keep() {
    Duration pause = CHECK_EVERY; // until the next look
    Duration retry = RETRY_CHECK;
    long checked = System.nanoTime();
    boolean told = false;
    while (!lanes.isStopping()) {
      try {
        Duration wait = shorter(durable.ackWait().dividedBy(3), pause);
        boolean now = checks.tryAcquire(wait.toNanos(), TimeUnit.NANOSECONDS);
        checks.drainPermits();
        lanes.startReady(); // what had no thread before
        progress();
        if ((now || System.nanoTime() - checked >= pause.toNanos())
            && connection.getStatus() == Connection.Status.CONNECTED) {
          checked = System.nanoTime();
          pause = retry;
          retry = shorter(retry.multipliedBy(2), CHECK_EVERY);
          check();
          pause = CHECK_EVERY;
          retry = RETRY_CHECK;
          told = false;
        }
      } catch (InterruptedException closing) {
        return;
      } catch (Throwable failure) {
        report(failure, told);
        told = true;
      }
    }
  }

  private void report(Throwable failure, boolean told) {
    try {
      (told ? LOG.atDebug() : LOG.atWarn())
          .addKeyValue("durable", name)
          .addKeyValue("error", Secrets.hide(failure.toString()))
          .log("consumer check failed; will retry");
    } catch (Throwable unlogged) {
      // Such as no memory: without this thread nothing would look after the durable.
    }
  }

  /** Creates again what the server does not know any more. */
  void check() throws IOException, JetStreamApiException {
    String before = durable.deliverSubject();
    durable.attach();
    if (before != null && !before.equals(durable.deliverSubject())) {
      LOG.atWarn().addKeyValue("durable", name).log("consumer subscribed again");
    }
    deadLetters.restore(); // last: events are handled without it, too
  }

  private void progress() {
    if (connection.getStatus() == Connection.Status.CONNECTED) {
      for (Delivery delivery : lanes.held()) {
        delivery.answer(connection, AckType.AckProgress.bytes, "consumer progress failed");
      }
    }
  }

  private static Duration shorter(Duration a, Duration b) {
    return a.compareTo(b) < 0 ? a : b;
  }
}
