package dev.evalops.runtime.natsbus;

import io.nats.client.Connection;
import io.nats.client.JetStreamApiException;
import io.nats.client.api.StreamConfiguration;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Looks after the stream when a lost connection has come back: the server may be another one, or have lost its data.
 * Thread-safe.
 */
final class StreamKeeper implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(NatsBus.class);
  private static final Duration FIRST_RETRY = Duration.ofMillis(500);
  private static final Duration MAX_RETRY = Duration.ofSeconds(30);

  private final Connection connection;
  private final StreamConfiguration wanted;
  private final Runnable checked;
  private final Semaphore reconnects = new Semaphore(0);
  private final Thread thread;
  private volatile boolean closed;

  /**
   * Starts it.
   *
   * @param checked runs after each look at the stream, whether it could be made or not
   */
  StreamKeeper(Connection connection, StreamConfiguration wanted, Runnable checked) {
    this.connection = connection;
    this.wanted = wanted;
    this.checked = checked;
    this.thread = Thread.ofPlatform().daemon().name("natsbus-stream").start(this::run);
  }

  void reconnected() {
    reconnects.release();
  }

  private void run() {
    try {
      while (!closed) {
        reconnects.acquire();
        restore();
      }
    } catch (InterruptedException closing) {
      // Nobody interrupts it but to end it.
    }
  }

  private void restore() throws InterruptedException {
    Duration pause = FIRST_RETRY;
    boolean told = false;
    while (!closed) {
      reconnects.drainPermits();
      try {
        Streams.restore(connection.jetStreamManagement(), wanted);
        return;
      } catch (IOException | JetStreamApiException | RuntimeException failure) {
        (told ? LOG.atDebug() : LOG.atWarn())
            .addKeyValue("stream", wanted.getName())
            .addKeyValue("error", Secrets.hide(failure.toString()))
            .log("stream check failed after reconnecting; will retry");
        told = true;
      } finally {
        checked.run();
      }
      if (reconnects.tryAcquire(pause.toNanos(), TimeUnit.NANOSECONDS)) {
        pause = FIRST_RETRY;
      } else {
        pause = pause.multipliedBy(2).compareTo(MAX_RETRY) < 0 ? pause.multipliedBy(2) : MAX_RETRY;
      }
    }
  }

  @Override
  public void close() {
    closed = true;
    thread.interrupt();
  }
}
