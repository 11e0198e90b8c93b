package dev.evalops.runtime.identity;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.identity.Calls.Answer;
import dev.evalops.runtime.identity.IdentityException.Reason;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.http.HttpClient;
import java.time.Duration;
import java.time.Instant;
import java.time.InstantSource;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A client of the identity service: tells whom a token belongs to, and gets tokens for calls to other services.
 *
 * <pre>{@code
 * IdentityClient identity = IdentityClient.builder(introspectUrl).httpClient(tls.httpClient()).open();
 * Introspection caller = identity.introspect(bearerToken);
 *
 * IdentityClient identity = IdentityClient.builder(introspectUrl).serviceTokens(issueUrl).bootstrapKey(key).open();
 * String token = identity.serviceToken("org-1", "billing", Set.of("invoices:read"), Duration.ofMinutes(5));
 * }</pre>
 *
 * <p>Each call ends within the request timeout, whatever the service does. What many callers ask at the same time is
 * asked once. No token is kept but the service tokens, and none is logged. A caller that is interrupted stops waiting
 * at once; the call, which others may wait for, continues.
 *
 * <p>Thread-safe.
 */
public final class IdentityClient implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(IdentityClient.class);
  private static final int CACHE_LIMIT = 10_000;
  private static final Duration CLOSE_TIME = Duration.ofSeconds(2);
  /** The shortest outage in the log, so that one that flickers does not fill it. */
  private static final long OUTAGE_NANOS = TimeUnit.SECONDS.toNanos(10);

  private static final byte[] EMPTY_OBJECT = {'{', '}'};

  private final @Nullable URI introspectUrl;
  private final @Nullable HttpClient ownHttp;
  private final long timeoutNanos;
  private final long fallbackNanos;
  private final long freshNanos;
  private final InstantSource clock;
  private final LongSupplier ticker;
  private final ScheduledThreadPoolExecutor timer;
  private final Calls calls;
  private final @Nullable ServiceTokens serviceTokens;
  private final RecentCache<TokenHash, Cached> cache = new RecentCache<>(CACHE_LIMIT);
  private final Flights<TokenHash, Introspection> flights = new Flights<>();
  private final LongAdder fallbacks = new LongAdder();
  private final AtomicBoolean outage = new AtomicBoolean();
  private volatile long outageAt;

  /** An answer that was asked for at a time of {@link System#nanoTime}. */
  private record Cached(Introspection introspection, long askedAt) {}

  private IdentityClient(
      Builder builder,
      @Nullable URI introspectUrl,
      @Nullable URI serviceTokensUrl,
      @Nullable HttpClient ownHttp) {
    this.introspectUrl = introspectUrl;
    timeoutNanos = TimeUnit.NANOSECONDS.convert(builder.requestTimeout);
    fallbackNanos = TimeUnit.NANOSECONDS.convert(builder.fallbackFor);
    freshNanos = TimeUnit.NANOSECONDS.convert(builder.freshFor);
    clock = builder.clock;
    ticker = builder.ticker;
    timer = new ScheduledThreadPoolExecutor(1, task -> {
      Thread thread = new Thread(task, "identity-timer");
      thread.setDaemon(true);
      return thread;
    });
    timer.setRemoveOnCancelPolicy(true);
    this.ownHttp = ownHttp;
    HttpClient http = requireNonNull(ownHttp == null ? builder.httpClient : ownHttp);
    calls = new Calls(http, builder.requestTimeout, timer);
    serviceTokens = serviceTokensUrl == null
        ? null
        : new ServiceTokens(
            serviceTokensUrl, builder.bootstrapKey, calls, timer, clock, CACHE_LIMIT);
  }

  /**
   * Returns a builder.
   *
   * @param introspectUrl where tokens are introspected, with its path; blank or null: {@link #introspect} fails with
   *     {@link IdentityException.Reason#NOT_CONFIGURED}
   * @return a builder with the defaults
   */
  public static Builder builder(@Nullable String introspectUrl) {
    return new Builder(introspectUrl);
  }

  /**
   * Returns whom a token belongs to.
   *
   * @param token the bearer token, without the scheme; white space at its ends is not part of it
   * @return what the identity service says of the token, which is active
   * @throws IdentityException {@link IdentityException.Reason#INVALID_TOKEN}, {@link
   *     IdentityException.Reason#INACTIVE_TOKEN}, {@link IdentityException.Reason#UNAVAILABLE} (the token may be good;
   *     also when interrupted, with the flag set again) or {@link IdentityException.Reason#NOT_CONFIGURED}
   */
  public Introspection introspect(String token) {
    if (introspectUrl == null) {
      throw new IdentityException(Reason.NOT_CONFIGURED);
    }
    URI url = introspectUrl;
    String bearer = Blank.trim(token);
    if (!isBearer(bearer)) {
      throw new IdentityException(Reason.INVALID_TOKEN);
    }
    TokenHash key = TokenHash.of(bearer);
    Introspection fresh = cached(key, freshNanos);
    if (fresh != null) {
      return fresh;
    }
    try {
      return ask(url, key, bearer);
    } catch (IdentityException e) {
      Introspection fallback =
          e.reason() == Reason.UNAVAILABLE && !Thread.currentThread().isInterrupted()
              ? cached(key, fallbackNanos)
              : null;
      if (fallback == null) {
        throw e;
      }
      fallbacks.increment();
      if (!outage.getAndSet(true)) {
        outageAt = ticker.getAsLong();
        LOG.atWarn()
            .addKeyValue("error", e.getMessage())
            .log("identity: service unavailable; using cached introspections");
      }
      return fallback;
    }
  }

  /** What was asked on a connection that had ended unnoticed is asked once more, on another one. */
  private Introspection ask(URI url, TokenHash key, String bearer) {
    long startedAt = System.nanoTime();
    try {
      return await(flight(url, key, bearer, timeoutNanos));
    } catch (IdentityException e) {
      long left = timeoutNanos - (System.nanoTime() - startedAt);
      if (!e.isLost() || left <= 0) {
        throw e;
      }
      return await(flight(url, key, bearer, left));
    }
  }

  private CompletableFuture<Introspection> flight(
      URI url, TokenHash key, String bearer, long withinNanos) {
    return flights.join(key, () -> {
      Introspection justNow = cached(key, freshNanos);
      if (justNow != null) {
        return CompletableFuture.completedFuture(justNow);
      }
      long askedAt = ticker.getAsLong();
      return calls
          .post(url, bearer, EMPTY_OBJECT, 200, withinNanos)
          .thenApply(answer -> judge(key, askedAt, answer));
    });
  }

  private Introspection judge(TokenHash key, long askedAt, Answer answer) {
    if (answer.status == 401 || answer.status == 403) {
      cache.remove(key);
      throw new IdentityException(Reason.INVALID_TOKEN);
    }
    if (answer.status != 200) {
      throw IdentityException.unavailable("status_" + answer.status, null);
    }
    Introspection introspection = IdentityJson.introspection(answer.body);
    if (!introspection.active() || !isAlive(introspection)) {
      cache.remove(key);
      throw new IdentityException(Reason.INACTIVE_TOKEN);
    }
    if (fallbackNanos > 0 || freshNanos > 0) {
      cache.put(key, new Cached(introspection, askedAt));
    }
    if (outage.get() && ticker.getAsLong() - outageAt >= OUTAGE_NANOS && outage.getAndSet(false)) {
      LOG.info("identity: service available again");
    }
    return introspection;
  }

  private @Nullable Introspection cached(TokenHash key, long withinNanos) {
    if (withinNanos == 0) {
      return null;
    }
    Cached cached = cache.get(key);
    if (cached == null || ticker.getAsLong() - cached.askedAt >= withinNanos) {
      return null;
    }
    return isAlive(cached.introspection) ? cached.introspection : null;
  }

  private boolean isAlive(Introspection introspection) {
    Optional<Instant> expiresAt = introspection.expiresAt();
    return expiresAt.isEmpty() || clock.instant().isBefore(expiresAt.get());
  }

  /**
   * Returns a token with which this service calls others. It is kept, by all four parameters, and renewed in the
   * background before it is due, which is 10 seconds before its end (for a token of less than 40 seconds: a quarter of
   * its life). One that is due and cannot be renewed, or not within 2 seconds, is given while it is valid.
   *
   * @param organizationId the organization to act in; blank asks for a token of none
   * @param service the service that the token is for
   * @param scopes what the token must allow; their order and white space at their ends do not matter
   * @param ttl how long the token should live, at least a second; fractions of a second are dropped
   * @return the token
   * @throws IdentityException {@link IdentityException.Reason#SERVICE_TOKENS_NOT_CONFIGURED}, {@link
   *     IdentityException.Reason#ISSUE_SERVICE_TOKEN}, {@link IdentityException.Reason#MISSING_SERVICE_TOKEN}, {@link
   *     IdentityException.Reason#MISSING_SERVICE_TOKEN_EXPIRY} or {@link IdentityException.Reason#UNAVAILABLE} (also
   *     when interrupted, with the flag set again)
   * @throws IllegalArgumentException if the service is blank, or the ttl is less than a second or more than 2 147 483
   *     647 seconds
   */
  public String serviceToken(
      String organizationId, String service, Set<String> scopes, Duration ttl) {
    if (serviceTokens == null) {
      throw new IdentityException(Reason.SERVICE_TOKENS_NOT_CONFIGURED);
    }
    ServiceTokens.Key key = new ServiceTokens.Key(
        Blank.trim(organizationId),
        Blank.trim(service),
        ServiceTokens.canonical(scopes),
        ttl.toSeconds());
    if (key.service().isEmpty()) {
      throw new IllegalArgumentException("service must not be blank");
    }
    if (key.ttlSeconds() < 1 || key.ttlSeconds() > Integer.MAX_VALUE) {
      throw new IllegalArgumentException(
          "ttl must be between 1 and " + Integer.MAX_VALUE + " seconds: " + ttl);
    }
    return serviceTokens.token(key);
  }

  /**
   * Returns how often a cached result was given because the identity service was unavailable, for a metric and an alert
   * on it.
   *
   * @return the number since the start
   */
  public long fallbacks() {
    return fallbacks.sum();
  }

  /**
   * Ends the calls under way, which fail as unavailable like all later ones, and forgets all tokens, within 2 seconds.
   * An {@code HttpClient} that was given stays open.
   */
  @Override
  public void close() {
    timer.shutdownNow();
    calls.close();
    cache.clear();
    if (serviceTokens != null) {
      serviceTokens.close();
    }
    // From Java 21 on; on 17 the threads of the client end when it is garbage.
    if (ownHttp instanceof AutoCloseable closeable) {
      endWithin(CLOSE_TIME, closeable);
    }
  }

  private static void endWithin(Duration time, AutoCloseable closeable) {
    Thread closer = new Thread(
        () -> {
          Thread.currentThread().interrupt(); // so that it does not wait for what it cuts off
          try {
            closeable.close();
          } catch (Exception e) {
            LOG.atWarn().setCause(e).log("identity: closing the HTTP client failed");
          }
        },
        "identity-close");
    closer.setDaemon(true);
    closer.start();
    try {
      closer.join(time.toMillis());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  static <T> T await(CompletableFuture<T> flight) {
    try {
      return flight.get();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw IdentityException.unavailable("identity_request: interrupted", e);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof Error error) {
        throw error;
      }
      throw IdentityException.of(e.getCause());
    }
  }

  /** Whether it can be sent in a header; what cannot be has never been a token. */
  private static boolean isBearer(String token) {
    for (int i = 0; i < token.length(); i++) {
      char c = token.charAt(i);
      if (c <= ' ' || c >= 0x7f) {
        return false;
      }
    }
    return !token.isEmpty();
  }

  /**
   * Builds a client. Values that are blank or null count as not set, so that they can come from the environment. Not
   * thread-safe.
   */
  public static final class Builder {
    private final @Nullable String introspectUrl;
    private @Nullable String serviceTokensUrl;
    private @Nullable String bootstrapKey;
    private @Nullable HttpClient httpClient;
    private Duration fallbackFor = Duration.ZERO;
    private Duration freshFor = Duration.ZERO;
    private Duration requestTimeout = Duration.ofSeconds(5);
    private InstantSource clock = InstantSource.system();
    private LongSupplier ticker = System::nanoTime;

    private Builder(@Nullable String introspectUrl) {
      this.introspectUrl = unblank(introspectUrl);
    }

    private static @Nullable String unblank(@Nullable String value) {
      return value == null || Blank.trim(value).isEmpty() ? null : Blank.trim(value);
    }

    /**
     * Sets the client that makes the calls: with a client certificate (of {@code ClientTls}), with traces (of {@code
     * TracedHttpClient}), through a proxy. Without it there is an own one, which trusts the public authorities. The
     * JDK's client, if it has a connect timeout, keeps the request that opened a connection, with its token, as long as
     * the connection; the request timeout makes one unnecessary.
     *
     * @param client must not follow redirects, as they would get the token; it is not closed with this client
     * @return this
     */
    public Builder httpClient(HttpClient client) {
      httpClient = requireNonNull(client, "httpClient");
      return this;
    }

    /**
     * Sets where service tokens are issued. Needs a bootstrap key, or an HTTP client with a client certificate.
     *
     * @param url with its path; blank or null: none
     * @return this
     */
    public Builder serviceTokens(@Nullable String url) {
      serviceTokensUrl = unblank(url);
      return this;
    }

    /**
     * Sets the key that authenticates this service where service tokens are issued. It is sent over TLS or to a
     * loopback address only.
     *
     * @param key white space at its ends is not part of it; blank or null: the client certificate authenticates
     * @return this
     */
    public Builder bootstrapKey(@Nullable String key) {
      bootstrapKey = unblank(key);
      return this;
    }

    /**
     * Sets how long the last result of a token may stand in while the identity service is unavailable; never beyond the
     * token's own end. A token that is revoked meanwhile works that long.
     *
     * @param time since the service was asked; zero (the default): not at all
     * @return this
     */
    public Builder fallbackFor(Duration time) {
      fallbackFor = requireNonNull(time, "fallbackFor");
      return this;
    }

    /**
     * Sets how long a result is given again without asking the identity service; never beyond the token's own end. A
     * token that is revoked meanwhile works that long.
     *
     * @param time since the service was asked; zero (the default): not at all
     * @return this
     */
    public Builder freshFor(Duration time) {
      freshFor = requireNonNull(time, "freshFor");
      return this;
    }

    /**
     * Sets the limit of each call (5 seconds), from the look-up of the host's name to the last byte of the answer.
     *
     * @param timeout more than zero
     * @return this
     */
    public Builder requestTimeout(Duration timeout) {
      requestTimeout = requireNonNull(timeout, "requestTimeout");
      return this;
    }

    /**
     * Sets the clock that tells when tokens expire, for tests; the time that results are cached for is measured by
     * {@link System#nanoTime}.
     *
     * @param source the wall clock
     * @return this
     */
    public Builder clock(InstantSource source) {
      clock = requireNonNull(source, "clock");
      return this;
    }

    Builder ticker(LongSupplier nanoTime) {
      ticker = nanoTime;
      return this;
    }

    /**
     * Checks the settings. Nothing is connected.
     *
     * @return a client; the caller closes it
     * @throws IllegalArgumentException with every problem, naming each parameter; without the URLs and the key
     */
    public IdentityClient open() {
      List<String> problems = new ArrayList<>();
      URI introspect = url("introspectUrl", introspectUrl, problems);
      URI serviceTokens = url("serviceTokens", serviceTokensUrl, problems);
      if (bootstrapKey != null) {
        if (serviceTokensUrl == null) {
          problems.add("serviceTokens must be set with a bootstrapKey");
        }
        if (!isBearer(bootstrapKey)) {
          problems.add("bootstrapKey must be printable ASCII without white space");
        }
        if (serviceTokens != null && !isPrivate(serviceTokens)) {
          problems.add("serviceTokens must be https, as the bootstrapKey is sent to it");
        }
      } else if (serviceTokensUrl != null && httpClient == null) {
        problems.add(
            "bootstrapKey must be set with serviceTokens, or an httpClient with a client certificate");
      }
      if (httpClient != null && httpClient.followRedirects() != HttpClient.Redirect.NEVER) {
        problems.add("httpClient must not follow redirects, as they would get the token");
      }
      if (fallbackFor.isNegative()) {
        problems.add("fallbackFor must be zero or more: " + fallbackFor);
      }
      if (freshFor.isNegative()) {
        problems.add("freshFor must be zero or more: " + freshFor);
      }
      if (requestTimeout.isNegative() || requestTimeout.isZero()) {
        problems.add("requestTimeout must be more than zero: " + requestTimeout);
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      // No connect timeout: the JDK's client then keeps the request that opened a connection as
      // long as the connection.
      HttpClient own = httpClient == null ? HttpClient.newHttpClient() : null;
      return new IdentityClient(this, introspect, serviceTokens, own);
    }

    private static @Nullable URI url(String name, @Nullable String text, List<String> problems) {
      if (text == null) {
        return null;
      }
      URI url;
      try {
        url = new URI(text);
      } catch (URISyntaxException e) {
        problems.add(name + " must be an http or https URL with a host");
        return null;
      }
      boolean http = "http".equalsIgnoreCase(url.getScheme());
      if ((!http && !"https".equalsIgnoreCase(url.getScheme())) || url.getHost() == null) {
        problems.add(name + " must be an http or https URL with a host");
        return null;
      }
      if (url.getPort() == 0 || url.getPort() > 65535) {
        problems.add(name + " must have a port from 1 to 65535");
        return null;
      }
      if (text.indexOf('@') >= 0) { // in the path it may be the end of a password with a raw slash
        problems.add(
            name + " must be without user-info, which would not be sent; write @ elsewhere as %40");
        return null;
      }
      return url;
    }

    private static boolean isPrivate(URI url) {
      String host = url.getHost();
      return "https".equalsIgnoreCase(url.getScheme())
          || host.equalsIgnoreCase("localhost")
          || host.equals("[::1]")
          || host.matches("127(\\.[0-9]{1,3}){3}");
    }
  }
}
