package dev.evalops.examples.notes;

import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.health.HealthChecker;
import dev.evalops.runtime.health.HealthChecks;
import dev.evalops.runtime.health.nats.NatsHealth;
import dev.evalops.runtime.health.redis.RedisHealth;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.startup.Lifecycle;
import dev.evalops.runtime.startup.Retry;
import dev.evalops.runtime.startup.StartupException;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.nats.client.Connection;
import io.nats.client.Nats;
import io.nats.client.Options;
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
    } catch (StartupException | IllegalArgumentException e) {
      log.error("notes cannot start: {}", e.getMessage());
      System.exit(1);
    }
  }

  private static void run(Settings settings) throws InterruptedException {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);

    try (Lifecycle life = Lifecycle.untilTerminated()) {
      HikariDataSource db = life.add(
          "postgres",
          Postgres.builder(settings.databaseUrl())
              .configure(pool -> pool.setMetricRegistry(registry))
              .init(NotesSchema::apply)
              .retry(waitingFor("postgres"))
              .open());
      Redis redis = life.add(
          "redis", Redis.builder(settings.redisUrl()).retry(waitingFor("redis")).open());
      Connection nats =
          life.add("nats", waitingFor("nats").call(() -> Nats.connect(natsOptions(settings))));

      HealthChecker health = HealthChecker.create()
          .add("postgres", HealthChecks.postgres(db))
          .add("redis", RedisHealth.of(redis.connection()))
          .addOptional("nats", NatsHealth.of(nats));

      Notes notes = new Notes(new NoteStore(db), new NoteCache(redis.connection()), nats);
      HttpService http = life.add(
          "http",
          HttpService.builder(settings.port())
              .filters(
                  HttpFilters.requestId(), HttpFilters.requestLog(log), HttpFilters.browserGuards())
              .handle("/v1/notes", notes)
              .handle("/healthz", HttpEndpoints.health("notes"))
              .handle("/readyz", health.handler())
              .handle("/metrics", HttpEndpoints.metrics(registry::scrape))
              .start());
      log.atInfo().addKeyValue("port", http.port()).log("notes is up");
      life.await();
      log.info("notes is stopping");
    }
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

  private static Options natsOptions(Settings settings) {
    return Options.builder().server(settings.natsUrl()).maxReconnects(-1).build();
  }
}
