package dev.evalops.runtime.servlet;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.VerifiedToken;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.health.HealthChecker;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.RequestContext;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.observability.ServiceMetrics;
import dev.evalops.runtime.ratelimit.RateLimiter;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.io.IOException;
import java.io.OutputStream;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.zip.GZIPOutputStream;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The filters and routes that every carrier has, in front of an application that differs. */
final class Gateway implements AutoCloseable {
  static final Logger LOG = LoggerFactory.getLogger("contract");

  /** What the guarded part of the application was asked for without a token; must stay empty. */
  final List<String> trespassers = new CopyOnWriteArrayList<>();

  /** Method, route and status, as filters learn them, by the id of the request; once each. */
  final Map<String, Collection<String>> completed = new ConcurrentHashMap<>();

  /** How often creating has run. */
  final AtomicInteger created = new AtomicInteger();

  /** What a handler that answers later waits for. */
  final Semaphore mayAnswer = new Semaphore(0);

  /** What a stream of events waits for after the first one. */
  final CountDownLatch clientLeft = new CountDownLatch(1);

  /** The ids of the requests of which a listener of the application was told that they are complete. */
  final Collection<String> listenersCompleted = new ConcurrentLinkedQueue<>();

  /** How often a thread of the application could not write any more. */
  final AtomicInteger writersStopped = new AtomicInteger();

  final HikariDataSource db;
  final PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  private final HealthChecker health;
  private final RateLimiter limiter;
  private final Auth auth = Auth.of((token, scopes) -> switch (token) {
    case "good" ->
      Optional.of(VerifiedToken.of(
          new Actor("user", "alice", "org-1"), Set.of("notes:read", "notes:write")));
    case "poor" -> Optional.of(VerifiedToken.of(new Actor("user", "bob", "org-1"), Set.of()));
    case "outage" -> throw new IOException("identity service at 10.0.0.7 refused");
    default -> Optional.empty();
  });

  Gateway(HikariDataSource db) {
    this.db = db;
    this.health = HealthChecker.builder().open();
    this.limiter = RateLimiter.builder().perSecond(0.001).burst(1).open();
  }

  HttpService.Builder routes(HttpService.Builder builder, HttpHandler app) {
    Idempotency idempotency = Idempotency.of(db);
    return builder
        .filters(
            HttpFilters.requestId(),
            ServiceMetrics.of("contract", registry).requests(LOG),
            Filter.beforeHandler("completed", exchange -> {
              RequestContext context = RequestContext.of(exchange);
              context.onComplete(() -> completed
                  .computeIfAbsent(context.requestId(), id -> new ConcurrentLinkedQueue<>())
                  .add(exchange.getRequestMethod() + " " + context.route() + " "
                      + context.status()));
            }),
            HttpFilters.browserGuards())
        .handle("/healthz", HttpEndpoints.health("contract"))
        .handle("/readyz", health.handler())
        .handle("/metrics", HttpEndpoints.metrics(registry::scrape))
        .handle("/direct", App.handler(this))
        .handle("GET /v1/items/{id}", app)
        .handle("/v1/notes", app, auth.require("notes:read"))
        .handle("/v1/created", app, auth.require("notes:write"), idempotency.filter())
        .handle("/v1/limited", app, limiter.filter())
        .handle("/small", app, HttpFilters.maxBody(10))
        .handle("/servlet/small-form", app, HttpFilters.maxBody(10))
        .handle("/servlet/wrapped", app, wrapping())
        .handle("/servlet/reset-twice", app, varying())
        .handle("/servlet/upgrade", app, auth.require())
        .handle("/zipped", app, zipping())
        .handle("/", app);
  }

  private static Filter varying() {
    return Filter.beforeHandler(
        "vary", exchange -> exchange.getResponseHeaders().add("Vary", "Origin"));
  }

  /** A filter that puts an exchange of its own around that of the service. */
  private static Filter wrapping() {
    return new Filter() {
      @Override
      public void doFilter(HttpExchange exchange, Chain chain) throws IOException {
        chain.doFilter(new HttpFilters.ForwardingExchange(exchange) {}.forChain());
      }

      @Override
      public String description() {
        return "wrapping";
      }
    };
  }

  /** A filter of a user's, which replaces the stream of the response. */
  private static Filter zipping() {
    return Filter.beforeHandler("gzip", exchange -> {
      exchange.getResponseHeaders().set("Content-Encoding", "gzip");
      OutputStream plain = exchange.getResponseBody();
      exchange.setStreams(null, new OutputStream() {
        private GZIPOutputStream zip;

        private GZIPOutputStream zip() throws IOException {
          if (zip == null) {
            zip = new GZIPOutputStream(plain);
          }
          return zip;
        }

        @Override
        public void write(int b) throws IOException {
          zip().write(b);
        }

        @Override
        public void write(byte[] b, int off, int len) throws IOException {
          zip().write(b, off, len);
        }

        @Override
        public void close() throws IOException {
          zip().close();
        }
      });
    });
  }

  /** Called by the guarded part of each application. */
  void note(String path, boolean authorized) {
    if (!authorized) {
      trespassers.add(path);
    }
  }

  static ServiceException taken() {
    return ServiceException.of(ErrorCode.CONFLICT, "taken");
  }

  @Override
  public void close() {
    limiter.close();
  }
}
