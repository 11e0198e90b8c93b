package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpHandler;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.sdk.trace.data.SpanData;
import jakarta.servlet.AsyncContext;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.ServletContext;
import jakarta.servlet.ServletRegistration;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.Serial;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.annotation.Bean;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.context.request.async.DeferredResult;

/** The server spans of an application in a container. */
class SpanTest {
  private static final String TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";

  @TempDir
  static Path folder;

  private static String current() {
    return Span.current().getSpanContext().getTraceId();
  }

  static final class Traced extends HttpServlet {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response)
        throws IOException {
      switch (request.getPathInfo()) {
        case "/now" -> response.getOutputStream().print(current());
        case "/error" -> response.sendError(404);
        case "/fails" -> throw new IllegalStateException("secret");
        case "/conflict" -> throw ServiceException.of(ErrorCode.CONFLICT, "taken");
        case "/complete" -> {
          AsyncContext async = request.startAsync();
          async.start(() -> {
            try {
              response.getOutputStream().print(current());
            } catch (IOException e) {
              throw new IllegalStateException(e);
            }
            async.complete();
          });
        }
        case "/dispatch", "/dispatch-fails", "/dispatch-error" -> {
          if (request.getDispatcherType() == DispatcherType.ASYNC) {
            if (request.getPathInfo().endsWith("fails")) {
              throw new IllegalStateException("secret");
            }
            if (request.getPathInfo().endsWith("error")) {
              response.sendError(404);
              return;
            }
            response.getOutputStream().print(current());
          } else {
            AsyncContext async = request.startAsync();
            Thread.ofVirtual().start(async::dispatch);
          }
        }
        default -> request.startAsync().setTimeout(50);
      }
    }
  }

  @EnableAutoConfiguration
  static class Spring {
    @Bean
    Controller controller() {
      return new Controller();
    }
  }

  @RestController
  static class Controller {
    @GetMapping("/t/now")
    String now() {
      return current();
    }

    @GetMapping("/t/notes/{id}")
    String note(@PathVariable("id") String id) {
      return current();
    }

    @GetMapping("/t/error")
    void error(HttpServletResponse response) throws IOException {
      response.sendError(404);
    }

    @GetMapping("/t/fails")
    void fails() {
      throw new IllegalStateException("secret");
    }

    @GetMapping("/t/conflict")
    void conflict() {
      throw ServiceException.of(ErrorCode.CONFLICT, "taken");
    }

    @GetMapping("/t/complete")
    Callable<String> later() {
      return SpanTest::current;
    }

    @GetMapping("/t/dispatch-fails")
    Callable<String> failing() {
      return () -> {
        throw new IllegalStateException("secret");
      };
    }

    @GetMapping("/t/timeout")
    DeferredResult<String> timeout() {
      return new DeferredResult<>(50L);
    }
  }

  private static void addServlet(ServletContext context) {
    ServletRegistration.Dynamic traced = context.addServlet("traced", new Traced());
    traced.setAsyncSupported(true);
    traced.addMapping("/t/*");
  }

  private static Watched start(String container) throws Exception {
    Watched watched = new Watched();
    HttpHandler handler = watched.routes().handle("/t", Servlets.next()).handler();
    return switch (container) {
      case "tomcat" -> watched.tomcat(folder, handler, context -> {}, SpanTest::addServlet);
      case "jetty" ->
        watched.jetty(folder, handler, context -> {}, http -> {}, SpanTest::addServlet);
      default -> watched.boot(Spring.class, context -> Servlets.addTo(context, handler));
    };
  }

  @ParameterizedTest
  @ValueSource(strings = {"tomcat", "jetty", "boot"})
  void thereIsOneForEachRequest_alsoForAsynchronousOnes(String container) throws Exception {
    boolean boot = container.equals("boot");
    Map<String, Integer> requests = new LinkedHashMap<>(Map.of("now", 200, "error", 404));
    requests.put("fails", 500);
    requests.put("conflict", 409);
    requests.put("dispatch-fails", 500);
    requests.put("timeout", 503);
    requests.put("complete", 200);
    requests.put(boot ? "notes/7" : "dispatch", 200);
    if (!boot) {
      requests.put("dispatch-error", 404);
    }
    try (Watched watched = start(container)) {
      int count = 0;
      for (Map.Entry<String, Integer> request : requests.entrySet()) {
        String path = request.getKey();
        int status = request.getValue();
        RawClient.Response response;
        try (RawClient client = new RawClient(watched.port())) {
          client.send("GET /t/" + path + " HTTP/1.1\r\nHost: x\r\ntraceparent: 00-" + TRACE
              + "-00f067aa0ba902b7-01\r\n\r\n");
          response = client.read();
        }
        assertThat(response.status()).as(path).isEqualTo(status);
        // A controller that Spring calls on a thread of its own is the application's business.
        if (status == 200 && !(boot && path.equals("complete"))) {
          assertThat(response.body()).as(path).isEqualTo(TRACE);
        }
        count++;
        assertThat(watched.spans(count)).hasSize(count);
        SpanData span = watched.spans(count).getLast();
        String route = boot ? "/t/" + path.replace("notes/7", "notes/{id}") : "/t";
        assertThat(span.getName()).isEqualTo("GET " + route);
        assertThat(span.getTraceId()).isEqualTo(TRACE);
        assertThat(span.getParentSpanId()).isEqualTo("00f067aa0ba902b7");
        assertThat(span.getAttributes().get(AttributeKey.stringKey("http.route")))
            .isEqualTo(route);
        assertThat(span.getAttributes().get(AttributeKey.longKey("http.response.status_code")))
            .isEqualTo(status);
        assertThat(span.getStatus().getStatusCode())
            .as(path)
            .isEqualTo(status >= 500 ? StatusCode.ERROR : StatusCode.UNSET);
      }
    }
  }
}
