package dev.evalops.runtime.idempotency;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.errors.ConnectCode;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.http.RequestContext;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.LockSupport;
import javax.sql.DataSource;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Lets a client repeat a request that changes something: with the same {@code Idempotency-Key} it has one effect and
 * one answer.
 *
 * <pre>{@code
 * Idempotency idempotency = Idempotency.of(db);
 * service.handle("/v1/notes", notes, auth.require("notes:write"), idempotency.filter());
 *
 * // In the handler, when the database holds all that changes: key, note and answer commit together, or not at all.
 * Note note = store.create(Idempotency.transaction(exchange), command);
 * }</pre>
 *
 * <p>A handler that throws, or whose answer is not {@linkplain StoredResponse#isFinal() final}, frees its key. If the
 * process dies, the key is free after the lease. Without {@link #transaction} the next request then does the work of
 * the handler a second time. An attempt that outlives its lease and is overtaken is answered with 409, and its own
 * answer is dropped.
 *
 * <p>Expired keys are removed at most every 5 minutes and in batches, on a separate thread that ends with the work, so
 * there is nothing to close.
 *
 * <p>Thread-safe.
 */
public final class Idempotency {
  private static final Logger LOG = LoggerFactory.getLogger(Idempotency.class);

  /** The request has no key: 400. */
  public static final ErrorCode MISSING_KEY = ErrorCode.of(
      "missing_idempotency_key",
      400,
      ConnectCode.INVALID_ARGUMENT,
      "Idempotency-Key header is required");
  /** The key is too long, or has other characters than printable ASCII: 400. */
  public static final ErrorCode INVALID_KEY = ErrorCode.of(
      "invalid_idempotency_key",
      400,
      ConnectCode.INVALID_ARGUMENT,
      "Idempotency-Key must have at most 255 characters, all of them printable ASCII");
  /** Nobody is authenticated, so that the key belongs to no one: 500. */
  public static final ErrorCode SCOPE_FAILED = ErrorCode.of(
      "idempotency_scope_failed", 500, ConnectCode.INTERNAL, "idempotency_scope_unavailable");
  /** The key was used for another request: 409. */
  public static final ErrorCode CONFLICT = new ErrorCode(
      "idempotency_conflict",
      409,
      ConnectCode.ALREADY_EXISTS,
      "Idempotency key already exists for a different request",
      ErrorCode.Retry.NEVER);
  /** The same request is still in progress: 409. */
  public static final ErrorCode IN_PROGRESS = new ErrorCode(
      "idempotency_in_progress",
      409,
      ConnectCode.ABORTED,
      "A matching request is still in progress",
      ErrorCode.Retry.SAME_CALL);
  /** The key could not be checked: 500. */
  public static final ErrorCode FAILED = ErrorCode.of(
      "idempotency_failed", 500, ConnectCode.INTERNAL, "unable to check the Idempotency-Key");

  /** The answer was too large to be kept: 409. */
  public static final ErrorCode RESPONSE_TOO_LARGE = ErrorCode.of(
      "idempotency_response_too_large",
      409,
      ConnectCode.ABORTED,
      "The response to this request was too large to be kept; read the resource instead");

  private static final int MAX_KEY_CHARACTERS = 255;

  /** With the key this is what an index of Postgres can hold. */
  private static final int MAX_SCOPE_BYTES = 2000;

  /** Who shares a set of keys. */
  public enum Scope {
    /** Every actor has its own keys: no actor gets the answer of another. */
    ACTOR {
      @Override
      public String of(Actor actor, String method, String path) {
        return escape(actor.organizationId()) + ":" + escape(actor.type()) + ":"
            + escape(actor.id()) + ":" + method + ":" + path;
      }
    },

    /**
     * {@code organization:METHOD:path}, as in the services in Go, for services that share their table. An actor that
     * repeats the key and the request of another actor of its organization gets the answer of the other.
     */
    ORGANIZATION {
      @Override
      public String of(Actor actor, String method, String path) {
        return actor.organizationId() + ":" + method + ":" + path;
      }
    };

    /**
     * The scope of a request.
     *
     * @param actor who calls
     * @param method the method
     * @param path the decoded path
     * @return the scope
     */
    public abstract String of(Actor actor, String method, String path);

    private static String escape(String part) {
      return part.replace("%", "%25").replace(":", "%3A");
    }
  }

  private final IdempotencyStore store;
  private final Sweeper sweeper;
  private final LateReleases lateReleases;
  private final Set<String> warnedRoutes = ConcurrentHashMap.newKeySet();
  private final Duration lease;
  private final Duration ttl;
  private final Scope scope;
  private final @Nullable Transactions transactions;
  private final int maxBody;
  private final int maxResponse;

  private Idempotency(Builder builder, IdempotencyStore store) {
    this.store = store;
    this.sweeper = new Sweeper(store, builder.sweepInterval);
    this.lateReleases = new LateReleases(store, builder.leaseFor);
    this.lease = builder.leaseFor;
    this.ttl = builder.keepFor;
    this.scope = builder.scope;
    this.transactions = builder.transactions;
    this.maxBody = (int) builder.maxBody;
    this.maxResponse = (int) builder.maxResponse;
  }

  /**
   * Returns the SQL that creates {@code api_idempotency_keys}, for the service's own migration or {@code init}.
   *
   * @return statements that change nothing where the tables exist; they name no schema, and end with a semicolon
   */
  public static String schema() {
    try (InputStream sql =
        Objects.requireNonNull(Idempotency.class.getResourceAsStream("idempotency.sql"))) {
      return new String(sql.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * Returns an idempotency that keeps keys in the table {@code api_idempotency_keys} of the search path, with the
   * defaults of {@link Builder}. {@link #schema} creates the table.
   *
   * @param db the database; each call takes one connection for one statement, each transaction one until the handler
   *     returns
   * @return the idempotency
   * @throws StartupException if the table cannot be read, is missing, or lacks a column or the unique key on {@code
   *     (scope, idempotency_key)}; the message names everything that is wrong with it
   */
  public static Idempotency of(DataSource db) {
    return builder(db).build();
  }

  /**
   * Returns a builder, to change the defaults.
   *
   * @param db the database
   * @return a builder
   */
  public static Builder builder(DataSource db) {
    Objects.requireNonNull(db, "db");
    return new Builder(() -> PostgresStore.open(db), true);
  }

  /**
   * Returns a builder for your own store; {@link #transaction} does not work with it.
   *
   * @param store the store
   * @return a builder
   */
  public static Builder builder(IdempotencyStore store) {
    Objects.requireNonNull(store, "store");
    return new Builder(() -> store, false);
  }

  /**
   * Returns the filter, which must come after that of {@code Auth}; a service does not start with them in the other
   * order. Requests that change nothing (GET, HEAD, OPTIONS, TRACE) pass; all others need a key.
   *
   * <p>The filter reads the body into memory before the handler runs, and sends the answer after the handler has
   * returned and the answer is stored. A replay has the status, the content type and the body, and, if the table has
   * the column {@code response_headers}, also {@code ETag}, {@code Location}, {@code X-Change-Seq} and {@code
   * Content-Encoding}; it is marked with {@code X-Idempotent-Replay: true}. An answer that is larger than {@link
   * Builder#maxResponse} is sent while it is written, and a repeated request is answered with 409 {@code
   * idempotency_response_too_large}, even if the handler throws after that.
   *
   * <p>The filter answers 400 {@code missing_idempotency_key} or {@code invalid_idempotency_key}; 409 {@code
   * idempotency_conflict} or {@code idempotency_in_progress}; 413 {@code body_too_large}; and 500 {@code
   * idempotency_scope_failed} to a request without an actor. If the store fails the answer is 503 {@code unavailable}
   * while it is away, busy or full, else 500 {@code idempotency_failed}.
   *
   * @return a filter for handlers of {@code HttpService} and {@code HttpFilters.chain}
   */
  public Filter filter() {
    return new IdempotencyFilter(this, scope, maxBody, maxResponse);
  }

  /**
   * Returns the transaction in which the handler's changes, the key and the answer commit together when the handler has
   * returned. Nothing commits if it throws, if its answer is not {@linkplain StoredResponse#isFinal() final}, if the
   * commit fails (503, or 500 for a violated constraint), if the lease has passed and another attempt has begun (409),
   * or if the answer is larger than {@link Builder#maxResponse} (500).
   *
   * <p>If a statement fails, only that statement is undone: a handler may catch the {@link SQLException}, continue in
   * the same transaction and answer what it likes, and its other work commits with its answer. That takes a savepoint,
   * one round trip, before each statement except the first; in a transaction of {@link Builder#transactions} it takes
   * two, around each statement. If a failure has undone more (rows are fetched in portions, and a later portion fails
   * after other statements; in such a transaction also without any), or the connection is lost, nothing commits,
   * whatever the handler answers (500 or 503).
   *
   * <p>It holds one connection of the pool until the handler has returned. A handler must not take a second one from
   * the same pool: if as many handlers do so as the pool has connections, each waits for the others until the pool's
   * time-out, and all are answered with 503. The first such failure of a route is logged with the place that has asked
   * for the connection.
   *
   * @param exchange the exchange of a request that {@link #filter} has let pass
   * @return the connection, the same for every call. It ends with the request: closing, committing, rolling back
   *     (except to a savepoint), changing auto-commit and unwrapping it or its statements are refused with an {@link
   *     SQLException}. {@code unwrap(Executor.class)} returns an executor whose tasks run after the commit, such as
   *     waking a relay
   * @throws SQLException if there is no connection
   * @throws IllegalStateException if no such filter ran for the request, as for a GET, if its store is not {@link
   *     #of(DataSource)}, or if the response has outgrown {@link Builder#maxResponse}
   */
  public static Connection transaction(HttpExchange exchange) throws SQLException {
    return RequestContext.of(exchange)
        .get(Execution.KEY)
        .orElseThrow(() -> new IllegalStateException(
            "no idempotency filter ran: put idempotency.filter() in front of the handler, and ask"
                + " for a transaction only where the method needs a key"))
        .transaction();
  }

  /**
   * Decides as the filter does, for use without an {@code HttpExchange}.
   *
   * @param scope within which the key is unique, at most 2000 bytes; see {@link Scope}
   * @param key what the client sent, or null; quotes around it are part of it
   * @param requestHash see {@link #requestHash}
   * @return what to do; end an {@link IdempotencyStore.Started} with {@link #finish} or {@link #release}
   * @throws ServiceException 400 {@code missing_idempotency_key} or {@code invalid_idempotency_key}, 503 {@code
   *     unavailable}, 500 {@code idempotency_failed}
   */
  public IdempotencyStore.Decision begin(String scope, @Nullable String key, String requestHash) {
    return begin(scope, key, requestHash, requestHash);
  }

  /**
   * As the public one.
   *
   * @param formerHash the hash by which an earlier version may have begun the same request
   */
  IdempotencyStore.Decision begin(
      String scope, @Nullable String key, String requestHash, String formerHash) {
    String checked = checkedKey(key);
    if (scope.getBytes(StandardCharsets.UTF_8).length > MAX_SCOPE_BYTES) {
      throw ServiceException.of(INVALID_KEY, "the path is too long for an Idempotency-Key")
          .op("idempotency.begin");
    }
    sweeper.sweepIfDue();
    try {
      IdempotencyStore.Decision decision =
          store.begin(new IdempotencyStore.Attempt(scope, checked, requestHash, lease, ttl));
      return decision instanceof IdempotencyStore.Conflict && !formerHash.equals(requestHash)
          ? store.begin(new IdempotencyStore.Attempt(scope, checked, formerHash, lease, ttl))
          : decision;
    } catch (SQLException | RuntimeException e) {
      throw ServiceException.of(Execution.code(e, FAILED), e).op("idempotency.begin");
    }
  }

  /** The key without the blanks around it. */
  static String checkedKey(@Nullable String key) {
    String trimmed = key == null ? "" : Text.trim(key);
    if (trimmed.isEmpty()) {
      throw ServiceException.of(MISSING_KEY).op("idempotency.key");
    }
    boolean valid = trimmed.length() <= MAX_KEY_CHARACTERS;
    for (int i = 0; valid && i < trimmed.length(); i++) {
      valid = trimmed.charAt(i) >= ' ' && trimmed.charAt(i) <= '~';
    }
    if (!valid) {
      throw ServiceException.of(INVALID_KEY).op("idempotency.key");
    }
    return trimmed;
  }

  /**
   * Stores a final answer; for any other answer it frees the key. If the store fails three times, the failure is logged
   * and the answer may still be sent, but the key is free after the lease.
   *
   * @param claim the claim that {@link #begin} returned
   * @param response the answer
   * @return false if another attempt has taken over, so that this answer must not go out
   */
  public boolean finish(IdempotencyStore.Claim claim, StoredResponse response) {
    if (!response.isFinal()) {
      release(claim);
      return true;
    }
    boolean interrupted = Thread.interrupted(); // else pools and drivers would give up at once
    try {
      for (int attempt = 1; ; attempt++) {
        try {
          boolean kept = store.complete(claim, response);
          if (!kept) {
            overtaken(claim);
          }
          return kept;
        } catch (SQLException | RuntimeException e) {
          if (attempt == 3) {
            LOG.atError()
                .addKeyValue("error", e.toString())
                .addKeyValue("scope", claim.scope())
                .setCause(e)
                .log("failed to persist idempotent response");
            return true;
          }
          LockSupport.parkNanos(Duration.ofMillis(50L * attempt).toNanos());
        }
      }
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  static void overtaken(IdempotencyStore.Claim claim) {
    LOG.atWarn()
        .addKeyValue("scope", claim.scope())
        .log("idempotent request was overtaken: it took longer than its lease");
  }

  /**
   * Frees the key, so that the request can be repeated. A failure is logged, and retried in the background until the
   * lease has passed.
   *
   * @param claim the claim that {@link #begin} returned
   */
  public void release(IdempotencyStore.Claim claim) {
    boolean interrupted = Thread.interrupted();
    try {
      store.release(claim);
    } catch (SQLException | RuntimeException e) {
      LOG.atWarn()
          .addKeyValue("error", e.toString())
          .addKeyValue("scope", claim.scope())
          .setCause(e)
          .log("failed to release idempotency key; will retry");
      lateReleases.add(claim);
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /** Whether this is the first time for the route. */
  boolean isNews(String route) {
    return warnedRoutes.add(route);
  }

  @Nullable
  Transactions transactions() {
    return transactions;
  }

  IdempotencyStore store() {
    return store;
  }

  /**
   * Returns the hash that tells requests with the same key apart, as the services in Go compute it. It has no boundary
   * between query and body ({@code ?a=1:x} with the body {@code y} has the hash of {@code ?a=1} with {@code x:y}). For
   * requests with a query {@link #filter} with {@link Scope#ACTOR} stores another hash, which has that boundary, and
   * still recognises this one.
   *
   * @param method the method
   * @param path the decoded path
   * @param rawQuery the query as it was sent, or null
   * @param body the body
   * @return SHA-256 of {@code METHOD:path:} or {@code METHOD:path?query:}, in UTF-8, and the body; 64 hexadecimal
   *     digits
   */
  public static String requestHash(
      String method, String path, @Nullable String rawQuery, byte[] body) {
    String query = rawQuery == null || rawQuery.isEmpty() ? "" : "?" + rawQuery;
    MessageDigest sha256 = sha256();
    sha256.update((method + ":" + path + query + ":").getBytes(StandardCharsets.UTF_8));
    return HexFormat.of().formatHex(sha256.digest(body));
  }

  /**
   * Tells requests with a query apart, also where the query and the body would read the same one behind the other: the
   * length of each part stands before it. Its first byte is one that the other form does not begin with.
   */
  static String boundedHash(String method, String path, String rawQuery, byte[] body) {
    MessageDigest sha256 = sha256();
    for (String part : new String[] {method, path, rawQuery}) {
      byte[] bytes = part.getBytes(StandardCharsets.UTF_8);
      sha256.update(ByteBuffer.allocate(Integer.BYTES).putInt(bytes.length).flip());
      sha256.update(bytes);
    }
    return HexFormat.of().formatHex(sha256.digest(body));
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e); // every JDK has it
    }
  }

  private interface Opening {
    IdempotencyStore open() throws SQLException;
  }

  /** Builds an {@link Idempotency}. Not thread-safe. */
  public static final class Builder {
    private final Opening opening;
    private final boolean ofDataSource;
    private Duration leaseFor = Duration.ofSeconds(60);
    private Duration keepFor = Duration.ofHours(24);
    private Duration sweepInterval = Duration.ofMinutes(5);
    private Scope scope = Scope.ACTOR;
    private long maxBody = 1 << 20;
    private long maxResponse = 1 << 20;

    private @Nullable Transactions transactions;

    private Builder(Opening opening, boolean ofDataSource) {
      this.ofDataSource = ofDataSource;
      this.opening = opening;
    }

    /**
     * Sets how long a request may take (60 s). After that its process counts as dead, and a repeated request with the
     * same key takes over.
     *
     * @param leaseFor a millisecond or more; longer than the slowest request
     * @return this
     */
    public Builder leaseFor(Duration leaseFor) {
      this.leaseFor = Objects.requireNonNull(leaseFor, "leaseFor");
      return this;
    }

    /**
     * Sets how long a key and its answer are kept, from the beginning of the request (24 hours).
     *
     * @param keepFor the lease or more, up to 100 years
     * @return this
     */
    public Builder keepFor(Duration keepFor) {
      this.keepFor = Objects.requireNonNull(keepFor, "keepFor");
      return this;
    }

    /**
     * Runs each request that needs a key in a transaction of another owner, such as Spring (default: none; the handler
     * asks for one with {@link Idempotency#transaction}). The transaction begins before the handler. After the handler
     * has returned, the key and the answer are written in it, and it commits. Nothing commits if the handler throws, or
     * if its answer is not {@linkplain StoredResponse#isFinal() final}. It needs a data source, and does not work with
     * your own store.
     *
     * @param transactions begins them; of the same database as the table of keys
     * @return this
     */
    public Builder transactions(Transactions transactions) {
      this.transactions = Objects.requireNonNull(transactions, "transactions");
      return this;
    }

    /**
     * Sets who shares a set of keys.
     *
     * @param scope {@link Scope#ACTOR} unless set
     * @return this builder
     */
    public Builder scope(Scope scope) {
      this.scope = Objects.requireNonNull(scope, "scope");
      return this;
    }

    /**
     * Sets the largest request body, which is held in memory; a larger one is 413 {@code body_too_large}. The limit of
     * the route counts too.
     *
     * @param bytes 0 to 1 GiB; 1 MiB unless set; zero allows none
     * @return this builder
     */
    public Builder maxBody(long bytes) {
      this.maxBody = bytes;
      return this;
    }

    /**
     * Sets the largest response body that is stored; it is held in memory until then.
     *
     * @param bytes 0 to 1 GiB; 1 MiB unless set; zero allows none
     * @return this builder
     */
    public Builder maxResponse(long bytes) {
      this.maxResponse = bytes;
      return this;
    }

    Builder sweepInterval(Duration interval) {
      this.sweepInterval = interval;
      return this;
    }

    /**
     * Checks the settings, and with one query the table.
     *
     * @return the idempotency
     * @throws IllegalArgumentException if a setting is out of range; the message names each of them
     * @throws StartupException if the table cannot be read or used; the message names everything that is wrong with it
     */
    public Idempotency build() {
      List<String> problems = new ArrayList<>();
      if (leaseFor.compareTo(Duration.ofMillis(1)) < 0) {
        problems.add("leaseFor must be a millisecond or more: " + leaseFor);
      }
      if (keepFor.compareTo(leaseFor) < 0 || keepFor.compareTo(Duration.ofDays(36_500)) > 0) {
        problems.add("keepFor must be from the lease to 100 years: " + keepFor);
      }
      if (transactions != null && !ofDataSource) {
        problems.add(
            "transactions must be set with Idempotency.builder(db), not with your own store");
      }
      checkBytes("maxBody", maxBody, problems);
      checkBytes("maxResponse", maxResponse, problems);
      if (!problems.isEmpty()) {
        throw new IllegalArgumentException(String.join("; ", problems));
      }
      try {
        return new Idempotency(this, opening.open());
      } catch (SQLException e) {
        throw new StartupException(
            "the table " + PostgresStore.TABLE + " cannot be checked: " + e.getMessage(), e);
      }
    }

    private static void checkBytes(String name, long bytes, List<String> problems) {
      if (bytes < 0 || bytes > 1 << 30) {
        problems.add(name + " must be from 0 to 1 GiB: " + bytes);
      }
    }
  }
}
