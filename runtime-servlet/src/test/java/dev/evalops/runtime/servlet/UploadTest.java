package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpHandler;
import com.zaxxer.hikari.HikariDataSource;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.auth.Actor;
import dev.evalops.runtime.auth.Auth;
import dev.evalops.runtime.auth.VerifiedToken;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.idempotency.Idempotency;
import dev.evalops.runtime.testutil.Schema;
import dev.evalops.runtime.testutil.TestPostgres;
import jakarta.servlet.MultipartConfigElement;
import jakarta.servlet.ServletContext;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRegistration;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.Part;
import java.io.IOException;
import java.io.Serial;
import java.net.SocketException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.annotation.Bean;
import org.springframework.http.MediaType;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.multipart.MultipartFile;

/** Forms and uploads behind the limit of bodies and behind a filter that reads the body. */
@ExtendWith(TestPostgres.class)
class UploadTest {
  private static final String FORM = "Content-Type: application/x-www-form-urlencoded\r\n";
  private static final String MULTIPART = "Content-Type: multipart/form-data; boundary=xyz\r\n";
  private static final String CHUNKED = "Transfer-Encoding: chunked\r\n";

  @TempDir
  static Path folder;

  static final class Uploads extends HttpServlet {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void doPost(HttpServletRequest request, HttpServletResponse response)
        throws ServletException, IOException {
      if ("parts".equals(request.getQueryString())) {
        request.getParts();
      }
      StringBuilder text = new StringBuilder("name=" + request.getParameter("name"));
      if (request.getContentType().startsWith("multipart/")) {
        Part file = request.getPart("file");
        text.append(' ').append(file.getSubmittedFileName()).append(' ').append(file.getSize());
      }
      response.setContentType("text/plain");
      response.getOutputStream().print(text.toString());
    }
  }

  @EnableAutoConfiguration(
      excludeName = "org.springframework.boot.jdbc.autoconfigure.DataSourceAutoConfiguration")
  static class Spring {
    @Bean
    Controller controller() {
      return new Controller();
    }
  }

  @RestController
  static class Controller {
    @PostMapping(
        path = {"/form", "/keyed/form"},
        consumes = MediaType.APPLICATION_FORM_URLENCODED_VALUE)
    String form(@RequestParam("name") String name) {
      return "name=" + name;
    }

    @PostMapping(
        path = {"/upload", "/limited", "/keyed/upload"},
        consumes = MediaType.MULTIPART_FORM_DATA_VALUE)
    String upload(@RequestParam("name") String name, @RequestParam("file") MultipartFile file) {
      return "name=" + name + " " + file.getOriginalFilename() + " " + file.getSize();
    }
  }

  private static void addServlet(ServletContext context) {
    ServletRegistration.Dynamic uploads = context.addServlet("uploads", new Uploads());
    uploads.setMultipartConfig(new MultipartConfigElement(folder.toString(), 5_000, 6_000, 100));
    uploads.addMapping("/");
  }

  private static Watched start(String container, HikariDataSource db) throws Exception {
    Watched watched = new Watched();
    Auth auth = Auth.of((token, scopes) ->
        Optional.of(VerifiedToken.of(new Actor("user", token, "org-1"), Set.of())));
    HttpHandler handler = watched
        .routes()
        .handle("/limited", Servlets.next(), HttpFilters.maxBody(1_000))
        .handle("/keyed", Servlets.next(), auth.require(), Idempotency.of(db).filter())
        .handle("/", Servlets.next())
        .handler();
    return switch (container) {
      case "tomcat" -> watched.tomcat(folder, handler, context -> {}, UploadTest::addServlet);
      case "jetty" ->
        watched.jetty(folder, handler, context -> {}, http -> {}, UploadTest::addServlet);
      case "jetty ee10" -> watched.jettyEe10(handler, UploadTest::addServlet);
      default ->
        watched.boot(
            Spring.class,
            context -> Servlets.addTo(context, handler),
            "--spring.servlet.multipart.max-file-size=5000B",
            "--spring.servlet.multipart.max-request-size=6000B");
    };
  }

  private static String multipart(int size) {
    return "--xyz\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nann\r\n"
        + "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n"
        + "Content-Type: text/plain\r\n\r\n" + "x".repeat(size) + "\r\n--xyz--\r\n";
  }

  private static String post(String path, String body, String headers) {
    boolean chunked = headers.contains(CHUNKED);
    return "POST " + path + " HTTP/1.1\r\nHost: x\r\n" + headers
        + "Authorization: Bearer ann\r\nIdempotency-Key: " + path + headers.length() + body.length()
        + "\r\n"
        + (chunked
            ? "\r\n" + Integer.toHexString(body.length()) + "\r\n" + body + "\r\n0\r\n\r\n"
            : "Content-Length: " + body.length() + "\r\n\r\n" + body);
  }

  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty", "jetty ee10", "boot"})
  void areReadWithinTheLimits(
      String container,
      @Schema("dev/evalops/runtime/idempotency/idempotency.sql") HikariDataSource db)
      throws Exception {
    String chunked = MULTIPART + CHUNKED;
    String cut = multipart(10).substring(0, 150);
    Map<String, String> expected = new LinkedHashMap<>();
    expected.put(post("/form", "name=ann+b", FORM), "200 name=ann b");
    expected.put(post("/keyed/form", "name=ann+c", FORM), "200 name=ann c");
    expected.put(post("/upload", multipart(4_000), MULTIPART), "200 name=ann a.txt 4000");
    expected.put(post("/upload", multipart(4_000), chunked), "200 name=ann a.txt 4000");
    // Larger than the limit of one file, than that of all, than ours.
    expected.put(post("/upload", multipart(5_500), MULTIPART), "413 body_too_large");
    expected.put(post("/upload", multipart(5_500), chunked), "413 body_too_large");
    expected.put(post("/upload", multipart(7_500), MULTIPART), "413 body_too_large");
    expected.put(post("/upload", multipart(7_500), chunked), "413 body_too_large");
    expected.put(post("/limited", multipart(2_000), MULTIPART), "413 body_too_large");
    expected.put(post("/upload", multipart(1_100_000), MULTIPART), "413 body_too_large");
    expected.put(post("/upload", cut, MULTIPART), "400 invalid_input");
    String noBoundary = "Content-Type: multipart/form-data\r\n";
    expected.put(post("/upload", multipart(10), noBoundary), "400 invalid_input");
    expected.put(post("/upload?parts", multipart(10), noBoundary), "400 invalid_input");
    expected.put(post("/upload?parts", cut, MULTIPART), "400 invalid_input");
    for (String path : List.of("/upload", "/upload?parts")) {
      String malformed = post(path, multipart(10), chunked).replaceFirst("\r\n\r\n", "$0g");
      expected.put(malformed, "400 invalid_input");
    }
    expected.put(post("/upload?parts", "name=ann", FORM), "415 unsupported_content_type");
    expected.put(post("/upload?parts", multipart(5_500), MULTIPART), "413 body_too_large");
    expected.put(post("/upload?parts", multipart(7_500), chunked), "413 body_too_large");
    try (Watched watched = start(container, db)) {
      for (Map.Entry<String, String> exchange : expected.entrySet()) {
        assertThat(send(watched, exchange.getKey()))
            .as(exchange.getKey().substring(0, Math.min(400, exchange.getKey().length())))
            .isEqualTo(exchange.getValue());
      }
      // Answered again, and not parsed: there is only one effect.
      assertThat(send(watched, post("/keyed/form", "name=ann+c", FORM)))
          .isEqualTo("200 name=ann c");
      assertThat(watched.logged(expected.size() + 1))
          .map(line -> line.substring(line.lastIndexOf(' ') + 1))
          .containsExactlyInAnyOrderElementsOf(
              Stream.concat(expected.values().stream(), Stream.of("200 "))
                  .map(answer -> answer.substring(0, 3))
                  .toList());
      assertThat(watched.failures()).isEmpty();
      assertThat(send(watched, post("/keyed/upload", multipart(10), MULTIPART)))
          .isEqualTo("500 internal_error");
      assertThat(watched.failure()).hasStackTraceContaining("a filter has read the request body");
    }
  }

  /** The status, and the code of a refusal or the text. */
  private static String send(Watched watched, String request) throws IOException {
    try (RawClient client = new RawClient(watched.port())) {
      try {
        client.send(request);
      } catch (SocketException closed) {
        // A server that refuses a body need not read all of it; its answer is here.
      }
      RawClient.Response response = client.read();
      return response.status() + " "
          + response
              .body()
              .replaceFirst("\\{\"error\":\\{\"code\":\"([a-z_]+)\".*", "$1")
              .strip();
    }
  }
}
