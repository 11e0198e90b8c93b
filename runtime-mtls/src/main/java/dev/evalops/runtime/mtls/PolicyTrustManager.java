package dev.evalops.runtime.mtls;

import java.net.Socket;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.function.Supplier;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.X509ExtendedTrustManager;
import org.jspecify.annotations.Nullable;

/** Asks the JDK's trust manager of the moment about the chain, and the policy about a server's name. */
final class PolicyTrustManager extends X509ExtendedTrustManager {
  private final Supplier<X509ExtendedTrustManager> chainJudge;
  private final Policy policy;

  PolicyTrustManager(Supplier<X509ExtendedTrustManager> chainJudge, Policy policy) {
    this.chainJudge = chainJudge;
    this.policy = policy;
  }

  private void checkName(X509Certificate[] chain, @Nullable SSLSession session)
      throws CertificateException {
    ServerName.check(chain[0], policy.peerHost(session == null ? null : session.getPeerHost()));
  }

  @Override
  public void checkServerTrusted(X509Certificate[] chain, String authType, @Nullable Socket socket)
      throws CertificateException {
    X509ExtendedTrustManager judge = chainJudge.get();
    judge.checkServerTrusted(chain, authType, socket);
    NameConstraints.check(chain, judge.getAcceptedIssuers());
    checkName(chain, socket instanceof SSLSocket tls ? tls.getHandshakeSession() : null);
  }

  @Override
  public void checkServerTrusted(
      X509Certificate[] chain, String authType, @Nullable SSLEngine engine)
      throws CertificateException {
    X509ExtendedTrustManager judge = chainJudge.get();
    judge.checkServerTrusted(chain, authType, engine);
    NameConstraints.check(chain, judge.getAcceptedIssuers());
    checkName(chain, engine == null ? null : engine.getHandshakeSession());
  }

  @Override
  public void checkServerTrusted(X509Certificate[] chain, String authType)
      throws CertificateException {
    X509ExtendedTrustManager judge = chainJudge.get();
    judge.checkServerTrusted(chain, authType);
    NameConstraints.check(chain, judge.getAcceptedIssuers());
    checkName(chain, null);
  }

  @Override
  public void checkClientTrusted(X509Certificate[] chain, String authType, @Nullable Socket socket)
      throws CertificateException {
    X509ExtendedTrustManager judge = chainJudge.get();
    judge.checkClientTrusted(chain, authType, socket);
    NameConstraints.check(chain, judge.getAcceptedIssuers());
  }

  @Override
  public void checkClientTrusted(
      X509Certificate[] chain, String authType, @Nullable SSLEngine engine)
      throws CertificateException {
    X509ExtendedTrustManager judge = chainJudge.get();
    judge.checkClientTrusted(chain, authType, engine);
    NameConstraints.check(chain, judge.getAcceptedIssuers());
  }

  @Override
  public void checkClientTrusted(X509Certificate[] chain, String authType)
      throws CertificateException {
    X509ExtendedTrustManager judge = chainJudge.get();
    judge.checkClientTrusted(chain, authType);
    NameConstraints.check(chain, judge.getAcceptedIssuers());
  }

  @Override
  public X509Certificate[] getAcceptedIssuers() {
    return chainJudge.get().getAcceptedIssuers();
  }
}
