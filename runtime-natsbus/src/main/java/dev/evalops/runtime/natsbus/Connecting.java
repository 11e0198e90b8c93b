package dev.evalops.runtime.natsbus;

import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.startup.Rotation;
import io.nats.client.AuthenticationException;
import io.nats.client.Connection;
import io.nats.client.ErrorListener;
import io.nats.client.ForceReconnectOptions;
import io.nats.client.JetStreamApiException;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.api.ServerInfo;
import io.nats.client.api.StreamConfiguration;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Connects to a NATS that may not be up yet, within a bound, and again when the secret is replaced. */
final class Connecting {
  private static final Logger LOG = LoggerFactory.getLogger(NatsBus.class);
  private static final Duration RECONNECT_WAIT = Duration.ofSeconds(2);
  private static final Duration ATTEMPT_WAIT = Duration.ofSeconds(2);

  /**
   * Of what the server sends: a subject, which alone may be as long as the client's default, and more. The client drops
   * the connection at a longer one, again and again, as long as the stream has it.
   */
  private static final int MAX_CONTROL_LINE = 32 * 1024;

  private static final int UNAVAILABLE = 503;
  private static final int NO_PEERS = 10_005; // as long as a cluster is not complete

  private static final Duration FLUSH_TIMEOUT = Duration.ofSeconds(1);

  /** Before it a stream could be gone, or its replicas differ, when servers had been killed. */
  private static final String FIT_FOR_REPLICAS = "2.10.23";

  /** Of the secret, within the time in which the connection is replaced. */
  private static final int READINGS = 6;

  private final @Nullable Rotation<Secret> rotation;
  private final Duration rotationTimeout;
  private final PatientServers pool;
  private final Options options;
  private final long deadline;
  private volatile long refused;

  /**
   * Begins to count the time.
   *
   * @throws IllegalArgumentException if settings are wrong
   */
  Connecting(BusSettings settings) {
    List<String> servers = settings.servers();
    this.rotation = settings.credentials == null && settings.tls == null
        ? null
        : Rotation.of("nats", settings::secret);
    this.rotationTimeout = settings.rotationTimeout;
    this.pool = new PatientServers(rotation);
    this.options = options(servers, settings, pool);
    if (rotation != null && options.getServerPool() != pool) {
      throw new IllegalArgumentException(
          "credentials or tls are given: configure must not set a server pool");
    }
    this.deadline = System.nanoTime() + settings.connectTimeout.toNanos();
  }

  private static Options options(List<String> servers, BusSettings settings, PatientServers pool) {
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
          .serverPool(pool)
          .dataPortType(HeaderGuard.Port.class.getName())
          .maxControlLine(MAX_CONTROL_LINE)
          .errorListener(listener);
      if (settings.tls != null) {
        options.sslContext(settings.tls);
      }
      settings.configure.forEach(change -> change.accept(options));
      return options.build();
    } catch (IllegalArgumentException | IllegalStateException invalid) {
      throw new IllegalArgumentException(
          "url: " + Secrets.hide(invalid.getMessage()), Secrets.harmless(invalid));
    }
  }

  Connection connect() {
    return retry("nats_connect", this::login, failure -> "nats_connect");
  }

  /** Once more when it is refused, and the secret was replaced in between. */
  private Connection login() throws IOException, InterruptedException {
    if (rotation == null) {
      return Nats.connect(options);
    }
    long version = rotation.read().number();
    try {
      return Nats.connect(options);
    } catch (AuthenticationException refusal) {
      if (rotation.read().number() == version) {
        throw refusal;
      }
      return Nats.connect(options);
    }
  }

  /** Replaces the connection whenever the secret is; null if there is none. */
  @Nullable
  Rotation<Secret> watch(Connection connection) {
    if (rotation != null) {
      rotation.watch(rotationTimeout.dividedBy(READINGS), version -> renew(connection, version));
    }
    return rotation;
  }

  /**
   * Replaces the connection if it was made with an older version, once a login with this one was good.
   *
   * @return whether it was made with this version
   */
  private boolean renew(Connection connection, Rotation.Version<Secret> wanted) {
    if (pool.loggedInWith() < wanted.number()
        && connection.getStatus() == Connection.Status.CONNECTED
        && isAccepted(wanted)) {
      LOG.atInfo().log("nats: credentials or certificates changed; replacing the connection");
      try {
        connection.forceReconnect(
            ForceReconnectOptions.builder().flush(FLUSH_TIMEOUT).build());
      } catch (IOException lost) {
        LOG.atDebug().setCause(Secrets.harmless(lost)).log("nats: no connection yet");
      } catch (InterruptedException somebodyElses) {
        return false;
      }
    }
    return pool.loggedInWith() >= wanted.number();
  }

  private boolean isAccepted(Rotation.Version<Secret> wanted) {
    Options once = new Options.Builder(options)
        .serverPool(new PatientServers(rotation))
        .noReconnect()
        .connectionListener(null)
        .errorListener(new ErrorListener() {})
        .build();
    try {
      Nats.connect(once).close();
      return true;
    } catch (InterruptedException somebodyElses) {
      return false;
    } catch (IOException | RuntimeException failure) {
      if (refused != wanted.number()) {
        refused = wanted.number();
        LOG.atWarn()
            .addKeyValue("error", Secrets.hide(failure.getMessage()))
            .log("nats: no login with the replaced credentials or certificates;"
                + " the open connection stays");
      }
      return false;
    }
  }

  /** Returns the stream as it is. */
  StreamConfiguration prepare(Connection connection, StreamConfiguration wanted) {
    StreamConfiguration found = retry(
        "jetstream_connect",
        () -> Streams.ensure(connection.jetStreamManagement(), wanted),
        failure -> isRefusal(failure) ? "create_stream" : "jetstream_connect");
    ServerInfo server = connection.getServerInfo();
    if (found.getReplicas() > 1 && !isFitForReplicas(server)) {
      LOG.atWarn()
          .addKeyValue("stream", wanted.getName())
          .addKeyValue("version", server.getVersion())
          .log("nats: server too old for a stream with replicas; events may be lost");
    }
    return found;
  }

  static boolean isFitForReplicas(ServerInfo server) {
    return server.isSameOrNewerThanVersion(FIT_FOR_REPLICAS);
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
