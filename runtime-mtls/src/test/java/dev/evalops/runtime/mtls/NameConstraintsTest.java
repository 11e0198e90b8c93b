package dev.evalops.runtime.mtls;

import static java.nio.file.Files.writeString;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.runtime.mtls.TestCa.Issued;
import java.io.IOException;
import java.lang.reflect.Proxy;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.util.List;
import javax.net.ssl.SSLHandshakeException;
import javax.net.ssl.SSLSession;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** An authority that may issue certificates for names of its team alone. */
class NameConstraintsTest {
  private static final String GOOD = "spiffe://team/api";
  private static final String MALFORMED = "spiffe://a b/c";

  private final TestCa authority = TestCa.create();
  private final TestCa team = authority.intermediate("team.internal");

  @TempDir
  Path dir;

  private Path file(String name, String text) throws IOException {
    return writeString(dir.resolve(name), text);
  }

  private Issued issued(String dns, String uri) {
    return team.request("O=team", Keys.ec()).dns(dns).uri(uri).issue();
  }

  private int status(Issued ofServer, Issued ofClient, String serverName) throws Exception {
    return status(authority.pem(), ofServer, ofClient, serverName);
  }

  private int status(String trusted, Issued ofServer, Issued ofClient, String serverName)
      throws Exception {
    Path ca = file("ca", trusted);
    try (ServerTls server = ServerTls.builder()
            .reloadEvery(Duration.ZERO)
            .certificate(file("server", ofServer.chainPem()), file("server.key", ofServer.keyPem()))
            .requireClients(ca)
            .open();
        ClientTls client = ClientTls.builder()
            .reloadEvery(Duration.ZERO)
            .ca(ca)
            .certificate(file("client", ofClient.chainPem()), file("client.key", ofClient.keyPem()))
            .serverName(serverName)
            .open();
        TestServer http = new TestServer(server.sslContext())) {
      HttpClient calls = client.httpClient();
      HttpRequest request =
          HttpRequest.newBuilder(http.uri()).timeout(Duration.ofSeconds(20)).build();
      return calls.send(request, BodyHandlers.ofString()).statusCode();
    }
  }

  @Test
  void acceptsItsNames() throws Exception {
    Issued good = issued("api.team.internal", GOOD);

    assertThat(status(good, good, "api.team.internal")).isEqualTo(200);
  }

  /** The JDK gives none of the names of a certificate with a malformed one, and so compares none. */
  @ParameterizedTest
  @ValueSource(strings = {GOOD, MALFORMED})
  void refusesOtherNames_alsoBesideAMalformedOne(String uri) {
    Issued good = issued("api.team.internal", GOOD);
    Issued other = issued("api.prod.internal", uri);

    assertThatThrownBy(() -> status(other, good, "api.prod.internal"))
        .isInstanceOf(SSLHandshakeException.class);
    assertThatThrownBy(() -> status(good, other, "api.team.internal"))
        .isInstanceOf(IOException.class);
  }

  /** Beside the authority that has issued its certificate, and alone. */
  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void refusesOtherNames_alsoOfAnAuthorityThatIsTrustedItself(boolean alone) throws Exception {
    String trusted = alone ? team.pem() : team.pem() + authority.pem();
    Issued good = issued("api.team.internal", GOOD);
    Issued malformed = issued("api.team.internal", MALFORMED);
    Issued other = issued("api.prod.internal", GOOD);
    Issued below = team.intermediate()
        .request("O=team", Keys.ec())
        .dns("api.prod.internal")
        .issue();

    assertThat(status(trusted, good, good, "api.team.internal")).isEqualTo(200);
    for (Issued refused : List.of(other, malformed, below)) {
      String name = refused.equals(malformed) ? "api.team.internal" : "api.prod.internal";
      assertThatThrownBy(() -> status(trusted, refused, good, name))
          .isInstanceOf(SSLHandshakeException.class);
      assertThatThrownBy(() -> status(trusted, good, refused, "api.team.internal"))
          .isInstanceOf(IOException.class);
    }
  }

  /** Renewed with other constraints, certified by two, trusted itself, or beside one that it has nothing to do with. */
  @ParameterizedTest
  @ValueSource(strings = {"renewed", "certified by two", "trusted itself", "unrelated"})
  void acceptsOtherNames_whereOneWayPermitsThem(String how) throws Exception {
    Issued good = issued("api.team.internal", GOOD);
    TestCa free = authority.intermediate();
    Issued byTeam = issued("api.prod.internal", GOOD);
    Issued byFree = free.request("O=free", Keys.ec()).dns("api.prod.internal").issue();
    String leaf = TestCa.pem(byFree.leaf());
    Issued other = switch (how) {
      case "renewed", "trusted itself" -> byTeam;
      case "certified by two" ->
        new Issued(byFree.keys(), byFree.leaf(), leaf + free.pem() + free.certified(team, null));
      default -> new Issued(byFree.keys(), byFree.leaf(), leaf + free.pem() + team.pem());
    };
    String trusted = switch (how) {
      case "renewed" -> team.pem() + team.certified(authority, "internal");
      case "trusted itself" -> TestCa.pem(byTeam.leaf()) + team.pem();
      default -> authority.pem() + team.pem();
    };

    assertThat(status(trusted, other, good, "api.prod.internal")).isEqualTo(200);
    assertThat(status(trusted, good, other, "api.team.internal")).isEqualTo(200);
  }

  /** On a server whose TLS is that of others. */
  @Test
  void givesAClientNoNamesThatWereNotCompared() throws Exception {
    CertificateIdentity wanted = CertificateIdentity.dns("api.prod.internal");
    X509Certificate[] chain = Pem.certificates(
            issued("api.prod.internal", MALFORMED).chainPem())
        .toArray(X509Certificate[]::new);
    SSLSession session = (SSLSession) Proxy.newProxyInstance(
        getClass().getClassLoader(),
        new Class<?>[] {SSLSession.class},
        (proxy, method, arguments) -> chain);

    assertThat(CertificateIdentity.of(chain[0])).contains(wanted);
    assertThat(CertificateRule.anyOf(List.of(wanted)).decide(session))
        .isEqualTo(
            new CertificateRule.Decision(CertificateRule.Outcome.IDENTITY_NOT_ALLOWED, List.of()));
    assertThat(CertificateRule.anyVerified().decide(session))
        .isEqualTo(new CertificateRule.Decision(CertificateRule.Outcome.ALLOWED, List.of()));
  }
}
