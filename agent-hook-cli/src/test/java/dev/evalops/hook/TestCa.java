package dev.evalops.hook;

import java.math.BigInteger;
import java.security.KeyPair;
import java.security.PrivateKey;
import java.security.cert.CertificateEncodingException;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import javax.security.auth.x500.X500Principal;
import org.bouncycastle.asn1.x509.BasicConstraints;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.GeneralName;
import org.bouncycastle.asn1.x509.GeneralNames;
import org.bouncycastle.cert.X509v3CertificateBuilder;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.cert.jcajce.JcaX509v3CertificateBuilder;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;

/** A certificate authority for one test. */
final class TestCa {
  private static final AtomicLong SERIAL = new AtomicLong(1);

  private final KeyPair keys = Keys.ec();
  private final X509Certificate certificate;

  private TestCa(String name) {
    certificate =
        new Request(null, new X500Principal(name), keys).authority().sign(keys.getPrivate());
  }

  static TestCa create() {
    return new TestCa("CN=Test CA " + SERIAL.incrementAndGet());
  }

  String pem() {
    return TestCa.pem(certificate);
  }

  /** What a service needs: for localhost, with a new key. */
  Issued issue(String commonName) {
    return issue(commonName, Keys.ec());
  }

  Issued issue(String commonName, KeyPair pair) {
    return request("CN=" + commonName, pair)
        .dns("localhost")
        .address("127.0.0.1")
        .issue();
  }

  Request request(String subject, KeyPair pair) {
    return new Request(this, new X500Principal(subject), pair);
  }

  static String pem(X509Certificate certificate) {
    try {
      return Keys.pem("CERTIFICATE", certificate.getEncoded());
    } catch (CertificateEncodingException e) {
      throw new AssertionError(e);
    }
  }

  /** A certificate with its key. */
  record Issued(KeyPair keys, String chainPem) {
    String keyPem() {
      return Keys.pkcs8(keys);
    }
  }

  static final class Request {
    private final TestCa ca;
    private final X500Principal subject;
    private final KeyPair pair;
    private final List<GeneralName> names = new ArrayList<>();
    private Instant notBefore = Instant.now().minus(Duration.ofHours(1));
    private Instant notAfter = Instant.now().plus(Duration.ofDays(1));
    private boolean authority;

    private Request(TestCa ca, X500Principal subject, KeyPair pair) {
      this.ca = ca;
      this.subject = subject;
      this.pair = pair;
    }

    Request dns(String name) {
      names.add(new GeneralName(GeneralName.dNSName, name));
      return this;
    }

    Request address(String address) {
      names.add(new GeneralName(GeneralName.iPAddress, address));
      return this;
    }

    Request valid(Instant from, Instant until) {
      notBefore = from;
      notAfter = until;
      return this;
    }

    private Request authority() {
      authority = true;
      return this;
    }

    Issued issue() {
      X509Certificate leaf = sign(ca.keys.getPrivate());
      return new Issued(pair, pem(leaf));
    }

    private X509Certificate sign(PrivateKey issuerKey) {
      try {
        X500Principal issuer = ca == null ? subject : ca.certificate.getSubjectX500Principal();
        X509v3CertificateBuilder builder = new JcaX509v3CertificateBuilder(
            issuer,
            BigInteger.valueOf(SERIAL.incrementAndGet()),
            Date.from(notBefore),
            Date.from(notAfter),
            subject,
            pair.getPublic());
        if (!names.isEmpty()) {
          builder.addExtension(
              Extension.subjectAlternativeName,
              false,
              new GeneralNames(names.toArray(new GeneralName[0])));
        }
        if (authority) {
          builder.addExtension(Extension.basicConstraints, true, new BasicConstraints(true));
        }
        return new JcaX509CertificateConverter()
            .getCertificate(
                builder.build(new JcaContentSignerBuilder("SHA256withECDSA").build(issuerKey)));
      } catch (Exception e) {
        throw new AssertionError(e);
      }
    }
  }
}
