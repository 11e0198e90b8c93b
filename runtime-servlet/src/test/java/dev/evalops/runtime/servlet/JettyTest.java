package dev.evalops.runtime.servlet;

import dev.evalops.runtime.http.HttpService;
import java.util.Map;
import org.eclipse.jetty.ee11.servlet.ServletContextHandler;
import org.eclipse.jetty.ee11.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;

@DisabledIfSystemProperty(named = "servlet.api", matches = "6.0")
class JettyTest extends ServletContract {
  private Server server;

  @Override
  int start(Gateway gateway) throws Exception {
    server = new Server(0);
    ServletContextHandler context = new ServletContextHandler(ServletContextHandler.SESSIONS);
    context.setContextPath(contextPath().isEmpty() ? "/" : contextPath());
    ServletHolder servlet = new ServletHolder(new AppServlet(gateway));
    servlet.setAsyncSupported(true);
    context.addServlet(servlet, "/");
    context.addServlet(servlet, "/v1/notes/*");
    context.addServletContainerInitializer((classes, started) -> Servlets.addTo(
        started, gateway.routes(HttpService.builder(), Servlets.next()).handler()));
    server.setHandler(context);
    server.start();
    return ((ServerConnector) server.getConnectors()[0]).getLocalPort();
  }

  @Override
  void stop() throws Exception {
    server.stop();
  }

  @Override
  Map<String, Answer> differences() {
    return Map.of(
        "path parameter", new Answer(400, "!invalid_input"),
        "double slash", new Answer(400, ITS_OWN),
        "encoded slash", new Answer(400, ITS_OWN),
        "encoded dots", new Answer(400, ITS_OWN),
        "no host", new Answer(400, ITS_OWN),
        "two lengths", new Answer(400, ITS_OWN),
        "length and encoding", new Answer(400, ITS_OWN));
  }
}
