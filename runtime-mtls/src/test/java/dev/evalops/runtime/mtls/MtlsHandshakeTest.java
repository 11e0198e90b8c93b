package dev.evalops.runtime.mtls;

import static java.nio.file.Files.writeString;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsParameters;
import dev.evalops.runtime.mtls.TestCa.Issued;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.security.KeyPair;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.stream.Stream;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManager;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLEngineResult.HandshakeStatus;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLHandshakeException;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509ExtendedKeyManager;
import javax.net.ssl.X509ExtendedTrustManager;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class MtlsHandshakeTest {
  private final TestCa authority = TestCa.create();

  @TempDir
  Path dir;

  private int files;

  private Path file(String text) throws IOException {
    return writeString(dir.resolve("file" + ++files), text);
  }

  private ClientTls.Builder client(Issued issued) throws IOException {
    return ClientTls.builder()
        .reloadEvery(Duration.ZERO)
        .ca(file(authority.pem()))
        .certificate(file(issued.chainPem()), file(issued.keyPem()));
  }

  private ClientTls.Builder anonymous() throws IOException {
    return ClientTls.builder().reloadEvery(Duration.ZERO).ca(file(authority.pem()));
  }

  private ServerTls.Builder server(Issued issued) throws IOException {
    return ServerTls.builder()
        .reloadEvery(Duration.ZERO)
        .certificate(file(issued.chainPem()), file(issued.keyPem()));
  }

  private ServerTls.Builder server() throws IOException {
    return server(authority.issue("server"));
  }

  private static String get(HttpClient client, URI uri) throws IOException, InterruptedException {
    HttpRequest request =
        HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(20)).build();
    HttpResponse<String> response = client.send(request, BodyHandlers.ofString());
    assertThat(response.statusCode()).isEqualTo(200);
    return response.body();
  }

  private static void refused(HttpClient client, URI uri) {
    assertThatThrownBy(() -> get(client, uri)).isInstanceOf(IOException.class);
  }

  private static void refusedByTheClient(HttpClient client, URI uri, String reason) {
    assertThatThrownBy(() -> get(client, uri))
        .isInstanceOf(SSLHandshakeException.class)
        .hasMessageContaining(reason);
  }

  static Stream<KeyPair> connectsWithEveryKindOfKey() {
    return Stream.of(
        Keys.rsa(), Keys.ec(), Keys.ec("secp384r1"), Keys.ec("secp521r1"), Keys.ed25519());
  }

  @ParameterizedTest
  @MethodSource
  void connectsWithEveryKindOfKey(KeyPair keys) throws Exception {
    Path ca = file(authority.pem());
    try (ServerTls server =
            server(authority.issue("server", keys)).requireClients(ca).open();
        ClientTls client = client(authority.issue("client", keys)).open();
        TestServer http = new TestServer(server.sslContext())) {
      assertThat(get(client.httpClient(), http.uri())).isEqualTo("CN=client sni=localhost TLSv1.3");
    }
  }

  @Test
  void sendsTheIntermediates() throws Exception {
    TestCa intermediate = authority.intermediate();
    Path ca = file(authority.pem());
    try (ServerTls server =
            server(intermediate.issue("server")).requireClients(ca).open();
        ClientTls client = client(intermediate.issue("client")).open();
        TestServer http = new TestServer(server.sslContext())) {
      assertThat(get(client.httpClient(), http.uri())).startsWith("CN=client");
    }
  }

  @Test
  void trustsEveryAuthorityOfABundle() throws Exception {
    TestCa other = TestCa.create();
    Path bundle = file(TestCa.create().pem() + authority.pem() + other.pem());
    try (ServerTls server = server().requireClients(bundle).open();
        ClientTls one = client(authority.issue("one")).open();
        ClientTls two = client(other.issue("two")).open();
        TestServer http = new TestServer(server.sslContext())) {
      assertThat(get(one.httpClient(), http.uri())).startsWith("CN=one");
      assertThat(get(two.httpClient(), http.uri())).startsWith("CN=two");
    }
  }

  @Test
  void refusesAServerOfAnotherAuthority() throws Exception {
    try (ServerTls server = server(TestCa.create().issue("server")).open();
        ClientTls client = anonymous().open();
        TestServer http = new TestServer(server.sslContext())) {
      refusedByTheClient(
          client.httpClient(), http.uri(), "unable to find valid certification path");
    }
  }

  @Test
  void refusesAServerWhoseCertificateIsOutOfItsTime() throws Exception {
    Instant now = Instant.now();
    Duration hour = Duration.ofHours(1);
    Issued expired = authority
        .request("CN=server", Keys.ec())
        .dns("localhost")
        .valid(now.minus(hour.multipliedBy(2)), now.minus(hour))
        .issue();
    Issued notYet = authority
        .request("CN=server", Keys.ec())
        .dns("localhost")
        .valid(now.plus(hour), now.plus(hour.multipliedBy(2)))
        .issue();
    for (Issued issued : new Issued[] {expired, notYet}) {
      try (ServerTls server = server(issued).open();
          ClientTls client = anonymous().open();
          TestServer http = new TestServer(server.sslContext())) {
        refusedByTheClient(client.httpClient(), http.uri(), "validity check failed");
      }
    }
  }

  @Test
  void refusesAServerWithAnotherName() throws Exception {
    Issued issued =
        authority.request("CN=localhost", Keys.ec()).dns("other.internal").issue();
    try (ServerTls server = server(issued).open();
        ClientTls client = anonymous().open();
        TestServer http = new TestServer(server.sslContext())) {
      refusedByTheClient(client.httpClient(), http.uri(), "localhost");
      refusedByTheClient(client.httpClient(), http.uri("127.0.0.1"), "127.0.0.1");
    }
  }

  @Test
  void checksAndSendsTheServerName_insteadOfTheHostOfTheUrl() throws Exception {
    Issued issued =
        authority.request("CN=server", Keys.ec()).dns("svc.internal").issue();
    try (ServerTls server = server(issued).open();
        ClientTls client = anonymous().serverName("svc.internal").open();
        ClientTls other = anonymous().serverName("other.internal").open();
        TestServer http = new TestServer(server.sslContext())) {
      for (String host : new String[] {"localhost", "127.0.0.1"}) {
        assertThat(get(client.httpClient(), http.uri(host)))
            .isEqualTo("nobody sni=svc.internal TLSv1.3");
        refusedByTheClient(other.httpClient(), http.uri(host), "other.internal");
      }
    }
  }

  @Test
  void refusesACertificateForTheHostOfTheUrl_whenAServerNameIsSet() throws Exception {
    try (ServerTls server = server().open();
        ClientTls client = anonymous().serverName("svc.internal").open();
        TestServer http = new TestServer(server.sslContext())) {
      refusedByTheClient(client.httpClient(), http.uri(), "svc.internal");
      refusedByTheClient(client.httpClient(), http.uri("127.0.0.1"), "svc.internal");
      HttpsURLConnection old = (HttpsURLConnection) http.uri().toURL().openConnection();
      old.setSSLSocketFactory(client.sslContext().getSocketFactory());
      assertThatThrownBy(old::getResponseCode).hasMessageContaining("svc.internal");
    }
  }

  @Test
  void takesAServerNameWithAnUnderscoreOrADotAtItsEnd() throws Exception {
    Issued issued = authority
        .request("CN=server", Keys.ec())
        .dns("svc_a.internal")
        .dns("svc.internal")
        .issue();
    try (ServerTls server = server(issued).open();
        ClientTls underscore = anonymous().serverName("svc_a.internal").open();
        ClientTls dot = anonymous().serverName("svc.internal.").open();
        ClientTls other = anonymous().serverName("svc_b.internal").open();
        TestServer http = new TestServer(server.sslContext())) {
      assertThat(get(underscore.httpClient(), http.uri())).isEqualTo("nobody sni=none TLSv1.3");
      assertThat(get(dot.httpClient(), http.uri())).isEqualTo("nobody sni=svc.internal TLSv1.3");
      refusedByTheClient(other.httpClient(), http.uri(), "svc_b.internal");
    }
  }

  @Test
  void takesAnAddressAsServerName() throws Exception {
    try (ServerTls server = server().open();
        ClientTls client = anonymous().serverName("127.0.0.1").open();
        TestServer http = new TestServer(server.sslContext())) {
      assertThat(get(client.httpClient(), http.uri())).isEqualTo("nobody sni=none TLSv1.3");
    }
  }

  @Test
  void letsNoClientInWithoutACertificate_whenRequired() throws Exception {
    try (ServerTls server = server().requireClients(file(authority.pem())).open();
        ClientTls client = anonymous().open();
        TestServer http = new TestServer(server.sslContext())) {
      refused(client.httpClient(), http.uri());
    }
  }

  @Test
  void letsAClientInWithoutACertificate_butNotWithABadOne_whenWanted() throws Exception {
    Instant now = Instant.now();
    Issued expired = authority
        .request("CN=client", Keys.ec())
        .valid(now.minus(Duration.ofHours(2)), now.minus(Duration.ofHours(1)))
        .issue();
    try (ServerTls server = server().wantClients(file(authority.pem())).open();
        ClientTls nobody = anonymous().open();
        ClientTls good = client(authority.issue("client")).open();
        ClientTls bad = client(expired).open();
        TestServer http = new TestServer(server.sslContext())) {
      assertThat(get(nobody.httpClient(), http.uri())).startsWith("nobody");
      assertThat(get(good.httpClient(), http.uri())).startsWith("CN=client");
      refused(bad.httpClient(), http.uri());
    }
  }

  @Test
  void refusesClientsOfAnotherAuthority_orOutOfTheirTime() throws Exception {
    Instant now = Instant.now();
    Issued notYet = authority
        .request("CN=client", Keys.ec())
        .valid(now.plus(Duration.ofHours(1)), now.plus(Duration.ofHours(2)))
        .issue();
    try (ServerTls server = server().requireClients(file(authority.pem())).open();
        ClientTls stranger = client(TestCa.create().issue("client")).open();
        ClientTls early = client(notYet).open();
        TestServer http = new TestServer(server.sslContext())) {
      refused(stranger.httpClient(), http.uri());
      refused(early.httpClient(), http.uri());
    }
  }

  @Test
  void asksNobodyForACertificate_withoutAClientCa() throws Exception {
    try (ServerTls server = server().open();
        ClientTls client = client(authority.issue("client")).open();
        TestServer http = new TestServer(server.sslContext())) {
      assertThat(get(client.httpClient(), http.uri())).startsWith("nobody");
    }
  }

  private static SSLParameters protocol(String... names) {
    SSLParameters parameters = new SSLParameters();
    parameters.setProtocols(names);
    return parameters;
  }

  /** The plainest client of the JDK, which trusts all. */
  private static HttpClient careless(String version) throws Exception {
    SSLContext context = SSLContext.getInstance(version);
    context.init(new KeyManager[0], new TrustManager[] {new TrustAll()}, null);
    return HttpClient.newBuilder()
        .sslContext(context)
        .sslParameters(protocol(version))
        .build();
  }

  @Test
  void refusesTls12OnTheServer() throws Exception {
    try (ServerTls server = server().open();
        TestServer http = new TestServer(server.sslContext())) {
      assertThat(get(careless("TLSv1.3"), http.uri())).startsWith("nobody");
      assertThatThrownBy(() -> get(careless("TLSv1.2"), http.uri()))
          .isInstanceOf(SSLHandshakeException.class);
    }
  }

  @Test
  void refusesTls12OnTheClient() throws Exception {
    SSLContext old = SSLContext.getInstance("TLSv1.2");
    try (ServerTls server = server().open();
        ClientTls client = anonymous().open()) {
      old.init(new KeyManager[] {server.keyManager()}, new TrustManager[0], null);
      try (TestServer http =
          new TestServer(new HttpsConfigurator(old), TestServer::describeClient)) {
        assertThat(get(careless("TLSv1.2"), http.uri())).startsWith("nobody");
        assertThatThrownBy(() -> get(client.httpClient(), http.uri()))
            .isInstanceOf(SSLHandshakeException.class);
      }
    }
  }

  @Test
  void keepsItsPolicy_whateverAServerSetsOnTheEngine() throws Exception {
    try (ServerTls tls = server().requireClients(file(authority.pem())).open();
        ClientTls client = anonymous().open()) {
      HttpsConfigurator forgetful = new HttpsConfigurator(tls.sslContext()) {
        @Override
        public void configure(HttpsParameters parameters) {
          parameters.setSSLParameters(protocol("TLSv1.2"));
        }
      };
      try (TestServer http = new TestServer(forgetful, TestServer::describeClient)) {
        refused(client.httpClient(), http.uri());
        refused(careless("TLSv1.2"), http.uri());
      }
      var engine = tls.sslContext().createSSLEngine();
      engine.setNeedClientAuth(false);
      engine.setWantClientAuth(true);
      engine.setEnabledProtocols(new String[] {"TLSv1.2"});
      assertThat(engine.getNeedClientAuth()).isTrue();
      assertThat(engine.getEnabledProtocols()).containsExactly("TLSv1.3");
      SSLParameters http2 = new SSLParameters();
      http2.setApplicationProtocols(new String[] {"h2"});
      engine.setSSLParameters(http2);
      assertThat(engine.getNeedClientAuth()).isTrue();
      assertThat(engine.getSSLParameters().getApplicationProtocols()).containsExactly("h2");
    }
  }

  @Test
  void staysWithTls13_onAnEngineOfTheJdk_whateverAServerSetsOnIt() throws Exception {
    try (ServerTls tls = server().open()) {
      HttpsConfigurator old = new HttpsConfigurator(tls.sslContext()) {
        @Override
        public void configure(HttpsParameters parameters) {
          parameters.setSSLParameters(protocol("TLSv1.2", "TLSv1.3"));
        }
      };
      try (TestServer http = new TestServer(old, TestServer::describeClient)) {
        refused(careless("TLSv1.2"), http.uri());
        assertThat(get(careless("TLSv1.3"), http.uri())).endsWith("TLSv1.3");
      }
    }
  }

  @Test
  void negotiatesTheProtocolOfTheApplication() throws Exception {
    try (ClientTls client = client(authority.issue("client")).open();
        ServerTls open = server().open();
        ServerTls closed = server().requireClients(file(authority.pem())).open()) {
      for (ServerTls server : List.of(open, closed)) {
        SSLEngine there = server.sslContext().createSSLEngine();
        there.setHandshakeApplicationProtocolSelector(
            (engine, offered) -> offered.contains("h2") ? "h2" : null);
        SSLEngine here = client.sslContext().createSSLEngine("localhost", 443);
        SSLParameters parameters = here.getSSLParameters();
        parameters.setApplicationProtocols(new String[] {"http/1.1", "h2"});
        here.setSSLParameters(parameters);
        shakeHands(here, there);
        assertThat(here.getApplicationProtocol()).isEqualTo("h2");
        assertThat(there.getApplicationProtocol()).isEqualTo("h2");
      }
      // Jetty's ALPN takes no other.
      assertThat(open.sslContext().createSSLEngine().getClass().getModule().getName())
          .isEqualTo("java.base");
    }
  }

  @Test
  void trustsNobody_whenAServersEngineIsMadeAClient() throws Exception {
    try (ServerTls tls = server().open()) {
      SSLEngine turned = tls.sslContext().createSSLEngine("localhost", 443);
      turned.setUseClientMode(true);
      assertThatThrownBy(() -> shakeHands(turned, tls.sslContext().createSSLEngine()))
          .isInstanceOf(SSLException.class);
    }
  }

  private static void shakeHands(SSLEngine client, SSLEngine server) throws Exception {
    ByteBuffer toServer = ByteBuffer.allocate(1 << 16);
    ByteBuffer toClient = ByteBuffer.allocate(1 << 16);
    for (int i = 0; i < 1000 && !(done(client) && done(server)); i++) {
      step(client, toClient, toServer);
      step(server, toServer, toClient);
    }
  }

  private static boolean done(SSLEngine engine) {
    return engine.getHandshakeStatus() == HandshakeStatus.NOT_HANDSHAKING
        && !engine.getSession().getProtocol().equals("NONE");
  }

  private static void step(SSLEngine engine, ByteBuffer in, ByteBuffer out) throws Exception {
    Runnable task = engine.getDelegatedTask();
    if (task != null) {
      task.run();
    }
    in.flip();
    if (in.hasRemaining()) {
      engine.unwrap(in, ByteBuffer.allocate(1 << 16));
    }
    in.compact();
    if (engine.getHandshakeStatus() != HandshakeStatus.NEED_UNWRAP) {
      engine.wrap(ByteBuffer.allocate(0), out);
    }
  }

  @Test
  void keepsItsPolicy_inAClientThatIsGivenTheContextAlone() throws Exception {
    try (ServerTls server = server(
                authority.request("CN=server", Keys.ec()).dns("other").issue())
            .open();
        ClientTls client = anonymous().open();
        TestServer http = new TestServer(server.sslContext())) {
      HttpClient plain = HttpClient.newBuilder()
          .sslContext(client.sslContext())
          .sslParameters(protocol("TLSv1.2"))
          .build();
      refusedByTheClient(plain, http.uri(), "localhost");
    }
  }

  @Test
  void connectsSocketsOfTheFactory() throws Exception {
    Path ca = file(authority.pem());
    try (ServerTls server = server().requireClients(ca).open();
        ClientTls client = client(authority.issue("client")).open();
        TestServer http = new TestServer(server.sslContext())) {
      HttpsURLConnection old = (HttpsURLConnection) http.uri().toURL().openConnection();
      old.setSSLSocketFactory(client.sslContext().getSocketFactory());
      assertThat(old.getInputStream().readAllBytes()).asString().startsWith("CN=client");
      try (SSLSocket socket = (SSLSocket)
          client.sslContext().getSocketFactory().createSocket("localhost", http.port())) {
        socket.startHandshake();
        assertThat(socket.getSession().getProtocol()).isEqualTo("TLSv1.3");
      }
    }
  }

  @Test
  void checksTheNameOnSocketsToo_whoseLibrariesForgetIt() throws Exception {
    Issued issued = authority.request("CN=server", Keys.ec()).dns("other").issue();
    try (ServerTls server = server(issued).open();
        ClientTls client = anonymous().open();
        ClientTls named = anonymous().serverName("other").open();
        TestServer http = new TestServer(server.sslContext())) {
      try (SSLSocket socket = (SSLSocket)
          client.sslContext().getSocketFactory().createSocket("localhost", http.port())) {
        assertThatThrownBy(socket::startHandshake).isInstanceOf(SSLHandshakeException.class);
      }
      try (SSLSocket socket = (SSLSocket)
          named.sslContext().getSocketFactory().createSocket("localhost", http.port())) {
        socket.startHandshake();
      }
    }
  }

  @Test
  void worksThroughItsManagers() throws Exception {
    Path ca = file(authority.pem());
    try (ServerTls server = server().requireClients(ca).open();
        ClientTls client = client(authority.issue("client")).open();
        TestServer http = new TestServer(server.sslContext())) {
      X509ExtendedKeyManager keys = client.keyManager();
      X509ExtendedTrustManager trust = client.trustManager();
      SSLContext own = SSLContext.getInstance("TLS");
      own.init(new KeyManager[] {keys}, new TrustManager[] {trust}, null);
      assertThat(get(HttpClient.newBuilder().sslContext(own).build(), http.uri()))
          .startsWith("CN=client");
    }
  }
}
