package dev.evalops.benchmarks.peers;

import io.javalin.Javalin;
import io.javalin.http.ForbiddenResponse;
import io.javalin.http.NotFoundResponse;
import io.javalin.http.UnauthorizedResponse;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import java.util.Map;
import java.util.UUID;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.SecureRequestCustomizer;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.ssl.SslContextFactory;

/** Javalin as it comes. {@code <port>} */
public final class OnJavalin {
  private OnJavalin() {}

  public static void main(String[] args) {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    HandMade hand = new HandMade(registry);
    Javalin.create(config -> {
          config.startup.showJavalinBanner = false;
          KeyFiles.find().ifPresent(keys -> config.jetty.addConnector(
              (server, http) -> connector(server, http, keys, Integer.parseInt(args[0]))));
          config.routes.before(ctx -> {
            ctx.attribute("start", System.nanoTime());
            String id = HandMade.requestId(ctx.header("X-Request-Id"));
            ctx.attribute("request_id", id);
            ctx.header("X-Request-Id", id);
            if (!hand.allows(ctx.ip())) {
              throw new io.javalin.http.HttpResponseException(429);
            }
          });
          config.routes.before("/v1/*", ctx -> {
            Notes.Caller caller = Notes.caller(String.valueOf(HandMade.token(ctx.header("Authorization"))))
                .orElseThrow(UnauthorizedResponse::new);
            if (!caller.scopes().contains(Notes.SCOPE)) {
              throw new ForbiddenResponse();
            }
            ctx.attribute("caller", caller);
          });
          config.routes.get(
              "/v1/notes/{id}",
              ctx -> ctx.json(Notes.find(UUID.fromString(ctx.pathParam("id"))).orElseThrow(NotFoundResponse::new)));
          config.routes.get("/healthz", ctx -> ctx.json(Map.of("status", "ok")));
          config.routes.get("/metrics", ctx -> ctx.result(registry.scrape()));
          config.routes.after(ctx -> hand.complete(
              ctx.attribute("request_id"),
              ctx.req().getMethod(),
              ctx.path(),
              ctx.endpoint().path,
              ctx.statusCode(),
              ctx.<Long>attribute("start")));
        })
        .start(Integer.parseInt(args[0]));
  }

  /** Jetty's own, as Javalin's documentation has it: its TLS plugin ends with Javalin 6. */
  private static ServerConnector connector(Server server, HttpConfiguration http, KeyFiles keys, int port) {
    SslContextFactory.Server tls = new SslContextFactory.Server();
    tls.setKeyStorePath(keys.store());
    tls.setKeyStorePassword(KeyFiles.PASSWORD);
    tls.setIncludeProtocols(KeyFiles.PROTOCOL);
    http.addCustomizer(new SecureRequestCustomizer());
    ServerConnector connector = new ServerConnector(server, tls, new HttpConnectionFactory(http));
    connector.setPort(port);
    return connector;
  }
}
