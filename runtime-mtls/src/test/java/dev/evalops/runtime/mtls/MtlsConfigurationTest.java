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

  private static Mtls.ClientBuilder client() {
    return Mtls.client().reloadEvery(Duration.ZERO);
  }

  private static Mtls.ServerBuilder server() {
    return Mtls.server().reloadEvery(Duration.ZERO);
  }

  private static void refuses(Mtls.Builder<?> builder, String message) {
    assertThatIllegalArgumentException().isThrownBy(builder::build).withMessage(message);
    assertThatIllegalArgumentException()
        .isThrownBy(builder::buildIfConfigured)
        .withMessage(message);
  }

  @Test
  void givesNone_whenNothingIsConfigured() {
    assertThat(client().buildIfConfigured()).isEmpty();
    assertThat(
            client().ca("").certificate(" ", "").serverName("\t").publicRoots().buildIfConfigured())
        .isEmpty();
    assertThat(client().ca((String) null).certificate((String) null, null).buildIfConfigured())
        .isEmpty();
    assertThat(server().certificate("", "").requireClients("").buildIfConfigured())
        .isEmpty();
  }

  @Test
  void refusesToBuildNothing() {
    String caRequired = "tls_ca_file_required (or publicRoots(), to trust every public authority)";
    assertThatIllegalArgumentException().isThrownBy(() -> client().build()).withMessage(caRequired);
    assertThatIllegalArgumentException()
        .isThrownBy(() -> server().build())
        .withMessage("tls_cert_and_key_must_both_be_set");
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
    try (Mtls tls = client().certificate(cert, key).publicRoots().build()) {
      assertThat(tls.trustManager().getAcceptedIssuers()).hasSizeGreaterThan(20);
    }
    try (Mtls tls = client().ca(ca).publicRoots().build()) {
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
    client().ca(ca).serverName(name).build().close();
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
    try (Mtls tls =
        client().ca(" " + ca + "\n").certificate(cert + " ", " " + key).build()) {
      assertThat(tls.notAfter()).contains(issued.leaf().getNotAfter().toInstant());
    }
  }

  @Test
  void tellsTheEndOfTheCertificatesLife_ifThereIsOne() {
    try (Mtls server = server().certificate(cert, key).build();
        Mtls client = client().ca(ca).build()) {
      assertThat(server.notAfter()).contains(issued.leaf().getNotAfter().toInstant());
      assertThat(client.notAfter()).isEmpty();
    }
  }

  @Test
  void givesItsParametersToLibrariesThatAskForThem() {
    try (Mtls server = server().certificate(cert, key).requireClients(ca).build();
        Mtls client = client().ca(ca).serverName("b\u00fccher.example").build()) {
      assertThat(server.sslParameters().getProtocols()).containsExactly("TLSv1.3");
      assertThat(server.sslParameters().getNeedClientAuth()).isTrue();
      assertThat(client.sslParameters().getEndpointIdentificationAlgorithm()).isEqualTo("HTTPS");
      assertThat(client.sslParameters().getServerNames())
          .containsExactly(new SNIHostName("xn--bcher-kva.example"));
    }
  }

  @Test
  void refusesUseOnTheWrongSide() throws Exception {
    try (Mtls server = server().certificate(cert, key).build();
        Mtls closed = server().certificate(cert, key).requireClients(ca).build();
        Mtls client = client().ca(ca).build()) {
      assertThatIllegalStateException()
          .isThrownBy(server::httpClient)
          .withMessageContaining("Mtls.client()");
      assertThatIllegalStateException()
          .isThrownBy(server::trustManager)
          .withMessage("no CA is configured");
      assertThatIllegalStateException()
          .isThrownBy(client::keyManager)
          .withMessage("no certificate is configured");
      assertThatIllegalArgumentException()
          .isThrownBy(() -> client.sslContext().createSSLEngine().setUseClientMode(false))
          .withMessageContaining("Mtls.server()");
      assertThatIllegalArgumentException()
          .isThrownBy(() -> closed.sslContext().createSSLEngine().setUseClientMode(true))
          .withMessageContaining("Mtls.client()");
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
        .isThrownBy(() -> Mtls.client().reloadEvery(Duration.ofSeconds(-1)).build())
        .withMessageStartingWith("reloadEvery must be zero or more: PT-1S; tls_ca_file_required");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> server().requireClients(ca).wantClients(ca))
        .withMessageContaining("exclude each other");
  }

  @Test
  void neverPrintsTheKey() {
    CertifiedKey pair =
        new CertifiedKey("alias", issued.keys().getPrivate(), List.of(issued.leaf()));
    assertThat(pair).hasToString("CertifiedKey[CN=svc]");
  }
}
