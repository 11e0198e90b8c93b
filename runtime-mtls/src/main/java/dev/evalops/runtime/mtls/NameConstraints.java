package dev.evalops.runtime.mtls;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.security.cert.CertificateException;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.Arrays;

/**
 * For which names authorities may issue certificates (RFC 5280 section 4.2.1.10), where the JDK does not compare them:
 * it passes over the constraints of an authority that is trusted itself, and over names of which it dislikes one.
 */
final class NameConstraints {
  private static final String EXTENSION = "2.5.29.30";

  private NameConstraints() {}

  /**
   * Checks that the JDK has compared the names of the leaf with the constraints of the authorities in its chain.
   *
   * @param chain verified by the JDK, leaf first
   * @throws CertificateException if it has not, and one has constraints
   */
  static void check(X509Certificate[] chain) throws CertificateException {
    if (SubjectNames.areUnknownToTheJdk(chain[0])
        && Arrays.stream(chain).skip(1).anyMatch(NameConstraints::areIn)) {
      throw notCompared();
    }
  }

  /**
   * The same, and compares the names with the constraints of the authorities that are trusted themselves.
   *
   * @param trusted the authorities
   * @throws CertificateException if one of these may not issue for the names
   */
  static void check(X509Certificate[] chain, X509Certificate[] trusted)
      throws CertificateException {
    check(chain);
    for (X509Certificate authority : trusted) {
      int top = areIn(authority) ? issuedBy(authority, chain) : -1;
      if (top < 0 || Arrays.stream(trusted).anyMatch(other -> isUnconstrained(other, authority))) {
        continue;
      }
      if (SubjectNames.areUnknownToTheJdk(chain[0])) {
        throw notCompared();
      }
      X509CertSelector permitted = permittedBy(authority);
      for (int i = 0; i <= top; i++) {
        boolean selfIssued =
            chain[i].getSubjectX500Principal().equals(chain[i].getIssuerX500Principal());
        if ((i == 0 || !selfIssued) && !permitted.match(chain[i])) {
          throw new CertificateException("name constraints check failed: the authority "
              + authority.getSubjectX500Principal() + " may not issue this certificate");
        }
      }
    }
  }

  private static boolean areIn(X509Certificate authority) {
    return authority.getExtensionValue(EXTENSION) != null;
  }

  /** Whether it is the same authority, without constraints. */
  private static boolean isUnconstrained(X509Certificate other, X509Certificate authority) {
    return !areIn(other)
        && other.getSubjectX500Principal().equals(authority.getSubjectX500Principal())
        && other.getPublicKey().equals(authority.getPublicKey());
  }

  /** The place of the certificate that the authority has issued, or -1. */
  private static int issuedBy(X509Certificate authority, X509Certificate[] chain) {
    for (int i = chain.length - 1; i >= 0; i--) {
      if (chain[i].getIssuerX500Principal().equals(authority.getSubjectX500Principal())
          && !chain[i].equals(authority)) {
        try {
          chain[i].verify(authority.getPublicKey());
          return i;
        } catch (GeneralSecurityException another) {
          // An authority of the same name.
        }
      }
    }
    return -1;
  }

  private static X509CertSelector permittedBy(X509Certificate authority)
      throws CertificateException {
    ByteBuffer extension = ByteBuffer.wrap(authority.getExtensionValue(EXTENSION));
    byte[] constraints = new byte[Der.enter(extension)]; // of the OCTET STRING
    extension.get(constraints);
    X509CertSelector permitted = new X509CertSelector();
    try {
      permitted.setNameConstraints(constraints);
    } catch (IOException e) {
      throw new CertificateException("the name constraints of the authority are damaged", e);
    }
    return permitted;
  }

  private static CertificateException notCompared() {
    return new CertificateException("a malformed subject alternative name keeps the others from"
        + " being compared with the name constraints of the authority");
  }
}
