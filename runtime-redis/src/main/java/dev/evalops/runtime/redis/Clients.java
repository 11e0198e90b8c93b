package dev.evalops.runtime.redis;

import dev.evalops.runtime.startup.Retry;
import io.lettuce.core.AbstractRedisClient;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisConnectionException;
import io.lettuce.core.SocketOptions;
import io.lettuce.core.api.StatefulConnection;
import io.lettuce.core.resource.ClientResources;
import io.lettuce.core.resource.DefaultClientResources;
import io.lettuce.core.resource.Delay;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What the clients of one server and of a cluster have in common. */
final class Clients {
  private static final Logger LOG = LoggerFactory.getLogger(Redis.class);
  private static final long CLOSE_SECONDS = 2;

  private Clients() {}

  static Retry retry() {
    return Retry.builder()
        .onFailedAttempt(attempt -> {
          if (attempt.nextDelay().isPresent()) { // the last one is thrown
            LOG.atWarn().log("redis: {}", attempt);
          }
        })
        .build();
  }

  static void setDefaults(ClientOptions.Builder options) {
    options
        .disconnectedBehavior(ClientOptions.DisconnectedBehavior.REJECT_COMMANDS)
        .requestQueueSize(65_536)
        .socketOptions(
            SocketOptions.builder().connectTimeout(Duration.ofSeconds(5)).build());
  }

  static ClientResources resources(
      List<Consumer<? super ClientResources.Builder>> configure,
      Renewals renewals,
      Duration commandTimeout) {
    // Jitter, so that many processes do not come back in step.
    DefaultClientResources.Builder threads = DefaultClientResources.builder()
        .reconnectDelay(Delay.equalJitter(
            Duration.ofMillis(50), Duration.ofSeconds(5), 50, TimeUnit.MILLISECONDS));
    configure.forEach(change -> change.accept(threads));
    renewals.applyTo(threads);
    boolean interrupted = Thread.interrupted(); // Netty, which waits for its timer, would forget it
    try {
      return Silence.limited(threads, commandTimeout);
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /** What the URL says, if all settings are good. */
  static <T> T checked(Duration pingTimeout, Duration rotationTimeout, Supplier<T> parse) {
    List<String> problems = new ArrayList<>();
    if (!pingTimeout.isPositive()) {
      problems.add("pingTimeout must be more than zero: " + pingTimeout);
    }
    if (!rotationTimeout.isPositive()) {
      problems.add("rotationTimeout must be more than zero: " + rotationTimeout);
    }
    String problem = String.join("; ", problems);
    T parsed;
    try {
      parsed = parse.get();
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException(
          e.getMessage() + (problem.isEmpty() ? "" : "; " + problem));
    }
    if (!problem.isEmpty()) {
      throw new IllegalArgumentException(problem);
    }
    return parsed;
  }

  /** The longest there is instead of an overflow. */
  static Duration bounded(Duration timeout) {
    return Duration.ofNanos(TimeUnit.NANOSECONDS.convert(timeout));
  }

  /** Waits for a connection and its first answer. */
  static <C extends StatefulConnection<?, ?>> C pinged(
      CompletableFuture<C> connecting,
      Function<C, CompletionStage<String>> ping,
      Duration pingTimeout)
      throws InterruptedException {
    try {
      return connecting
          .thenCompose(connected -> ping.apply(connected).thenApply(pong -> connected))
          .get(TimeUnit.NANOSECONDS.convert(pingTimeout), TimeUnit.NANOSECONDS);
    } catch (InterruptedException interrupted) {
      abandon(connecting);
      throw interrupted;
    } catch (TimeoutException timeout) {
      abandon(connecting);
      throw new RedisConnectionException(
          "ping_redis: no answer within " + pingTimeout.toMillis() + " ms", timeout);
    } catch (ExecutionException failure) {
      abandon(connecting);
      Throwable cause = failure.getCause() == null ? failure : failure.getCause();
      throw new RedisConnectionException("ping_redis: " + Failures.describe(cause), cause);
    }
  }

  /** Closes the connection, also when it comes late. */
  private static void abandon(CompletableFuture<? extends StatefulConnection<?, ?>> connecting) {
    var unused = connecting.thenCompose(StatefulConnection::closeAsync);
  }

  static void shutDown(AbstractRedisClient client, ClientResources resources) {
    boolean interrupted = Thread.interrupted(); // else nothing would be waited for
    interrupted |= !ended(client.shutdownAsync(0, CLOSE_SECONDS, TimeUnit.SECONDS));
    interrupted |= !ended(resources.shutdown(0, CLOSE_SECONDS, TimeUnit.SECONDS));
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** Waits for the end; false if interrupted meanwhile. */
  private static boolean ended(Future<?> end) {
    try {
      end.get(CLOSE_SECONDS, TimeUnit.SECONDS);
    } catch (InterruptedException interrupted) {
      return false;
    } catch (ExecutionException | TimeoutException failure) {
      LOG.atWarn().setCause(failure).log("redis: the client did not end in time");
    }
    return true;
  }
}
