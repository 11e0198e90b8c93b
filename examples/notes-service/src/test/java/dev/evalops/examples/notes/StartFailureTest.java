package dev.evalops.examples.notes;

import static org.assertj.core.api.Assertions.assertThat;

import dev.evalops.runtime.testutil.NatsServer;
import dev.evalops.runtime.testutil.PostgresServer;
import dev.evalops.runtime.testutil.RedisServer;
import java.net.ServerSocket;
import java.net.URI;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A service that cannot come up says why in one line, shows no secret and ends with a status of its own. */
class StartFailureTest {
  private static final String SECRET = "hunter2-secret";
  // A JVM's start and a connection, with room for a busy machine; the retries alone would take a
  // minute.
  private static final Duration AT_ONCE = Duration.ofSeconds(40);

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "postgres://nobody:hunter2-secret@{host}/postgres     | password authentication failed",
        "postgres://{user}@{host}/nowhere?password={password} | database \"nowhere\" does not exist",
        "postgres://app:hunter2-secret@host:notaport/db       | port",
        "mysql://app:hunter2-secret@host/db                   | postgres://",
      })
  void endsWithOneLine_whenTheDatabaseUrlIsWrong(String url, String cause) throws Exception {
    URI good = URI.create(PostgresServer.shared().url());
    String[] user = good.getUserInfo().split(":", 2);
    String wrong = url.replace("{host}", good.getHost() + ":" + good.getPort())
        .replace("{user}", user[0])
        .replace("{password}", user[1]);

    String log = logOfFailedStart(Map.of("DATABASE_URL", wrong));
    assertThat(errors(log)).singleElement().asString().contains("notes cannot start: ", cause);
    assertThat(log).doesNotContain(SECRET);
  }

  @Test
  void endsWithOneLine_whenTheNatsUrlIsWrong() throws Exception {
    String log = logOfFailedStart(Map.of("NATS_URL", "nats://user:" + SECRET + "%zz@localhost"));

    assertThat(errors(log)).singleElement().asString().contains("notes cannot start: url must be ");
    assertThat(log).doesNotContain(SECRET);
  }

  @Test
  void endsWithOneLine_whenThePortIsTaken() throws Exception {
    try (ServerSocket taken = new ServerSocket(0)) {
      String log = logOfFailedStart(Map.of("PORT", Integer.toString(taken.getLocalPort())));

      assertThat(errors(log))
          .singleElement()
          .asString()
          .contains("notes cannot start: ", "http: cannot listen on port ");
    }
  }

  @Test
  void endsWithOneLine_whenOnlyHalfOfTlsIsConfigured() throws Exception {
    String log = logOfFailedStart(Map.of("TLS_CERT_FILE", "/nowhere/tls.crt"));

    assertThat(errors(log))
        .singleElement()
        .asString()
        .contains("notes cannot start: ", "tls_cert_and_key_must_both_be_set");
  }

  @ParameterizedTest
  @CsvSource({
    "OTEL_EXPORTER_OTLP_ENDPOINT, collector:4318, OTEL_EXPORTER_OTLP_ENDPOINT must be",
    "FEATURE_FLAGS_PATH, /nowhere/flags.json, stat_feature_flags",
  })
  void endsWithOneLine_whenASettingCannotBeUsed(String name, String value, String cause)
      throws Exception {
    assertThat(errors(logOfFailedStart(Map.of(name, value))))
        .singleElement()
        .asString()
        .contains("notes cannot start: ", cause);
  }

  @Test
  void showsNoSecret_whileItWaitsForNats() throws Exception {
    Map<String, String> environment =
        environment(Map.of("NATS_URL", "nats://user:" + SECRET + "@127.0.0.1:1"));
    try (ServiceProcess service = ServiceProcess.start(environment, line -> {})) {
      service.awaitLine(line -> line.contains("nats: not up yet step=nats_connect"), AT_ONCE);

      assertThat(service.log()).doesNotContain(SECRET);
    }
  }

  @Test
  void namesEverySettingThatIsMissing() throws Exception {
    try (ServiceProcess service =
        ServiceProcess.start(Map.of("PORT", "many", "RATE_LIMIT_BURST", "much"), line -> {})) {
      assertThat(service.awaitExit(AT_ONCE)).contains(1);
      assertThat(service.log())
          .contains(
              "DATABASE_URL is not set",
              "REDIS_URL is not set",
              "NATS_URL is not set",
              "IDENTITY_URL is not set",
              "RATE_LIMIT_BURST must be",
              "PORT must be");
    }
  }

  private static List<String> errors(String log) {
    return log.lines()
        .filter(line -> line.contains("ERROR") || line.startsWith("\tat "))
        .toList();
  }

  private static String logOfFailedStart(Map<String, String> settings) throws Exception {
    try (ServiceProcess service = ServiceProcess.start(environment(settings), line -> {})) {
      assertThat(service.awaitExit(AT_ONCE)).contains(1);
      return service.log();
    }
  }

  private static Map<String, String> environment(Map<String, String> settings) {
    Map<String, String> environment = new HashMap<>(Map.of(
        "DATABASE_URL", PostgresServer.shared().url(),
        "REDIS_URL", RedisServer.shared().url(),
        "NATS_URL", NatsServer.shared().url(),
        "IDENTITY_URL", "http://localhost:1/v1/introspect",
        "PORT", "0"));
    environment.putAll(settings);
    return environment;
  }
}
