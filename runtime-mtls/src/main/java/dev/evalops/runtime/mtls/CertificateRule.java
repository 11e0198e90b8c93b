package dev.evalops.runtime.mtls;

import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLSession;
import org.jspecify.annotations.Nullable;

/** Decides which client certificates may pass, independent of the transport. Immutable, thread-safe. */
public final class CertificateRule {
  private final @Nullable Set<CertificateIdentity> allowed;

  private CertificateRule(@Nullable Set<CertificateIdentity> allowed) {
    this.allowed = allowed;
  }

  /** The decision on a client. */
  public enum Outcome {
    /** The client may pass. */
    ALLOWED("", ""),
    /** It has no certificate that the TLS handshake has verified. */
    CERTIFICATE_REQUIRED(
        "client_certificate_required", "a verified client certificate is required"),
    /** None of the certificate's names is among the allowed ones. */
    IDENTITY_NOT_ALLOWED(
        "client_certificate_identity_not_allowed",
        "the client certificate's identity is not allowed");

    private final String code;
    private final String message;

    Outcome(String code, String message) {
      this.code = code;
      this.message = message;
    }

    /**
     * Returns the code for the client's error response.
     *
     * @return empty if allowed
     */
    public String code() {
      return code;
    }

    /**
     * Returns the message for the client's error response.
     *
     * @return empty if allowed
     */
    public String message() {
      return message;
    }
  }

  /**
   * The decision on one client, and the names that it has.
   *
   * @param outcome whether it may pass
   * @param identities all names of its certificate; empty without one
   */
  public record Decision(Outcome outcome, List<CertificateIdentity> identities) {
    /** Copies the list. */
    public Decision {
      identities = List.copyOf(identities);
    }

    /**
     * Whether the client may pass.
     *
     * @return true if so
     */
    public boolean allowed() {
      return outcome == Outcome.ALLOWED;
    }
  }

  /**
   * Returns a rule that any certificate passes that the TLS handshake has verified.
   *
   * @return the rule
   */
  public static CertificateRule anyVerified() {
    return new CertificateRule(null);
  }

  /**
   * Returns a rule that certificates pass with at least one of the names.
   *
   * @param allowed not empty: a list from an unset variable must not open the door
   * @return the rule
   * @throws IllegalArgumentException if the list is empty
   */
  public static CertificateRule anyOf(Collection<CertificateIdentity> allowed) {
    if (allowed.isEmpty()) {
      throw new IllegalArgumentException(
          "allowed must not be empty; any certificate at all is anyVerified()");
    }
    return new CertificateRule(Set.copyOf(allowed));
  }

  /**
   * Decides on a connection.
   *
   * @param session of the TLS connection, null if there is none
   * @return the decision
   */
  public Decision decide(@Nullable SSLSession session) {
    X509Certificate[] chain = chain(session);
    if (chain.length == 0) {
      return new Decision(Outcome.CERTIFICATE_REQUIRED, List.of());
    }
    try {
      NameConstraints.check(chain); // a server without ServerTls has not
    } catch (CertificateException e) {
      return unnamed();
    }
    return decide(chain[0]);
  }

  /**
   * Decides on a certificate.
   *
   * @param leaf already verified, as by the TLS handshake
   * @return the decision
   */
  public Decision decide(X509Certificate leaf) {
    List<CertificateIdentity> identities;
    try {
      identities = CertificateIdentity.of(leaf);
    } catch (IllegalArgumentException e) {
      return unnamed();
    }
    boolean passes = allowed == null || !Collections.disjoint(identities, allowed);
    return new Decision(passes ? Outcome.ALLOWED : Outcome.IDENTITY_NOT_ALLOWED, identities);
  }

  /** On a certificate whose names cannot be used. */
  private Decision unnamed() {
    return new Decision(
        allowed == null ? Outcome.ALLOWED : Outcome.IDENTITY_NOT_ALLOWED, List.of());
  }

  /** Leaf first; empty without one. */
  private static X509Certificate[] chain(@Nullable SSLSession session) {
    try {
      return session == null
          ? new X509Certificate[0]
          : Arrays.stream(session.getPeerCertificates())
              .filter(X509Certificate.class::isInstance)
              .toArray(X509Certificate[]::new);
    } catch (SSLPeerUnverifiedException e) {
      return new X509Certificate[0];
    }
  }
}
