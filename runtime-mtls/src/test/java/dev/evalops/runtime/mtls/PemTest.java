package dev.evalops.runtime.mtls;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.evalops.runtime.mtls.TestCa.Issued;
import java.security.GeneralSecurityException;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.interfaces.ECPrivateKey;
import java.security.interfaces.EdECPrivateKey;
import java.security.interfaces.RSAPrivateKey;
import java.security.spec.ECGenParameterSpec;
import java.util.List;
import java.util.stream.Stream;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.asn1.x509.SubjectPublicKeyInfo;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class PemTest {
  private static final TestCa CA = TestCa.create();

  static Stream<Arguments> readsEveryFormOfKey() throws Exception {
    KeyPair rsa = Keys.rsa();
    KeyPair p256 = Keys.ec("secp256r1");
    KeyPair p384 = Keys.ec("secp384r1");
    KeyPair p521 = Keys.ec("secp521r1");
    KeyPair ed25519 = Keys.ed25519();
    PrivateKeyInfo bare = PrivateKeyInfo.getInstance(ed25519.getPrivate().getEncoded());
    byte[] publicBits = SubjectPublicKeyInfo.getInstance(ed25519.getPublic().getEncoded())
        .getPublicKeyData()
        .getBytes();
    byte[] withPublicKey = new PrivateKeyInfo(
            bare.getPrivateKeyAlgorithm(), bare.parsePrivateKey(), null, publicBits)
        .getEncoded();
    return Stream.of(
        Arguments.of("RSA PKCS#8", rsa, Keys.pkcs8(rsa)),
        Arguments.of("RSA PKCS#1", rsa, Keys.pkcs1(rsa)),
        Arguments.of("P-256 PKCS#8", p256, Keys.pkcs8(p256)),
        Arguments.of("P-256 SEC1", p256, Keys.sec1(p256)),
        Arguments.of("P-256 SEC1 without curve", p256, Keys.bareSec1(p256)),
        Arguments.of("P-384 PKCS#8", p384, Keys.pkcs8(p384)),
        Arguments.of("P-384 SEC1", p384, Keys.sec1(p384)),
        Arguments.of("P-521 PKCS#8", p521, Keys.pkcs8(p521)),
        Arguments.of("P-521 SEC1", p521, Keys.sec1(p521)),
        Arguments.of("Ed25519 PKCS#8", ed25519, Keys.pkcs8(ed25519)),
        Arguments.of(
            "Ed25519 with its public key", ed25519, Keys.pem("PRIVATE KEY", withPublicKey)));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource
  void readsEveryFormOfKey(String form, KeyPair pair, String text) throws Exception {
    PrivateKey read = Pem.privateKey(text, CA.issue("svc", pair).leaf());
    assertThat(secret(read)).isEqualTo(secret(pair.getPrivate()));
  }

  /** Two forms of one key are not equal to the JDK. */
  private static Object secret(PrivateKey key) {
    if (key instanceof RSAPrivateKey rsa) {
      return rsa.getPrivateExponent();
    }
    return key instanceof ECPrivateKey ec
        ? ec.getS()
        : ((EdECPrivateKey) key).getBytes().orElseThrow();
  }

  @Test
  void readsKeyAndChainOutOfOneFileWithTextAroundTheBlocks() throws Exception {
    Issued issued = CA.intermediate().issue("svc");
    String text = ("\u00ef\u00bb\u00bfBag Attributes: localKeyID\n# -----BEGIN CERTIFICATE-----\n\n"
            + issued.keyPem() + "\n\nsubject=CN: svc\n   \n" + issued.chainPem()
            + "trailing remark")
        .replace("\n", " \t\r\n");
    assertThat(Pem.certificates(text)).hasSize(2).first().isEqualTo(issued.leaf());
    assertThat(Pem.privateKey(text, issued.leaf())).isEqualTo(issued.keys().getPrivate());
  }

  @Test
  void readsEveryCertificateOfABundleInOrder() throws Exception {
    List<TestCa> authorities = List.of(TestCa.create(), TestCa.create(), TestCa.create());
    StringBuilder bundle = new StringBuilder();
    for (TestCa authority : authorities) {
      bundle.append("# an authority\n").append(authority.pem()).append("\n\n");
    }
    assertThat(Pem.certificates(bundle.toString()))
        .extracting(TestCa::pem)
        .containsExactlyElementsOf(authorities.stream().map(TestCa::pem).toList());
  }

  @Test
  void refusesAnEncryptedKeyAndSaysSo() throws Exception {
    KeyPair rsa = Keys.rsa();
    for (String text : List.of(Keys.encryptedPkcs8(rsa), Keys.encryptedTraditional(rsa))) {
      assertThatThrownBy(() -> Pem.privateKey(text, CA.issue("svc", rsa).leaf()))
          .isInstanceOf(GeneralSecurityException.class)
          .hasMessageContaining("the private key is encrypted");
    }
  }

  static Stream<Arguments> refusesTheKeyOfAnotherCertificateAndSaysSo() throws Exception {
    KeyPair rsa = Keys.rsa();
    KeyPair p256 = Keys.ec();
    KeyPair p521 = Keys.ec("secp521r1");
    KeyPair ed25519 = Keys.ed25519();
    return Stream.of(
        Arguments.of(rsa, Keys.pkcs8(Keys.rsa())),
        Arguments.of(rsa, Keys.pkcs1(Keys.rsa())),
        Arguments.of(rsa, Keys.pkcs8(p256)),
        Arguments.of(rsa, Keys.sec1(p256)),
        Arguments.of(p256, Keys.pkcs8(Keys.ec())),
        Arguments.of(p256, Keys.sec1(Keys.ec())),
        Arguments.of(p256, Keys.sec1(p521)),
        Arguments.of(p256, Keys.pkcs8(p521)),
        Arguments.of(p521, Keys.sec1(p256)),
        Arguments.of(p256, Keys.pkcs1(rsa)),
        Arguments.of(ed25519, Keys.pkcs8(Keys.ed25519())),
        Arguments.of(ed25519, Keys.pkcs8(rsa)));
  }

  @ParameterizedTest
  @MethodSource
  void refusesTheKeyOfAnotherCertificateAndSaysSo(KeyPair certified, String text) {
    assertThatThrownBy(() -> Pem.privateKey(text, CA.issue("svc", certified).leaf()))
        .isInstanceOf(GeneralSecurityException.class)
        .hasMessageContaining("does not belong to the certificate");
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1", "secp256k1", "secp224r1"})
  void namesACurveThatIsNotSupported(String curve) throws Exception {
    KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", Keys.BOUNCY_CASTLE);
    generator.initialize(new ECGenParameterSpec(curve));
    KeyPair pair = generator.generateKeyPair();
    assertThatThrownBy(
            () -> Pem.privateKey(Keys.pkcs8(pair), CA.issue("svc", pair).leaf()))
        .isInstanceOf(GeneralSecurityException.class)
        .hasMessage("the curve of the certificate's key is not supported: " + curve
            + "; use P-256, P-384, P-521 or Ed25519");
  }

  @Test
  void namesACurveThatItDoesNotKnow() throws Exception {
    KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", Keys.BOUNCY_CASTLE);
    generator.initialize(new ECGenParameterSpec("brainpoolP320r1"));
    KeyPair unknown = generator.generateKeyPair();
    assertThatThrownBy(
            () -> Pem.privateKey(Keys.pkcs8(unknown), CA.issue("svc", unknown).leaf()))
        .hasMessageContaining("not supported: (object identifier 2b2403030208010109)");
  }

  @Test
  void namesTheBlocksThatAreThereInstead() {
    Issued issued = CA.issue("svc");
    assertThatThrownBy(() -> Pem.certificates(
            issued.chainPem().replace("CERTIFICATE", "TRUSTED CERTIFICATE") + issued.chainPem()))
        .isInstanceOf(GeneralSecurityException.class)
        .hasMessageContaining("TRUSTED CERTIFICATE block has trust settings")
        .hasMessageContaining("openssl x509");
    assertThatThrownBy(() -> Pem.certificates(issued.chainPem().replace("CERTIFICATE", "PKCS7")))
        .hasMessage("no CERTIFICATE block, only PKCS7");
    assertThatThrownBy(() -> Pem.privateKey(issued.chainPem(), issued.leaf()))
        .hasMessage("no PRIVATE KEY block, only CERTIFICATE");
    assertThatThrownBy(() -> Pem.certificates("0\u0082"))
        .hasMessage("no CERTIFICATE block; PEM is needed, not DER or PKCS#12");
  }

  @Test
  void refusesDamageWithinABlock() {
    Issued issued = CA.issue("svc");
    String certificate = issued.chainPem();
    assertThatThrownBy(() -> Pem.certificates(certificate.substring(0, certificate.length() / 2)))
        .hasMessage("the CERTIFICATE block has no end");
    assertThatThrownBy(() ->
            Pem.certificates(certificate.replace("-----END CERTIFICATE-----\n", "") + certificate))
        .hasMessage("the CERTIFICATE block has no end");
    assertThatThrownBy(() -> Pem.certificates(certificate.replace("MII", "M!I")))
        .hasMessage("the CERTIFICATE block is no valid Base64");
    assertThatThrownBy(() ->
            Pem.certificates(certificate + Keys.pem("CERTIFICATE", new byte[] {1, 2, 3})))
        .hasMessage("certificate 2 cannot be decoded");
    assertThatThrownBy(() -> Pem.privateKey(Keys.pem("PRIVATE KEY", new byte[40]), issued.leaf()))
        .hasMessageContaining("damaged");
  }

  @Test
  void refusesAFileWithoutTheBlockThatIsNeeded() {
    Issued issued = CA.issue("svc");
    assertThatThrownBy(() -> Pem.certificates("")).hasMessageContaining("no CERTIFICATE block");
    assertThatThrownBy(() -> Pem.certificates(issued.keyPem()))
        .hasMessageContaining("no CERTIFICATE block");
    assertThatThrownBy(() -> Pem.privateKey(issued.chainPem(), issued.leaf()))
        .hasMessageContaining("no PRIVATE KEY block");
    assertThatThrownBy(
            () -> Pem.privateKey(Keys.pem("OPENSSH PRIVATE KEY", new byte[3]), issued.leaf()))
        .hasMessageContaining("OPENSSH PRIVATE KEY block is not supported");
  }

  @ParameterizedTest
  @ValueSource(strings = {"", " ", "\\n"})
  void refusesAFileWhoseLineBreaksAreLost_withoutTheKeyInTheMessage(String lineBreak) {
    Issued issued = CA.issue("svc");
    String key = issued.keyPem().strip().replace("\n", lineBreak);
    String body = issued.keyPem().lines().skip(1).findFirst().orElseThrow();
    assertThatThrownBy(() -> Pem.privateKey(key, issued.leaf()))
        .isInstanceOf(GeneralSecurityException.class)
        .hasMessageContaining("the line breaks of the file are lost")
        .satisfies(
            e -> assertThat(e.getMessage() + e.getCause()).doesNotContain(body.substring(0, 10)));
    assertThatThrownBy(() -> Pem.certificates(issued.chainPem().replace("\n", lineBreak)))
        .hasMessageContaining("the line breaks of the file are lost");
  }

  @ParameterizedTest
  @ValueSource(strings = {"PRIVATE KEY %s", "PRIVATE %s KEY", "%s"})
  void refusesABeginLineWithAPieceOfTheKey_withoutItInTheMessage(String label) {
    Issued issued = CA.issue("svc");
    String body = issued.keyPem().lines().skip(1).findFirst().orElseThrow();
    String damaged = issued.keyPem().replaceFirst("PRIVATE KEY", label.formatted(body));
    assertThatThrownBy(() -> Pem.privateKey(damaged, issued.leaf()))
        .isInstanceOf(GeneralSecurityException.class)
        .satisfies(
            e -> assertThat(e.getMessage() + e.getCause()).doesNotContain(body.substring(0, 10)));
  }

  @Test
  void neverPutsTheKeyIntoAMessage() {
    Issued issued = CA.issue("svc");
    String damaged = issued.keyPem().replace("-----END", "!!!\n-----END");
    String body = issued.keyPem().lines().skip(1).findFirst().orElseThrow();
    assertThatThrownBy(() -> Pem.privateKey(damaged, issued.leaf()))
        .satisfies(
            e -> assertThat(e.getMessage() + e.getCause()).doesNotContain(body.substring(0, 10)));
  }
}
