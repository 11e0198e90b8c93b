package dev.evalops.runtime.servlet;

import dev.evalops.runtime.http.HttpService;
import java.util.Map;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

/** Jetty for Servlet 6.0. */
class JettyEe10Test extends ServletContract {
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
  String servletVersion() {
    return "6.0";
  }

  @Override
  void stop() throws Exception {
    server.stop();
  }

  @Override
  Map<String, Answer> differences() {
    return new JettyTest().differences();
  }
}
