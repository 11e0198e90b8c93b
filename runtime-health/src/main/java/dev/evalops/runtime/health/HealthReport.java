package dev.evalops.runtime.health;

import com.fasterxml.jackson.annotation.JsonValue;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What one run of all checks found. Jackson writes it in the form of {@link #toJson()}.
 *
 * @param healthy whether every check that is not optional is healthy
 * @param checks the checks in the order in which they were added
 * @param duration how long the run took
 */
public record HealthReport(boolean healthy, List<Check> checks, Duration duration) {
  /** Copies the list. */
  public HealthReport {
    checks = List.copyOf(checks);
  }

  /**
   * What one check found.
   *
   * @param name the name under which it was added
   * @param healthy whether it returned normally in time
   * @param optional whether its failure leaves the report healthy
   * @param latency how long it took, or, when it timed out, how long it has been running
   * @param error what is wrong, fit to be shown to anybody; empty when healthy
   */
  public record Check(
      String name, boolean healthy, boolean optional, Duration latency, Optional<String> error) {}

  /**
   * The report as JSON: {@code {"healthy":…,"checks":[{"name","healthy","latency_ms","error"}],"duration_ms"}}.
   * {@code error} is there only on an unhealthy check, {@code "optional":true} only on an optional one.
   *
   * @return maps and lists in the order in which they are to be written
   */
  @JsonValue
  public Map<String, Object> toJson() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("healthy", healthy);
    json.put("checks", checks.stream().map(HealthReport::toJson).toList());
    json.put("duration_ms", duration.toMillis());
    return json;
  }

  private static Map<String, Object> toJson(Check check) {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("name", check.name());
    json.put("healthy", check.healthy());
    json.put("latency_ms", check.latency().toMillis());
    check.error().ifPresent(error -> json.put("error", error));
    if (check.optional()) {
      json.put("optional", true);
    }
    return json;
  }
}
