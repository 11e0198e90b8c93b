package dev.evalops.runtime.http;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpPrincipal;
import com.sun.net.httpserver.HttpsExchange;
import dev.evalops.fixtures.RawClient;
import dev.evalops.fixtures.TestCertificates;
import dev.evalops.runtime.errors.ErrorCode;
import dev.evalops.runtime.errors.ServiceException;
import dev.evalops.runtime.http.HttpService.ClientCertificates;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class TlsTest {
  private static HttpService serve(ClientCertificates clients) {
    return HttpService.builder(0)
        .tls(TestCertificates.server(), clients)
        .handle("/who", exchange -> {
          SSLSession session = ((HttpsExchange) exchange).getSSLSession();
          String peer;
          try {
            peer = session.getPeerPrincipal().getName();
          } catch (SSLPeerUnverifiedException e) {
            peer = "nobody";
          }
          RequestContext.of(exchange).put(RequestContext.Key.of("x"), "y");
          HttpResponses.json(exchange, 200, peer + " " + session.getProtocol());
        })
        .start();
  }

  private static String who(HttpService service, SSLContext context) throws IOException {
    try (RawClient client = new RawClient(TestCertificates.socket(service.port(), context))) {
      return client.get("/who").body().strip();
    }
  }

  @Test
  void asksForNoCertificate_whenNone() throws IOException {
    try (HttpService service = serve(ClientCertificates.NONE)) {
      assertThat(service.uri().getScheme()).isEqualTo("https");
      assertThat(who(service, TestCertificates.client(true))).isEqualTo("\"nobody TLSv1.3\"");
      assertThat(who(service, TestCertificates.client(false))).isEqualTo("\"nobody TLSv1.3\"");
    }
  }

  @Test
  void verifiesACertificateThatIsGiven_whenWanted() throws IOException {
    try (HttpService service = serve(ClientCertificates.WANTED)) {
      assertThat(who(service, TestCertificates.client(true))).isEqualTo("\"CN=client TLSv1.3\"");
      assertThat(who(service, TestCertificates.client(false))).isEqualTo("\"nobody TLSv1.3\"");
    }
  }

  @Test
  void refusesWhoHasNoValidCertificate_whenRequired() throws IOException {
    try (HttpService service = serve(ClientCertificates.REQUIRED)) {
      assertThat(who(service, TestCertificates.client(true))).isEqualTo("\"CN=client TLSv1.3\"");
      assertThatThrownBy(() -> who(service, TestCertificates.client(false)))
          .isInstanceOf(IOException.class);
      assertThatThrownBy(() -> who(service, TestCertificates.stranger()))
          .isInstanceOf(IOException.class);
    }
  }

  @Test
  void staysAnHttpsExchange_whenAFilterPutsItsOwnAround() throws IOException {
    Filter renaming = GuardTest.filter((exchange, chain) -> chain.doFilter(
        new HttpFilters.ForwardingExchange(exchange) {
          @Override
          public String getRequestMethod() {
            return "RENAMED";
          }
        }.forChain()));
    try (HttpService service = HttpService.builder(0)
            .tls(TestCertificates.server(), ClientCertificates.NONE)
            .filters(renaming)
            .handle("/x", exchange -> {
              SSLSession session = ((HttpsExchange) exchange).getSSLSession();
              RequestContext.of(exchange).principal(new HttpPrincipal("ann", "x"));
              exchange.setAttribute("a", exchange.getPrincipal().getUsername());
              assertThat(exchange.getHttpContext().getPath()).isEqualTo("/");
              assertThat(exchange.getRemoteAddress().getPort())
                  .isNotEqualTo(exchange.getLocalAddress().getPort());
              assertThat(exchange.getResponseCode()).isEqualTo(-1);
              HttpResponses.json(
                  exchange,
                  200,
                  List.of(
                      session.getProtocol(),
                      exchange.getRequestMethod(),
                      exchange.getRequestURI().toString(),
                      exchange.getProtocol(),
                      exchange.getAttribute("a"),
                      new String(
                          exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8)));
            })
            .start();
        RawClient client = new RawClient(
            TestCertificates.socket(service.port(), TestCertificates.client(false)))) {
      assertThat(client.post("/x", "body").body())
          .isEqualTo("[\"TLSv1.3\",\"RENAMED\",\"/x\",\"HTTP/1.1\",\"ann\",\"body\"]\n");
    }
  }

  @Test
  void speaksTls13Only() throws IOException {
    try (HttpService service = serve(ClientCertificates.NONE);
        SSLSocket socket =
            TestCertificates.socket(service.port(), TestCertificates.client(false))) {
      socket.setEnabledProtocols(new String[] {"TLSv1.2"});
      assertThatThrownBy(socket::startHandshake).isInstanceOf(SSLException.class);
    }
  }

  @Test
  void answersErrorsInTheSameShape() throws IOException {
    try (HttpService service = serve(ClientCertificates.NONE);
        RawClient client = new RawClient(
            TestCertificates.socket(service.port(), TestCertificates.client(false)))) {
      assertThat(client.get("/nowhere").body()).startsWith("{\"error\":");
      assertThat(client.get("/who/../x").status()).isEqualTo(400);
      assertThat(client.send("HEAD /who HTTP/1.1\r\nHost: x\r\n\r\n").readHead().status())
          .isEqualTo(200);
    }
  }

  @Test
  void keepsTheConnection_whenTheBodyIsRead() throws IOException {
    try (HttpService service = bodies();
        RawClient client = new RawClient(
            TestCertificates.socket(service.port(), TestCertificates.client(false)))) {
      assertThat(client.post("/read", "{}").header("Connection")).isEmpty();
      assertThat(client.post("/unread", "{}").header("Connection")).isEmpty();
      assertThat(client.get("/read").status()).isEqualTo(204);
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\nxx",
        "POST /refused HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
      })
  void endsTheConnection_whenTheNextRequestCouldBeLostBehindABody(String request)
      throws IOException {
    try (HttpService service = bodies();
        RawClient client = new RawClient(
            TestCertificates.socket(service.port(), TestCertificates.client(false)))) {
      assertThat(client.send(request).read().header("Connection")).contains("close");
    }
  }

  @Test
  void answersWhatArrivesInOnePieceWithAShortChunkedBody() throws IOException {
    try (HttpService service = bodies();
        RawClient client = new RawClient(
            TestCertificates.socket(service.port(), TestCertificates.client(false)))) {
      String chunked = "POST /unread HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
      String next = "GET /read HTTP/1.1\r\nHost: x\r\n\r\n";
      client.send(chunked + "2\r\n{}\r\n0\r\n\r\n" + next);
      assertThat(client.read().header("Connection")).isEmpty();
      assertThat(client.read().status()).isEqualTo(204);
    }
  }

  private static HttpService bodies() {
    return HttpService.builder(0)
        .tls(TestCertificates.server(), ClientCertificates.NONE)
        .handle("/read", (HttpService.Handler) exchange -> {
          exchange.getRequestBody().readNBytes(2);
          exchange.sendResponseHeaders(204, -1);
        })
        .handle("/unread", (HttpService.Handler) exchange -> exchange.sendResponseHeaders(204, -1))
        .handle(
            "/refused",
            (HttpService.Handler) exchange -> exchange.sendResponseHeaders(204, -1),
            GuardTest.filter((exchange, chain) -> {
              throw ServiceException.of(ErrorCode.FORBIDDEN).op("x");
            }))
        .start();
  }
}
