import dev.evalops.runtime.mtls.CertificateIdentity;
import dev.evalops.runtime.mtls.Mtls;

/** Makes a TLS context, and learns what is wrong with files that are not there. */
final class Consumer {
  private Consumer() {}

  public static void main(String[] arguments) {
    try (Mtls tls = Mtls.client().publicRoots().build()) {
      tls.sslContext().createSSLEngine().beginHandshake();
    } catch (javax.net.ssl.SSLException e) {
      throw new IllegalStateException(e);
    }
    try (Mtls tls = Mtls.client().ca("/missing/ca.pem").build()) {
      throw new IllegalStateException("built without " + tls);
    } catch (IllegalArgumentException e) {
      System.out.println(e.getMessage());
    }
    CertificateIdentity identity = CertificateIdentity.parse("uri:spiffe://prod/ns/billing");
    System.out.println(identity + " on Java " + Runtime.version().feature());
  }
}
