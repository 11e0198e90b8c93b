package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpsExchange;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.http.HttpResponses;
import dev.evalops.runtime.ratelimit.TrustedProxies;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.sdk.trace.data.SpanData;
import jakarta.servlet.ServletContext;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.Serial;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.apache.catalina.valves.RemoteIpValve;
import org.eclipse.jetty.server.ForwardedRequestCustomizer;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.servlet.ServletContextInitializer;
import org.springframework.context.annotation.Bean;
import org.springframework.core.Ordered;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** Whom filters take for the client where containers look at {@code X-Forwarded-For}, too. */
class ForwardedTest {
  /** What the client claims, and what the proxy before us, on this machine, has added. */
  private static final String[] FORWARDED = {
    "X-Forwarded-For: 7.7.7.7, 203.0.113.9", "X-Forwarded-Proto: https"
  };

  @TempDir
  static Path folder;

  @EnableAutoConfiguration
  static class Spring {
    @Bean
    Controller controller() {
      return new Controller();
    }
  }

  static final class Application extends HttpServlet {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response)
        throws IOException {
      response.getOutputStream().print(request.getRemoteAddr() + " " + request.getScheme());
    }
  }

  @RestController
  static class Controller {
    @GetMapping("/application")
    String application(HttpServletRequest request) {
      return request.getRemoteAddr() + " " + request.getScheme();
    }
  }

  private static HttpHandler routes(Watched watched) {
    TrustedProxies none = TrustedProxies.none();
    TrustedProxies local = TrustedProxies.of("127.0.0.0/8", "::1");
    return watched
        .routes()
        .handle("/none", exchange -> seen(exchange, none))
        .handle("/local", exchange -> seen(exchange, local))
        .handle("/", Servlets.next())
        .handler();
  }

  private static void seen(HttpExchange exchange, TrustedProxies proxies) throws IOException {
    String scheme = exchange instanceof HttpsExchange ? "https" : "http";
    String text = proxies.client(exchange).orElseThrow() + " " + scheme;
    HttpResponses.bytes(exchange, 200, "text/plain", text.getBytes(StandardCharsets.UTF_8));
  }

  /** Comes before Spring's filter for these headers, which has an order. */
  private record First(HttpHandler handler) implements ServletContextInitializer, Ordered {
    @Override
    public void onStartup(ServletContext context) {
      Servlets.addTo(context, handler);
    }

    @Override
    public int getOrder() {
      return Ordered.HIGHEST_PRECEDENCE;
    }
  }

  private static Watched start(String container) throws Exception {
    Watched watched = new Watched();
    HttpHandler handler = routes(watched);
    return switch (container) {
      case "tomcat", "tomcat RemoteIpValve" ->
        watched.tomcat(
            folder,
            handler,
            context -> {
              if (container.endsWith("RemoteIpValve")) {
                RemoteIpValve valve = new RemoteIpValve();
                valve.setProtocolHeader("X-Forwarded-Proto");
                context.getPipeline().addValve(valve);
              }
            },
            ForwardedTest::addServlet);
      case "jetty", "jetty ForwardedRequestCustomizer" ->
        watched.jetty(
            folder,
            handler,
            context -> {},
            http -> {
              if (container.endsWith("Customizer")) {
                http.addCustomizer(new ForwardedRequestCustomizer());
              }
            },
            ForwardedTest::addServlet);
      case "boot framework, ordered" ->
        watched.boot(
            Spring.class, new First(handler), "--server.forward-headers-strategy=framework");
      default ->
        watched.boot(
            Spring.class,
            context -> Servlets.addTo(context, handler),
            "--server.forward-headers-strategy=" + container.substring("boot ".length()));
    };
  }

  private static void addServlet(ServletContext context) {
    context.addServlet("application", new Application()).addMapping("/");
  }

  private static String get(Watched watched, String path, String... headers) throws IOException {
    try (RawClient client = new RawClient(watched.port())) {
      String head = "GET " + path + " HTTP/1.1\r\nHost: x\r\n";
      client.send(head + String.join("\r\n", headers) + "\r\n\r\n");
      return client.read().body();
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "tomcat               | 127.0.0.1 http    | 203.0.113.9 http  | 127.0.0.1 http",
        "tomcat RemoteIpValve | 203.0.113.9 https | 203.0.113.9 https | 203.0.113.9 https",
        "jetty                | 127.0.0.1 http    | 203.0.113.9 http  | 127.0.0.1 http",
        "boot none            | 127.0.0.1 http    | 203.0.113.9 http  | 127.0.0.1 http",
        "boot native          | 203.0.113.9 https | 203.0.113.9 https | 203.0.113.9 https",
        // Spring's filter believes the client, but only the application.
        "boot framework, ordered | 127.0.0.1 http | 203.0.113.9 http  | 7.7.7.7 https",
      })
  void takesNoAddressThatTheClientHasChosen(
      String container, String trustingNobody, String trustingTheProxy, String application)
      throws Exception {
    try (Watched watched = start(container)) {
      assertThat(get(watched, "/none", FORWARDED)).isEqualTo(trustingNobody);
      assertThat(get(watched, "/local", FORWARDED)).isEqualTo(trustingTheProxy);
      assertThat(get(watched, "/application", FORWARDED)).isEqualTo(application);
      assertThat(watched.spans(3)).extracting(ForwardedTest::client).containsOnly(trustingNobody);
      // Two lines, and a header of which nobody knows who has written it.
      assertThat(get(
              watched,
              "/local",
              "X-Forwarded-For: 127.0.0.1",
              "X-Forwarded-For: 203.0.113.9",
              "X-Real-Ip: 8.8.8.8",
              "Forwarded: for=7.7.7.7"))
          .startsWith("203.0.113.9 ");
      assertThat(get(watched, "/local", "X-Forwarded-For: unknown")).startsWith("unknown ");
    }
  }

  private static String client(SpanData span) {
    return span.getAttributes().get(AttributeKey.stringKey("client.address")) + " "
        + span.getAttributes().get(AttributeKey.stringKey("url.scheme"));
  }

  /** Which is why the documentation tells not to use them. */
  @ParameterizedTest
  @ValueSource(strings = {"jetty ForwardedRequestCustomizer", "boot framework"})
  void takesTheAddressThatTheClientHasChosen_whereAnotherDoesBeforeTheFilters(String container)
      throws Exception {
    try (Watched watched = start(container)) {
      assertThat(get(watched, "/none", FORWARDED)).isEqualTo("7.7.7.7 https");
      assertThat(get(watched, "/local", FORWARDED)).isEqualTo("7.7.7.7 https");
    }
  }
}
