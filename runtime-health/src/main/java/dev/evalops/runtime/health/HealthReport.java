package dev.evalops.runtime.health;

import com.fasterxml.jackson.annotation.JsonValue;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The last results of all checks. Jackson writes it in the form of {@link #toJson()}.
 *
 * @param healthy whether every required check is healthy
 * @param checks the checks in the order in which they were declared
 * @param duration the latency of the slowest check
 */
public record HealthReport(boolean healthy, List<Check> checks, Duration duration) {
  /** Copies the list. */
  public HealthReport {
    checks = List.copyOf(checks);
  }

  /** What the failure of a dependency means for this instance. */
  public enum Dependency {
    /** This instance is not ready without it. */
    REQUIRED,
    /** Every instance has the same one: this instance stays ready. */
    SHARED,
    /** The service works without it. */
    OPTIONAL
  }

  /** What is known of a dependency. */
  public enum Status {
    /** The check returned. */
    HEALTHY,
    /** The check failed twice in a row, or at its first run. */
    UNHEALTHY,
    /** The check has not returned although its time is up; it counts as unhealthy. */
    UNKNOWN
  }

  /**
   * The last result of one check.
   *
   * @param name the name under which it was declared
   * @param dependency what its failure means
   * @param status what is known
   * @param latency how long it took, or, when it has not returned, how long it has been running
   * @param age the time since the check last ended
   * @param error what is wrong, fit to be shown to anybody; empty when healthy
   */
  public record Check(
      String name,
      Dependency dependency,
      Status status,
      Duration latency,
      Duration age,
      Optional<String> error) {

    /**
     * Returns whether the status is {@link Status#HEALTHY}.
     *
     * @return whether it is
     */
    public boolean healthy() {
      return status == Status.HEALTHY;
    }
  }

  /**
   * Returns the report as JSON: {@code
   * {"healthy":…,"checks":[{"name","healthy","latency_ms","error","age_ms"}],"duration_ms"}}. {@code error} is there
   * only on an unhealthy check, {@code "status":"unknown"} only where it is unknown, {@code "shared":true} and {@code
   * "optional":true} only on such a dependency.
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
    if (check.status() == Status.UNKNOWN) {
      json.put("status", "unknown");
    }
    json.put("age_ms", check.age().toMillis());
    switch (check.dependency()) {
      case REQUIRED -> {}
      case SHARED -> json.put("shared", true);
      case OPTIONAL -> json.put("optional", true);
    }
    return json;
  }
}
