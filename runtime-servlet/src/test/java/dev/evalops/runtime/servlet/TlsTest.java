package dev.evalops.runtime.servlet;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import dev.evalops.fixtures.TestCertificates;
import dev.evalops.runtime.http.HttpFilters;
import dev.evalops.runtime.http.HttpService;
import dev.evalops.runtime.mtls.MtlsFilters;
import dev.evalops.runtime.mtls.ServerTls;
import jakarta.servlet.AsyncContext;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.Serial;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.Base64;
import java.util.Set;
import org.apache.catalina.Context;
import org.apache.catalina.Wrapper;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.apache.coyote.http2.Http2Protocol;
import org.apache.tomcat.util.net.SSLHostConfig;
import org.apache.tomcat.util.net.SSLHostConfigCertificate;
import org.eclipse.jetty.alpn.server.ALPNServerConnectionFactory;
import org.eclipse.jetty.ee11.servlet.ServletContextHandler;
import org.eclipse.jetty.ee11.servlet.ServletHolder;
import org.eclipse.jetty.http2.server.HTTP2ServerConnectionFactory;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.SecureRequestCustomizer;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.SslConnectionFactory;
import org.eclipse.jetty.util.ssl.SslContextFactory;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** HTTP/1.1 and HTTP/2 over TLS, with and without a client's certificate. */
@DisabledIfSystemProperty(named = "servlet.api", matches = "6.0")
class TlsTest {

  @TempDir
  static Path directory;

  private static ServerTls files;
  private static Tomcat tomcat;
  private static Server jetty;

  /** Answers what it sees of the client. */
  private static final class Seen extends HttpServlet {
    @Serial
    private static final long serialVersionUID = 1;

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response)
        throws IOException {
      HttpExchange exchange = Servlets.exchange(request);
      switch (request.getRequestURI()) {
        case "/cut" -> {
          response.getOutputStream().write(App.BIG);
          response.flushBuffer();
          throw new IllegalStateException("half-way");
        }
        case "/async-cut" -> {
          AsyncContext async = request.startAsync();
          Thread.ofVirtual().start(() -> {
            try {
              response.setContentLength(30_000);
              response.getOutputStream().write(App.BIG);
              response.flushBuffer();
            } catch (IOException e) {
              // The client sees it.
            }
            async.complete();
          });
        }
        default -> {
          byte[] body = request.getInputStream().readAllBytes();
          response.setHeader("Connection", "close");
          response
              .getOutputStream()
              .print(exchange.getProtocol() + " " + exchange.getRequestHeaders().getFirst("Host")
                  + " " + MtlsFilters.identities(exchange) + " " + body.length);
        }
      }
    }
  }

  @BeforeAll
  static void start() throws Exception {
    files = serverTls();
    HttpHandler handler = HttpService.builder()
        .filters(HttpFilters.requestId(), HttpFilters.browserGuards(), files.filter())
        .handle("/open", Servlets.next())
        .handle("/", Servlets.next(), MtlsFilters.requireVerified(), HttpFilters.maxBody(10))
        .handler();
    tomcat = tomcat(handler);
    jetty = jetty(handler);
  }

  private static ServerTls serverTls() throws Exception {
    KeyStore store = TestCertificates.serverKey();
    String alias = store.aliases().nextElement();
    return ServerTls.builder()
        .certificate(
            pem("CERTIFICATE", store.getCertificate(alias).getEncoded()),
            pem(
                "PRIVATE KEY",
                store.getKey(alias, TestCertificates.PASSWORD.toCharArray()).getEncoded()))
        .open();
  }

  private static Path pem(String label, byte[] der) throws IOException {
    return Files.writeString(
        directory.resolve(label),
        "-----BEGIN " + label + "-----\n" + Base64.getMimeEncoder().encodeToString(der)
            + "\n-----END " + label + "-----\n");
  }

  private static Tomcat tomcat(HttpHandler handler) throws Exception {
    Tomcat tomcat = new Tomcat();
    tomcat.setBaseDir(directory.toString());
    Connector connector = new Connector();
    connector.setPort(0);
    connector.setScheme("https");
    connector.setSecure(true);
    connector.setProperty("SSLEnabled", "true");
    connector.addUpgradeProtocol(new Http2Protocol());
    SSLHostConfig tls = new SSLHostConfig();
    tls.setCertificateVerification("optional");
    tls.setTrustStore(TestCertificates.trustedClients());
    SSLHostConfigCertificate certificate =
        new SSLHostConfigCertificate(tls, SSLHostConfigCertificate.Type.EC);
    certificate.setCertificateKeystore(TestCertificates.serverKey());
    certificate.setCertificateKeystorePassword(TestCertificates.PASSWORD);
    tls.addCertificate(certificate);
    connector.addSslHostConfig(tls);
    tomcat.setConnector(connector);
    Context context = tomcat.addContext("", null);
    Wrapper wrapper = Tomcat.addServlet(context, "seen", new Seen());
    wrapper.setAsyncSupported(true);
    wrapper.addMapping("/");
    context.addServletContainerInitializer(
        (classes, started) -> Servlets.addTo(started, handler), Set.of());
    tomcat.start();
    return tomcat;
  }

  private static Server jetty(HttpHandler handler) throws Exception {
    Server server = new Server();
    SslContextFactory.Server tls = new SslContextFactory.Server();
    tls.setKeyStore(TestCertificates.serverKey());
    tls.setKeyStorePassword(TestCertificates.PASSWORD);
    tls.setTrustStore(TestCertificates.trustedClients());
    tls.setWantClientAuth(true);
    HttpConfiguration configuration = new HttpConfiguration();
    configuration.addCustomizer(new SecureRequestCustomizer(false));
    HttpConnectionFactory http1 = new HttpConnectionFactory(configuration);
    ALPNServerConnectionFactory alpn = new ALPNServerConnectionFactory();
    alpn.setDefaultProtocol(http1.getProtocol());
    server.addConnector(new ServerConnector(
        server,
        new SslConnectionFactory(tls, alpn.getProtocol()),
        alpn,
        new HTTP2ServerConnectionFactory(configuration),
        http1));
    ServletContextHandler context = new ServletContextHandler();
    ServletHolder servlet = new ServletHolder(new Seen());
    servlet.setAsyncSupported(true);
    context.addServlet(servlet, "/");
    context.addServletContainerInitializer((classes, started) -> Servlets.addTo(started, handler));
    server.setHandler(context);
    server.start();
    return server;
  }

  @AfterAll
  static void stop() throws Exception {
    tomcat.stop();
    tomcat.destroy();
    jetty.stop();
    files.close();
  }

  private record Target(int port, HttpClient.Version version) {
    static Target of(String server, HttpClient.Version version) {
      int port = server.equals("tomcat")
          ? tomcat.getConnector().getLocalPort()
          : ((ServerConnector) jetty.getConnectors()[0]).getLocalPort();
      return new Target(port, version);
    }

    HttpResponse<String> send(boolean certificate, HttpRequest.Builder request)
        throws IOException, InterruptedException {
      try (HttpClient client = HttpClient.newBuilder()
          .version(version)
          .sslContext(TestCertificates.client(certificate))
          .build()) {
        HttpResponse<String> response = client.send(request.build(), BodyHandlers.ofString());
        assertThat(response.version()).isEqualTo(version);
        return response;
      }
    }

    HttpRequest.Builder request(String path) {
      return HttpRequest.newBuilder(URI.create("https://localhost:" + port + path));
    }
  }

  @ParameterizedTest
  @CsvSource({"tomcat, HTTP_1_1", "tomcat, HTTP_2", "jetty, HTTP_1_1", "jetty, HTTP_2"})
  void knowsTheClientByItsCertificate(String server, HttpClient.Version version) throws Exception {
    Target target = Target.of(server, version);
    String protocol = version == HttpClient.Version.HTTP_2 ? "HTTP/2.0" : "HTTP/1.1";
    HttpResponse<String> response = target.send(true, target.request("/seen"));
    assertThat(response.body())
        .isEqualTo(protocol + " localhost:" + target.port + " [cn:client, dns:client] 0");
    assertThat(response.headers().firstValue("Connection").isPresent())
        .isEqualTo(version == HttpClient.Version.HTTP_1_1);
    HttpResponse<String> refused = target.send(false, target.request("/seen"));
    assertThat(refused.statusCode()).isEqualTo(401);
    assertThat(refused.body()).startsWith("{\"error\":{\"code\":");
    assertThat(target.send(false, target.request("/open")).body()).endsWith(" [] 0");
  }

  @ParameterizedTest
  @CsvSource({"tomcat, HTTP_1_1", "tomcat, HTTP_2", "jetty, HTTP_1_1", "jetty, HTTP_2"})
  void guardsBodiesOfUnknownLength(String server, HttpClient.Version version) throws Exception {
    Target target = Target.of(server, version);
    assertThat(target.send(true, target.request("/seen").POST(unknownLength(5))).statusCode())
        .isEqualTo(415);
    assertThat(target.send(true, target.request("/seen").POST(unknownLength(0))).body())
        .endsWith(" 0");
    HttpRequest.Builder binary =
        target.request("/seen").header("Content-Type", "application/octet-stream");
    assertThat(target.send(true, binary.copy().POST(unknownLength(10))).body()).endsWith(" 10");
    assertThat(target.send(true, binary.copy().POST(unknownLength(11))).statusCode())
        .isEqualTo(413);
  }

  private static HttpRequest.BodyPublisher unknownLength(int length) {
    byte[] body = "x".repeat(length).getBytes(StandardCharsets.US_ASCII);
    return BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body));
  }

  @ParameterizedTest
  @CsvSource({"tomcat, HTTP_1_1", "tomcat, HTTP_2", "jetty, HTTP_1_1", "jetty, HTTP_2"})
  void cutsAResponse_whoseServletFailsHalfWay(String server, HttpClient.Version version) {
    Target target = Target.of(server, version);
    assertThatThrownBy(() -> target.send(true, target.request("/cut")))
        .isInstanceOf(IOException.class);
    assertThatThrownBy(() -> target.send(true, target.request("/async-cut")))
        .isInstanceOf(IOException.class);
  }
}
