package dev.evalops.examples.notes;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.identity.IdentityTokens;
import dev.evalops.runtime.health.HealthChecker;
import dev.evalops.runtime.health.HealthChecks;
import dev.evalops.runtime.health.nats.NatsHealth;
import dev.evalops.runtime.health.redis.RedisHealth;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.identity.IdentityClient;
import dev.evalops.runtime.mtls.Mtls;
import dev.evalops.runtime.observability.ServiceMetrics;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.startup.Lifecycle;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.startup.StartupException;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.nats.client.AuthenticationException;
import io.nats.client.Connection;
import io.nats.client.Nats;
import io.nats.client.Options;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Optional;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The whole service, from its settings to its last hook. */
public final class NotesService {
  private static final Logger log = LoggerFactory.getLogger(NotesService.class);

  private NotesService() {}

  /**
   * Starts the service and runs it until SIGTERM or SIGINT. Ends with status 1, and one line that says why, when it cannot start.
   *
   * @param args none
   * @throws InterruptedException if the main thread is interrupted
   */
  public static void main(String[] args) throws InterruptedException {
    try {
      run(Settings.from(System.getenv()));
    } catch (StartupException
        | IllegalArgumentException
        | IllegalStateException
        | UncheckedIOException e) {
      log.error("notes cannot start: {}", e.getMessage());
      System.exit(1);
    }
  }

  private static void run(Settings settings) throws InterruptedException {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);

    ServiceMetrics metrics = ServiceMetrics.of("notes", registry);

    try (Lifecycle life = Lifecycle.untilTerminated()) {
      HikariDataSource db = life.add(
          "postgres",
          Postgres.builder(settings.databaseUrl())
              .init(NotesSchema::apply)
              .retry(waitingFor("postgres"))
              .open());
      metrics.bind(db);
      Redis redis = life.add(
          "redis",
          Redis.builder(settings.redisUrl())
              .commandListener(metrics.redisCommands())
              .retry(waitingFor("redis"))
              .open());
      Connection nats = life.add("nats", connect(settings.natsUrl()));

      IdentityClient.Builder identity = IdentityClient.builder(settings.identityUrl());
      Optional<Mtls> calling = configured(Mtls.client().ca(settings.caFile()), settings);
      calling.ifPresent(tls -> identity.httpClient(life.add("tls of calls", tls).httpClient()));
      Auth auth = Auth.builder()
          .tokens(IdentityTokens.of(life.add("identity", identity.build())))
          .apiKeys(new KeyTable(db))
          .build();
      Idempotency idempotency =
          Idempotency.builder(db).lease(settings.idempotencyLease()).build();

      HealthChecker health = HealthChecker.create()
          .add("postgres", HealthChecks.postgres(db))
          .add("redis", RedisHealth.of(redis.connection()))
          .addOptional("nats", NatsHealth.of(nats));

      Notes notes = new Notes(new NoteStore(db), new NoteCache(redis.connection()), nats);
      HttpService.Builder service = HttpService.builder(settings.port())
          .filters(HttpFilters.requestId(), metrics.requests(log), HttpFilters.browserGuards())
          .handle(
              "/v1/notes",
              notes,
              HttpFilters.maxBody(256 * 1024),
              auth.require("notes:read"),
              idempotency.filter())
          .handle("/healthz", HttpEndpoints.health("notes"))
          .handle("/readyz", health.handler())
          .handle("/metrics", HttpEndpoints.metrics(registry::scrape));
      configured(Mtls.server().requireClients(settings.caFile()), settings)
          .ifPresent(tls -> service.tls(
              life.add("tls", tls).sslContext(), HttpService.ClientCertificates.REQUIRED));
      HttpService http = life.add("http", service.start());
      log.atInfo().addKeyValue("port", http.port()).log("notes is up");
      life.await();
      log.info("notes is stopping");
    }
  }

  private static Optional<Mtls> configured(Mtls.Builder<?> tls, Settings settings) {
    return tls.certificate(settings.certificateFile(), settings.keyFile())
        .onReload(reload -> log.info("tls: {}", reload))
        .buildIfConfigured();
  }

  private static Retry waitingFor(String dependency) {
    return Retry.builder()
        .onFailedAttempt(attempt -> {
          if (attempt.nextDelay().isPresent()) {
            log.warn("{}: {}", dependency, attempt);
          }
        })
        .build();
  }

  /** The client's own messages hold the URL with its password, so none of them is passed on. */
  @SuppressWarnings("UnusedException")
  private static Connection connect(String natsUrl) {
    Options options;
    try {
      options = Options.builder().server(natsUrl).maxReconnects(-1).build();
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException("NATS_URL is not the URL of a NATS server");
    }
    return waitingFor("nats")
        .stopWhen(AuthenticationException.class::isInstance)
        .call(() -> {
          try {
            return Nats.connect(options);
          } catch (AuthenticationException e) {
            throw new AuthenticationException("the NATS server refuses the credentials");
          } catch (IOException e) {
            throw new IOException("no NATS server answers");
          }
        });
  }
}
