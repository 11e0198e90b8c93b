package dev.evalops.runtime.identity;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.concurrent.TimeUnit.NANOSECONDS;

import dev.evalops.runtime.identity.Calls.Answer;
import dev.evalops.runtime.identity.IdentityException.Reason;
import dev.evalops.runtime.identity.IdentityJson.IssuedToken;
import java.lang.ref.WeakReference;
import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.time.InstantSource;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.atomic.AtomicBoolean;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Service tokens, each kept until it is due for renewal: 10 seconds before its end, or a quarter of its life if that is
 * less. Twice as early a token that has been asked for again is renewed in the background, so that no caller waits.
 */
final class ServiceTokens {
  private static final Logger LOG = LoggerFactory.getLogger(IdentityClient.class);
  private static final Duration MARGIN = Duration.ofSeconds(10);
  private static final Duration RETRY_PAUSE = Duration.ofSeconds(1);
  /** How long a caller waits for a new token while the old one is valid. */
  private static final Duration PATIENCE = Duration.ofSeconds(2);

  /**
   * What a token is for. The time to live is a part of it: who asks for a minute must not get a token that is good for
   * an hour.
   *
   * @param scopes as {@link #canonical} has them
   */
  record Key(String organizationId, String service, List<String> scopes, long ttlSeconds) {}

  private static final class Issued {
    final String token;
    final Instant expiresAt;
    final Duration margin;
    final AtomicBoolean failed = new AtomicBoolean();
    volatile boolean used;
    volatile long failedAt;

    Issued(String token, Instant expiresAt, Instant now) {
      this.token = token;
      this.expiresAt = expiresAt;
      Duration quarter = Duration.between(now, expiresAt).dividedBy(4);
      margin = quarter.compareTo(MARGIN) < 0 ? quarter : MARGIN;
    }

    Instant dueAt() {
      return expiresAt.minus(margin);
    }

    Instant renewAt() {
      return dueAt().minus(margin);
    }

    Duration pause() {
      return margin.compareTo(RETRY_PAUSE) < 0 ? margin : RETRY_PAUSE;
    }

    boolean failedLately() {
      return failed.get() && System.nanoTime() - failedAt < nanos(pause());
    }
  }

  private final URI url;
  private final @Nullable String bootstrapKey;
  private final Calls calls;
  private final ScheduledExecutorService timer;
  private final InstantSource clock;
  private final RecentCache<Key, Issued> cache;
  private final Flights<Key, Issued> flights = new Flights<>();

  ServiceTokens(
      URI url,
      @Nullable String bootstrapKey,
      Calls calls,
      ScheduledExecutorService timer,
      InstantSource clock,
      int limit) {
    this.url = url;
    this.bootstrapKey = bootstrapKey;
    this.calls = calls;
    this.timer = timer;
    this.clock = clock;
    cache = new RecentCache<>(limit);
  }

  /** Trimmed, without blank ones, in the order of their UTF-8 bytes, each once. */
  static List<String> canonical(Collection<String> scopes) {
    return scopes.stream()
        .map(Blank::trim)
        .filter(scope -> !scope.isEmpty())
        .distinct()
        .sorted((one, other) -> Arrays.compareUnsigned(one.getBytes(UTF_8), other.getBytes(UTF_8)))
        .toList();
  }

  String token(Key key) {
    Issued held = cache.get(key);
    Instant now = clock.instant();
    if (held == null || !now.isBefore(held.expiresAt)) {
      return IdentityClient.await(issue(key, held)).token;
    }
    held.used = true;
    if (now.isBefore(held.dueAt()) || held.failedLately()) {
      return held.token;
    }
    CompletableFuture<Issued> next = issue(key, held);
    if (held.failed.get() && !next.isDone()) {
      return held.token; // who asks after the renewal gets its token
    }
    try {
      Issued given =
          IdentityClient.await(next.copy().completeOnTimeout(held, nanos(PATIENCE), NANOSECONDS));
      if (given != held) {
        return given.token;
      }
      if (!clock.instant().isBefore(held.expiresAt)) {
        return IdentityClient.await(next).token;
      }
      failed(key, held, IdentityException.unavailable("no answer yet", null));
      return held.token;
    } catch (IdentityException e) {
      if (Thread.currentThread().isInterrupted() || !clock.instant().isBefore(held.expiresAt)) {
        throw e;
      }
      failed(key, held, e);
      return held.token;
    }
  }

  /** Gets a token in place of the one that is held; one call for all that want it. */
  private CompletableFuture<Issued> issue(Key key, @Nullable Issued held) {
    return flights.join(key, () -> {
      Issued newer = cache.get(key);
      if (newer != null && newer != held) {
        return CompletableFuture.completedFuture(newer);
      }
      byte[] request =
          IdentityJson.tokenRequest(key.service, key.organizationId, key.scopes, key.ttlSeconds);
      return calls
          .post(url, bootstrapKey, request, 201)
          .thenApply(answer -> keep(key, answer))
          .whenComplete((issued, failure) -> {
            if (failure != null && held != null) {
              failed(key, held, IdentityException.of(failure.getCause()));
            }
          });
    });
  }

  private Issued keep(Key key, Answer answer) {
    if (answer.status != 201) {
      throw IdentityException.notIssued(answer.status);
    }
    IssuedToken token = IdentityJson.issuedToken(answer.body);
    if (token.token().isEmpty()) {
      throw new IdentityException(Reason.MISSING_SERVICE_TOKEN);
    }
    Instant expiresAt = token
        .expiresAt()
        .orElseThrow(() -> new IdentityException(Reason.MISSING_SERVICE_TOKEN_EXPIRY));
    Instant now = clock.instant();
    Issued issued = new Issued(token.token(), expiresAt, now);
    if (now.isBefore(expiresAt)) {
      cache.put(key, issued);
      renewAfter(Duration.between(now, issued.renewAt()), key, issued);
    }
    return issued;
  }

  private void failed(Key key, Issued held, IdentityException failure) {
    held.failedAt = System.nanoTime();
    if (!held.failed.getAndSet(true) && !timer.isShutdown()) {
      LOG.atWarn()
          .addKeyValue("service", key.service)
          .addKeyValue("organization", key.organizationId)
          .addKeyValue("expires_at", held.expiresAt)
          .addKeyValue("error", failure.getMessage())
          .log("identity: service token renewal failed; using the old token");
    }
  }

  private void renewAfter(Duration delay, Key key, Issued issued) {
    try {
      // Weakly: a token that the cache has let go is not kept until its renewal.
      WeakReference<Issued> held = new WeakReference<>(issued);
      var unused = timer.schedule(() -> renew(key, held.get()), nanos(delay), NANOSECONDS);
    } catch (RejectedExecutionException e) {
      cache.clear(); // closed
    }
  }

  private void renew(Key key, @Nullable Issued issued) {
    if (issued == null) {
      return;
    }
    Instant now = clock.instant();
    if (now.isBefore(issued.renewAt())) {
      renewAfter(Duration.between(now, issued.renewAt()), key, issued);
    } else if (!issued.used || !now.isBefore(issued.expiresAt)) {
      cache.remove(key, issued);
    } else if (cache.get(key) == issued) {
      var unused = issue(key, issued).whenComplete((next, failure) -> {
        if (failure != null) {
          renewAfter(issued.pause(), key, issued);
        }
      });
    }
  }

  private static long nanos(Duration duration) {
    return NANOSECONDS.convert(duration);
  }

  void close() {
    cache.clear();
  }
}
