package dev.evalops.examples.notes;

import java.time.Duration;
import java.time.format.DateTimeParseException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** What the service needs to know, from its environment. The URLs hold passwords, so none of it is ever printed. */
record Settings(
    String databaseUrl,
    String redisUrl,
    String natsUrl,
    String identityUrl,
    @Nullable String caFile,
    @Nullable String certificateFile,
    @Nullable String keyFile,
    Duration idempotencyLease,
    int port) {

  /**
   * Reads {@code DATABASE_URL}, {@code REDIS_URL}, {@code NATS_URL}, {@code IDENTITY_URL}, {@code PORT} (8080) and {@code
   * IDEMPOTENCY_LEASE} (PT1M). With {@code TLS_CA_FILE}, {@code TLS_CERT_FILE} and {@code TLS_KEY_FILE} the service speaks mTLS.
   *
   * @throws IllegalArgumentException naming everything that is missing or wrong
   */
  static Settings from(Map<String, String> environment) {
    List<String> problems = new ArrayList<>();
    Settings settings = new Settings(
        required(environment, "DATABASE_URL", problems),
        required(environment, "REDIS_URL", problems),
        required(environment, "NATS_URL", problems),
        required(environment, "IDENTITY_URL", problems),
        environment.get("TLS_CA_FILE"),
        environment.get("TLS_CERT_FILE"),
        environment.get("TLS_KEY_FILE"),
        duration(environment, "IDEMPOTENCY_LEASE", Duration.ofMinutes(1), problems),
        port(environment.get("PORT"), problems));
    if (!problems.isEmpty()) {
      throw new IllegalArgumentException(String.join("; ", problems));
    }
    return settings;
  }

  private static String required(
      Map<String, String> environment, String name, List<String> problems) {
    String value = environment.getOrDefault(name, "").trim();
    if (value.isEmpty()) {
      problems.add(name + " is not set");
    }
    return value;
  }

  private static Duration duration(
      Map<String, String> environment, String name, Duration fallback, List<String> problems) {
    String value = environment.get(name);
    try {
      return value == null ? fallback : Duration.parse(value.trim());
    } catch (DateTimeParseException e) {
      problems.add(name + " must be a duration such as PT30S");
      return fallback;
    }
  }

  private static int port(@Nullable String value, List<String> problems) {
    if (value == null) {
      return 8080;
    }
    try {
      int port = Integer.parseInt(value.trim());
      if (port >= 0 && port <= 65_535) {
        return port;
      }
    } catch (NumberFormatException e) {
      // reported below
    }
    problems.add("PORT must be a number from 0 to 65535");
    return 0;
  }

  @Override
  public String toString() {
    return "Settings[port=" + port + "]";
  }
}
