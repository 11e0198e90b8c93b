package dev.evalops.runtime.ratelimit;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.Meter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Tag;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;

/** Apart, so that nobody else needs Micrometer's classes. */
final class HitCounter {
  /** More different routes than a service has; what comes after them is counted together. */
  private static final int MAX_ROUTES = 1000;

  private static final String OTHER = "other";

  /** Where to count; nothing is registered yet. */
  record Target(MeterRegistry registry, String service) {
    String prefix() {
      return ServiceName.prefix(service);
    }

    /** Why the counters cannot be registered: a registry may drop what does not fit without a word. */
    Optional<String> problem() {
      return service.isBlank()
          ? Optional.of("metrics: service must not be blank")
          : conflict(registry, hits(prefix()), Set.of("route", "action"))
              .or(() -> conflict(registry, fallbacks(prefix()), Set.of()));
    }
  }

  private record OfRoute(Counter allowed, Counter limited, Counter exempt) {}

  private final MeterRegistry registry;
  private final String name;
  private final Counter fallbacks;
  private final Map<String, OfRoute> routes = new ConcurrentHashMap<>();

  HitCounter(Target target) {
    this.registry = target.registry();
    this.name = hits(target.prefix());
    this.fallbacks = Counter.builder(fallbacks(target.prefix()))
        .description("Decisions of the rate limit that were made locally because Redis could not")
        .register(registry);
  }

  private static String hits(String prefix) {
    return prefix + "_rate_limit_hits_total";
  }

  private static String fallbacks(String prefix) {
    return prefix + "_rate_limit_fallbacks_total";
  }

  private static Optional<String> conflict(
      MeterRegistry registry, String name, Set<String> labels) {
    return registry.find(name).meters().stream()
        .map(Meter::getId)
        .filter(id -> id.getType() != Meter.Type.COUNTER || !keys(id.getTags()).containsAll(labels))
        .findFirst()
        .map(id -> "metrics: the registry has another meter of the name " + name + ", a "
            + id.getType() + " with the labels " + keys(id.getTags()));
  }

  private static Set<String> keys(List<Tag> tags) {
    return tags.stream().map(Tag::getKey).collect(Collectors.toUnmodifiableSet());
  }

  void decided(String route, boolean allowed) {
    OfRoute counters = of(route);
    (allowed ? counters.allowed : counters.limited).increment();
  }

  void exempt(String route) {
    of(route).exempt.increment();
  }

  void fallback() {
    fallbacks.increment();
  }

  private OfRoute of(String route) {
    String label = route.isBlank() ? "unknown" : route;
    OfRoute known = routes.get(label);
    if (known != null) {
      return known;
    }
    return routes.computeIfAbsent(routes.size() < MAX_ROUTES ? label : OTHER, this::register);
  }

  private OfRoute register(String route) {
    return new OfRoute(
        counter(route, "allowed"), counter(route, "limited"), counter(route, "exempt"));
  }

  private Counter counter(String route, String action) {
    return Counter.builder(name)
        .description("Requests by what the rate limit decided")
        .tag("route", route)
        .tag("action", action)
        .register(registry);
  }
}
