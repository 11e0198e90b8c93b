package dev.evalops.runtime.mtls;

import java.net.Socket;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.cert.X509Certificate;
import java.util.Arrays;
import java.util.List;
import java.util.function.Supplier;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLSession;
import javax.net.ssl.X509ExtendedKeyManager;
import org.jspecify.annotations.Nullable;

/**
 * Offers the first of the given pairs. The others are those that it offered before: a handshake asks for alias, chain
 * and key one after the other, and must get those of one pair although the files rotate in between.
 */
final class PairKeyManager extends X509ExtendedKeyManager {
  private final Supplier<List<CertifiedKey>> pairs;
  private final boolean onlyTls13;

  /**
   * Makes one.
   *
   * @param onlyTls13 whether a server has no certificate for older protocols, which whoever holds the engine can enable
   */
  PairKeyManager(Supplier<List<CertifiedKey>> pairs, boolean onlyTls13) {
    this.pairs = pairs;
    this.onlyTls13 = onlyTls13;
  }

  private @Nullable String choose(Principal @Nullable [] issuers, @Nullable String... keyTypes) {
    CertifiedKey pair = pairs.get().get(0);
    boolean typeFits =
        Arrays.asList(keyTypes).contains(pair.leaf().getPublicKey().getAlgorithm());
    return typeFits && issuedByOneOf(issuers, pair.chain()) ? pair.alias() : null;
  }

  private static boolean issuedByOneOf(
      Principal @Nullable [] issuers, List<X509Certificate> chain) {
    if (issuers == null || issuers.length == 0) {
      return true;
    }
    for (X509Certificate certificate : chain) {
      if (Arrays.asList(issuers).contains(certificate.getIssuerX500Principal())) {
        return true;
      }
    }
    return false;
  }

  private @Nullable CertifiedKey find(@Nullable String alias) {
    for (CertifiedKey pair : pairs.get()) {
      if (pair.alias().equals(alias)) {
        return pair;
      }
    }
    return null;
  }

  @Override
  public X509Certificate @Nullable [] getCertificateChain(@Nullable String alias) {
    CertifiedKey pair = find(alias);
    return pair == null ? null : pair.chain().toArray(new X509Certificate[0]);
  }

  @Override
  public @Nullable PrivateKey getPrivateKey(@Nullable String alias) {
    CertifiedKey pair = find(alias);
    return pair == null ? null : pair.key();
  }

  @Override
  public @Nullable String chooseEngineClientAlias(
      String[] keyTypes, Principal @Nullable [] issuers, @Nullable SSLEngine engine) {
    return choose(issuers, keyTypes);
  }

  @Override
  public @Nullable String chooseEngineServerAlias(
      String keyType, Principal @Nullable [] issuers, @Nullable SSLEngine engine) {
    SSLSession session = engine == null ? null : engine.getHandshakeSession();
    return onlyTls13 && session != null && !session.getProtocol().equals("TLSv1.3")
        ? null
        : choose(issuers, keyType);
  }

  @Override
  public @Nullable String chooseClientAlias(
      String[] keyTypes, Principal @Nullable [] issuers, @Nullable Socket socket) {
    return choose(issuers, keyTypes);
  }

  @Override
  public @Nullable String chooseServerAlias(
      String keyType, Principal @Nullable [] issuers, @Nullable Socket socket) {
    return choose(issuers, keyType);
  }

  @Override
  public String @Nullable [] getClientAliases(String keyType, Principal @Nullable [] issuers) {
    String alias = choose(issuers, keyType);
    return alias == null ? null : new String[] {alias};
  }

  @Override
  public String @Nullable [] getServerAliases(String keyType, Principal @Nullable [] issuers) {
    return getClientAliases(keyType, issuers);
  }
}
