package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.fixtures.RawClient;
import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.Serial;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.apache.catalina.servlets.DefaultServlet;
import org.apache.tomcat.util.descriptor.web.ErrorPage;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.annotation.Bean;
import org.springframework.stereotype.Controller;
import org.springframework.web.bind.annotation.GetMapping;

/** The files of an application, and what forwards to them, includes them or fails beside them. */
class StaticFilesTest {
  @TempDir
  static Path folder;

  @BeforeAll
  static void write() throws IOException {
    Files.writeString(folder.resolve("index.html"), "welcome");
    Files.writeString(folder.resolve("hello.txt"), "hello file");
    Files.writeString(folder.resolve("large.txt"), "0123456789".repeat(10_000));
    Files.createDirectories(folder.resolve("deep"));
    Files.writeString(folder.resolve("deep/index.html"), "deep welcome");
    Files.writeString(folder.resolve("error.html"), "an error page");
  }

  private static final class Dispatching extends HttpServlet {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response)
        throws ServletException, IOException {
      switch (request.getPathInfo()) {
        case "/forward" -> request.getRequestDispatcher("/hello.txt").forward(request, response);
        case "/forward-large" ->
          request.getRequestDispatcher("/large.txt").forward(request, response);
        case "/forward-missing" ->
          request.getRequestDispatcher("/missing.txt").forward(request, response);
        case "/include" -> {
          response.setContentType("text/plain");
          response.getWriter().print("<");
          request.getRequestDispatcher("/hello.txt").include(request, response);
          response.getWriter().print(">");
        }
        case "/error" -> response.sendError(410);
        default -> throw new ServletException("secret");
      }
    }
  }

  @EnableAutoConfiguration
  static class Spring {
    @Bean
    Forwarding controller() {
      return new Forwarding();
    }
  }

  @Controller
  static class Forwarding {
    @GetMapping("/do/forward")
    String forward() {
      return "forward:/hello.txt";
    }

    @GetMapping("/do/forward-large")
    String forwardLarge() {
      return "forward:/large.txt";
    }

    @GetMapping("/do/forward-missing")
    String forwardMissing() {
      return "forward:/missing.txt";
    }

    @GetMapping("/do/error")
    void error(HttpServletResponse response) throws IOException {
      response.sendError(410);
    }

    @GetMapping("/do/throw")
    void fail() throws IOException {
      throw new IOException("secret");
    }
  }

  private static Watched start(String container) throws Exception {
    Watched watched = new Watched();
    HttpHandler handler = watched.routes().handle("/", Servlets.next()).handler();
    return switch (container) {
      case "tomcat" ->
        watched.tomcat(
            folder,
            handler,
            context -> {
              context.addWelcomeFile("index.html");
              ErrorPage page = new ErrorPage();
              page.setLocation("/error.html");
              context.addErrorPage(page);
            },
            started -> {
              started.addServlet("default", new DefaultServlet()).addMapping("/");
              started.addServlet("dispatching", new Dispatching()).addMapping("/do/*");
            });
      case "jetty" ->
        watched.jetty(
            folder,
            handler,
            context -> context.setWelcomeFiles(new String[] {"index.html"}),
            http -> {},
            started -> {
              started
                  .addServlet("default", new org.eclipse.jetty.ee11.servlet.DefaultServlet())
                  .addMapping("/");
              started.addServlet("dispatching", new Dispatching()).addMapping("/do/*");
            });
      default ->
        watched.boot(
            Spring.class,
            context -> Servlets.addTo(context, handler),
            "--spring.web.resources.static-locations=" + folder.toUri());
    };
  }

  /**
   * A request and its answer.
   *
   * @param request method, path and perhaps a header
   * @param body the exact text; or a code of ours after a {@code !}
   * @param header that the answer has; or does not have, after a {@code !}
   */
  private record Exchange(String request, int status, String body, String header) {}

  private static List<Exchange> exchanges(String container) {
    String since = " If-Modified-Since: Fri, 01 Jan ";
    String large = "0123456789".repeat(10_000);
    List<Exchange> all = new ArrayList<>(List.of(
        new Exchange("GET /hello.txt", 200, "hello file", "Content-Length: 10"),
        new Exchange("HEAD /hello.txt", 200, "", "Content-Length: 10"),
        new Exchange(
            "GET /hello.txt Range: bytes=0-4", 206, "hello", "Content-Range: bytes 0-4/10"),
        new Exchange("GET /hello.txt" + since + "2100 00:00:00 GMT", 304, "", "!Content-Type"),
        new Exchange("HEAD /hello.txt" + since + "2100 00:00:00 GMT", 304, "", "!Content-Type"),
        new Exchange("GET /hello.txt" + since + "1999 00:00:00 GMT", 200, "hello file", ""),
        new Exchange("GET /large.txt", 200, large, "Content-Length: 100000"),
        new Exchange("HEAD /large.txt", 200, "", "Content-Length: 100000"),
        new Exchange(
            "GET /large.txt Range: bytes=-20000",
            206,
            large.substring(80_000),
            "Content-Length: 20000"),
        new Exchange("GET /missing.txt", 404, "!not_found", "!Last-Modified"),
        new Exchange("GET /", 200, "welcome", "Content-Length: 7"),
        new Exchange("HEAD /", 200, "", "Content-Length: 7"),
        new Exchange("GET /do/forward", 200, "hello file", "Content-Length: 10"),
        new Exchange("HEAD /do/forward", 200, "", "Content-Length: 10"),
        new Exchange("GET /do/forward-large", 200, large, "Content-Length: 100000"),
        new Exchange("GET /do/forward-missing", 404, "!not_found", ""),
        new Exchange("GET /do/error", 410, "!invalid_input", ""),
        new Exchange("GET /do/throw", 500, "!internal_error", "")));
    if (!container.equals("boot")) {
      all.add(new Exchange("GET /deep", 302, "", "Location: /deep/"));
      all.add(new Exchange("GET /deep/", 200, "deep welcome", ""));
      all.add(new Exchange("GET /do/include", 200, "<hello file>", "Content-Length: 12"));
    }
    if (!container.equals("jetty")) { // which writes a page of its own
      all.add(new Exchange(
          "GET /hello.txt Range: bytes=100-", 416, "!invalid_input", "Content-Range: bytes */10"));
    }
    return all;
  }

  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty", "boot"})
  void areServedThroughTheFilters_andCountedOnceWithTheFinalStatus(String container)
      throws Exception {
    List<Exchange> exchanges = exchanges(container);
    try (Watched watched = start(container)) {
      RawClient client = new RawClient(watched.port());
      for (Exchange exchange : exchanges) {
        String[] request = exchange.request.split(" ", 3);
        // What follows a body that should not be there would not be read as a response.
        client.send(request[0] + " " + request[1] + " HTTP/1.1\r\nHost: x\r\n"
            + (request.length > 2 ? request[2] + "\r\n" : "") + "\r\n");
        RawClient.Response response = request[0].equals("HEAD") ? client.readHead() : client.read();
        assertThat(response.status()).as(exchange.request).isEqualTo(exchange.status);
        if (exchange.body.startsWith("!")) {
          assertThat(response.body())
              .as(exchange.request)
              .startsWith("{\"error\":{\"code\":\"" + exchange.body.substring(1) + "\"");
        } else {
          assertThat(response.body()).as(exchange.request).isEqualTo(exchange.body);
        }
        if (exchange.header.startsWith("!")) {
          assertThat(response.header(exchange.header.substring(1))).isEmpty();
        } else if (!exchange.header.isEmpty()) {
          String[] header = exchange.header.split(": ", 2);
          assertThat(response.header(header[0])).as(exchange.request).contains(header[1]);
        }
        assertThat(response.header("X-Request-Id")).as(exchange.request).isPresent();
        if (response.header("Connection").isPresent()) { // as Tomcat wants after an error
          client.close();
          client = new RawClient(watched.port());
        }
      }
      client.close();
      assertThat(watched.logged(exchanges.size()))
          .map(line -> line.replaceFirst(" .* ", " "))
          .containsExactlyInAnyOrderElementsOf(exchanges.stream()
              .map(e -> e.request.substring(0, e.request.indexOf(' ')) + " " + e.status)
              .toList());
      assertThat(watched.counted(exchanges.size()).values().stream()
              .mapToDouble(Double::doubleValue)
              .sum())
          .isEqualTo(exchanges.size());
      assertThat(watched.failures()).containsExactly("ERROR http panic recovered");
    }
  }
}
