package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.errors.StartupException;
import io.nats.client.AuthenticationException;
import io.nats.client.Connection;
import io.nats.client.JetStreamApiException;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.api.StreamConfiguration;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Connects to a NATS that may not be up yet, within a bound. For one thread. */
final class Connecting {
  private static final Logger LOG = LoggerFactory.getLogger(NatsBus.class);
  private static final Duration RECONNECT_WAIT = Duration.ofSeconds(2);
  private static final Duration ATTEMPT_WAIT = Duration.ofSeconds(2);
  private static final int UNAVAILABLE = 503;
  private static final int NO_PEERS = 10_005; // as long as a cluster is not complete

  private final Options options;
  private final long deadline;

  /**
   * Begins to count the time.
   *
   * @throws IllegalArgumentException if the options are wrong
   */
  Connecting(
      List<String> servers, List<Consumer<? super Options.Builder>> configure, Duration timeout) {
    this.options = options(servers, configure);
    this.deadline = System.nanoTime() + timeout.toNanos();
  }

  private static Options options(
      List<String> servers, List<Consumer<? super Options.Builder>> configure) {
    ConnectionLog listener = new ConnectionLog();
    try {
      Options.Builder options = Options.builder()
          .servers(servers.toArray(String[]::new))
          .maxReconnects(-1)
          .reconnectWait(RECONNECT_WAIT)
          .reconnectJitter(Duration.ofMillis(500))
          .reconnectJitterTls(Duration.ofSeconds(1))
          .connectionTimeout(Duration.ofSeconds(5))
          // A peer that is silent is found after half a minute.
          .pingInterval(Duration.ofSeconds(10))
          .maxPingsOut(2)
          .socketWriteTimeout(Duration.ofSeconds(10))
          .requestCleanupInterval(Duration.ofMillis(250))
          .reportNoResponders()
          .serverPool(new PatientServers())
          .dataPortType(HeaderGuard.Port.class.getName())
          .errorListener(listener);
      configure.forEach(change -> change.accept(options));
      return options.build();
    } catch (IllegalArgumentException | IllegalStateException invalid) {
      throw new IllegalArgumentException(
          "url: " + Secrets.hide(invalid.getMessage()), Secrets.harmless(invalid));
    }
  }

  Connection connect() {
    while (true) {
      try {
        return Nats.connect(options);
      } catch (AuthenticationException refused) {
        throw failed("nats_connect", refused);
      } catch (IOException | RuntimeException notYet) {
        waitFor("nats_connect", notYet);
      } catch (InterruptedException interrupted) {
        Thread.currentThread().interrupt();
        throw new StartupException("nats_connect: interrupted", interrupted);
      }
    }
  }

  /** Returns the stream as it is. */
  StreamConfiguration prepare(Connection connection, StreamConfiguration wanted) {
    while (true) {
      try {
        return Streams.ensure(connection.jetStreamManagement(), wanted);
      } catch (IOException notYet) {
        waitFor("jetstream_connect", notYet);
      } catch (JetStreamApiException refused) {
        if (refused.getErrorCode() != UNAVAILABLE && refused.getApiErrorCode() != NO_PEERS) {
          throw failed("create_stream", refused);
        }
        waitFor("jetstream_connect", refused);
      }
    }
  }

  private void waitFor(String step, Exception failure) {
    if (System.nanoTime() + ATTEMPT_WAIT.toNanos() - deadline > 0) {
      throw failed(step, failure);
    }
    String why = Secrets.hide(failure.getMessage());
    LOG.atWarn().addKeyValue("step", step).addKeyValue("error", why).log("nats: not up yet");
    try {
      Thread.sleep(ATTEMPT_WAIT);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new StartupException(step + ": interrupted; before: " + why, interrupted);
    }
  }

  static StartupException failed(String step, Exception cause) {
    String why = Secrets.hide(cause.getMessage());
    @Nullable Throwable harmless = Secrets.harmless(cause);
    return new StartupException(
        step + ": " + why, harmless == null ? new IOException(why) : harmless);
  }
}
