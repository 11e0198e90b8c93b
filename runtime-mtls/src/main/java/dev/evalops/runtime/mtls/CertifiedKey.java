package dev.evalops.runtime.mtls;

import java.security.PrivateKey;
import java.security.cert.X509Certificate;
import java.util.List;

/** A private key and its certificate chain, leaf first; the alias names this very pair. */
record CertifiedKey(String alias, PrivateKey key, List<X509Certificate> chain) {
  X509Certificate leaf() {
    return chain.get(0);
  }

  @Override
  public String toString() {
    return "CertifiedKey[" + leaf().getSubjectX500Principal() + "]";
  }
}
