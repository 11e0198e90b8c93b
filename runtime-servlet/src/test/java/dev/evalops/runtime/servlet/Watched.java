package dev.evalops.runtime.servlet;

import static org.awaitility.Awaitility.await;

import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.classic.spi.ThrowableProxy;
import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.http.opentelemetry.HttpTelemetry;
import dev.evalops.runtime.observability.ServiceMetrics;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.propagation.ContextPropagators;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.testing.exporter.InMemorySpanExporter;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.SimpleSpanProcessor;
import jakarta.servlet.ServletContext;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.apache.coyote.http2.Http2Protocol;
import org.eclipse.jetty.ee11.servlet.ServletContextHandler;
import org.eclipse.jetty.http2.server.HTTP2CServerConnectionFactory;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.resource.ResourceFactory;
import org.slf4j.LoggerFactory;
import org.springframework.boot.Banner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.web.servlet.ServletContextInitializer;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.support.GenericApplicationContext;

/** An application in a container, behind filters that record what they learn of each request. */
final class Watched implements AutoCloseable {
  private static final Duration PATIENCE = Duration.ofMinutes(1);

  private interface Closing {
    void close() throws Exception;
  }

  // Made when the application has started: Boot begins with a logging of its own.
  private CapturedLog log;
  private CapturedLog guardLog;
  private final PrometheusMeterRegistry registry =
      new PrometheusMeterRegistry(PrometheusConfig.DEFAULT);
  private final InMemorySpanExporter spans = InMemorySpanExporter.create();
  private final OpenTelemetrySdk telemetry = OpenTelemetrySdk.builder()
      .setTracerProvider(SdkTracerProvider.builder()
          .addSpanProcessor(SimpleSpanProcessor.create(spans))
          .build())
      .setPropagators(ContextPropagators.create(W3CTraceContextPropagator.getInstance()))
      .build();
  private Closing stop;
  private int port;

  /** A builder whose filters record; two requests at a time, so that one that leaks its place is found out. */
  HttpService.Builder routes(Filter... more) {
    List<Filter> filters = new ArrayList<>(List.of(
        HttpFilters.requestId(),
        HttpTelemetry.filter(telemetry),
        ServiceMetrics.of("watched", registry).requests(LoggerFactory.getLogger("watched")),
        HttpFilters.browserGuards()));
    filters.addAll(List.of(more));
    return HttpService.builder().maxInFlight(2).filters(filters.toArray(Filter[]::new));
  }

  Watched tomcat(
      Path folder, HttpHandler handler, Consumer<Context> settings, Consumer<ServletContext> app)
      throws Exception {
    Tomcat tomcat = new Tomcat();
    tomcat.setBaseDir(Files.createDirectories(folder.resolve("tomcat")).toString());
    Connector connector = new Connector();
    connector.setPort(0);
    connector.addUpgradeProtocol(new Http2Protocol());
    connector.setProperty("allowedTrailerHeaders", "x-mark");
    tomcat.setConnector(connector);
    Context context = tomcat.addContext("", folder.toAbsolutePath().toString());
    settings.accept(context);
    context.addServletContainerInitializer(
        (classes, started) -> {
          Servlets.addTo(started, handler);
          app.accept(started);
        },
        Set.of());
    tomcat.start();
    return started(connector.getLocalPort(), () -> {
      tomcat.stop();
      tomcat.destroy();
    });
  }

  Watched jetty(
      Path folder,
      HttpHandler handler,
      Consumer<ServletContextHandler> settings,
      Consumer<HttpConfiguration> http,
      Consumer<ServletContext> app)
      throws Exception {
    Server server = new Server();
    HttpConfiguration configuration = new HttpConfiguration();
    http.accept(configuration);
    ServerConnector connector = new ServerConnector(
        server,
        new HttpConnectionFactory(configuration),
        new HTTP2CServerConnectionFactory(configuration));
    server.addConnector(connector);
    ServletContextHandler context = new ServletContextHandler(ServletContextHandler.SESSIONS);
    context.setBaseResource(ResourceFactory.of(context).newResource(folder));
    settings.accept(context);
    context.addServletContainerInitializer((classes, started) -> {
      Servlets.addTo(started, handler);
      app.accept(started);
    });
    server.setHandler(context);
    server.start();
    return started(connector.getLocalPort(), server::stop);
  }

  Watched jettyEe10(HttpHandler handler, Consumer<ServletContext> app) throws Exception {
    Server server = new Server(0);
    var context = new org.eclipse.jetty.ee10.servlet.ServletContextHandler();
    context.addServletContainerInitializer((classes, started) -> {
      Servlets.addTo(started, handler);
      app.accept(started);
    });
    server.setHandler(context);
    server.start();
    return started(((ServerConnector) server.getConnectors()[0]).getLocalPort(), server::stop);
  }

  Watched boot(Class<?> application, ServletContextInitializer runtime, String... settings) {
    SpringApplication boot = new SpringApplication(application);
    boot.setBannerMode(Banner.Mode.OFF);
    boot.setLogStartupInfo(false);
    boot.setRegisterShutdownHook(false);
    boot.addInitializers(beans -> ((GenericApplicationContext) beans)
        .registerBean(ServletContextInitializer.class, () -> runtime));
    List<String> arguments =
        new ArrayList<>(List.of("--server.port=0", "--logging.config=classpath:logback-test.xml"));
    arguments.addAll(List.of(settings));
    ConfigurableApplicationContext context = boot.run(arguments.toArray(String[]::new));
    return started(
        context.getEnvironment().getRequiredProperty("local.server.port", Integer.class),
        context::close);
  }

  private Watched started(int at, Closing stopping) {
    log = new CapturedLog("watched");
    guardLog = new CapturedLog("dev.evalops.runtime.http.Guard");
    port = at;
    stop = stopping;
    return this;
  }

  int port() {
    return port;
  }

  /** Method, route and status of the requests that have ended, as logged; waits until there are so many. */
  List<String> logged(int requests) {
    await().atMost(PATIENCE).until(() -> log.events().size() >= requests);
    return log.events().stream().map(Watched::line).toList();
  }

  private static String line(ILoggingEvent event) {
    Map<String, Object> values = CapturedLog.keyValues(event);
    return values.get("method") + " " + values.get("route") + " " + values.get("status");
  }

  /** The same as counted; waits until there are so many. */
  Map<String, Double> counted(int requests) {
    await()
        .atMost(PATIENCE)
        .until(() -> counted().values().stream().mapToDouble(n -> n).sum() >= requests);
    return counted();
  }

  private Map<String, Double> counted() {
    Map<String, Double> counted = new TreeMap<>();
    registry
        .find("watched.http.requests")
        .counters()
        .forEach(counter -> counted.put(
            counter.getId().getTag("method") + " " + counter.getId().getTag("route") + " "
                + counter.getId().getTag("status"),
            counter.count()));
    return counted;
  }

  /** The spans that have ended; waits until there are so many. */
  List<SpanData> spans(int ended) {
    await().atMost(PATIENCE).until(() -> spans.getFinishedSpanItems().size() >= ended);
    return spans.getFinishedSpanItems();
  }

  /** What the guard has logged. */
  List<String> failures() {
    return guardLog.messages();
  }

  /** What was thrown with the last of them. */
  Throwable failure() {
    return ((ThrowableProxy) guardLog.events().getLast().getThrowableProxy()).getThrowable();
  }

  @Override
  public void close() throws Exception {
    stop.close();
    guardLog.close();
    log.close();
    telemetry.close();
  }
}
