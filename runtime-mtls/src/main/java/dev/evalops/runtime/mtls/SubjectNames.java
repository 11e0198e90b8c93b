package dev.evalops.runtime.mtls;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import java.net.InetAddress;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.UnknownHostException;
import java.nio.ByteBuffer;
import java.security.cert.CertificateParsingException;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The subject alternative names of a certificate. The JDK gives none at all if it dislikes a single one, such as a URI
 * with a blank; here that one is left out.
 */
final class SubjectNames {
  /** Types of names, RFC 5280 section 4.2.1.6. */
  static final int EMAIL = 1;

  static final int DNS = 2;
  static final int URI = 6;
  static final int IP_ADDRESS = 7;

  private static final String EXTENSION = "2.5.29.17";
  private static final int CONTEXT = 0x80; // before the type, in a tag

  /** A name of one of the types above. */
  record Name(int type, String value) {}

  private SubjectNames() {}

  /**
   * Reads the names.
   *
   * @throws CertificateParsingException if the extension is damaged
   */
  static List<Name> of(X509Certificate certificate) throws CertificateParsingException {
    List<Name> names = new ArrayList<>();
    byte[] extension = certificate.getExtensionValue(EXTENSION);
    if (extension != null) {
      try {
        readEach(ByteBuffer.wrap(extension), names);
      } catch (RuntimeException e) { // beyond the end of the buffer
        throw new CertificateParsingException("the subject alternative names are damaged", e);
      }
    }
    return names;
  }

  /** Whether the certificate has names and the JDK gives none of them, because it dislikes one. */
  static boolean areUnknownToTheJdk(X509Certificate certificate)
      throws CertificateParsingException {
    return certificate.getExtensionValue(EXTENSION) != null
        && certificate.getSubjectAlternativeNames() == null;
  }

  private static void readEach(ByteBuffer extension, List<Name> names) {
    Der.enter(extension); // OCTET STRING
    ByteBuffer sequence = content(extension);
    while (sequence.hasRemaining()) {
      int type = (sequence.get(sequence.position()) & 0xff) - CONTEXT;
      ByteBuffer content = content(sequence);
      byte[] octets = new byte[content.remaining()];
      content.get(octets);
      String value = value(type, octets);
      if (value != null) {
        names.add(new Name(type, value));
      }
    }
  }

  /** Reads an element. */
  private static ByteBuffer content(ByteBuffer der) {
    int length = Der.enter(der);
    ByteBuffer content = der.slice(der.position(), length);
    der.position(der.position() + length);
    return content;
  }

  private static @Nullable String value(int type, byte[] octets) {
    String text = new String(octets, ISO_8859_1);
    boolean printable = text.chars().allMatch(c -> c > ' ' && c < 0x7f);
    return switch (type) {
      case EMAIL, DNS -> printable ? text : null;
      case URI -> printable && isAbsolute(text) ? text : null;
      case IP_ADDRESS -> address(octets);
      default -> null;
    };
  }

  private static boolean isAbsolute(String uri) {
    try {
      return new URI(uri).isAbsolute();
    } catch (URISyntaxException e) {
      return false;
    }
  }

  private static @Nullable String address(byte[] octets) {
    try {
      return InetAddress.getByAddress(octets).getHostAddress();
    } catch (UnknownHostException e) {
      return null; // of another length
    }
  }
}
