package dev.evalops.runtime.natsbus;

import io.nats.client.Connection;
import io.nats.client.ConnectionListener;
import io.nats.client.Consumer;
import io.nats.client.ErrorListener;
import io.nats.client.Message;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

/** Logs what happens to the connection, once each, and never with the user-info of a URL. */
final class ConnectionLog implements ErrorListener {
  private static final Logger LOG = LoggerFactory.getLogger(NatsBus.class);

  private final Set<String> told = ConcurrentHashMap.newKeySet(); // in this outage
  private final AtomicLong reconnects = new AtomicLong();
  private volatile java.util.function.Consumer<String> onError = error -> {};

  /** Sets who else is told of each error that the server reports. */
  void onError(java.util.function.Consumer<String> listener) {
    onError = listener;
  }

  /** A refused login comes here at each attempt to reconnect, and is told once in an outage. */
  @Override
  public void errorOccurred(Connection connection, String error) {
    long now = connection.getStatistics().getReconnects();
    if (reconnects.getAndSet(now) != now) {
      told.clear();
    }
    boolean again = connection.getStatus() != Connection.Status.CONNECTED && !told.add(error);
    LOG.atLevel(again ? Level.DEBUG : Level.WARN)
        .addKeyValue("error", Secrets.hide(error))
        .log("nats: server reported an error");
    onError.accept(error);
  }

  /** Each attempt to reconnect ends here, too. */
  @Override
  public void exceptionOccurred(Connection connection, Exception failure) {
    LOG.atDebug()
        .addKeyValue("error", Secrets.hide(String.valueOf(failure.getMessage())))
        .log("nats: client reported a failure");
  }

  @Override
  public void slowConsumerDetected(Connection connection, Consumer consumer) {
    LOG.atWarn()
        .addKeyValue("dropped", consumer.getDroppedCount())
        .log("nats: slow consumer, messages dropped");
  }

  @Override
  public void messageDiscarded(Connection connection, Message message) {
    LOG.atWarn()
        .addKeyValue("subject", message.getSubject())
        .log("nats: message discarded by the client");
  }

  /** Tells when the connection is lost, comes back, or is closed. */
  static final class Changes implements ConnectionListener {
    /** A connection may be lost as soon as it is there, again and again. */
    private static final long TELL_EVERY = TimeUnit.SECONDS.toNanos(10);

    private final Runnable reconnected;
    private final BooleanSupplier closing;
    private final AtomicBoolean lost = new AtomicBoolean();
    private volatile long toldAt = System.nanoTime() - TELL_EVERY;
    private volatile boolean told;

    Changes(Runnable reconnected, BooleanSupplier closing) {
      this.reconnected = reconnected;
      this.closing = closing;
    }

    @Override
    @SuppressWarnings("deprecation") // there is no other that must be there
    public void connectionEvent(Connection connection, Events event) {
      switch (event) {
        case DISCONNECTED -> { // after each failed attempt, too
          if (!closing.getAsBoolean()) {
            lost(System.nanoTime(), lost.compareAndSet(false, true));
          }
        }
        case RECONNECTED -> {
          lost.set(false);
          connection.clearLastError(); // it says why there was no connection
          LOG.atLevel(told ? Level.INFO : Level.DEBUG)
              .addKeyValue("server", Secrets.hide(String.valueOf(connection.getConnectedUrl())))
              .log("nats: connected again");
          reconnected.run();
        }
        case LAME_DUCK -> LOG.atInfo().log("nats: server is about to stop");
        case CLOSED -> {
          if (!closing.getAsBoolean()) {
            LOG.atError()
                .addKeyValue("error", Secrets.hide(connection.getLastError()))
                .log("nats: connection closed for good");
          }
        }
        default -> {
          // The others are part of these.
        }
      }
    }

    private void lost(long now, boolean justNow) {
      if (justNow) {
        told = false;
      }
      if (!told && now - toldAt >= TELL_EVERY) {
        told = true;
        toldAt = now;
        LOG.warn("nats: connection lost");
      } else if (justNow) {
        LOG.debug("nats: connection lost");
      }
    }
  }
}
