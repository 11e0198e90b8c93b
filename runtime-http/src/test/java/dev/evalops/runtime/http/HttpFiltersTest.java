package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.spi.ILoggingEvent;
import dev.evalops.fixtures.CapturedLog;
import dev.evalops.fixtures.RawClient;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import java.io.IOException;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import org.junit.jupiter.api.Test;

class HttpFiltersTest {
  @Test
  void sendsTheRequestIdBack_onErrorsToo() throws IOException {
    try (HttpService service = HttpService.builder(0)
            .filters(HttpFilters.requestId())
            .handle(
                "/id",
                exchange -> HttpResponses.json(
                    exchange, 200, RequestContext.of(exchange).requestId()))
            .start();
        RawClient client = new RawClient(service.port())) {
      RawClient.Response given = client.post("/id", "", "X-Request-Id: abc");
      assertThat(given.header("X-Request-Id")).contains("abc");
      assertThat(given.body()).isEqualTo("\"abc\"\n");

      RawClient.Response made = client.get("/id");
      String id = made.header("X-Request-Id").orElseThrow();
      assertThat(UUID.fromString(id).version()).isEqualTo(7);
      assertThat(made.body()).isEqualTo("\"" + id + "\"\n");

      assertThat(client.post("/id", "", "X-Request-Id: " + "x".repeat(129)).header("X-Request-Id"))
          .hasValueSatisfying(other -> assertThat(other).hasSize(36).isNotEqualTo(id));
      assertThat(client.post("/none", "", "X-Request-Id: abc").header("X-Request-Id"))
          .contains("abc");
    }
  }

  @Test
  void makesARequestId_withoutTheFilterToo() throws IOException {
    try (HttpService service = HttpService.builder(0)
            .handle("/id", exchange -> {
              String id = RequestContext.of(exchange).requestId();
              assertThat(RequestContext.of(exchange).requestId()).isEqualTo(id);
              HttpResponses.json(exchange, 200, id);
            })
            .start();
        RawClient client = new RawClient(service.port())) {
      assertThat(client.get("/id").body()).hasSize(39);
    }
  }

  @Test
  void logsEveryRequestOnce_withTheStatusAsSent() throws IOException {
    try (CapturedLog quiet = new CapturedLog(Guard.class);
        CapturedLog log = new CapturedLog(HttpFiltersTest.class);
        HttpService service = HttpService.builder(0)
            .filters(HttpFilters.requestId(), HttpFilters.requestLog(log.logger()))
            .handle("/notes", exchange -> {
              RequestContext.of(exchange).route("/notes/{id}");
              HttpResponses.json(exchange, 200, "ok");
            })
            .handle("/conflict", exchange -> {
              throw ServiceException.of(ErrorCode.CONFLICT).op("x");
            })
            .handle("/half", exchange -> {
              exchange.sendResponseHeaders(200, 5);
              throw new AssertionError("bug");
            })
            .start();
        RawClient client = new RawClient(service.port())) {
      client.post("/notes/7?token=hunter2", "", "X-Request-Id: abc");
      client.get("/conflict");
      client.get("/nothing/here");
      assertThatThrownBy(() -> client.get("/half")).isInstanceOf(IOException.class);

      assertThat(log.messages()).hasSize(4).containsOnly("INFO http request complete");
      assertLine(log.events().get(0), "POST", "/notes/7", "/notes/{id}", 200);
      assertThat(CapturedLog.keyValues(log.events().get(0))).containsEntry("request_id", "abc");
      assertLine(log.events().get(1), "GET", "/conflict", "/conflict", 409);
      assertLine(log.events().get(2), "GET", "/nothing/here", "unmatched", 404);
      assertLine(log.events().get(3), "GET", "/half", "/half", -1);
      assertThat(log.events().toString()).doesNotContain("hunter2");
    }
  }

  @Test
  void logsTheRequest_thoughAValueOfTheLineCannotBeTold() throws IOException {
    try (CapturedLog log = new CapturedLog(HttpFiltersTest.class);
        HttpService service = HttpService.builder(0)
            .filters(HttpFilters.requestLog(log.logger()))
            .handle("/x", exchange -> {
              RequestContext context = RequestContext.of(exchange);
              context.logged("first", () -> List.of().get(0));
              context.logged("second", () -> {
                throw new NoClassDefFoundError("hunter2");
              });
              context.logged("third", () -> 3);
              HttpResponses.noContent(exchange);
            })
            .start();
        RawClient client = new RawClient(service.port())) {
      client.get("/x");

      assertThat(log.messages()).containsExactly("INFO http request complete");
      assertThat(CapturedLog.keyValues(log.events().get(0)))
          .containsEntry("status", 204)
          .containsEntry("first", "java.lang.ArrayIndexOutOfBoundsException")
          .containsEntry("second", "java.lang.NoClassDefFoundError")
          .containsEntry("third", 3);
    }
  }

  private static void assertLine(
      ILoggingEvent event, String method, String path, String route, int status) {
    var fields = CapturedLog.keyValues(event);
    assertThat(fields)
        .containsOnlyKeys("request_id", "method", "path", "route", "status", "duration_ms")
        .containsEntry("method", method)
        .containsEntry("path", path)
        .containsEntry("route", route)
        .containsEntry("status", status);
    assertThat((Long) fields.get("duration_ms")).isNotNegative();
  }

  @Test
  void setsBrowserHeadersWhereTheyAreAbsent_andRefusesForeignWrites() throws IOException {
    try (HttpService service = HttpService.builder(0)
            .filters(HttpFilters.browserGuards("text/csv"))
            .handle("/x", exchange -> {
              exchange.getResponseHeaders().set("X-Frame-Options", "SAMEORIGIN");
              HttpResponses.noContent(exchange);
            })
            .start();
        RawClient client = new RawClient(service.port())) {
      RawClient.Response response = client.get("/x");
      assertThat(response.header("X-Frame-Options")).contains("SAMEORIGIN");
      assertThat(response.header("X-Content-Type-Options")).contains("nosniff");
      assertThat(response.header("Referrer-Policy")).contains("same-origin");
      assertThat(response.header("Cross-Origin-Opener-Policy")).contains("same-origin");
      assertThat(response.header("Cross-Origin-Resource-Policy")).contains("same-origin");
      assertThat(response.header("Permissions-Policy"))
          .contains("camera=(), microphone=(), geolocation=(), payment=(), usb=()");
      assertThat(response.header("Content-Security-Policy"))
          .hasValueSatisfying(
              csp -> assertThat(csp).startsWith("default-src 'self'").doesNotContain("unsafe"));

      RawClient.Response crossSite = client.post("/x", "{}", "Sec-Fetch-Site: cross-site");
      assertThat(crossSite.status()).isEqualTo(403);
      assertThat(crossSite.body())
          .isEqualTo("{\"error\":{\"code\":\"cross_site_request\",\"message\":\"cross-site browser"
              + " requests are not allowed\"}}\n");
      assertThat(crossSite.header("X-Frame-Options")).contains("DENY");
      String form = "Content-Type: application/x-www-form-urlencoded";
      assertThat(client.post("/x", "a=1", form, "Origin: https://evil.example").status())
          .isEqualTo(403);
      assertThat(client.post("/x", "a=1", form, "Origin: null").status()).isEqualTo(403);
      assertThat(client.post("/x", "a=1", form, "Sec-Fetch-Site: same-site").status())
          .isEqualTo(403);
      assertThat(client
              .post("/x", "a=1", form, "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site")
              .status())
          .isEqualTo(403);
      assertThat(client.post("/x", "a=1", form, "Origin: http://x").status()).isEqualTo(204);
      assertThat(client.post("/x", "a=1", form).status()).isEqualTo(204);
      assertThat(client.post("/x", "a").body()).contains("\"missing_content_type\"");
      assertThat(client.post("/x", "a", "Content-Type: text/plain").status()).isEqualTo(415);
      assertThat(client.post("/x", "a", "Content-Type: text/csv").status()).isEqualTo(204);
      assertThat(client
              .post("/x", "a", "Content-Type: text/csv;a=b", "Content-Type: text/plain")
              .status())
          .isEqualTo(415);
      assertThat(client.post("/x", "").status()).isEqualTo(204);
      String chunked = "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
      String declared = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
      assertThat(client.send(declared).read().status()).isEqualTo(415); // not a byte of it has come
      assertThat(client.send("hello" + chunked + "0\r\n\r\n").read().status()).isEqualTo(204);
      assertThat(client.send(chunked + "1\r\na\r\n0\r\n\r\n").read().status()).isEqualTo(415);
    }
  }

  @Test
  void letsNamedOriginsWrite_andRefusesNamesThatAreNone() throws IOException {
    try (HttpService service = HttpService.builder(0)
            .filters(HttpFilters.browserGuards(Set.of("https://admin.example:8443")))
            .handle("/x", HttpResponses::noContent)
            .start();
        RawClient client = new RawClient(service.port())) {
      String site = "Sec-Fetch-Site: same-site";
      assertThat(
              client.post("/x", "", site, "Origin: https://admin.example:8443").status())
          .isEqualTo(204);
      assertThat(client.post("/x", "", site, "Origin: https://admin.example").status())
          .isEqualTo(403);
    }
    assertThatThrownBy(() -> HttpFilters.browserGuards(Set.of(
            "null",
            "admin.example",
            "https://admin.example/",
            "http://admin.example:80",
            "https://admin.example:443",
            "https://good.example")))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("allowedOrigins must be like https://admin.example.com: admin.example; "
            + "allowedOrigins must be like https://admin.example.com: http://admin.example:80; "
            + "allowedOrigins must be like https://admin.example.com: https://admin.example/; "
            + "allowedOrigins must be like https://admin.example.com: https://admin.example:443; "
            + "allowedOrigins must be like https://admin.example.com: null");
  }

  @Test
  void requestLogNeedsALogger() {
    assertThatThrownBy(() -> HttpFilters.requestLog(null))
        .isInstanceOf(NullPointerException.class)
        .hasMessage("logger");
  }

  @Test
  void refusesContentTypesThatNoRequestWouldMatch() {
    assertThatThrownBy(() -> HttpFilters.browserGuards(
            Set.of("null"), "text/csv", "text/csv", "Text/CSV", "text/csv; charset=utf-8", "csv"))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("allowedOrigins must be like https://admin.example.com: null; "
            + "moreContentTypes must be like text/csv: Text/CSV; "
            + "moreContentTypes must be like text/csv: csv; "
            + "moreContentTypes must be like text/csv: text/csv; charset=utf-8");
    HttpFilters.browserGuards("application/vnd.x+xml", "text/csv", "text/csv");
  }
}
