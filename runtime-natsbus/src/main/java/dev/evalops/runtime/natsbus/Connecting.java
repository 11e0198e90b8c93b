package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Retry;
import io.nats.client.Connection;
import io.nats.client.JetStreamApiException;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.api.StreamConfiguration;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.function.Consumer;
import java.util.function.Function;
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
    return retry("nats_connect", () -> Nats.connect(options), failure -> "nats_connect");
  }

  /** Returns the stream as it is. */
  StreamConfiguration prepare(Connection connection, StreamConfiguration wanted) {
    return retry(
        "jetstream_connect",
        () -> Streams.ensure(connection.jetStreamManagement(), wanted),
        failure -> isRefusal(failure) ? "create_stream" : "jetstream_connect");
  }

  private static boolean isRefusal(Throwable failure) {
    return failure instanceof JetStreamApiException api
        && api.getErrorCode() != UNAVAILABLE
        && api.getApiErrorCode() != NO_PEERS;
  }

  private <T> T retry(
      String step, Callable<T> attempt, Function<? super Throwable, String> failedStep) {
    Retry retry = Retry.builder()
        .maxAttempts(Integer.MAX_VALUE)
        .delay(ATTEMPT_WAIT)
        .stopWhen(failure ->
            isRefusal(failure) || System.nanoTime() + ATTEMPT_WAIT.toNanos() - deadline > 0)
        .onFailedAttempt(failed -> {
          if (failed.nextDelay().isPresent()) {
            LOG.atWarn()
                .addKeyValue("step", step)
                .addKeyValue("error", Secrets.hide(failed.failure().getMessage()))
                .log("nats: not up yet");
          }
        })
        .build();
    try {
      return retry.call(attempt);
    } catch (StartupException failed) {
      if (failed.getCause() instanceof InterruptedException interrupted) {
        throw new StartupException(step + ": interrupted", interrupted);
      }
      throw failed.getCause() instanceof Exception cause
          ? failed(failedStep.apply(cause), cause)
          : failed;
    }
  }

  static StartupException failed(String step, Exception cause) {
    String why = Secrets.hide(cause.getMessage());
    @Nullable Throwable harmless = Secrets.harmless(cause);
    return new StartupException(
        step + ": " + why, harmless == null ? new IOException(why) : harmless);
  }
}
