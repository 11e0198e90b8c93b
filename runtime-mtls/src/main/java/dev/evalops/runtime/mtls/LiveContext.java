package dev.evalops.runtime.mtls;

import dev.evalops.runtime.mtls.Policy.ClientAuth;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.security.KeyManagementException;
import java.security.SecureRandom;
import java.util.function.Supplier;
import javax.net.ssl.KeyManager;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLContextSpi;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocketFactory;
import javax.net.ssl.SSLSessionContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManager;
import org.jspecify.annotations.Nullable;

/**
 * One context for ever, whose every new connection is made by the context of the moment. Each of those has its own
 * session cache and ticket keys, so that a session from before a rotation is never resumed after it.
 */
final class LiveContext extends SSLContext {
  LiveContext(Supplier<SSLContext> current, Policy policy) {
    super(new Spi(current, policy), current.get().getProvider(), current.get().getProtocol());
  }

  private static final class Spi extends SSLContextSpi {
    private final Supplier<SSLContext> current;
    private final Policy policy;

    Spi(Supplier<SSLContext> current, Policy policy) {
      this.current = current;
      this.policy = policy;
    }

    @Override
    protected void engineInit(
        KeyManager @Nullable [] keys,
        TrustManager @Nullable [] trust,
        @Nullable SecureRandom random)
        throws KeyManagementException {
      throw new KeyManagementException(
          "this SSLContext is made from files and cannot be initialised again");
    }

    @Override
    protected SSLEngine engineCreateSSLEngine() {
      return engineCreateSSLEngine(null, -1);
    }

    @Override
    protected SSLEngine engineCreateSSLEngine(@Nullable String host, int port) {
      SSLEngine engine = current.get().createSSLEngine(policy.peerHost(host), port);
      if (policy.isClient() || policy.clientAuth() != ClientAuth.NONE) {
        return new PolicyEngine(engine, policy);
      }
      // As it is, because some servers (Jetty, for ALPN) take engines of the JDK alone. TLS 1.2
      // gets no certificate.
      engine.setUseClientMode(false);
      engine.setSSLParameters(policy.applyWithin(engine.getSSLParameters()));
      return engine;
    }

    @Override
    protected SSLSocketFactory engineGetSocketFactory() {
      if (!policy.isClient()) {
        throw new UnsupportedOperationException(
            "this SSLContext is for servers; a client needs one of ClientTls");
      }
      return new LiveSocketFactory(current, policy);
    }

    @Override
    protected SSLServerSocketFactory engineGetServerSocketFactory() {
      throw new UnsupportedOperationException(
          "an SSLServerSocket cannot rotate its certificate; use a server that is built on SSLEngine");
    }

    @Override
    protected SSLSessionContext engineGetServerSessionContext() {
      return current.get().getServerSessionContext();
    }

    @Override
    protected SSLSessionContext engineGetClientSessionContext() {
      return current.get().getClientSessionContext();
    }

    @Override
    protected SSLParameters engineGetDefaultSSLParameters() {
      return policy.apply(current.get().getDefaultSSLParameters());
    }

    @Override
    protected SSLParameters engineGetSupportedSSLParameters() {
      return policy.apply(current.get().getSupportedSSLParameters());
    }
  }

  /**
   * Makes connected sockets only: an unconnected one would be checked against the address that it is connected to
   * later. Libraries that want one fall back to layering, as {@link SSLSocketFactory#createSocket()} foresees.
   */
  private static final class LiveSocketFactory extends SSLSocketFactory {
    private final Supplier<SSLContext> current;
    private final Policy policy;

    LiveSocketFactory(Supplier<SSLContext> current, Policy policy) {
      this.current = current;
      this.policy = policy;
    }

    @Override
    public Socket createSocket(Socket plain, @Nullable String host, int port, boolean autoClose)
        throws IOException {
      SSLSocket socket = (SSLSocket) current
          .get()
          .getSocketFactory()
          .createSocket(plain, policy.peerHost(host), port, autoClose);
      socket.setSSLParameters(policy.applyWithin(socket.getSSLParameters()));
      return socket;
    }

    @Override
    public Socket createSocket(String host, int port) throws IOException {
      return connect(new InetSocketAddress(host, port), null);
    }

    @Override
    public Socket createSocket(String host, int port, @Nullable InetAddress local, int localPort)
        throws IOException {
      return connect(new InetSocketAddress(host, port), new InetSocketAddress(local, localPort));
    }

    @Override
    public Socket createSocket(InetAddress host, int port) throws IOException {
      return connect(new InetSocketAddress(host, port), null);
    }

    @Override
    public Socket createSocket(
        InetAddress host, int port, @Nullable InetAddress local, int localPort) throws IOException {
      return connect(new InetSocketAddress(host, port), new InetSocketAddress(local, localPort));
    }

    private Socket connect(InetSocketAddress peer, @Nullable InetSocketAddress local)
        throws IOException {
      Socket plain = new Socket();
      try {
        plain.bind(local);
        plain.connect(peer);
        return createSocket(plain, peer.getHostString(), peer.getPort(), true);
      } catch (IOException | RuntimeException e) {
        plain.close();
        throw e;
      }
    }

    @Override
    public String[] getDefaultCipherSuites() {
      return current.get().getSocketFactory().getDefaultCipherSuites();
    }

    @Override
    public String[] getSupportedCipherSuites() {
      return current.get().getSocketFactory().getSupportedCipherSuites();
    }
  }
}
