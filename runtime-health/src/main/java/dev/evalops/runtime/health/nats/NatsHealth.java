package dev.evalops.runtime.health.nats;

import dev.evalops.runtime.health.HealthCheck;
import dev.evalops.runtime.health.UnhealthyException;
import io.nats.client.Connection;
import io.nats.client.Connection.Status;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.CancellationException;
import java.util.concurrent.TimeoutException;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;

/** The check of a NATS connection. Thread-safe. */
public final class NatsHealth {
  /** Longer than a restart of a server or the move to the next one of a cluster. */
  static final Duration RECONNECT_GRACE = Duration.ofSeconds(10);

  private NatsHealth() {}

  /**
   * Makes a {@code PING} round trip on the connection that the service uses. A connection that is not connected is
   * {@code nats_not_ready: <STATUS>}, with one exception: one that was connected and now reconnects counts as
   * healthy for 10 seconds from the check that first sees it, because the client holds back what is published
   * meanwhile, and a restarted NATS server must not take every replica of every service out of service at once.
   *
   * @param connection the connection, or null, which is reported as {@code nats_not_configured}
   * @return the check
   * @implNote An unanswered PING counts towards the client's {@code maxPingsOut}, so that it leaves a server that is
   *     silent for several checks sooner than by its own timer.
   */
  public static HealthCheck of(@Nullable Connection connection) {
    return of(connection, System::nanoTime);
  }

  static HealthCheck of(@Nullable Connection connection, LongSupplier nanoTime) {
    if (connection == null) {
      return () -> {
        throw new UnhealthyException("nats_not_configured");
      };
    }
    return new RoundTripCheck(connection, nanoTime);
  }

  private static final class RoundTripCheck implements HealthCheck {
    private final Connection connection;
    private final LongSupplier nanoTime;
    private volatile boolean connectedBefore;
    private volatile @Nullable Long lostAt;

    RoundTripCheck(Connection connection, LongSupplier nanoTime) {
      this.connection = connection;
      this.nanoTime = nanoTime;
    }

    @Override
    public void check() throws Exception {
      if (connection.getStatus() == Status.CONNECTED && answers()) {
        connectedBefore = true;
        lostAt = null;
        return;
      }
      Status status = connection.getStatus();
      if (status == Status.CLOSED || !connectedBefore) {
        throw new UnhealthyException("nats_not_ready: " + status);
      }
      if (graceIsOver()) {
        // Between two attempts the client calls itself disconnected; a text that changes all the
        // time says no more.
        throw new UnhealthyException("nats_not_ready: " + Status.RECONNECTING);
      }
    }

    /** Whether the server answered; false if the connection was lost meanwhile. */
    private boolean answers() throws Exception {
      try {
        // Not flush(), which returns normally when too many pings are unanswered.
        connection.RTT();
        return true;
      } catch (CancellationException e) {
        return false;
      } catch (IOException e) {
        if (e.getCause() instanceof TimeoutException timeout) {
          throw timeout;
        }
        if (connection.getStatus() == Status.CONNECTED) {
          throw e;
        }
        return false;
      }
    }

    private boolean graceIsOver() {
      Long since = lostAt;
      long now = nanoTime.getAsLong();
      if (since == null) {
        lostAt = now;
        return false;
      }
      return now - since >= RECONNECT_GRACE.toNanos();
    }
  }
}
