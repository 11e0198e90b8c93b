package dev.evalops.runtime.servlet;

import dev.evalops.runtime.http.HttpService;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import org.apache.catalina.Context;
import org.apache.catalina.LifecycleException;
import org.apache.catalina.Wrapper;
import org.apache.catalina.startup.Tomcat;
import org.junit.jupiter.api.io.TempDir;

class TomcatTest extends ServletContract {
  @TempDir
  static Path directory;

  private Tomcat tomcat;

  @Override
  int start(Gateway gateway) throws LifecycleException {
    tomcat = new Tomcat();
    tomcat.setBaseDir(directory.toString());
    tomcat.setPort(0);
    Context context = tomcat.addContext(contextPath(), null);
    AppServlet servlet = new AppServlet(gateway);
    add(context, "app", servlet, "/");
    add(context, "notes", servlet, "/v1/notes/*");
    context.addServletContainerInitializer(
        (classes, started) -> Servlets.addTo(
            started, gateway.routes(HttpService.builder(), Servlets.next()).handler()),
        Set.of());
    tomcat.getConnector();
    tomcat.start();
    return tomcat.getConnector().getLocalPort();
  }

  private static void add(Context context, String name, AppServlet servlet, String path) {
    Wrapper wrapper = Tomcat.addServlet(context, name, servlet);
    wrapper.setAsyncSupported(true);
    wrapper.addMapping(path);
  }

  @Override
  void stop() throws LifecycleException {
    tomcat.stop();
    tomcat.destroy();
  }

  @Override
  Map<String, Answer> differences() {
    return Map.of(
        "path parameter", new Answer(400, "!invalid_input"),
        "encoded slash", new Answer(400, ITS_OWN),
        "no host", new Answer(400, ITS_OWN),
        "two lengths", new Answer(400, ITS_OWN),
        // It takes the encoding, as RFC 9112 wants, and hides the length.
        "length and encoding", new Answer(200, "body"));
  }
}
