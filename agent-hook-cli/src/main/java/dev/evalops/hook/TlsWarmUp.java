package dev.evalops.hook;

import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import javax.net.ssl.KeyManager;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLException;
import javax.net.ssl.TrustManager;

/**
 * Makes Java load what a TLS handshake needs, on a second core, while the first one reads the input and the
 * certificates: this is most of the time of a call. Makes the first message of a handshake that nobody gets; decides
 * nothing.
 */
final class TlsWarmUp extends Thread {
  TlsWarmUp() {
    super("tls-warm-up");
    setDaemon(true);
  }

  @Override
  public void run() {
    try {
      SSLContext context = SSLContext.getInstance("TLSv1.3");
      // Empty lists, unlike null, keep the JDK from loading its own roots.
      context.init(new KeyManager[0], new TrustManager[0], null);
      SSLEngine engine = context.createSSLEngine("localhost", 443);
      engine.setUseClientMode(true);
      ByteBuffer hello = ByteBuffer.allocate(engine.getSession().getPacketBufferSize());
      engine.wrap(ByteBuffer.allocate(0), hello);
    } catch (GeneralSecurityException | SSLException | RuntimeException e) {
      // The real handshake will say what is wrong.
    }
  }
}
