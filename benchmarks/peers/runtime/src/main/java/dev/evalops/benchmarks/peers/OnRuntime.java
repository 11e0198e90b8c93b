package dev.evalops.benchmarks.peers;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.VerifiedToken;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpEndpoints;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpRequests;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.mtls.ServerTls;
import dev.evalops.runtime.observability.ServiceMetrics;
import dev.evalops.runtime.ratelimit.RateLimiter;
import dev.evalops.runtime.servlet.Servlets;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import jakarta.servlet.http.HttpServlet;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.util.net.SSLHostConfig;
import org.apache.tomcat.util.net.SSLHostConfigCertificate;
import org.eclipse.jetty.ee11.servlet.ServletContextHandler;
import org.eclipse.jetty.ee11.servlet.ServletHolder;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.SecureRequestCustomizer;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.ssl.SslContextFactory;
import org.slf4j.LoggerFactory;

/**
 * This library on the JDK's server, in Jetty and in Tomcat. {@code <port> service | bare | guards | jetty |
 * tomcat}; {@code bare} has no filters, {@code guards} adds {@code browserGuards}.
 */
public final class OnRuntime {
  private OnRuntime() {}

  public static void main(String[] args) throws Exception {
    int port = Integer.parseInt(args[0]);
    switch (args[1]) {
      case "jetty" -> jetty(port, routes(HttpService.builder(), false).handler());
      case "tomcat" -> tomcat(port, routes(HttpService.builder(), false).handler());
      default -> {
        HttpService.Builder builder = HttpService.builder(port);
        if (args[1].equals("bare")) {
          builder
              .handle("GET /v1/notes/{id}", OnRuntime::read)
              .handle("/healthz", HttpEndpoints.health("notes"));
        } else {
          routes(builder, args[1].equals("guards"));
        }
        KeyFiles.find().ifPresent(keys -> builder.tls(
            ServerTls.builder().certificate(keys.certificate(), keys.key()).open().sslContext(),
            HttpService.ClientCertificates.NONE));
        builder.start();
      }
    }
  }

  private static HttpService.Builder routes(HttpService.Builder builder, boolean guards) {
    PrometheusMeterRegistry registry = new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
    ServiceMetrics metrics = ServiceMetrics.of("notes", registry);
    RateLimiter limiter = RateLimiter.builder().perSecond(1e6).burst(1_000_000).metrics("notes", registry).open();
    Auth auth = Auth.of((token, scopes) -> Notes.caller(token)
        .map(c -> VerifiedToken.of(new Actor("user", c.subject(), c.organization()), c.scopes())));
    List<Filter> filters = new ArrayList<>(
        List.of(HttpFilters.requestId(), metrics.requests(LoggerFactory.getLogger("http"))));
    if (guards) {
      filters.add(HttpFilters.browserGuards());
    }
    filters.add(limiter.filter());
    return builder
        .filters(filters.toArray(Filter[]::new))
        .handle("GET /v1/notes/{id}", OnRuntime::read, auth.require(Notes.SCOPE))
        .handle("/healthz", HttpEndpoints.health("notes"))
        .handle("/metrics", HttpEndpoints.metrics(registry::scrape));
  }

  private static void read(HttpExchange exchange) throws IOException {
    HttpResponses.json(
        exchange,
        200,
        Notes.find(HttpRequests.pathUuid(exchange, "id"))
            .orElseThrow(() -> ServiceException.of(ErrorCode.NOT_FOUND, "no such note")));
  }

  private static void jetty(int port, HttpHandler handler) throws Exception {
    Server server = new Server();
    server.addConnector(connector(server, port));
    ServletContextHandler context = new ServletContextHandler("/");
    context.addServlet(new ServletHolder(new HttpServlet() {}), "/");
    context.addServletContainerInitializer((classes, started) -> Servlets.addTo(started, handler));
    server.setHandler(context);
    server.start();
  }

  private static ServerConnector connector(Server server, int port) {
    HttpConfiguration http = new HttpConfiguration();
    KeyFiles keys = KeyFiles.find().orElse(null);
    SslContextFactory.Server tls = null;
    if (keys != null) {
      tls = new SslContextFactory.Server();
      tls.setKeyStorePath(keys.store());
      tls.setKeyStorePassword(KeyFiles.PASSWORD);
      tls.setIncludeProtocols(KeyFiles.PROTOCOL);
      http.addCustomizer(new SecureRequestCustomizer());
    }
    ServerConnector connector = new ServerConnector(server, tls, new HttpConnectionFactory(http));
    connector.setPort(port);
    return connector;
  }

  private static void tomcat(int port, HttpHandler handler) throws Exception {
    Tomcat tomcat = new Tomcat();
    tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
    tomcat.setPort(port);
    Context context = tomcat.addContext("", null);
    Tomcat.addServlet(context, "none", new HttpServlet() {});
    context.addServletMappingDecoded("/", "none");
    context.addServletContainerInitializer(
        (classes, started) -> Servlets.addTo(started, handler), null);
    Connector connector = tomcat.getConnector();
    KeyFiles.find().ifPresent(keys -> secure(connector, keys));
    tomcat.start();
  }

  private static void secure(Connector connector, KeyFiles keys) {
    SSLHostConfig host = new SSLHostConfig();
    host.setProtocols(KeyFiles.PROTOCOL);
    SSLHostConfigCertificate certificate =
        new SSLHostConfigCertificate(host, SSLHostConfigCertificate.Type.EC);
    certificate.setCertificateFile(keys.certificate());
    certificate.setCertificateKeyFile(keys.key());
    host.addCertificate(certificate);
    connector.addSslHostConfig(host);
    connector.setProperty("SSLEnabled", "true");
    connector.setScheme("https");
    connector.setSecure(true);
  }
}
