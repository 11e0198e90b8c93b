package dev.evalops.examples.notes;

import com.sun.net.httpserver.Filter;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.identity.IdentityTokens;
import dev.evalops.runtime.errors.StartupException;
import dev.evalops.runtime.featureflags.FeatureFlags;
import dev.evalops.runtime.health.HealthChecker;
import dev.evalops.runtime.health.HealthChecks;
import dev.evalops.runtime.health.nats.NatsHealth;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.opentelemetry.HttpTelemetry;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.identity.IdentityClient;
import dev.evalops.runtime.mtls.ClientTls;
import dev.evalops.runtime.mtls.ServerTls;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.observability.ServiceMetrics;
import dev.evalops.runtime.observability.opentelemetry.RedisTracing;
import dev.evalops.runtime.observability.opentelemetry.TracedHttpClient;
import dev.evalops.runtime.observability.opentelemetry.Tracing;
import dev.evalops.runtime.outbox.Inbox;
import dev.evalops.runtime.outbox.Outbox;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.ratelimit.RateLimiter;
import dev.evalops.runtime.startup.Lifecycle;
import dev.evalops.runtime.startup.Opening;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.nats.client.api.DeliverPolicy;
import io.opentelemetry.api.OpenTelemetry;
import java.time.Duration;
import java.util.function.Predicate;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The whole service, from its settings to its last hook. */
public final class NotesService {
  private static final Logger log = LoggerFactory.getLogger(NotesService.class);

  private NotesService() {}

  /**
   * Starts the service and runs it until SIGTERM or SIGINT. Ends with status 1, and one line that says why, when it
   * cannot start.
   *
   * @param args none
   * @throws InterruptedException if the main thread is interrupted
   */
  public static void main(String[] args) throws InterruptedException {
    try (Lifecycle life = Lifecycle.untilTerminated()) {
      Settings settings = Settings.from(System.getenv());
      Tracing tracing = life.add("tracing", Tracing.open("notes"));
      HttpService http = start(life, settings, tracing.openTelemetry());
      log.atInfo().addKeyValue("port", http.port()).log("notes is up");
      life.await();
      log.info("notes is stopping");
    } catch (IllegalArgumentException | StartupException e) {
      log.error("notes cannot start: {}", e.getMessage());
      System.exit(1);
    }
  }

  /** Starts everything; what it has opened is closed by the lifecycle, also when this fails. */
  static HttpService start(Lifecycle life, Settings settings, OpenTelemetry otel) {
    HttpService http = life.add("http", probes(life, settings));
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    ServiceMetrics metrics = ServiceMetrics.of("notes", registry);
    Predicate<String> feedIsOnFor = feedRollout(life, settings, registry);

    Opening<HikariDataSource> postgres = life.open("postgres", () -> {
      Postgres.Builder pool = Postgres.builder(settings.databaseUrl()).init(NotesSchema::apply);
      settings.databaseLogin().ifPresent(pool::credentials);
      return pool.open();
    });
    Opening<NotesRedis> cache = life.open(
        "redis", () -> NotesRedis.open(settings, RedisTracing.of(otel), metrics.redisCommands()));
    Opening<NatsBus> nats = life.open("nats", () -> {
      NatsBus.Builder builder = NatsBus.builder(settings.natsUrl()).stream("NOTES")
          .subjectPrefix("notes.changes")
          .replicas(settings.natsReplicas())
          .metrics(registry)
          .openTelemetry(otel);
      settings.natsLogin().ifPresent(builder::credentials);
      return builder.open();
    });
    HikariDataSource db = postgres.get();
    NotesRedis redis = cache.get();
    NatsBus bus = nats.get();
    metrics.bind(db);

    ClientTls calls = life.add(
        "client tls",
        ClientTls.builder()
            .publicRoots()
            .ca(settings.caFile())
            .certificate(settings.certificateFile(), settings.keyFile())
            .open());
    IdentityClient identity = life.add(
        "identity",
        IdentityClient.builder(settings.identityUrl())
            .httpClient(TracedHttpClient.of(calls.httpClient(), otel))
            .open());
    Auth auth = Auth.builder()
        .tokens(IdentityTokens.of(identity))
        .apiKeys(new KeyTable(db))
        .build();
    RateLimiter limiter = life.add(
        "rate limit",
        redis
            .limits()
            .apply(RateLimiter.builder())
            .perSecond(settings.ratePerSecond())
            .burst(settings.rateBurst())
            .rateLimitHeaders()
            .metrics("notes", registry)
            .open());
    Idempotency idempotency =
        Idempotency.builder(db).leaseFor(settings.idempotencyLease()).build();
    Outbox outbox = life.add("outbox", Outbox.builder(db, bus).metrics(registry).start());
    HealthChecker health = life.add(
        "health",
        HealthChecker.builder()
            .shared("postgres", HealthChecks.postgres(db))
            .optional("redis", redis.health())
            .optional("nats", NatsHealth.of(bus.connection()))
            .optional("outbox", () -> outbox.check(Duration.ofMinutes(1)))
            .open());
    ParkedChanges parked = new ParkedChanges(outbox);
    Notes notes = new Notes(new NoteStore(db, outbox), new NoteCache(redis.commands()));
    Feed feed = new Feed(db, feedIsOnFor);
    life.add(
        "feed",
        bus.consumer("notes.changes.note.*", "feed")
            .deliver(DeliverPolicy.All)
            .metrics(registry)
            .start(Inbox.of(db).handler(feed::apply)));

    Filter mayRead = auth.require("notes:read");
    Filter mayWrite = auth.require("notes:write");
    Filter mayOperate = auth.require("notes:operate");
    Filter maxBody = HttpFilters.maxBody(256 * 1024);
    http.serve(HttpService.builder()
        .filters(
            HttpTelemetry.filter(otel),
            HttpFilters.requestId(),
            metrics.requests(log),
            HttpFilters.browserGuards(),
            limiter.filter())
        .handle("GET /v1/notes", notes::list, mayRead)
        .handle("GET /v1/notes/{id}", notes::read, mayRead)
        .handle("POST /v1/notes", notes::create, maxBody, mayWrite, idempotency.filter())
        .handle("PUT /v1/notes/{id}", notes::update, maxBody, mayWrite, idempotency.filter())
        .handle("GET /v1/feed", feed::read, mayRead)
        .handle("GET /v1/parked-changes", parked::list, mayOperate)
        .handle("POST /v1/parked-changes/{id}/requeue", parked::requeue, mayOperate)
        .handle("/healthz", HttpEndpoints.health("notes"))
        .handle("/readyz", health.handler())
        .handle("/startupz", HttpEndpoints.health("notes"))
        .handle("/metrics", HttpEndpoints.metrics(registry::scrape)));
    return life.add("http", http); // again, so that it is closed first
  }

  /** Answers while the dependencies are waited for. */
  private static HttpService probes(Lifecycle life, Settings settings) {
    HttpService.Builder service = HttpService.builder(settings.port())
        .handle("/healthz", HttpEndpoints.health("notes"))
        .handle("/startupz", HttpEndpoints.starting(life::pending))
        .handle("/", HttpEndpoints.unavailable());
    ServerTls.Builder tls = ServerTls.builder()
        .certificate(settings.certificateFile(), settings.keyFile())
        .requireClients(settings.caFile());
    if (tls.isConfigured()) {
      service.tls(
          life.add("server tls", tls.open()).sslContext(), HttpService.ClientCertificates.REQUIRED);
    }
    return service.start();
  }

  /** Without a file of flags nobody sees the feed. */
  private static Predicate<String> feedRollout(
      Lifecycle life, Settings settings, PrometheusMeterRegistry registry) {
    if (settings.flagsFile() == null) {
      return organization -> false;
    }
    FeatureFlags flags = life.add(
        "flags", FeatureFlags.builder(settings.flagsFile()).metrics(registry).open());
    flags.onReload(reload -> log.info("flags: {}", reload));
    return organization -> flags.enabledFor("notes.feed", organization);
  }
}
