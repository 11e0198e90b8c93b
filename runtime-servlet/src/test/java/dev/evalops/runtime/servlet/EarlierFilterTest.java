package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.fixtures.RawClient;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.Filter;
import jakarta.servlet.ServletContext;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.Serial;
import java.nio.file.Path;
import java.util.EnumSet;
import org.apache.catalina.Context;
import org.apache.tomcat.util.descriptor.web.FilterDef;
import org.apache.tomcat.util.descriptor.web.FilterMap;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.context.annotation.Bean;
import org.springframework.web.bind.annotation.RequestMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

/** Forms that a filter before ours has read, as that of Spring Security does for its token. */
class EarlierFilterTest {
  @TempDir
  static Path folder;

  private static final Filter READS_THE_FORM = (request, response, chain) -> {
    request.getParameter("_csrf");
    chain.doFilter(request, response);
  };

  @EnableAutoConfiguration(
      excludeName = "org.springframework.boot.jdbc.autoconfigure.DataSourceAutoConfiguration")
  static class Spring {
    /** Has an order, by which Boot puts all its filters before ours. */
    @Bean
    FilterRegistrationBean<Filter> security() {
      FilterRegistrationBean<Filter> bean = new FilterRegistrationBean<>(READS_THE_FORM);
      bean.setOrder(-100);
      return bean;
    }

    @Bean
    Controller controller() {
      return new Controller();
    }
  }

  @RestController
  static class Controller {
    @RequestMapping("/form")
    String form(@RequestParam("name") String name, @RequestParam("q") String query) {
      return "name=" + name + " q=" + query;
    }
  }

  static final class Application extends HttpServlet {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void doPost(HttpServletRequest request, HttpServletResponse response)
        throws IOException {
      response
          .getOutputStream()
          .print("name=" + request.getParameter("name") + " q=" + request.getParameter("q"));
    }
  }

  private static void addServlet(ServletContext context) {
    context.addServlet("application", new Application()).addMapping("/");
  }

  private static Watched start(String container) throws Exception {
    Watched watched = new Watched();
    HttpHandler handler = watched
        .routes()
        .handle("/read", exchange -> exchange.getRequestBody().readAllBytes())
        .handle("/", Servlets.next())
        .handler();
    return switch (container) {
      case "tomcat" ->
        watched.tomcat(
            folder, handler, EarlierFilterTest::addFilter, EarlierFilterTest::addServlet);
      case "jetty" ->
        watched.jetty(
            folder,
            handler,
            context -> context.addServletContainerInitializer((classes, started) -> started
                .addFilter("before", READS_THE_FORM)
                .addMappingForUrlPatterns(EnumSet.of(DispatcherType.REQUEST), false, "/*")),
            http -> {},
            EarlierFilterTest::addServlet);
      default -> watched.boot(Spring.class, context -> Servlets.addTo(context, handler));
    };
  }

  private static void addFilter(Context context) {
    FilterDef definition = new FilterDef();
    definition.setFilterName("before");
    definition.setFilter(READS_THE_FORM);
    context.addFilterDef(definition);
    FilterMap all = new FilterMap();
    all.setFilterName("before");
    all.addURLPattern("/*");
    context.addFilterMapBefore(all);
  }

  private static String send(Watched watched, String method, String path, String form, String head)
      throws IOException {
    try (RawClient client = new RawClient(watched.port())) {
      client.send(method + " " + path + " HTTP/1.1\r\nHost: x\r\n"
          + "Content-Type: application/x-www-form-urlencoded\r\n" + head + "\r\n\r\n" + form);
      RawClient.Response response = client.read();
      return response.status() + " " + response.body().strip();
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty", "boot"})
  void leavesTheApplicationItsParameters(String container) throws Exception {
    try (Watched watched = start(container)) {
      assertThat(send(watched, "POST", "/form?q=1", "name=ann+b", "Content-Length: 10"))
          .isEqualTo("200 name=ann b q=1");
      String chunked = "a\r\nname=ann+b\r\n0\r\n\r\n";
      assertThat(send(watched, "POST", "/form?q=1", chunked, "Transfer-Encoding: chunked"))
          .isEqualTo("200 name=ann b q=1");
      if (container.equals("boot")) { // which reads other forms than those of POST by a filter, too
        assertThat(send(watched, "PUT", "/form?q=1", "name=ann+b", "Content-Length: 10"))
            .isEqualTo("200 name=ann b q=1");
      }
      assertThat(watched.failures()).isEmpty();
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty", "boot"})
  void isNamed_whereAFilterOfOursReadsNothingOfTheForm(String container) throws Exception {
    try (Watched watched = start(container)) {
      assertThat(send(watched, "POST", "/read", "name=ann+b", "Content-Length: 10"))
          .startsWith("500 ");
      assertThat(watched.failure()).hasMessageContaining("has read the form");
    }
  }
}
