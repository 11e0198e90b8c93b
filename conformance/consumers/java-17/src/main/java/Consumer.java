import dev.evalops.runtime.mtls.CertificateIdentity;
import dev.evalops.runtime.mtls.ClientTls;

/** Makes a TLS context, and learns what is wrong with files that are not there. */
final class Consumer {
  private Consumer() {}

  public static void main(String[] arguments) {
    try (ClientTls tls = ClientTls.builder().publicRoots().open()) {
      tls.sslContext().createSSLEngine().beginHandshake();
    } catch (javax.net.ssl.SSLException e) {
      throw new IllegalStateException(e);
    }
    try (ClientTls tls = ClientTls.builder().ca("/missing/ca.pem").open()) {
      throw new IllegalStateException("opened without " + tls);
    } catch (IllegalArgumentException e) {
      System.out.println(e.getMessage());
    }
    CertificateIdentity identity = CertificateIdentity.parse("uri:spiffe://prod/ns/billing");
    System.out.println(identity + " on Java " + Runtime.version().feature());
  }
}
