package dev.evalops.runtime.servlet;

import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.idempotency.Idempotency;
import jakarta.servlet.ServletContext;
import jakarta.servlet.ServletRegistration;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.servlet.ServletContextInitializer;
import org.springframework.context.annotation.Bean;
import org.springframework.http.HttpHeaders;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RestController;

/** The application of the contract as controllers, written as one writes them. */
@EnableAutoConfiguration
class BootApp {
  private final Gateway gateway;

  BootApp(Gateway gateway) {
    this.gateway = gateway;
  }

  @Bean
  ServletContextInitializer runtime() {
    return context -> {
      Servlets.addTo(
          context, gateway.routes(HttpService.builder(), Servlets.next()).handler());
      addServlet(context, new AppServlet(gateway));
    };
  }

  /** What only servlets do. */
  private static void addServlet(ServletContext context, AppServlet servlet) {
    ServletRegistration.Dynamic registration = context.addServlet("app", servlet);
    registration.setAsyncSupported(true);
    registration.addMapping("/servlet/*");
  }

  @Bean
  Controller controller() {
    return new Controller(gateway);
  }

  @RestController
  static class Controller {
    private final Gateway gateway;

    Controller(Gateway gateway) {
      this.gateway = gateway;
    }

    private static ResponseEntity<byte[]> text(String text) {
      return ResponseEntity.ok()
          .contentType(MediaType.TEXT_PLAIN)
          .body(text.getBytes(StandardCharsets.UTF_8));
    }

    @GetMapping({"/v1/notes", "/v1/notes/{id}"})
    ResponseEntity<byte[]> notes(HttpServletRequest request) {
      gateway.note(request.getRequestURI(), request.getUserPrincipal() != null);
      return text("notes of " + request.getRemoteUser());
    }

    @GetMapping("/v1/items/{id}")
    ResponseEntity<byte[]> item(@PathVariable("id") String id) {
      return text("item " + id);
    }

    @GetMapping({"/hello", "/v1/limited"})
    ResponseEntity<byte[]> hello() {
      return text("hello");
    }

    @PostMapping({"/echo", "/small"})
    ResponseEntity<byte[]> echo(@RequestBody byte[] body) {
      return ResponseEntity.ok().contentType(MediaType.APPLICATION_OCTET_STREAM).body(body);
    }

    @PostMapping("/unread")
    ResponseEntity<byte[]> unread() {
      return text("unread");
    }

    @PostMapping("/json")
    App.Note json(@RequestBody App.Note note) {
      return note;
    }

    @GetMapping("/none")
    ResponseEntity<Void> none() {
      return ResponseEntity.noContent().build();
    }

    @GetMapping("/fail")
    void fail() {
      throw new IllegalStateException("secret");
    }

    @GetMapping("/conflict")
    void conflict(HttpServletResponse response) {
      response.setHeader("X-Tenant", "kept");
      throw Gateway.taken();
    }

    @GetMapping("/unavailable")
    void unavailable() {
      throw ServiceException.of(ErrorCode.UNAVAILABLE);
    }

    @GetMapping({"/stream", "/zipped"})
    void stream(HttpServletResponse response) throws IOException {
      response.setContentType("text/plain");
      for (String part : new String[] {"one ", "two ", "three"}) {
        response.getOutputStream().write(part.getBytes(StandardCharsets.UTF_8));
        response.flushBuffer();
      }
    }

    @GetMapping("/big")
    ResponseEntity<byte[]> big() {
      return ResponseEntity.ok().contentType(MediaType.TEXT_PLAIN).body(App.BIG);
    }

    @GetMapping({"/cut", "/cut-fixed"})
    void cut(HttpServletRequest request, HttpServletResponse response) throws IOException {
      if (request.getRequestURI().endsWith("fixed")) {
        response.setContentLength(30_000);
      }
      response.getOutputStream().write(App.BIG);
      response.flushBuffer();
      throw new IllegalStateException("half-way");
    }

    @GetMapping("/short")
    void tooShort(HttpServletResponse response) throws IOException {
      response.setContentLength(30_000);
      response.getOutputStream().write(App.BIG);
    }

    @GetMapping("/redirect")
    void redirect(HttpServletResponse response) throws IOException {
      response.sendRedirect("/hello");
    }

    @GetMapping("/bad-header")
    ResponseEntity<byte[]> badHeader() {
      return ResponseEntity.ok().header("X-Bad", "a\u0001b").body(new byte[1]);
    }

    @GetMapping("/not-modified")
    ResponseEntity<Void> notModified() {
      return ResponseEntity.status(304).header(HttpHeaders.ETAG, "\"7\"").build();
    }

    @PostMapping("/v1/created")
    ResponseEntity<String> created(HttpServletRequest request) throws SQLException {
      App.insert(Idempotency.transaction(Servlets.exchange(request)));
      int count = gateway.created.incrementAndGet();
      if ("fail".equals(request.getQueryString())) {
        throw Gateway.taken();
      }
      return ResponseEntity.status(201)
          .contentType(MediaType.APPLICATION_JSON)
          .body("\"created " + count + "\"");
    }
  }
}
