package dev.evalops.runtime.idempotency.junit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.evalops.runtime.idempotency.IdempotencyStore;
import dev.evalops.runtime.idempotency.IdempotencyStore.Attempt;
import dev.evalops.runtime.idempotency.IdempotencyStore.Claim;
import dev.evalops.runtime.idempotency.IdempotencyStore.Conflict;
import dev.evalops.runtime.idempotency.IdempotencyStore.Decision;
import dev.evalops.runtime.idempotency.IdempotencyStore.InProgress;
import dev.evalops.runtime.idempotency.IdempotencyStore.Replay;
import dev.evalops.runtime.idempotency.IdempotencyStore.Started;
import dev.evalops.runtime.idempotency.StoredResponse;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.Test;

/**
 * What an {@link IdempotencyStore} has to do, as tests: extend it, and return your store. Each test uses keys of its
 * own, so that the store may be shared and need not be empty.
 */
public abstract class IdempotencyStoreContract {
  private static final Duration MINUTE = Duration.ofMinutes(1);
  private static final Duration DAY = Duration.ofDays(1);
  private static final Duration SHORT = Duration.ofMillis(20);

  private final String scope = "contract:" + UUID.randomUUID();

  /** Made by JUnit. */
  protected IdempotencyStoreContract() {}

  /**
   * The store, ready to be used by 32 threads at a time.
   *
   * @return for all calls of one test the same, or stores on the same keys
   */
  protected abstract IdempotencyStore store();

  /**
   * Whether the store keeps {@link StoredResponse#headers()}.
   *
   * @return true unless overridden
   */
  protected boolean keepsHeaders() {
    return true;
  }

  private Attempt attempt(String key, String hash) {
    return new Attempt(scope, key, hash, MINUTE, DAY);
  }

  private Claim begin(Attempt attempt) throws SQLException {
    return assertInstanceOf(Started.class, store().begin(attempt)).claim();
  }

  private static StoredResponse response(int status, String body) {
    return new StoredResponse(
        status, "application/json", Map.of(), body.getBytes(StandardCharsets.UTF_8));
  }

  /** Asks again until the answer is of this kind, at most 20 s. */
  private <T extends Decision> T await(Class<T> wanted, Attempt attempt) throws SQLException {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
    Decision last = store().begin(attempt);
    while (!wanted.isInstance(last) && System.nanoTime() - deadline < 0) {
      LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(5));
      last = store().begin(attempt);
    }
    return assertInstanceOf(wanted, last);
  }

  @Test
  void startsTheFirstRequest_andRefusesASecondWhileItRuns() throws Exception {
    Claim claim = begin(attempt("first", "hash"));

    assertEquals(scope, claim.scope());
    assertEquals("first", claim.key());
    assertInstanceOf(InProgress.class, store().begin(attempt("first", "hash")));
  }

  @Test
  void refusesADifferentRequestWithTheSameKey_pendingOrComplete() throws Exception {
    Claim claim = begin(attempt("conflict", "hash"));
    assertInstanceOf(Conflict.class, store().begin(attempt("conflict", "other")));

    assertTrue(store().complete(claim, response(200, "{}")));
    assertInstanceOf(Conflict.class, store().begin(attempt("conflict", "other")));
  }

  @Test
  void keepsAKeyFromADifferentRequest_whenTheLeaseHasPassed() throws Exception {
    Attempt first = new Attempt(scope, "late conflict", "hash", SHORT, DAY);
    begin(first);
    await(Started.class, first);

    assertInstanceOf(
        Conflict.class, store().begin(new Attempt(scope, "late conflict", "other", SHORT, DAY)));
  }

  @Test
  void replaysTheAnswerByteForByte() throws Exception {
    byte[] body = new byte[256];
    for (int i = 0; i < body.length; i++) {
      body[i] = (byte) i;
    }
    Map<String, String> headers =
        keepsHeaders() ? Map.of("ETag", "\"7\"", "Location", "/v1/\"ä\\,{}") : Map.of();
    StoredResponse response = new StoredResponse(201, "application/octet-stream", headers, body);

    assertTrue(store().complete(begin(attempt("replay", "hash")), response));

    for (int i = 0; i < 2; i++) {
      assertEquals(
          response,
          assertInstanceOf(Replay.class, store().begin(attempt("replay", "hash")))
              .response());
    }
  }

  @Test
  void replaysAnAnswerWithoutTypeAndBody() throws Exception {
    StoredResponse response = new StoredResponse(204, "", Map.of(), new byte[0]);
    assertTrue(store().complete(begin(attempt("empty", "hash")), response));

    assertEquals(
        response,
        assertInstanceOf(Replay.class, store().begin(attempt("empty", "hash"))).response());
  }

  @Test
  void keepsKeysOfOneScopeFromAnother() throws Exception {
    assertTrue(store().complete(begin(attempt("scoped", "hash")), response(200, "{}")));

    begin(new Attempt(scope + ":other", "scoped", "hash", MINUTE, DAY));
  }

  @Test
  void isFreeAgain_whenReleased() throws Exception {
    store().release(begin(attempt("released", "hash")));

    Claim second = begin(attempt("released", "other"));
    assertTrue(store().complete(second, response(200, "second")));
  }

  @Test
  void repeatingAReleaseOrCompletionChangesNothing() throws Exception {
    Claim claim = begin(attempt("repeated", "hash"));
    assertTrue(store().complete(claim, response(200, "answer")));
    assertTrue(store().complete(claim, response(200, "answer")));
    store().release(claim);
    assertInstanceOf(Replay.class, store().begin(attempt("repeated", "hash")));

    Claim released = begin(attempt("released twice", "hash"));
    store().release(released);
    store().release(released);
    assertFalse(store().complete(released, response(200, "too late")));
    begin(attempt("released twice", "hash"));
  }

  @Test
  void isTakenOver_onlyWhenTheLeaseHasPassed() throws Exception {
    Claim first = begin(attempt("lease", "hash"));
    assertInstanceOf(InProgress.class, store().begin(attempt("lease", "hash")));

    Claim second =
        await(Started.class, new Attempt(scope, "lease", "hash", SHORT, DAY)).claim();

    assertTrue(second.fence() > first.fence(), first + " then " + second);
    assertInstanceOf(InProgress.class, store().begin(attempt("lease", "hash")));
  }

  @Test
  void theLateFirstCanNeitherCompleteNorRelease() throws Exception {
    Claim first = begin(attempt("late", "hash"));
    Claim second =
        await(Started.class, new Attempt(scope, "late", "hash", SHORT, DAY)).claim();

    store().release(first);
    assertFalse(store().complete(first, response(200, "first")));
    assertInstanceOf(InProgress.class, store().begin(attempt("late", "hash")));
    assertTrue(store().complete(second, response(200, "second")));
    assertFalse(store().complete(first, response(200, "first")));
    assertEquals(
        response(200, "second"),
        assertInstanceOf(Replay.class, store().begin(attempt("late", "hash"))).response());
  }

  @Test
  void completesAfterTheLease_ifNobodyTookOver() throws Exception {
    Claim claim = begin(new Attempt(scope, "slow", "hash", Duration.ofMillis(1), DAY));

    assertTrue(store().complete(claim, response(200, "{}")));
    assertInstanceOf(
        Replay.class, store().begin(new Attempt(scope, "slow", "hash", Duration.ofMillis(1), DAY)));
  }

  @Test
  void anExpiredKeyIsFree_forAnyRequest_beforeItIsSwept() throws Exception {
    Attempt brief = new Attempt(scope, "expired", "hash", MINUTE, SHORT);
    Claim first = begin(brief);
    assertTrue(store().complete(first, response(200, "old")));

    Claim second = await(Started.class, attempt("expired", "other")).claim();

    assertTrue(second.fence() > first.fence());
    assertFalse(store().complete(first, response(200, "old")));
    assertTrue(store().complete(second, response(200, "new")));
    assertEquals(
        response(200, "new"),
        assertInstanceOf(Replay.class, store().begin(attempt("expired", "other")))
            .response());
  }

  @Test
  void startsExactlyOneOfManyAtOnce() throws Exception {
    for (int round = 0; round < 20; round++) {
      assertEquals(1, startedOf32(attempt("many " + round, "hash")));
    }
  }

  @Test
  void takesOverExactlyOnceOfManyAtOnce() throws Exception {
    for (int round = 0; round < 5; round++) {
      Attempt attempt = new Attempt(scope, "takeover " + round, "hash", MINUTE, SHORT);
      begin(attempt);
      long start = System.nanoTime();
      while (System.nanoTime() - start < SHORT.toNanos() * 2) {
        LockSupport.parkNanos(SHORT.toNanos());
      }
      assertEquals(1, startedOf32(attempt("takeover " + round, "hash")));
    }
  }

  private int startedOf32(Attempt attempt)
      throws InterruptedException, ExecutionException, TimeoutException {
    int threads = 32;
    CountDownLatch ready = new CountDownLatch(threads);
    ExecutorService executor = Executors.newFixedThreadPool(threads);
    try {
      List<Future<Decision>> decisions = new ArrayList<>();
      for (int i = 0; i < threads; i++) {
        decisions.add(executor.submit(() -> {
          ready.countDown();
          ready.await();
          return store().begin(attempt);
        }));
      }
      int started = 0;
      for (Future<Decision> decision : decisions) {
        Decision made = decision.get(30, TimeUnit.SECONDS);
        if (made instanceof Started) {
          started++;
        } else {
          assertInstanceOf(InProgress.class, made);
        }
      }
      return started;
    } finally {
      executor.shutdownNow();
    }
  }

  @Test
  void sweepsExpiredKeysAlone_andNoMoreThanTheLimit() throws Exception {
    Claim kept = begin(attempt("kept", "hash"));
    assertTrue(store().complete(kept, response(200, "kept")));
    for (int i = 0; i < 5; i++) {
      begin(new Attempt(scope, "swept " + i, "hash", MINUTE, SHORT));
    }

    int removed = 0;
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
    while (removed < 5 && System.nanoTime() - deadline < 0) {
      int now = store().sweep(2);
      assertTrue(now <= 2, "removed " + now + " of at most 2");
      removed += now;
    }

    assertTrue(removed >= 5, "removed " + removed);
    assertInstanceOf(Replay.class, store().begin(attempt("kept", "hash")));
    begin(attempt("swept 0", "other"));
  }
}
