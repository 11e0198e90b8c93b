package dev.evalops.runtime.natsbus;

import static java.util.Objects.requireNonNull;

import dev.evalops.runtime.events.EventFormat;
import dev.evalops.runtime.startup.Credentials;
import io.micrometer.core.instrument.MeterRegistry;
import io.nats.client.Options;
import io.nats.client.api.StreamConfiguration;
import io.opentelemetry.api.OpenTelemetry;
import java.time.Duration;
import java.time.InstantSource;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.Supplier;
import javax.net.ssl.SSLContext;
import org.jspecify.annotations.Nullable;

/** What a bus is built with, and the stream that comes of it. An open bus has a copy, which nobody changes. */
final class BusSettings {
  private static final int MAX_REPLICAS = 5;
  private static final Duration MAX_TIME = Duration.ofDays(36_500);

  final List<Consumer<? super Options.Builder>> configure = new ArrayList<>();
  final List<Consumer<? super StreamConfiguration.Builder>> configureStream = new ArrayList<>();
  final String url;
  String stream = "";
  String subjectPrefix = "";
  EventFormat format = EventFormat.JSON;
  Duration publishTimeout = Duration.ofSeconds(5);
  Duration connectTimeout = Duration.ofSeconds(60);
  Duration rotationTimeout = Duration.ofMinutes(1);
  int maxPending = 1024;
  int replicas = 1;
  InstantSource clock = InstantSource.system();

  @Nullable
  Supplier<Credentials> credentials;

  @Nullable
  SSLContext tls;

  @Nullable
  OpenTelemetry openTelemetry;

  @Nullable
  MeterRegistry registry;

  BusSettings(String url) {
    this.url = url;
  }

  /** Not beyond 100 years, so that it can be counted in nanoseconds. */
  static Duration bounded(Duration time) {
    return time.compareTo(MAX_TIME) < 0 ? time : MAX_TIME;
  }

  /** A copy. */
  BusSettings(BusSettings of) {
    configure.addAll(of.configure);
    configureStream.addAll(of.configureStream);
    url = of.url;
    stream = of.stream;
    subjectPrefix = of.subjectPrefix;
    format = of.format;
    publishTimeout = bounded(of.publishTimeout);
    connectTimeout = bounded(of.connectTimeout);
    rotationTimeout = of.rotationTimeout;
    maxPending = of.maxPending;
    replicas = of.replicas;
    clock = of.clock;
    credentials = of.credentials;
    tls = of.tls;
    openTelemetry = of.openTelemetry;
    registry = of.registry;
  }

  /** Returns where the servers are; names every problem of the settings in one exception. */
  List<String> servers() {
    List<String> problems = new ArrayList<>();
    List<String> servers = List.of();
    if (url.isBlank()) {
      problems.add("nats_url_required");
    } else {
      servers = NatsUrl.servers(url, problems);
    }
    if (stream.isBlank()) {
      problems.add("stream_name_required");
    } else {
      Subjects.checkName("stream", stream, problems);
    }
    if (Subjects.prefix(subjectPrefix).isEmpty()) {
      problems.add("subject_prefix_required");
    } else {
      Subjects.checkSubject("subjectPrefix", Subjects.prefix(subjectPrefix), false, problems);
    }
    if (!publishTimeout.isPositive()) {
      problems.add("publishTimeout must be more than zero: " + publishTimeout);
    }
    if (connectTimeout.isNegative()) {
      problems.add("connectTimeout must be zero or more: " + connectTimeout);
    }
    if (replicas < 1 || replicas > MAX_REPLICAS) {
      problems.add("replicas must be 1 to " + MAX_REPLICAS + ": " + replicas);
    }
    if (!rotationTimeout.isPositive()) {
      problems.add("rotationTimeout must be more than zero: " + rotationTimeout);
    }
    if (credentials != null && servers.stream().anyMatch(server -> server.contains("@"))) {
      problems.add("credentials are given: the url must not have user or password");
    }
    if (maxPending < 1) {
      problems.add("maxPending must be 1 or more: " + maxPending);
    }
    if (!problems.isEmpty()) {
      throw new IllegalArgumentException(String.join("; ", problems));
    }
    return servers;
  }

  StreamConfiguration streamConfiguration() {
    StreamConfiguration.Builder wanted =
        Streams.standard(stream, Subjects.filter(Subjects.prefix(subjectPrefix)), replicas);
    configureStream.forEach(change -> change.accept(wanted));
    return wanted.build();
  }

  Secret secret() {
    return new Secret(
        credentials == null ? null : requireNonNull(credentials.get(), "credentials"),
        tls == null ? null : tls.getClientSessionContext());
  }
}
