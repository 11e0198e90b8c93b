package dev.evalops.examples.notes;

import dev.evalops.runtime.startup.Credentials;
import java.nio.file.Path;
import java.time.Duration;
import java.time.format.DateTimeParseException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/** What the service needs to know, from its environment. The URLs hold passwords, so none of it is ever printed. */
record Settings(
    String databaseUrl,
    Optional<Supplier<Credentials>> databaseLogin,
    String redisUrl,
    Optional<Supplier<Credentials>> redisLogin,
    String natsUrl,
    Optional<Supplier<Credentials>> natsLogin,
    int natsReplicas,
    String identityUrl,
    @Nullable String caFile,
    @Nullable String certificateFile,
    @Nullable String keyFile,
    @Nullable String flagsFile,
    Duration idempotencyLease,
    double ratePerSecond,
    int rateBurst,
    int port) {

  /**
   * Reads {@code DATABASE_URL}, {@code REDIS_URL}, {@code NATS_URL}, {@code IDENTITY_URL}, {@code PORT} (8080), {@code
   * NATS_REPLICAS} (1), {@code IDEMPOTENCY_LEASE} (PT1M), {@code RATE_LIMIT_PER_SECOND} (100) and {@code
   * RATE_LIMIT_BURST} (200). With {@code TLS_CA_FILE}, {@code TLS_CERT_FILE} and {@code TLS_KEY_FILE} the service
   * speaks mTLS, with {@code FEATURE_FLAGS_PATH} it has feature flags. With {@code DATABASE_PASSWORD_FILE} it logs in
   * as {@code DATABASE_USER} with what the file has, which may change, and so for {@code REDIS_} and {@code NATS_}.
   *
   * @throws IllegalArgumentException naming everything that is missing or wrong
   */
  static Settings from(Map<String, String> environment) {
    List<String> problems = new ArrayList<>();
    Settings settings = new Settings(
        required(environment, "DATABASE_URL", problems),
        login(environment, "DATABASE"),
        required(environment, "REDIS_URL", problems),
        login(environment, "REDIS"),
        required(environment, "NATS_URL", problems),
        login(environment, "NATS"),
        parsed(
            environment, "NATS_REPLICAS", 1, Integer::valueOf, "must be a whole number", problems),
        required(environment, "IDENTITY_URL", problems),
        environment.get("TLS_CA_FILE"),
        environment.get("TLS_CERT_FILE"),
        environment.get("TLS_KEY_FILE"),
        environment.get("FEATURE_FLAGS_PATH"),
        parsed(
            environment,
            "IDEMPOTENCY_LEASE",
            Duration.ofMinutes(1),
            Duration::parse,
            "must be a duration such as PT30S",
            problems),
        parsed(
            environment,
            "RATE_LIMIT_PER_SECOND",
            100.0,
            Double::valueOf,
            "must be a number",
            problems),
        parsed(
            environment,
            "RATE_LIMIT_BURST",
            200,
            Integer::valueOf,
            "must be a whole number",
            problems),
        parsed(
            environment,
            "PORT",
            8080,
            Settings::port,
            "must be a number from 0 to 65535",
            problems));
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

  private static Optional<Supplier<Credentials>> login(Map<String, String> environment, String of) {
    return Optional.ofNullable(environment.get(of + "_PASSWORD_FILE"))
        .map(file ->
            Credentials.fromFile(environment.getOrDefault(of + "_USER", ""), Path.of(file)));
  }

  private static <T> T parsed(
      Map<String, String> environment,
      String name,
      T fallback,
      Function<String, T> parse,
      String problem,
      List<String> problems) {
    String value = environment.get(name);
    try {
      return value == null ? fallback : parse.apply(value.trim());
    } catch (DateTimeParseException | NumberFormatException e) {
      problems.add(name + " " + problem);
      return fallback;
    }
  }

  private static Integer port(String value) {
    int port = Integer.parseInt(value);
    if (port < 0 || port > 65_535) {
      throw new NumberFormatException();
    }
    return port;
  }

  @Override
  public String toString() {
    return "Settings[port=" + port + "]";
  }
}
