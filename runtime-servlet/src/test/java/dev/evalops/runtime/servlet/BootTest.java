package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.http.HttpRequests;
import java.io.EOFException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.springframework.boot.Banner;
import org.springframework.boot.SpringApplication;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.support.GenericApplicationContext;
import tools.jackson.databind.json.JsonMapper;

class BootTest extends ServletContract {
  private ConfigurableApplicationContext context;

  @Override
  int start(Gateway gateway) {
    SpringApplication application = new SpringApplication(BootApp.class);
    application.setBannerMode(Banner.Mode.OFF);
    application.setLogStartupInfo(false);
    application.setRegisterShutdownHook(false);
    application.addInitializers(beans -> {
      GenericApplicationContext generic = (GenericApplicationContext) beans;
      generic.registerBean(Gateway.class, () -> gateway);
      generic.registerBean(JsonMapper.class, HttpRequests::mapper);
    });
    List<String> arguments = new ArrayList<>(List.of(
        "--server.port=0",
        "--logging.config=classpath:logback-test.xml",
        "--spring.jackson.deserialization.fail-on-unknown-properties=true", // for Boot 3
        "--server.servlet.context-path=" + contextPath()));
    arguments.addAll(settings());
    context = application.run(arguments.toArray(String[]::new));
    return context.getEnvironment().getRequiredProperty("local.server.port", Integer.class);
  }

  List<String> settings() {
    return List.of();
  }

  @Override
  void stop() {
    context.close();
  }

  @Override
  Map<String, Answer> differences() {
    return new TomcatTest().differences();
  }

  @ParameterizedTest
  @CsvSource({
    "/spring/7, 200, /spring/{id}",
    "/spring/x, 400, /spring/{id}",
    "/spring/parameter?count=2, 200, /spring/parameter",
    "/spring/parameter, 400, /spring/parameter",
    "/spring/parameter?count=x, 400, /spring/parameter",
    "/spring/status, 404, /spring/status",
    "/no/such, 404, unmatched",
    "/spring/callable, 200, /spring/callable",
    "/spring/callable-fails, 409, /spring/callable-fails",
    "/spring/future, 200, /spring/future",
    "/spring/deferred-timeout, 503, /spring/deferred-timeout",
    "/spring/body, 200, /spring/body",
    "/spring/events, 200, /spring/events",
  })
  void answersControllers_underTheirPattern(String path, int status, String route)
      throws Exception {
    String request = request("GET", path, "");
    RawClient.Response response = send(request);
    assertThat(response.status()).isEqualTo(status);
    assertThat(response.header("X-Request-Id")).isPresent();
    if (status >= 400) {
      assertThat(response.body()).startsWith("{\"error\":{\"code\":").doesNotContain("secret");
    }
    completesOnce(request, "GET " + route + " " + status);
    assertThat(guardLog.messages()).hasSize(status < 500 ? 0 : 1);
  }

  @Test
  void cutsAStreamThatFailsHalfWay() throws Exception {
    String request = request("GET", "/spring/body-fails", "");
    try (RawClient client = client()) {
      client.send(request);
      assertThatThrownBy(client::read).isInstanceOf(EOFException.class);
      assertThat(client.received()).doesNotContain("error", "<");
    }
    completesOnce(request, "GET /spring/body-fails -1");
  }

  @Test
  void refusesToBeAsynchronousBehindIdempotency_beforeAnythingRuns() throws Exception {
    RawClient.Response response =
        send(request("POST", "/v1/created/later", "{}", GOOD, JSON, "Idempotency-Key: later"));
    assertThat(response.status()).isEqualTo(500);
    assertThat(guardLog.events().getFirst().getThrowableProxy().getMessage())
        .contains("Async support must be enabled");
  }
}
