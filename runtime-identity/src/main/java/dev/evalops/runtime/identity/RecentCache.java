package dev.evalops.runtime.identity;

import java.util.Arrays;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.ReentrantLock;
import org.jspecify.annotations.Nullable;

/**
 * At most so many entries; when there are more, a sixteenth goes, the least recently used first. Reading, which every
 * request of a service does, takes no lock.
 */
final class RecentCache<K, V> {
  private static final class Slot<V> {
    final V value;
    volatile long usedAt = System.nanoTime();

    Slot(V value) {
      this.value = value;
    }
  }

  private final int limit;
  private final ConcurrentHashMap<K, Slot<V>> slots = new ConcurrentHashMap<>();
  private final ReentrantLock evicting = new ReentrantLock();

  RecentCache(int limit) {
    this.limit = limit;
  }

  @Nullable
  V get(K key) {
    Slot<V> slot = slots.get(key);
    if (slot == null) {
      return null;
    }
    slot.usedAt = System.nanoTime();
    return slot.value;
  }

  void put(K key, V value) {
    slots.put(key, new Slot<>(value));
    if (slots.size() > limit) {
      evict();
    }
  }

  void remove(K key) {
    slots.remove(key);
  }

  /** Leaves what has taken the value's place. */
  void remove(K key, V value) {
    slots.computeIfPresent(key, (same, slot) -> slot.value.equals(value) ? null : slot);
  }

  void clear() {
    slots.clear();
  }

  int size() {
    return slots.size();
  }

  private void evict() {
    evicting.lock();
    try {
      long now = System.nanoTime();
      long[] idle = slots.values().stream().mapToLong(slot -> slot.usedAt - now).toArray();
      if (idle.length <= limit) {
        return;
      }
      Arrays.sort(idle);
      long oldestToStay = idle[idle.length - limit + limit / 16];
      slots.values().removeIf(slot -> slot.usedAt - now < oldestToStay);
    } finally {
      evicting.unlock();
    }
  }
}
