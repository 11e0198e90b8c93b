package dev.evalops.runtime.identity;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class RecentCacheTest {
  @Test
  void keepsItsLimit() {
    RecentCache<Integer, String> cache = new RecentCache<>(10_000);
    for (int i = 0; i < 50_000; i++) {
      cache.put(i, "v" + i);
      assertThat(cache.size()).isLessThanOrEqualTo(10_000);
    }
    assertThat(cache.size()).isGreaterThan(9_000);
    assertThat(cache.get(49_999)).isEqualTo("v49999");
    assertThat(cache.get(0)).isNull();
  }

  @Test
  void theLeastRecentlyUsedGoFirst() {
    RecentCache<Integer, String> cache = new RecentCache<>(100);
    for (int i = 0; i < 100; i++) {
      cache.put(i, "v" + i);
    }
    assertThat(cache.get(0)).isEqualTo("v0");
    cache.put(100, "v100");
    assertThat(cache.get(0)).as("used lately").isEqualTo("v0");
    assertThat(cache.get(1)).as("the oldest").isNull();
    assertThat(cache.get(50)).isEqualTo("v50");
    assertThat(cache.get(100)).isEqualTo("v100");
  }

  @Test
  void removesOnlyTheValueThatIsMeant() {
    RecentCache<String, Object> cache = new RecentCache<>(10);
    Object one = new Object();
    Object other = new Object();
    cache.put("key", other);
    cache.remove("key", one);
    assertThat(cache.get("key")).isSameAs(other);
    cache.remove("key", other);
    assertThat(cache.get("key")).isNull();
  }

  @Test
  void keepsItsLimit_underManyThreads() throws Exception {
    RecentCache<Integer, Integer> cache = new RecentCache<>(1_000);
    ExecutorService threads = Executors.newFixedThreadPool(4);
    List<Future<?>> done = new ArrayList<>();
    for (int t = 0; t < 4; t++) {
      int from = t * 100_000;
      done.add(threads.submit(() -> {
        for (int i = from; i < from + 20_000; i++) {
          cache.put(i, i);
          Integer found = cache.get(i - 10);
          assertThat(found == null || found == i - 10).isTrue();
        }
      }));
    }
    for (Future<?> each : done) {
      each.get(30, TimeUnit.SECONDS);
    }
    threads.shutdown();
    assertThat(cache.size()).isBetween(900, 1_000);
  }
}
