package dev.evalops.runtime.mtls;

import java.net.Inet6Address;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SNIServerName;
import org.jspecify.annotations.Nullable;

/**
 * Whether a certificate is the one of a server (RFC 9525): by its subject alternative names only, with a wildcard as
 * the whole first label only. The JDK has this check too, but parses all of the public roots before its first answer,
 * which takes longer than everything else here.
 */
final class ServerName {
  private static final Pattern IPV4 =
      Pattern.compile("(?:(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)(?:\\.(?!$)|$)){4}");
  private static final Pattern IPV6 =
      Pattern.compile("\\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\\w.-]+)?]?");

  private ServerName() {}

  /**
   * The name as it is compared and sent.
   *
   * @throws IllegalArgumentException if it is neither a DNS name nor an IP address
   */
  static String normalise(String name) {
    if (isAddress(name)) {
      if (!IPV4.matcher(name).matches() && !isIpv6(name)) {
        throw new IllegalArgumentException("not an IP address");
      }
      return name;
    }
    String dns = name.endsWith(".") ? name.substring(0, name.length() - 1) : name;
    if (dns.indexOf('_') < 0) {
      return new SNIHostName(dns).getAsciiName();
    }
    // Certificates and resolvers know underscores, SNI in Java does not.
    String plain = dns.replace('_', 'x');
    if (!new SNIHostName(plain).getAsciiName().equalsIgnoreCase(plain)) {
      throw new IllegalArgumentException("not a DNS name");
    }
    return dns;
  }

  private static boolean isIpv6(String name) {
    try {
      return IPV6.matcher(name).matches() && address(name) instanceof Inet6Address;
    } catch (CertificateException e) {
      return false;
    }
  }

  /** For the SNI extension, which knows no IP addresses (RFC 6066 section 3). */
  static List<SNIServerName> forSni(String name) {
    return isAddress(name) || name.indexOf('_') >= 0 ? List.of() : List.of(new SNIHostName(name));
  }

  static void check(X509Certificate leaf, @Nullable String host) throws CertificateException {
    if (host == null || host.isEmpty()) {
      throw new CertificateException(
          "the server cannot be verified: the name that it must have is not known");
    }
    boolean address = isAddress(host);
    for (SubjectNames.Name name : SubjectNames.of(leaf)) {
      if (address
          ? name.type() == SubjectNames.IP_ADDRESS && address(name.value()).equals(address(host))
          : name.type() == SubjectNames.DNS && matches(canonical(name.value()), canonical(host))) {
        return;
      }
    }
    throw new CertificateException("the server's certificate is not for " + host);
  }

  /** Whether the host is an IP address and no name; a name of digits alone would be an address to every resolver. */
  static boolean isAddress(String host) {
    return host.indexOf(':') >= 0 || host.matches("[0-9.]+");
  }

  private static InetAddress address(String literal) throws CertificateException {
    try {
      return InetAddress.getByName(literal); // no look-up, as it is a literal
    } catch (UnknownHostException e) {
      throw new CertificateException("not an IP address: " + literal, e);
    }
  }

  private static String canonical(String name) {
    String lower = name.toLowerCase(Locale.ROOT);
    return lower.endsWith(".") ? lower.substring(0, lower.length() - 1) : lower;
  }

  private static boolean matches(String pattern, String host) {
    if (pattern.startsWith("*.")) {
      int firstDot = host.indexOf('.');
      return firstDot > 0 && host.substring(firstDot).equals(pattern.substring(1));
    }
    return pattern.equals(host);
  }
}
