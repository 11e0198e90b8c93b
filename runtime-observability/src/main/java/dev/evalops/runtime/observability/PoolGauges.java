package dev.evalops.runtime.observability;

import com.zaxxer.hikari.HikariDataSource;
import com.zaxxer.hikari.HikariPoolMXBean;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.Map;
import java.util.WeakHashMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.ToIntFunction;

/** The gauges of one prefix in one registry, over all pools that are open. */
final class PoolGauges {
  private static final Map<MeterRegistry, Map<String, PoolGauges>> ALL = new WeakHashMap<>();
  private static final ReentrantLock LOCK = new ReentrantLock();

  private final CopyOnWriteArrayList<HikariDataSource> pools = new CopyOnWriteArrayList<>();

  private PoolGauges() {}

  static PoolGauges of(MeterRegistry registry, String prefix) {
    LOCK.lock();
    try {
      return ALL.computeIfAbsent(registry, key -> new ConcurrentHashMap<>())
          .computeIfAbsent(prefix, key -> new PoolGauges().register(registry, prefix));
    } finally {
      LOCK.unlock();
    }
  }

  void add(HikariDataSource pool) {
    pools.removeIf(HikariDataSource::isClosed);
    pools.addIfAbsent(pool);
  }

  private PoolGauges register(MeterRegistry registry, String prefix) {
    gauge(prefix + ".db.open.connections", HikariPoolMXBean::getTotalConnections)
        .description("Connections of the pool")
        .register(registry);
    gauge(prefix + ".db.in.use.connections", HikariPoolMXBean::getActiveConnections)
        .description("Connections lent to the service")
        .register(registry);
    gauge(prefix + ".db.idle.connections", HikariPoolMXBean::getIdleConnections)
        .description("Connections ready to be lent")
        .register(registry);
    return this;
  }

  private Gauge.Builder<?> gauge(String name, ToIntFunction<HikariPoolMXBean> value) {
    return Gauge.builder(name, () -> sum(value));
  }

  private int sum(ToIntFunction<HikariPoolMXBean> value) {
    int sum = 0;
    for (HikariDataSource pool : pools) {
      HikariPoolMXBean state = pool.isClosed() ? null : pool.getHikariPoolMXBean();
      sum += state == null ? 0 : value.applyAsInt(state);
    }
    return sum;
  }
}
