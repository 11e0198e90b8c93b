package dev.evalops.examples.notes.spring;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpHandler;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.identity.IdentityTokens;
import dev.evalops.runtime.featureflags.FeatureFlags;
import dev.evalops.runtime.health.HealthChecker;
import dev.evalops.runtime.health.HealthChecks;
import dev.evalops.runtime.health.nats.NatsHealth;
import dev.evalops.runtime.health.redis.RedisHealth;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.idempotency.spring.SpringTransactions;
import dev.evalops.runtime.identity.IdentityClient;
import dev.evalops.runtime.natsbus.EventConsumer;
import dev.evalops.runtime.natsbus.NatsBus;
import dev.evalops.runtime.observability.ServiceMetrics;
import dev.evalops.runtime.outbox.Inbox;
import dev.evalops.runtime.outbox.Outbox;
import dev.evalops.runtime.postgres.Postgres;
import dev.evalops.runtime.ratelimit.RateLimiter;
import dev.evalops.runtime.redis.Redis;
import dev.evalops.runtime.servlet.Servlets;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.nats.client.api.DeliverPolicy;
import java.nio.file.Path;
import java.time.Duration;
import javax.sql.DataSource;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.web.servlet.ServletContextInitializer;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.transaction.PlatformTransactionManager;
import tools.jackson.databind.json.JsonMapper;

/** What the service needs and who guards it; Spring closes each bean before those that it was made from. */
@Configuration(proxyBeanMethods = false)
class RuntimeConfiguration {
  private static final Logger log = LoggerFactory.getLogger(NotesApplication.class);

  @Bean
  PrometheusMeterRegistry registry() {
    return new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  }

  @Bean
  HikariDataSource db(@Value("${DATABASE_URL}") String url) {
    return Postgres.builder(url).init(NotesSchema::apply).open();
  }

  @Bean
  Redis redis(@Value("${REDIS_URL}") String url) {
    return Redis.open(url);
  }

  @Bean
  NatsBus bus(@Value("${NATS_URL}") String url, PrometheusMeterRegistry registry) {
    return NatsBus.builder(url).stream("NOTES")
        .subjectPrefix("notes.changes")
        .metrics(registry)
        .open();
  }

  @Bean
  IdentityClient identity(@Value("${IDENTITY_URL}") String url) {
    return IdentityClient.builder(url).open();
  }

  @Bean
  FeatureFlags flags(@Value("${FEATURE_FLAGS_PATH}") Path file, PrometheusMeterRegistry registry) {
    return FeatureFlags.builder(file).metrics(registry).open();
  }

  @Bean
  Outbox outbox(DataSource db, NatsBus bus, PrometheusMeterRegistry registry) {
    return Outbox.builder(db, bus).metrics(registry).start();
  }

  @Bean
  EventConsumer feedConsumer(
      NatsBus bus, DataSource db, Feed feed, PrometheusMeterRegistry registry) {
    return bus.consumer("notes.changes.note.*", "feed")
        .deliver(DeliverPolicy.All)
        .metrics(registry)
        .start(Inbox.of(db).handler(feed::apply));
  }

  /** The key, the answer and the work of the request commit together, in Spring's transaction. */
  @Bean
  Idempotency idempotency(
      DataSource db,
      PlatformTransactionManager transactions,
      @Value("${IDEMPOTENCY_LEASE:PT1M}") Duration lease) {
    return Idempotency.builder(db)
        .leaseFor(lease)
        .transactions(SpringTransactions.of(transactions, db))
        .build();
  }

  @Bean
  RateLimiter limiter(
      Redis redis,
      PrometheusMeterRegistry registry,
      @Value("${RATE_LIMIT_PER_SECOND:100}") double perSecond,
      @Value("${RATE_LIMIT_BURST:200}") int burst) {
    return RateLimiter.builder()
        .perSecond(perSecond)
        .burst(burst)
        .rateLimitHeaders()
        .redis(redis.connection())
        .metrics("notes", registry)
        .open();
  }

  @Bean
  HealthChecker health(DataSource db, Redis redis, NatsBus bus, Outbox outbox) {
    return HealthChecker.builder()
        .shared("postgres", HealthChecks.postgres(db))
        .optional("redis", RedisHealth.of(redis.connection()))
        .optional("nats", NatsHealth.of(bus.connection()))
        .optional("outbox", () -> outbox.check(Duration.ofMinutes(1)))
        .open();
  }

  /** Strict: unknown and duplicate fields are errors. */
  @Bean
  JsonMapper jsonMapper() {
    return HttpRequests.mapper();
  }

  /** In front of Spring MVC, as {@code main} of the notes service has it. */
  @Bean
  ServletContextInitializer routes(
      HikariDataSource db,
      IdentityClient identity,
      RateLimiter limiter,
      Idempotency idempotency,
      HealthChecker health,
      PrometheusMeterRegistry registry) {
    ServiceMetrics metrics = ServiceMetrics.of("notes", registry).bind(db);
    Auth auth = Auth.of(IdentityTokens.of(identity));
    Filter mayRead = auth.require("notes:read");
    Filter mayWrite = auth.require("notes:write");
    Filter maxBody = HttpFilters.maxBody(256 * 1024);
    HttpHandler handler = HttpService.builder()
        .filters(
            HttpFilters.requestId(),
            metrics.requests(log),
            HttpFilters.browserGuards(),
            limiter.filter())
        .handle("GET /v1/notes", Servlets.next(), mayRead)
        .handle("GET /v1/notes/{id}", Servlets.next(), mayRead)
        .handle("POST /v1/notes", Servlets.next(), maxBody, mayWrite, idempotency.filter())
        .handle("PUT /v1/notes/{id}", Servlets.next(), maxBody, mayWrite, idempotency.filter())
        .handle("GET /v1/feed", Servlets.next(), mayRead)
        .handle("/healthz", HttpEndpoints.health("notes"))
        .handle("/readyz", health.handler())
        .handle("/metrics", HttpEndpoints.metrics(registry::scrape))
        .handler();
    return context -> Servlets.addTo(context, handler);
  }
}
