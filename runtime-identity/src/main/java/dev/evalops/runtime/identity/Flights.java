package dev.evalops.runtime.identity;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;

/**
 * One call for all who want the same at the same time. A call is over, for better or worse, before the next one begins.
 */
final class Flights<K, V> {
  private final ConcurrentHashMap<K, CompletableFuture<V>> flying = new ConcurrentHashMap<>();

  /** Shares the call that is under way, or starts one. */
  CompletableFuture<V> join(K key, Supplier<CompletableFuture<V>> start) {
    CompletableFuture<V> mine = new CompletableFuture<>();
    CompletableFuture<V> theirs = flying.putIfAbsent(key, mine);
    if (theirs != null) {
      return theirs;
    }
    CompletableFuture<V> call;
    try {
      call = start.get();
    } catch (RuntimeException | Error e) {
      call = CompletableFuture.failedFuture(e);
    }
    var unused = call.whenComplete((value, failure) -> {
      flying.remove(key, mine);
      if (failure == null) {
        mine.complete(value);
      } else {
        mine.completeExceptionally(failure);
      }
    });
    return mine;
  }
}
