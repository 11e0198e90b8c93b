package dev.evalops.runtime.mtls;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.nio.file.Files.writeString;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import com.sun.net.httpserver.Filter;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import dev.evalops.runtime.mtls.CertificateRule.Outcome;
import dev.evalops.runtime.mtls.TestCa.Issued;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class MtlsFiltersTest {
  private static final String REQUIRED =
      "{\"error\":{\"code\":\"client_certificate_required\",\"message\":\"a verified client "
          + "certificate is required\"}}\n";
  private static final String NOT_ALLOWED =
      "{\"error\":{\"code\":\"client_certificate_identity_not_allowed\","
          + "\"message\":\"the client certificate's identity is not allowed\"}}\n";

  private final TestCa authority = TestCa.create();
  private final Issued issued = authority
      .request("CN=svc.internal", Keys.ec())
      .dns("billing.internal")
      .uri("spiffe://prod/billing")
      .issue();

  @TempDir
  Path dir;

  private ServerTls server;
  private ClientTls client;
  private ClientTls nobody;

  @BeforeEach
  void tls() throws IOException {
    Path ca = writeString(dir.resolve("ca"), authority.pem());
    Issued serverPair = authority.issue("server");
    server = ServerTls.builder()
        .certificate(
            writeString(dir.resolve("s.crt"), serverPair.chainPem()),
            writeString(dir.resolve("s.key"), serverPair.keyPem()))
        .wantClients(ca)
        .reloadEvery(Duration.ZERO)
        .open();
    client = ClientTls.builder()
        .certificate(
            writeString(dir.resolve("c.crt"), issued.chainPem()),
            writeString(dir.resolve("c.key"), issued.keyPem()))
        .ca(ca)
        .reloadEvery(Duration.ZERO)
        .open();
    nobody = ClientTls.builder().ca(ca).reloadEvery(Duration.ZERO).open();
  }

  @AfterEach
  void close() {
    server.close();
    client.close();
    nobody.close();
  }

  private static void names(HttpExchange exchange) throws IOException {
    byte[] names = MtlsFilters.identities(exchange).stream()
        .map(CertificateIdentity::toString)
        .collect(Collectors.joining(" "))
        .getBytes(UTF_8);
    exchange.sendResponseHeaders(200, names.length == 0 ? -1 : names.length);
    exchange.getResponseBody().write(names);
    exchange.close();
  }

  private HttpResponse<String> call(
      HttpClient caller, String method, HttpHandler handler, Filter... filters) throws Exception {
    try (TestServer http =
        new TestServer(new HttpsConfigurator(server.sslContext()), handler, filters)) {
      HttpRequest request = HttpRequest.newBuilder(http.uri())
          .timeout(Duration.ofSeconds(20))
          .method(
              method,
              method.equals("POST") ? BodyPublishers.ofString("{}") : BodyPublishers.noBody())
          .build();
      return caller.send(request, BodyHandlers.ofString());
    }
  }

  private HttpResponse<String> get(ClientTls caller, Filter filter) throws Exception {
    return call(caller.httpClient(), "GET", MtlsFiltersTest::names, filter);
  }

  private static void isRefusal(HttpResponse<String> response, String body) {
    assertThat(response.statusCode()).isEqualTo(401);
    assertThat(response.headers().firstValue("Content-Type")).contains("application/json");
    assertThat(response.headers().firstValue("Connection")).contains("close");
    assertThat(response.body()).isEqualTo(body);
  }

  @Test
  void letsAVerifiedCertificateThrough_andTellsItsNames() throws Exception {
    HttpResponse<String> response = get(client, MtlsFilters.requireVerified());
    assertThat(response.statusCode()).isEqualTo(200);
    assertThat(response.body())
        .isEqualTo("cn:svc.internal dns:billing.internal uri:spiffe://prod/billing");
  }

  @Test
  void refusesAClientWithoutACertificate() throws Exception {
    isRefusal(get(nobody, MtlsFilters.requireVerified()), REQUIRED);
    isRefusal(
        get(nobody, MtlsFilters.requireIdentity(CertificateIdentity.dns("billing.internal"))),
        REQUIRED);
    isRefusal(
        call(nobody.httpClient(), "POST", MtlsFiltersTest::names, MtlsFilters.requireVerified()),
        REQUIRED);
    isRefusal(
        call(nobody.httpClient(), "HEAD", MtlsFiltersTest::names, MtlsFilters.requireVerified()),
        "");
  }

  @Test
  void letsOneOfTheAllowedIdentitiesThrough() throws Exception {
    Filter filter = MtlsFilters.requireIdentity(
        CertificateIdentity.dns("other.internal"),
        CertificateIdentity.uri("spiffe://prod/billing"));
    assertThat(get(client, filter).statusCode()).isEqualTo(200);
  }

  @Test
  void refusesOtherIdentities_andDoesNotTakeACommonNameForADnsName() throws Exception {
    isRefusal(
        get(client, MtlsFilters.requireIdentity(CertificateIdentity.dns("svc.internal"))),
        NOT_ALLOWED);
    assertThat(
            get(client, MtlsFilters.requireIdentity(CertificateIdentity.commonName("svc.internal")))
                .statusCode())
        .isEqualTo(200);
  }

  @Test
  void refusesAnEmptyListOfAllowedIdentities() {
    assertThatIllegalArgumentException()
        .isThrownBy(MtlsFilters::requireIdentity)
        .withMessageContaining("allowed must not be empty");
    assertThatIllegalArgumentException().isThrownBy(() -> MtlsFilters.requireIdentity(List.of()));
    assertThatIllegalArgumentException().isThrownBy(() -> CertificateRule.anyOf(List.of()));
  }

  @Test
  void seesTheCertificateThroughAWrappedExchange() throws Exception {
    HttpHandler guarded =
        exchange -> new Filter.Chain(List.of(MtlsFilters.requireVerified()), MtlsFiltersTest::names)
            .doFilter(exchange);
    HttpHandler wrapping = exchange -> guarded.handle(new WrappedExchange(exchange));
    assertThat(call(client.httpClient(), "GET", wrapping).body()).startsWith("cn:svc.internal");
    isRefusal(call(nobody.httpClient(), "GET", wrapping), REQUIRED);
  }

  @Test
  void refusesEveryoneOnAPlainServer() throws Exception {
    HttpServer plain =
        HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    plain
        .createContext("/", MtlsFiltersTest::names)
        .getFilters()
        .add(MtlsFilters.requireVerified());
    plain.start();
    try {
      URI uri = URI.create("http://localhost:" + plain.getAddress().getPort());
      isRefusal(
          HttpClient.newHttpClient()
              .send(HttpRequest.newBuilder(uri).build(), BodyHandlers.ofString()),
          REQUIRED);
    } finally {
      plain.stop(0);
    }
  }

  @Test
  void decidesWithoutAnExchange() {
    CertificateRule rule =
        CertificateRule.anyOf(Collections.singleton(CertificateIdentity.dns("billing.internal")));
    assertThat(rule.decide(issued.leaf()).allowed()).isTrue();
    assertThat(rule.decide(issued.leaf()).identities()).hasSize(3);
    CertificateRule.Decision refused = rule.decide(authority.issue("other").leaf());
    assertThat(refused.outcome()).isEqualTo(Outcome.IDENTITY_NOT_ALLOWED);
    assertThat(refused.identities()).contains(CertificateIdentity.commonName("other"));
    assertThat(rule.decide(server.sslContext().createSSLEngine().getSession()).outcome())
        .isEqualTo(Outcome.CERTIFICATE_REQUIRED);
  }
}
