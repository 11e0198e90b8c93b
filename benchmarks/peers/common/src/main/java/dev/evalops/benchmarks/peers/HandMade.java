package dev.evalops.benchmarks.peers;

import io.github.bucket4j.Bucket;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import java.time.Duration;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What a team writes around the libraries that it picks: ids, a log line, metrics, a limit for each address. */
public final class HandMade {
  private static final Logger log = LoggerFactory.getLogger("http");

  private final MeterRegistry registry;
  private final Map<Series, Meters> meters = new ConcurrentHashMap<>();
  private final Map<String, Bucket> buckets = new ConcurrentHashMap<>();

  private record Series(String method, String route, int status) {}

  private record Meters(Counter count, Timer duration) {}

  public HandMade(MeterRegistry registry) {
    this.registry = registry;
  }

  public static String requestId(String header) {
    return header == null || header.isBlank() || header.length() > 128
        ? UUID.randomUUID().toString()
        : header;
  }

  /** The token of an {@code Authorization} header, or null. */
  public static String token(String header) {
    return header != null && header.startsWith("Bearer ") ? header.substring(7) : null;
  }

  public boolean allows(String address) {
    return buckets
        .computeIfAbsent(address, a -> Bucket.builder()
            .addLimit(limit -> limit.capacity(1_000_000).refillGreedy(1_000_000, Duration.ofSeconds(1)))
            .build())
        .tryConsume(1);
  }

  /** The log line and the metrics of a request. */
  public void complete(
      String requestId, String method, String path, String route, int status, long startNanos) {
    long nanos = System.nanoTime() - startNanos;
    line(requestId, method, path, route, status, nanos);
    Meters found = meters.computeIfAbsent(new Series(method, route, status), this::register);
    found.count.increment();
    found.duration.record(nanos, TimeUnit.NANOSECONDS);
  }

  public static void line(
      String requestId, String method, String path, String route, int status, long nanos) {
    log.atInfo()
        .addKeyValue("request_id", requestId)
        .addKeyValue("method", method)
        .addKeyValue("path", path)
        .addKeyValue("route", route)
        .addKeyValue("status", status)
        .addKeyValue("duration_ms", TimeUnit.NANOSECONDS.toMillis(nanos))
        .log("http request complete");
  }

  private Meters register(Series series) {
    String[] tags = {
      "method", series.method, "route", series.route, "status", Integer.toString(series.status)
    };
    return new Meters(
        Counter.builder("notes.http.requests").tags(tags).register(registry),
        Timer.builder("notes.http.request.duration")
            .serviceLevelObjectives(
                Duration.ofMillis(5),
                Duration.ofMillis(10),
                Duration.ofMillis(25),
                Duration.ofMillis(50),
                Duration.ofMillis(100),
                Duration.ofMillis(250),
                Duration.ofMillis(500),
                Duration.ofSeconds(1))
            .tags(tags)
            .register(registry));
  }
}
