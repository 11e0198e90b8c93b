package dev.evalops.runtime.mtls;

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
import org.bouncycastle.asn1.x509.GeneralSubtree;
import org.bouncycastle.asn1.x509.NameConstraints;
import org.bouncycastle.cert.X509v3CertificateBuilder;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.cert.jcajce.JcaX509v3CertificateBuilder;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.jspecify.annotations.Nullable;

/** A certificate authority for one test. */
final class TestCa {
  private static final AtomicLong SERIAL = new AtomicLong(1);

  private final KeyPair keys = Keys.ec();
  private final X509Certificate certificate;
  private final List<X509Certificate> intermediates;

  private TestCa(String name) {
    certificate =
        new Request(null, new X500Principal(name), keys).authority(null).sign(keys.getPrivate());
    intermediates = List.of();
  }

  private TestCa(TestCa parent, String name, @Nullable String permittedDns) {
    certificate = parent.request(name, keys).authority(permittedDns).sign(parent.keys.getPrivate());
    intermediates = new ArrayList<>(parent.intermediates);
    intermediates.add(0, certificate);
  }

  static TestCa create() {
    return new TestCa("CN=Test CA " + SERIAL.incrementAndGet());
  }

  TestCa intermediate() {
    return intermediate(null);
  }

  /** One that may only issue certificates for DNS names of a domain. */
  TestCa intermediate(@Nullable String permittedDns) {
    return new TestCa(this, "CN=Test intermediate " + SERIAL.incrementAndGet(), permittedDns);
  }

  String pem() {
    return TestCa.pem(certificate);
  }

  /** Another certificate of this authority, by one that may be another. */
  String certified(TestCa by, @Nullable String permittedDns) {
    return pem(by.request(certificate.getSubjectX500Principal().getName(), keys)
        .authority(permittedDns)
        .sign(by.keys.getPrivate()));
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

  /** A certificate with its key and chain. */
  record Issued(KeyPair keys, X509Certificate leaf, String chainPem) {
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
    private @Nullable String permittedDns;

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

    Request uri(String uri) {
      names.add(new GeneralName(GeneralName.uniformResourceIdentifier, uri));
      return this;
    }

    Request email(String email) {
      names.add(new GeneralName(GeneralName.rfc822Name, email));
      return this;
    }

    Request valid(Instant from, Instant until) {
      notBefore = from;
      notAfter = until;
      return this;
    }

    private Request authority(@Nullable String permittedDns) {
      authority = true;
      this.permittedDns = permittedDns;
      return this;
    }

    Issued issue() {
      X509Certificate leaf = sign(ca.keys.getPrivate());
      StringBuilder chain = new StringBuilder(pem(leaf));
      for (X509Certificate intermediate : ca.intermediates) {
        chain.append(pem(intermediate));
      }
      return new Issued(pair, leaf, chain.toString());
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
        if (permittedDns != null) {
          GeneralName domain = new GeneralName(GeneralName.dNSName, permittedDns);
          builder.addExtension(
              Extension.nameConstraints,
              true,
              new NameConstraints(new GeneralSubtree[] {new GeneralSubtree(domain)}, null));
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
