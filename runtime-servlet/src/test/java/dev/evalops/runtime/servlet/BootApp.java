package dev.evalops.runtime.servlet;

import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.idempotency.Idempotency;
import jakarta.servlet.Filter;
import jakarta.servlet.ServletContext;
import jakarta.servlet.ServletRegistration;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.boot.web.servlet.ServletContextInitializer;
import org.springframework.context.annotation.Bean;
import org.springframework.core.Ordered;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpStatus;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.context.request.async.DeferredResult;
import org.springframework.web.server.ResponseStatusException;
import org.springframework.web.servlet.mvc.method.annotation.SseEmitter;
import org.springframework.web.servlet.mvc.method.annotation.StreamingResponseBody;

/** The application of the contract as controllers, written as one writes them. */
@EnableAutoConfiguration
class BootApp {
  private final Gateway gateway;

  BootApp(Gateway gateway) {
    this.gateway = gateway;
  }

  @Bean
  Filters runtime() {
    return new Filters(gateway);
  }

  /** Has an order, so that it comes before the filters that have one. */
  record Filters(Gateway gateway) implements ServletContextInitializer, Ordered {
    @Override
    public void onStartup(ServletContext context) {
      Servlets.addTo(
          context, gateway.routes(HttpService.builder(), Servlets.next()).handler());
      addServlet(context, new AppServlet(gateway));
    }

    @Override
    public int getOrder() {
      return Ordered.HIGHEST_PRECEDENCE;
    }
  }

  /** What only servlets do. */
  private static void addServlet(ServletContext context, AppServlet servlet) {
    ServletRegistration.Dynamic registration = context.addServlet("app", servlet);
    registration.setAsyncSupported(true);
    registration.addMapping("/servlet/*");
  }

  /** Sees whether anything of the application's comes before us. */
  @Bean
  FilterRegistrationBean<Filter> first() {
    FilterRegistrationBean<Filter> first =
        new FilterRegistrationBean<>((request, response, chain) -> {
          if (Bridge.find(request) == null) {
            gateway.trespassers.add("a filter before ours");
          }
          chain.doFilter(request, response);
        });
    first.setOrder(Ordered.HIGHEST_PRECEDENCE + 1);
    first.setAsyncSupported(true);
    return first;
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

    @GetMapping("/spring/{id}")
    ResponseEntity<byte[]> template(@PathVariable("id") int id) {
      return text("spring " + id);
    }

    @GetMapping("/spring/parameter")
    ResponseEntity<byte[]> parameter(@RequestParam("count") int count) {
      return text("count " + count);
    }

    @GetMapping("/spring/status")
    void status() {
      throw new ResponseStatusException(HttpStatus.NOT_FOUND, "secret reason");
    }

    @GetMapping("/spring/callable")
    Callable<ResponseEntity<byte[]>> callable() {
      return () -> text("called");
    }

    @GetMapping("/spring/callable-fails")
    Callable<ResponseEntity<byte[]>> failingCallable() {
      return () -> {
        throw Gateway.taken();
      };
    }

    @GetMapping("/spring/future")
    CompletableFuture<ResponseEntity<byte[]>> future() {
      return CompletableFuture.supplyAsync(() -> text("future"), Thread::startVirtualThread);
    }

    @GetMapping("/spring/deferred-timeout")
    DeferredResult<String> timeout() {
      return new DeferredResult<>(50L);
    }

    @GetMapping("/spring/body")
    ResponseEntity<StreamingResponseBody> body() {
      return ResponseEntity.ok().contentType(MediaType.TEXT_PLAIN).body(out -> {
        for (int i = 0; i < 3; i++) {
          out.write(App.BIG);
          out.flush();
        }
      });
    }

    @GetMapping("/spring/body-fails")
    ResponseEntity<StreamingResponseBody> failingBody() {
      return ResponseEntity.ok().contentType(MediaType.TEXT_PLAIN).body(out -> {
        out.write(App.BIG);
        out.flush();
        throw new IllegalStateException("half-way");
      });
    }

    @GetMapping("/spring/events")
    SseEmitter events() {
      SseEmitter emitter = new SseEmitter();
      Thread.ofVirtual().start(() -> {
        try {
          emitter.send("one");
          emitter.send("two");
          emitter.complete();
        } catch (IOException e) {
          emitter.completeWithError(e);
        }
      });
      return emitter;
    }

    @PostMapping("/v1/created/later")
    Callable<String> createdLater() {
      return () -> {
        gateway.trespassers.add("ran behind the filter of idempotency");
        return "late";
      };
    }
  }
}
