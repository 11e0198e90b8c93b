package dev.evalops.runtime.ratelimit;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.RequestContext;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.cluster.api.StatefulRedisClusterConnection;
import io.micrometer.core.instrument.MeterRegistry;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.function.BiFunction;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

/**
 * Token buckets, one per scope and key: in memory, or in Redis and shared by all processes of a service.
 *
 * <pre>{@code
 * RateLimiter limiter = RateLimiter.builder()
 *     .perSecond(100).burst(200).redis(redis.connection()).metrics("notes", registry).open();
 *
 * HttpService.builder(8080).filters(limiter.filter())       // per client address and route
 *
 * RateLimiter.Decision d = limiter.decide("tenant-7");      // d.allowed(), d.remaining(), d.retryAfter()
 * }</pre>
 *
 * <p>With Redis a decision is one script call, with the clock of the server. When Redis is away, slow or silent,
 * decisions are made in memory until it is back: each process then keeps the limit for itself.
 *
 * <p>Thread-safe. Local decisions on different keys share no lock. It owns no thread and no connection.
 */
public final class RateLimiter implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(RateLimiter.class);

  private static final String GLOBAL = "global";
  private static final String ANONYMOUS = "anonymous";
  private static final int LONG_KEY = 128;

  private final Policy policy;
  private final BiFunction<? super HttpExchange, ? super Policy, Policy> policyOf;
  private final Function<? super HttpExchange, ? extends @Nullable String> keyOf;
  private final Set<String> exemptPaths;
  private final boolean rateLimitHeaders;
  private final LongSupplier nanoTime;
  private final long origin;
  private final LocalBuckets local;
  private final @Nullable RedisBuckets shared;
  private final @Nullable HitCounter hits;

  private RateLimiter(
      Builder builder, Policy policy, @Nullable RedisBuckets shared, @Nullable HitCounter hits) {
    this.policy = policy;
    this.policyOf = builder.policyOf;
    TrustedProxies proxies = builder.trustedProxies;
    this.keyOf =
        builder.keyOf == null ? exchange -> proxies.client(exchange).orElse("") : builder.keyOf;
    this.exemptPaths = builder.exemptPaths;
    this.rateLimitHeaders = builder.rateLimitHeaders;
    this.nanoTime = builder.nanoTime;
    this.origin = nanoTime.getAsLong();
    this.local = new LocalBuckets(builder.maxKeys);
    this.shared = shared;
    this.hits = hits;
  }

  /**
   * A limiter in memory, with the defaults of {@link #builder()} otherwise.
   *
   * @param perSecond tokens that come back each second
   * @param burst tokens in a full bucket
   * @return the limiter
   * @throws IllegalArgumentException if {@link Policy} does not allow the numbers
   */
  public static RateLimiter open(double perSecond, int burst) {
    return builder().perSecond(perSecond).burst(burst).open();
  }

  /**
   * Returns a builder.
   *
   * @return a builder with the defaults
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * The policy of {@link #decide(String)}: rate and burst of the builder, in the scope {@code global}. Others are made
   * from it: {@code limiter.policy().scope("uploads").limit(1, 5)}.
   *
   * @return the policy
   */
  public Policy policy() {
    return policy;
  }

  /**
   * Decides by the {@link #policy()} of this limiter, and takes a token if there is one.
   *
   * @param key whom to limit; all callers with a blank key share a bucket
   * @return whether the call is allowed, and when to try again
   */
  public Decision decide(String key) {
    return decide(key, policy);
  }

  /**
   * Decides by another policy, and takes a token if there is one. Keys of different scopes have different buckets. When
   * a key comes back with another rate or burst its bucket keeps the tokens that it has, as far as they fit.
   *
   * @param key whom to limit; all callers with a blank key share a bucket
   * @param policy how much, and in which scope
   * @return whether the call is allowed, and when to try again; waits for Redis no longer than {@link
   *     Builder#redisTimeout}
   */
  public Decision decide(String key, Policy policy) {
    return decide(key, policy, policy.scope());
  }

  private Decision decide(String key, Policy policy, String route) {
    if (policy.exempt()) {
      if (hits != null) {
        hits.exempt(route);
      }
      return new Decision(policy.burst(), 0, 0);
    }
    Decision decision = null;
    if (shared != null) {
      decision = shared.take(nameOf(key), policy).orElse(null);
      if (decision == null && hits != null) {
        hits.fallback();
      }
    }
    if (decision == null) {
      decision = decideLocally(key, policy);
    }
    if (hits != null) {
      hits.decided(route, decision.allowed());
    }
    return decision;
  }

  private Decision decideLocally(String key, Policy policy) {
    // Most keys are known, and then their characters need not be looked at.
    Object bucket = localKey(key, policy.scope());
    Decision decision = local.takeKnown(bucket, policy, now());
    if (decision == null) {
      String name = nameOf(key);
      bucket = localKey(name.length() <= LONG_KEY ? name : Digest.sha256(name), policy.scope());
      decision = local.take(bucket, policy, now());
    }
    // A thread may have been stopped since it read the clock, and must not refuse by a time long
    // past.
    return decision.allowed() ? decision : local.take(bucket, policy, now());
  }

  private long now() {
    return nanoTime.getAsLong() - origin;
  }

  private static String nameOf(String key) {
    return Text.isBlank(key) ? ANONYMOUS : key;
  }

  private static Object localKey(String key, String scope) {
    return scope.equals(GLOBAL) ? key : new ScopedKey(scope, key);
  }

  /** Comparable, so that a map stays fast when somebody finds many keys with the same hash. */
  private record ScopedKey(String scope, String key) implements Comparable<ScopedKey> {
    @Override
    public int compareTo(ScopedKey other) {
      int byKey = key.compareTo(other.key);
      return byKey != 0 ? byKey : scope.compareTo(other.scope);
    }
  }

  /**
   * Limits requests: 429 {@code rate_limited} with {@code Retry-After} when there is no token. The key is the client's
   * address, and the scope the {@link RequestContext#route() route}, unless the builder was told otherwise: in front of
   * a router that is the path that the handler was registered with, and never the path of the request.
   *
   * @return the filter, for the filters of {@code HttpService} or of one handler
   */
  public Filter filter() {
    return new LimitFilter();
  }

  int localBuckets() {
    return local.size();
  }

  /**
   * Asks Redis no more: decisions after this are made in memory. The connection is the caller's to close. Returns at
   * once; safe to call twice.
   */
  @Override
  public void close() {
    if (shared != null) {
      shared.close();
    }
  }

  private final class LimitFilter extends Filter {
    @Override
    public String description() {
      return "rate limit";
    }

    @Override
    public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
      RequestContext context = RequestContext.of(exchange);
      if (context.refusal().isPresent()) {
        chain.doFilter(exchange); // Costs neither a token nor a call to Redis.
        return;
      }
      String route = context.route();
      Policy asked = policy.scope(route);
      if (exemptPaths.contains(context.path())) {
        asked = asked.exempted();
      } else {
        asked = Objects.requireNonNull(policyOf.apply(exchange, asked), "policy");
      }
      String key =
          asked.exempt() ? "" : Text.trim(Objects.requireNonNullElse(keyOf.apply(exchange), ""));
      Decision decision = decide(key, asked, route);
      if (rateLimitHeaders && !asked.exempt()) {
        Headers headers = exchange.getResponseHeaders();
        asked.headers(decision).forEach((name, value) -> {
          String ofOthers = headers.getFirst(name);
          headers.set(name, ofOthers == null ? value : ofOthers + ", " + value);
        });
      }
      if (!decision.allowed()) {
        exchange
            .getResponseHeaders()
            .set("Retry-After", Long.toString(decision.retryAfterSeconds()));
        throw ServiceException.of(ErrorCode.RATE_LIMITED).op("http.rate_limit");
      }
      chain.doFilter(exchange);
    }
  }

  /**
   * What a limiter has decided.
   *
   * @param remaining whole tokens that are left; 0 when refused
   * @param retryAfterNanos the time until there is a token again, at least a millisecond; 0 when allowed
   * @param fullAfterNanos the time until the bucket is full again if nothing is taken from it, 0 or more
   */
  public record Decision(int remaining, long retryAfterNanos, long fullAfterNanos) {
    private static final long NANOS_PER_SECOND = TimeUnit.SECONDS.toNanos(1);

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException if one is negative
     */
    public Decision {
      if (remaining < 0 || retryAfterNanos < 0 || fullAfterNanos < 0) {
        throw new IllegalArgumentException(
            "remaining, retryAfterNanos and fullAfterNanos must not be negative");
      }
    }

    /**
     * Whether a token was taken, or none is needed.
     *
     * @return false if the caller is to be refused
     */
    public boolean allowed() {
      return retryAfterNanos == 0;
    }

    /**
     * The time until there is a token again.
     *
     * @return at least a millisecond; zero when allowed
     */
    public Duration retryAfter() {
      return Duration.ofNanos(retryAfterNanos);
    }

    /**
     * The time until there is a token again, for {@code Retry-After}.
     *
     * @return whole seconds, rounded up, at least 1; 0 when allowed
     */
    public long retryAfterSeconds() {
      return seconds(retryAfterNanos);
    }

    /**
     * The time until the bucket is full again if nothing is taken from it.
     *
     * @return zero or more
     */
    public Duration fullAfter() {
      return Duration.ofNanos(fullAfterNanos);
    }

    private static long seconds(long nanos) {
      return Math.ceilDiv(nanos, NANOS_PER_SECOND);
    }
  }

  /**
   * How much a key may do, and where.
   *
   * @param perSecond tokens that come back each second, more than 0, at most 1 000 000
   * @param burst tokens in a full bucket, 1 or more; they come back within 365 days
   * @param scope what is limited, for example a route template; not blank
   * @param exempt whether everything is allowed and nothing counted down
   */
  public record Policy(double perSecond, int burst, String scope, boolean exempt) {
    private static final double MAX_PER_SECOND = 1_000_000;
    private static final double MAX_SECONDS = Duration.ofDays(365).toSeconds();

    /**
     * Checks the values.
     *
     * @throws IllegalArgumentException if some are out of their range; the message names each of them
     */
    public Policy {
      Objects.requireNonNull(scope, "scope");
      List<String> problems = problems(perSecond, burst);
      if (scope.isBlank()) {
        problems.add("scope must not be blank");
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
    }

    private static List<String> problems(double perSecond, int burst) {
      List<String> problems = new ArrayList<>();
      if (!(perSecond > 0 && perSecond <= MAX_PER_SECOND)) {
        problems.add("perSecond must be more than 0 and at most 1000000: " + perSecond);
      }
      if (burst < 1) {
        problems.add("burst must be 1 or more: " + burst);
      }
      if (problems.isEmpty() && burst / perSecond > MAX_SECONDS) {
        problems.add(
            "burst / perSecond must be at most 365 days, the time in which a bucket fills");
      }
      return problems;
    }

    /**
     * The same policy with another rate.
     *
     * @param perSecond tokens that come back each second
     * @param burst tokens in a full bucket
     * @return the policy
     * @throws IllegalArgumentException if one is out of its range
     */
    public Policy limit(double perSecond, int burst) {
      return new Policy(perSecond, burst, scope, exempt);
    }

    /**
     * The same policy for something else: what has the same scope shares its buckets.
     *
     * @param scope one of a fixed set, not blank
     * @return the policy
     * @throws IllegalArgumentException if it is blank
     */
    public Policy scope(String scope) {
      return new Policy(perSecond, burst, scope, exempt);
    }

    /**
     * The same policy, but everything is allowed.
     *
     * @return the policy
     */
    public Policy exempted() {
      return new Policy(perSecond, burst, scope, true);
    }

    /**
     * The headers that tell a client where it stands: {@code RateLimit-Policy} and {@code RateLimit} of
     * draft-ietf-httpapi-ratelimit-headers. The quota is the burst, its window the time in which an empty bucket fills;
     * {@code t} is the time until it is full again, or, when refused, until there is a token. The name of the policy is
     * its scope, or {@code default} for a scope that is not printable ASCII.
     *
     * @param decision a decision by this policy
     * @return the headers by name
     */
    public Map<String, String> headers(Decision decision) {
      boolean printable = scope.chars().allMatch(c -> c >= ' ' && c <= '~');
      String name = printable
          ? "\"" + scope.replace("\\", "\\\\").replace("\"", "\\\"") + "\""
          : "\"default\"";
      long window = Math.max(1, (long) Math.ceil(burst / perSecond));
      long left = decision.allowed()
          ? Decision.seconds(decision.fullAfterNanos())
          : decision.retryAfterSeconds();
      Map<String, String> headers = new TreeMap<>();
      headers.put("RateLimit-Policy", name + ";q=" + burst + ";w=" + window);
      headers.put("RateLimit", name + ";r=" + decision.remaining() + ";t=" + left);
      return headers;
    }
  }

  /**
   * Redis has been given up, or is back.
   *
   * @param available whether buckets are shared in Redis again; else each process keeps the limits for itself
   * @param failure the last failure if Redis has been given up
   */
  public record RedisChange(boolean available, Optional<Throwable> failure) {
    /** Checks the values. */
    public RedisChange {
      Objects.requireNonNull(failure, "failure");
    }

    /** One line for the log. */
    @Override
    public String toString() {
      return available
          ? "limits are shared in Redis again"
          : "limits are kept by each process, without Redis"
              + failure.map(cause -> " (redis_ratelimit: " + text(cause) + ")").orElse("");
    }

    private static String text(Throwable cause) {
      String message = cause.getMessage();
      return message == null
          ? cause.getClass().getSimpleName()
          : message.strip().replaceAll("\\R\\s*", " ");
    }
  }

  /** Describes a limiter. Not thread-safe. */
  public static final class Builder {
    private static final Duration MAX_TIMEOUT = Duration.ofMinutes(1);

    private double perSecond = 100;
    private int burst = 200;
    private Set<String> exemptPaths = Set.of("/healthz", "/readyz", "/metrics");
    private TrustedProxies trustedProxies = TrustedProxies.none();
    private @Nullable Function<? super HttpExchange, ? extends @Nullable String> keyOf;
    private BiFunction<? super HttpExchange, ? super Policy, Policy> policyOf =
        (exchange, policy) -> policy;
    private boolean rateLimitHeaders;
    private int maxKeys = 100_000;
    // Nothing of Lettuce or Micrometer with an annotation: compilers that do not find them fail at
    // that.
    private @Nullable Function<Optional<String>, RedisBuckets> redis;
    private Duration redisTimeout = Duration.ofMillis(50);
    private Consumer<? super RedisChange> onRedisChange = Builder::log;
    private @Nullable String service;
    private HitCounter.@Nullable Target metrics;
    private LongSupplier nanoTime = System::nanoTime;

    private Builder() {}

    private static void log(RedisChange change) {
      LOG.atLevel(change.available() ? Level.INFO : Level.WARN).log("rate limit: {}", change);
    }

    /**
     * Sets the rate (100).
     *
     * @param perSecond tokens that come back to a bucket each second, more than 0, at most 1 000 000; 10 an hour is
     *     {@code 10 / 3600.0}
     * @return this
     */
    public Builder perSecond(double perSecond) {
      this.perSecond = perSecond;
      return this;
    }

    /**
     * Sets the size of the buckets (200).
     *
     * @param burst tokens in a full bucket, 1 or more
     * @return this
     */
    public Builder burst(int burst) {
      this.burst = burst;
      return this;
    }

    /**
     * Sets the paths that the filter lets through ({@code /healthz}, {@code /readyz}, {@code /metrics}).
     *
     * @param paths whole paths, in place of the default ones; none for none
     * @return this
     */
    public Builder exemptPaths(String... paths) {
      this.exemptPaths = Set.copyOf(Arrays.asList(paths));
      return this;
    }

    /**
     * Sets the proxies that tell the client's address (none: the client is the peer).
     *
     * @param proxies our proxies
     * @return this
     */
    public Builder trustedProxies(TrustedProxies proxies) {
      this.trustedProxies = Objects.requireNonNull(proxies, "trustedProxies");
      return this;
    }

    /**
     * Sets whom the filter limits (the client's address, see {@link TrustedProxies#client(HttpExchange)}).
     *
     * @param key the key of a request; a blank one, or null, stands for everybody without a key. White space at its
     *     ends does not count
     * @return this
     */
    public Builder key(Function<? super HttpExchange, ? extends @Nullable String> key) {
      this.keyOf = Objects.requireNonNull(key, "key");
      return this;
    }

    /**
     * Lets the filter have other policies for some requests.
     *
     * @param policy is given the request, if its path is not exempt, and the policy with its route as scope; returns
     *     that, or one made from it: {@code (exchange, p) -> exchange.getRequestMethod().equals("POST") ?
     *     p.scope("writes").limit(5, 10) : p}
     * @return this
     */
    public Builder policy(BiFunction<? super HttpExchange, ? super Policy, Policy> policy) {
      this.policyOf = Objects.requireNonNull(policy, "policy");
      return this;
    }

    /**
     * Makes the filter tell clients where they stand, see {@link Policy#headers}. When a request passes several such
     * filters, each adds its policy.
     *
     * @return this
     */
    public Builder rateLimitHeaders() {
      this.rateLimitHeaders = true;
      return this;
    }

    /**
     * Limits the buckets in memory (100 000, some 15 MB). When there are more keys, full buckets are forgotten first,
     * then those that are full soonest.
     *
     * @param maxKeys 1 or more
     * @return this
     */
    public Builder maxKeys(int maxKeys) {
      this.maxKeys = maxKeys;
      return this;
    }

    /**
     * Keeps the buckets in Redis, version 5 or later, in keys {@code ratelimit:<service>:<hash>}.
     *
     * @param connection the caller's; best one that rejects commands while it is disconnected, as those of {@code
     *     runtime-redis} do
     * @return this
     */
    public Builder redis(StatefulRedisConnection<String, String> connection) {
      Objects.requireNonNull(connection, "redis");
      this.redis = name -> new RedisBuckets(connection, name, redisTimeout, onRedisChange);
      return this;
    }

    /**
     * Keeps the buckets in a Redis Cluster, otherwise as {@link #redis(StatefulRedisConnection)}: each decision needs
     * one key.
     *
     * @param connection the caller's
     * @return this
     */
    public Builder redis(StatefulRedisClusterConnection<String, String> connection) {
      Objects.requireNonNull(connection, "redis");
      this.redis = name -> new RedisBuckets(connection, name, redisTimeout, onRedisChange);
      return this;
    }

    /**
     * Limits the time that a decision waits for Redis (50 ms); after that it is made in memory.
     *
     * @param timeout more than zero, at most a minute
     * @return this
     */
    public Builder redisTimeout(Duration timeout) {
      this.redisTimeout = Objects.requireNonNull(timeout, "redisTimeout");
      return this;
    }

    /**
     * Is told once when Redis is given up, and once when it is back (a line in the log, WARN or INFO).
     *
     * @param listener called by one of the threads that decide, in order; must not block
     * @return this
     */
    public Builder onRedisChange(Consumer<? super RedisChange> listener) {
      this.onRedisChange = Objects.requireNonNull(listener, "onRedisChange");
      return this;
    }

    /**
     * Names the service whose processes share buckets in Redis (the name given to {@link #metrics}; without either, all
     * services that have no name share their buckets).
     *
     * @param name not blank
     * @return this
     */
    public Builder service(String name) {
      this.service = Objects.requireNonNull(name, "service");
      return this;
    }

    /**
     * Counts decisions in {@code <service>_rate_limit_hits_total} with the labels {@code route} (for direct decisions
     * the scope) and {@code action} ({@code allowed}, {@code limited} or {@code exempt}), and those made in memory for
     * want of Redis in {@code <service>_rate_limit_fallbacks_total}.
     *
     * @param service the name of the service, not blank; also that of {@link #service} unless another is given there. A
     *     digit at its beginning gets {@code service_} before it and nothing behind it, unlike in {@code
     *     ServiceMetrics}: {@code 9lives} is {@code service_9lives_…} here and {@code service_9_lives_…} there
     * @param registry where to
     * @return this
     */
    public Builder metrics(String service, MeterRegistry registry) {
      this.metrics = new HitCounter.Target(
          Objects.requireNonNull(registry, "registry"), Objects.requireNonNull(service, "service"));
      return this;
    }

    Builder nanoTime(LongSupplier nanoTime) {
      this.nanoTime = nanoTime;
      return this;
    }

    /**
     * Builds the limiter; nothing is sent to Redis before the first decision.
     *
     * @return the limiter
     * @throws IllegalArgumentException if some parameters are wrong; the message names each of them
     */
    public RateLimiter open() {
      List<String> problems = Policy.problems(perSecond, burst);
      if (maxKeys < 1) {
        problems.add("maxKeys must be 1 or more: " + maxKeys);
      }
      if (!redisTimeout.isPositive() || redisTimeout.compareTo(MAX_TIMEOUT) > 0) {
        problems.add("redisTimeout must be more than zero and at most a minute: " + redisTimeout);
      }
      for (String path : new TreeSet<>(exemptPaths)) {
        if (!path.startsWith("/")) {
          problems.add("exemptPaths must begin with /: " + path);
        }
      }
      if (service != null && service.isBlank()) {
        problems.add("service must not be blank");
      }
      if (metrics != null) {
        metrics.problem().ifPresent(problems::add);
      }
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      Optional<String> named =
          Optional.ofNullable(service != null || metrics == null ? service : metrics.service());
      return new RateLimiter(
          this,
          new Policy(perSecond, burst, GLOBAL, false),
          redis == null ? null : redis.apply(named),
          metrics == null ? null : new HitCounter(metrics));
    }
  }
}
