package dev.evalops.runtime.mtls;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.security.cert.CertificateException;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

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
      throw new CertificateException("a malformed subject alternative name keeps the others from"
          + " being compared with the name constraints of the authority");
    }
  }

  /**
   * The same, and compares the names with the constraints of the authorities that are trusted themselves.
   *
   * @param trusted the authorities
   * @throws CertificateException if there is no way up to one of them on which all names are permitted
   */
  static void check(X509Certificate[] chain, X509Certificate[] trusted)
      throws CertificateException {
    check(chain);
    if (Arrays.stream(trusted).anyMatch(NameConstraints::areIn)
        && !leadsUp(new ArrayList<>(List.of(chain[0])), chain, trusted)) {
      throw new CertificateException(
          "name constraints check failed: the authority may not issue this certificate");
    }
  }

  /**
   * Whether one of the ways that begin like this, leaf first, ends at an authority that is trusted. There can be
   * several: an authority may be renewed with the same key, and be certified by others.
   */
  private static boolean leadsUp(
      List<X509Certificate> way, X509Certificate[] chain, X509Certificate[] trusted)
      throws CertificateException {
    X509Certificate top = way.get(way.size() - 1);
    List<X509Certificate> below = way.subList(0, way.size() - 1);
    for (X509Certificate authority : trusted) {
      if (areOne(authority, top)
          ? below.isEmpty() || permits(authority, below)
          : hasIssued(authority, top) && permits(authority, way)) {
        return true;
      }
    }
    for (X509Certificate authority : chain) {
      if (!way.contains(authority) && mayIssue(authority, top) && permits(authority, way)) {
        way.add(authority);
        if (leadsUp(way, chain, trusted)) {
          return true;
        }
        way.remove(way.size() - 1);
      }
    }
    return false;
  }

  private static boolean areIn(X509Certificate authority) {
    return authority.getExtensionValue(EXTENSION) != null;
  }

  private static boolean areOne(X509Certificate one, X509Certificate other) {
    return one.getSubjectX500Principal().equals(other.getSubjectX500Principal())
        && one.getPublicKey().equals(other.getPublicKey());
  }

  private static boolean mayIssue(X509Certificate authority, X509Certificate certificate) {
    try {
      authority.checkValidity();
    } catch (CertificateException outOfTime) {
      return false;
    }
    return authority.getBasicConstraints() >= 0 && hasIssued(authority, certificate);
  }

  private static boolean hasIssued(X509Certificate authority, X509Certificate certificate) {
    if (!certificate.getIssuerX500Principal().equals(authority.getSubjectX500Principal())) {
      return false;
    }
    try {
      certificate.verify(authority.getPublicKey());
      return true;
    } catch (GeneralSecurityException another) { // an authority of the same name
      return false;
    }
  }

  /** Whether the authority may issue for the names of these, leaf first. */
  private static boolean permits(X509Certificate authority, List<X509Certificate> way)
      throws CertificateException {
    if (!areIn(authority)) {
      return true;
    }
    if (SubjectNames.areUnknownToTheJdk(way.get(0))) {
      return false;
    }
    X509CertSelector permitted = permittedBy(authority);
    for (int i = 0; i < way.size(); i++) {
      X509Certificate each = way.get(i);
      boolean selfIssued = each.getSubjectX500Principal().equals(each.getIssuerX500Principal());
      if ((i == 0 || !selfIssued) && !permitted.match(each)) {
        return false;
      }
    }
    return true;
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
}
