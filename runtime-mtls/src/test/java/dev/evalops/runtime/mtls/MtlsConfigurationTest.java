package dev.evalops.runtime.mtls;

import static java.nio.file.Files.writeString;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.runtime.mtls.TestCa.Issued;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import javax.net.ssl.SNIHostName;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class MtlsConfigurationTest {
  private final TestCa authority = TestCa.create();
  private final Issued issued = authority.issue("svc");

  @TempDir
  Path dir;

  private Path ca;
  private Path cert;
  private Path key;

  @BeforeEach
  void files() throws IOException {
    ca = writeString(dir.resolve("ca.crt"), authority.pem());
    cert = writeString(dir.resolve("tls.crt"), issued.chainPem());
    key = writeString(dir.resolve("tls.key"), issued.keyPem());
  }

  private static ClientTls.Builder client() {
    return ClientTls.builder().reloadEvery(Duration.ZERO);
  }

  private static ServerTls.Builder server() {
    return ServerTls.builder().reloadEvery(Duration.ZERO);
  }

  private static void refuses(TlsBuilder<?> builder, String message) {
    assertThat(builder.isConfigured()).isTrue();
    refusesToOpen(builder, message);
  }

  private static void refusesToOpen(TlsBuilder<?> builder, String message) {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> {
          if (builder instanceof ClientTls.Builder client) {
            client.open();
          } else if (builder instanceof ServerTls.Builder server) {
            server.open();
          }
        })
        .withMessage(message);
  }

  @Test
  void tellsWhetherAnythingIsConfigured() {
    assertThat(client().isConfigured()).isFalse();
    assertThat(
            client().ca("").certificate(" ", "").serverName("\t").publicRoots().isConfigured())
        .isFalse();
    assertThat(client().ca((String) null).certificate((String) null, null).isConfigured())
        .isFalse();
    assertThat(server().certificate("", "").requireClients("").isConfigured()).isFalse();
    assertThat(server().certificate(cert, key).isConfigured()).isTrue();
    assertThat(client().ca(ca).isConfigured()).isTrue();
  }

  @Test
  void refusesToOpenNothing() {
    String caRequired = "tls_ca_file_required (or publicRoots(), to trust every public authority)";
    refusesToOpen(client(), caRequired);
    refusesToOpen(server(), "tls_cert_and_key_must_both_be_set");
  }

  @Test
  void refusesHalfAPair() {
    refuses(client().ca(ca).certificate("", key.toString()), "tls_cert_file_required");
    refuses(client().ca(ca).certificate(cert.toString(), null), "tls_key_file_required");
    refuses(server().certificate(cert, null), "tls_cert_and_key_must_both_be_set");
    refuses(server().certificate(null, key), "tls_cert_and_key_must_both_be_set");
    refuses(server().requireClients(ca), "tls_cert_and_key_must_both_be_set");
  }

  @Test
  void refusesAServerWhoseClientCaComesFromAnUnsetVariable() {
    refuses(server().certificate(cert, key).requireClients(""), "tls_client_ca_file_required");
    refuses(
        server().certificate(cert, key).wantClients((String) null), "tls_client_ca_file_required");
  }

  @Test
  void refusesAClientThatWouldTrustThePublicRootsByAccident() {
    String caRequired = "tls_ca_file_required (or publicRoots(), to trust every public authority)";
    refuses(client().certificate(cert, key), caRequired);
    refuses(client().serverName("svc.internal"), caRequired);
    try (ClientTls tls = client().certificate(cert, key).publicRoots().open()) {
      assertThat(tls.trustManager().getAcceptedIssuers()).hasSizeGreaterThan(20);
    }
    try (ClientTls tls = client().ca(ca).publicRoots().open()) {
      assertThat(tls.trustManager().getAcceptedIssuers()).hasSize(1);
    }
  }

  @Test
  void namesFilesThatCannotBeRead() {
    Path none = dir.resolve("none");
    refuses(client().ca(none), "read_server_ca: " + none + ": no such file");
    refuses(
        server().certificate(cert, key).requireClients(none),
        "read_client_ca: " + none + ": no such file");
    refuses(
        client().ca(ca).certificate(none, key), "load_client_keypair: " + none + ": no such file");
    refuses(server().certificate(cert, none), "load_server_keypair: " + none + ": no such file");
    refuses(client().ca(dir), "read_server_ca: " + dir + ": Is a directory");
  }

  @Test
  void namesFilesThatCannotBeParsed() throws IOException {
    Path text = writeString(dir.resolve("text"), "hello");
    String noBlock = ": no CERTIFICATE block; PEM is needed, not DER or PKCS#12";
    refuses(client().ca(text), "parse_server_ca: " + text + noBlock);
    refuses(
        server().certificate(cert, key).wantClients(text), "parse_client_ca: " + text + noBlock);
    refuses(client().ca(ca).certificate(text, key), "load_client_keypair: " + text + noBlock);
    Path other = writeString(dir.resolve("other.key"), Keys.pkcs8(Keys.ec()));
    refuses(
        server().certificate(cert, other),
        "load_server_keypair: " + other + ": the private key does not belong to the certificate");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "svc.internal:443",
        "10.0.0.1:443",
        "db:5432",
        "dead.beef:443",
        "[::1",
        ":::::",
        "a_b-",
        "spiffe://prod/ns/billing",
        "https://svc.internal",
        "1.2.3",
        "999.1.1.1",
        "1.2.3.4.",
        "*.internal",
        "a..b",
        "a_b..c",
        "a_b.-c",
        "."
      })
  void refusesAServerNameThatNoCertificateCanHave(String name) {
    refuses(client().ca(ca).serverName(name), "tls_server_name_invalid: " + name);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"svc", "svc_a.internal", "_a", "svc.internal.", "10.0.0.1", "::1", "[::1]", "ü.de"
      })
  void takesEveryServerNameThatACertificateCanHave(String name) {
    client().ca(ca).serverName(name).open().close();
  }

  @Test
  void reportsEveryProblemInOneException() throws IOException {
    Path none = dir.resolve("none");
    refuses(
        client().ca(none).certificate(null, key).serverName("not a name"),
        "tls_cert_file_required; tls_server_name_invalid: not a name; read_server_ca: " + none
            + ": no such file");
    refuses(
        server().certificate(none, dir.resolve("too")).requireClients(none),
        "read_client_ca: " + none + ": no such file; load_server_keypair: " + none
            + ": no such file; load_server_keypair: " + dir.resolve("too") + ": no such file");
  }

  @Test
  void takesPathsAndStringsWithWhiteSpaceAround() {
    try (ClientTls tls =
        client().ca(" " + ca + "\n").certificate(cert + " ", " " + key).open()) {
      assertThat(tls.notAfter()).contains(issued.leaf().getNotAfter().toInstant());
    }
    // White space by the rule of our services.
    try (ClientTls tls = client()
        .ca("\u00a0" + ca + "\u0085")
        .certificate(cert + "\u202f", "\u2007" + key)
        .serverName("\u00a0svc\u3000")
        .open()) {
      assertThat(tls.notAfter()).contains(issued.leaf().getNotAfter().toInstant());
      assertThat(tls.sslParameters().getServerNames()).containsExactly(new SNIHostName("svc"));
    }
    assertThat(client().ca("\u00a0").serverName("\u0085").isConfigured()).isFalse();
  }

  @Test
  void tellsTheEndOfTheCertificatesLife_ifThereIsOne() {
    try (ServerTls server = server().certificate(cert, key).open();
        ClientTls client = client().ca(ca).open()) {
      assertThat(server.notAfter()).contains(issued.leaf().getNotAfter().toInstant());
      assertThat(client.notAfter()).isEmpty();
    }
  }

  @Test
  void givesItsParametersToLibrariesThatAskForThem() {
    try (ServerTls server = server().certificate(cert, key).requireClients(ca).open();
        ClientTls client = client().ca(ca).serverName("b\u00fccher.example").open()) {
      assertThat(server.sslParameters().getProtocols()).containsExactly("TLSv1.3");
      assertThat(server.sslParameters().getNeedClientAuth()).isTrue();
      assertThat(client.sslParameters().getEndpointIdentificationAlgorithm()).isEqualTo("HTTPS");
      assertThat(client.sslParameters().getServerNames())
          .containsExactly(new SNIHostName("xn--bcher-kva.example"));
    }
  }

  @Test
  void refusesUseOnTheWrongSide() throws Exception {
    try (ServerTls server = server().certificate(cert, key).open();
        ServerTls closed = server().certificate(cert, key).requireClients(ca).open();
        ClientTls client = client().ca(ca).open()) {
      assertThatIllegalStateException()
          .isThrownBy(server::trustManager)
          .withMessage("no CA is configured");
      assertThatIllegalStateException()
          .isThrownBy(client::keyManager)
          .withMessage("no certificate is configured");
      assertThatIllegalArgumentException()
          .isThrownBy(() -> client.sslContext().createSSLEngine().setUseClientMode(false))
          .withMessageContaining("ServerTls");
      assertThatIllegalArgumentException()
          .isThrownBy(() -> closed.sslContext().createSSLEngine().setUseClientMode(true))
          .withMessageContaining("ClientTls");
      assertThatThrownBy(() -> server.sslContext().getSocketFactory())
          .isInstanceOf(UnsupportedOperationException.class);
      assertThatThrownBy(() -> client.sslContext().getServerSocketFactory())
          .isInstanceOf(UnsupportedOperationException.class);
      assertThatThrownBy(() -> client.sslContext().init(null, null, null))
          .hasMessageContaining("made from files");
    }
  }

  @Test
  void refusesSettingsThatMakeNoSense() {
    assertThatIllegalArgumentException()
        .isThrownBy(
            () -> ClientTls.builder().reloadEvery(Duration.ofSeconds(-1)).open())
        .withMessageStartingWith("reloadEvery must be zero or more: PT-1S; tls_ca_file_required");
    refuses(
        server().requireClients(ca).wantClients(ca),
        "requireClients and wantClients must not both be set; tls_cert_and_key_must_both_be_set");
    refuses(
        server().certificate(cert, key).wantClients(ca).requireClients(""),
        "requireClients and wantClients must not both be set; tls_client_ca_file_required");
    refuses(client().ca("ca\0.pem"), "read_server_ca: ca\0.pem: not a path");
  }

  @Test
  void neverPrintsTheKey() {
    CertifiedKey pair =
        new CertifiedKey("alias", issued.keys().getPrivate(), List.of(issued.leaf()));
    assertThat(pair).hasToString("CertifiedKey[CN=svc]");
  }
}
