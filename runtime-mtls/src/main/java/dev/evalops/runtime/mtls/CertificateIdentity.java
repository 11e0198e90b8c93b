package dev.evalops.runtime.mtls;

import java.security.cert.CertificateParsingException;
import java.security.cert.X509Certificate;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import javax.naming.InvalidNameException;
import javax.naming.NamingException;
import javax.naming.directory.Attribute;
import javax.naming.ldap.LdapName;
import javax.naming.ldap.Rdn;
import org.jspecify.annotations.Nullable;

/**
 * One name that a certificate gives its holder. Two are equal only if they are of the same kind, so that a certificate
 * with the common name {@code svc.internal} does not pass for the DNS name. Immutable.
 *
 * @param kind where in the certificate the name stands
 * @param value not blank; compared exactly, DNS names regardless of case
 */
public record CertificateIdentity(Kind kind, String value) {

  /** Where in a certificate a name stands. */
  public enum Kind {
    /** The most specific common name (CN) of the subject. */
    COMMON_NAME("cn"),
    /** A DNS name of the subject alternative names; a wildcard is a name like any other. */
    DNS("dns"),
    /** A URI of the subject alternative names, such as a SPIFFE id. */
    URI("uri"),
    /** An e-mail address of the subject alternative names. */
    EMAIL("email");

    private final String prefix;

    Kind(String prefix) {
      this.prefix = prefix;
    }
  }

  /**
   * Checks the value.
   *
   * @throws IllegalArgumentException if the value is blank
   */
  public CertificateIdentity {
    if (Text.isBlank(value)) {
      throw new IllegalArgumentException("value of a " + kind + " identity must not be blank");
    }
    if (kind == Kind.DNS) {
      value = value.toLowerCase(Locale.ROOT);
    }
  }

  /**
   * Returns a common name, for certificates that have nothing better.
   *
   * @param value not blank
   * @return the identity
   * @throws IllegalArgumentException if the value is blank
   */
  public static CertificateIdentity commonName(String value) {
    return new CertificateIdentity(Kind.COMMON_NAME, value);
  }

  /**
   * Returns a DNS name.
   *
   * @param value not blank
   * @return the identity
   * @throws IllegalArgumentException if the value is blank
   */
  public static CertificateIdentity dns(String value) {
    return new CertificateIdentity(Kind.DNS, value);
  }

  /**
   * Returns a URI, such as {@code spiffe://prod/ns/billing/sa/api}.
   *
   * @param value not blank
   * @return the identity
   * @throws IllegalArgumentException if the value is blank
   */
  public static CertificateIdentity uri(String value) {
    return new CertificateIdentity(Kind.URI, value);
  }

  /**
   * Returns an e-mail address.
   *
   * @param value not blank
   * @return the identity
   * @throws IllegalArgumentException if the value is blank
   */
  public static CertificateIdentity email(String value) {
    return new CertificateIdentity(Kind.EMAIL, value);
  }

  /**
   * Parses what {@link #toString()} writes, as for a list of allowed identities in the environment.
   *
   * @param text {@code cn:…}, {@code dns:…}, {@code uri:…} or {@code email:…}; white space around is ignored
   * @return the identity
   * @throws IllegalArgumentException if the kind is missing or the value blank
   */
  public static CertificateIdentity parse(String text) {
    int colon = text.indexOf(':');
    for (Kind kind : Kind.values()) {
      if (colon > 0 && Text.trim(text.substring(0, colon)).equals(kind.prefix)) {
        return new CertificateIdentity(kind, Text.trim(text.substring(colon + 1)));
      }
    }
    throw new IllegalArgumentException(
        "an identity starts with cn:, dns:, uri: or email:, but this is \"" + text + "\"");
  }

  /**
   * Returns all names of a certificate.
   *
   * @param leaf of the peer
   * @return common name, DNS names, URIs, e-mail addresses, without repeats
   * @throws IllegalArgumentException if the names cannot be decoded
   */
  public static List<CertificateIdentity> of(X509Certificate leaf) {
    Set<CertificateIdentity> identities = new LinkedHashSet<>();
    try {
      add(identities, Kind.COMMON_NAME, commonName(leaf));
      List<SubjectNames.Name> names = SubjectNames.of(leaf);
      addAll(identities, names, SubjectNames.DNS, Kind.DNS);
      addAll(identities, names, SubjectNames.URI, Kind.URI);
      addAll(identities, names, SubjectNames.EMAIL, Kind.EMAIL);
    } catch (CertificateParsingException | NamingException e) {
      throw new IllegalArgumentException("the names of the certificate cannot be decoded", e);
    }
    return List.copyOf(identities);
  }

  private static void addAll(
      Set<CertificateIdentity> identities, List<SubjectNames.Name> names, int type, Kind kind) {
    for (SubjectNames.Name name : names) {
      if (name.type() == type) {
        add(identities, kind, name.value());
      }
    }
  }

  private static void add(Set<CertificateIdentity> identities, Kind kind, @Nullable Object name) {
    if (name instanceof String text && !Text.isBlank(text)) {
      identities.add(new CertificateIdentity(kind, text));
    }
  }

  private static @Nullable Object commonName(X509Certificate leaf) throws NamingException {
    List<Rdn> leastSpecificFirst = name(leaf).getRdns();
    for (int i = leastSpecificFirst.size() - 1; i >= 0; i--) {
      Attribute commonName = leastSpecificFirst.get(i).toAttributes().get("CN");
      if (commonName != null) {
        return commonName.get();
      }
    }
    return null;
  }

  private static LdapName name(X509Certificate leaf) throws InvalidNameException {
    return new LdapName(leaf.getSubjectX500Principal().getName());
  }

  /** Returns the kind and the value, such as {@code dns:svc.internal}. */
  @Override
  public String toString() {
    return kind.prefix + ":" + value;
  }
}
