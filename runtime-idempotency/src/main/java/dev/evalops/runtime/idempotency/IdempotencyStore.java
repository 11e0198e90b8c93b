package dev.evalops.runtime.idempotency;

import java.sql.SQLException;
import java.time.Duration;
import java.util.Objects;

/**
 * Where keys and answers are kept. {@link Idempotency#of(javax.sql.DataSource)} brings one; another runs its tests
 * through {@code dev.evalops.runtime.idempotency.junit.IdempotencyStoreContract}.
 *
 * <p>Each method is atomic, also towards other processes, and uses one clock: that of the store. Many threads call the
 * methods at the same time. A failure is answered with 503 {@code unavailable} if {@link
 * dev.evalops.runtime.errors.FailureKind} says so, else with 500 {@code idempotency_failed}.
 */
public interface IdempotencyStore {

  /**
   * Claims a key, or says why it cannot be claimed. Of concurrent attempts exactly one is {@link Started}. A key is
   * free if it is unknown or expired, or if the same request claimed it longer than the lease ago and did not complete
   * it. Does not wait for the attempt that holds the key.
   *
   * @param attempt the request
   * @return what to do now
   * @throws SQLException if the store fails
   */
  Decision begin(Attempt attempt) throws SQLException;

  /**
   * Keeps the answer, unless the claim has been taken over. Repeating the call is harmless.
   *
   * @param claim the claim of {@link Started}
   * @param response the answer
   * @return false if the claim was taken over, released or swept, and so nothing was changed
   * @throws SQLException if the store fails; the answer may have been kept
   */
  boolean complete(Claim claim, StoredResponse response) throws SQLException;

  /**
   * Makes the key free at once, unless the claim has been taken over or completed.
   *
   * @param claim the claim of {@link Started}
   * @throws SQLException if the store fails
   */
  void release(Claim claim) throws SQLException;

  /**
   * Removes expired keys, without waiting for anything that others hold.
   *
   * @param limit the most keys that are removed, 1 or more
   * @return how many were removed; fewer than the limit if there are no more, or if another process is removing them
   * @throws SQLException if the store fails
   */
  int sweep(int limit) throws SQLException;

  /**
   * A request that wants to run.
   *
   * @param scope within which the key is unique
   * @param key what the client sent, 1 to 255 printable ASCII characters
   * @param requestHash tells requests apart that come with the same key
   * @param lease how long the attempt may take before another may take over
   * @param ttl how long the key and its answer are kept, from now on
   */
  record Attempt(String scope, String key, String requestHash, Duration lease, Duration ttl) {
    /** Checks the values. */
    public Attempt {
      Objects.requireNonNull(scope, "scope");
      Objects.requireNonNull(key, "key");
      Objects.requireNonNull(requestHash, "requestHash");
      Objects.requireNonNull(lease, "lease");
      Objects.requireNonNull(ttl, "ttl");
    }
  }

  /**
   * A key that belongs to one attempt.
   *
   * @param scope within which the key is unique
   * @param key the key
   * @param fence the number of the attempt; a later attempt at the same key has a greater one
   */
  record Claim(String scope, String key, long fence) {
    /** Checks the values. */
    public Claim {
      Objects.requireNonNull(scope, "scope");
      Objects.requireNonNull(key, "key");
    }
  }

  /** What to do with a request. */
  sealed interface Decision {}

  /**
   * Run it, then complete or release the claim.
   *
   * @param claim the claim
   */
  record Started(Claim claim) implements Decision {}

  /**
   * Answer with what was answered before.
   *
   * @param response the answer
   */
  record Replay(StoredResponse response) implements Decision {}

  /** Refuse it: the key belongs to a different request. */
  record Conflict() implements Decision {}

  /** Refuse it: the same request has begun and is not complete. */
  record InProgress() implements Decision {}
}
