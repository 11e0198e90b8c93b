package dev.evalops.runtime.mtls;

import java.io.ByteArrayInputStream;
import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.Signature;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.interfaces.RSAKey;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * Certificates and private keys out of PEM text (RFC 7468): text around the blocks is ignored, damage within is not.
 */
final class Pem {
  private static final String BEGIN = "-----BEGIN ";
  private static final String END = "-----END ";
  private static final String DASHES = "-----";
  private static final Pattern LABEL = Pattern.compile("[A-Z0-9. ]{1,40}");
  private static final String BYTE_ORDER_MARK = "\u00ef\u00bb\u00bf"; // UTF-8's, read as ISO 8859-1

  private static final int OBJECT_IDENTIFIER = 0x06;
  /** P-256, P-384 and P-521. */
  private static final Set<String> CURVES = Set.of("2a8648ce3d030107", "2b81040022", "2b81040023");

  private static final Map<String, String> OTHER_CURVES = Map.of(
      "2b8104000a", "secp256k1",
      "2b81040021", "secp224r1",
      "2a8648ce3d030101", "secp192r1",
      "2b2403030208010107", "brainpoolP256r1",
      "2b240303020801010b", "brainpoolP384r1",
      "2b240303020801010d", "brainpoolP512r1");

  private record Block(String label, boolean encrypted, String base64) {
    byte[] der() throws GeneralSecurityException {
      try {
        return Base64.getDecoder().decode(base64);
      } catch (IllegalArgumentException e) {
        throw new GeneralSecurityException("the " + label + " block is no valid Base64", e);
      }
    }
  }

  private Pem() {}

  /** All certificates in the text, in its order; at least one. */
  static List<X509Certificate> certificates(String text) throws GeneralSecurityException {
    CertificateFactory factory = CertificateFactory.getInstance("X.509");
    List<X509Certificate> certificates = new ArrayList<>();
    List<Block> blocks = blocks(text);
    for (Block block : blocks) {
      if (block.label.equals("TRUSTED CERTIFICATE")) {
        throw new GeneralSecurityException("a TRUSTED CERTIFICATE block has trust settings of"
            + " OpenSSL's own; store the certificate alone (openssl x509 -in … -out …)");
      }
      if (block.label.equals("CERTIFICATE") || block.label.equals("X509 CERTIFICATE")) {
        try {
          certificates.add(
              (X509Certificate) factory.generateCertificate(new ByteArrayInputStream(block.der())));
        } catch (CertificateException e) {
          throw new GeneralSecurityException(
              "certificate " + (certificates.size() + 1) + " cannot be decoded", e);
        }
      }
    }
    if (certificates.isEmpty()) {
      throw new GeneralSecurityException("no CERTIFICATE block" + insteadOf(blocks));
    }
    return List.copyOf(certificates);
  }

  /** The first private key in the text, which must be the one of the certificate. */
  static PrivateKey privateKey(String text, X509Certificate certificate)
      throws GeneralSecurityException {
    Block block = privateKeyBlock(text);
    if (block.encrypted) {
      throw new GeneralSecurityException(
          "the private key is encrypted; store it without a passphrase (openssl pkey -in … -out …)");
    }
    PublicKey publicKey = certificate.getPublicKey();
    checkCurve(publicKey);
    byte[] pkcs8 = switch (block.label) {
      case "PRIVATE KEY" -> block.der();
      case "RSA PRIVATE KEY", "EC PRIVATE KEY" -> pkcs8(publicKey, block.der());
      default ->
        throw new GeneralSecurityException(
            "a " + block.label + " block is not supported; use PKCS#8, PKCS#1 or SEC1");
    };
    String algorithm = publicKey.getAlgorithm();
    PrivateKey key;
    try {
      key = KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(pkcs8));
    } catch (GeneralSecurityException e) {
      throw new GeneralSecurityException(
          "the private key is damaged or does not belong to the certificate, whose key is of type "
              + algorithm,
          e);
    }
    if (!belongTogether(key, publicKey)) {
      throw new GeneralSecurityException("the private key does not belong to the certificate");
    }
    return key;
  }

  private static Block privateKeyBlock(String text) throws GeneralSecurityException {
    List<Block> blocks = blocks(text);
    for (Block block : blocks) {
      if (block.label.endsWith("PRIVATE KEY")) {
        return block;
      }
    }
    throw new GeneralSecurityException("no PRIVATE KEY block" + insteadOf(blocks));
  }

  private static String insteadOf(List<Block> found) {
    return found.isEmpty()
        ? "; PEM is needed, not DER or PKCS#12"
        : ", only " + found.stream().map(Block::label).distinct().collect(Collectors.joining(", "));
  }

  /** The JDK reads a certificate with another curve, but neither its key nor a handshake with it. */
  private static void checkCurve(PublicKey publicKey) throws GeneralSecurityException {
    if (!publicKey.getAlgorithm().equals("EC")) {
      return;
    }
    ByteBuffer info = ByteBuffer.wrap(publicKey.getEncoded());
    Der.enter(info);
    Der.enter(info); // AlgorithmIdentifier { OID, OID of the curve }
    int length = Der.enter(info);
    info.position(info.position() + length);
    if (info.get(info.position()) != OBJECT_IDENTIFIER) {
      return; // explicit parameters, of which the JDK does not even read the certificate
    }
    byte[] octets = new byte[Der.enter(info)];
    info.get(octets);
    String curve = HexFormat.of().formatHex(octets);
    if (!CURVES.contains(curve)) {
      throw new GeneralSecurityException("the curve of the certificate's key is not supported: "
          + OTHER_CURVES.getOrDefault(curve, "(object identifier " + curve + ")")
          + "; use P-256, P-384, P-521 or Ed25519");
    }
  }

  private static boolean belongTogether(PrivateKey key, PublicKey publicKey)
      throws GeneralSecurityException {
    if (key instanceof RSAKey mine && publicKey instanceof RSAKey theirs) {
      return mine.getModulus().equals(theirs.getModulus());
    }
    String algorithm = switch (publicKey.getAlgorithm()) {
      case "EC" -> "SHA256withECDSA";
      case "EdDSA" -> "EdDSA";
      default ->
        throw new GeneralSecurityException("a key of type " + publicKey.getAlgorithm()
            + " is not supported; use RSA, EC or Ed25519");
    };
    byte[] probe = {1, 2, 3};
    Signature signature = Signature.getInstance(algorithm);
    try {
      signature.initSign(key);
      signature.update(probe);
      byte[] signed = signature.sign();
      signature.initVerify(publicKey);
      signature.update(probe);
      return signature.verify(signed);
    } catch (GeneralSecurityException e) {
      return false; // such as a key that is out of the range of the certificate's curve
    }
  }

  private static List<Block> blocks(String text) throws GeneralSecurityException {
    List<Block> blocks = new ArrayList<>();
    String label = null;
    boolean encrypted = false;
    StringBuilder base64 = new StringBuilder();
    String start =
        text.startsWith(BYTE_ORDER_MARK) ? text.substring(BYTE_ORDER_MARK.length()) : text;
    for (String raw : start.split("\\R", -1)) {
      String line = raw.strip();
      if (label == null) {
        label = label(line, BEGIN);
        if (line.startsWith(BEGIN) && (label == null || !LABEL.matcher(label).matches())) {
          // Never with the line: the rest of it is the key.
          throw new GeneralSecurityException(
              "a BEGIN line is damaged, or does not end with its dashes; perhaps the line breaks of the file are lost");
        }
        encrypted = label != null && label.startsWith("ENCRYPTED ");
        base64.setLength(0);
      } else if (line.startsWith(DASHES)) {
        if (!label.equals(label(line, END))) {
          throw new GeneralSecurityException("the " + label + " block has no end");
        }
        blocks.add(new Block(label, encrypted, base64.toString()));
        label = null;
      } else if (line.indexOf(':')
          >= 0) { // "Proc-Type: 4,ENCRYPTED" of the traditional form (RFC 1421)
        encrypted |= line.startsWith("Proc-Type:") && line.endsWith("ENCRYPTED");
      } else {
        base64.append(line);
      }
    }
    if (label != null) {
      throw new GeneralSecurityException("the " + label + " block has no end");
    }
    return blocks;
  }

  private static @Nullable String label(String line, String marker) {
    return line.startsWith(marker)
            && line.endsWith(DASHES)
            && line.length() > marker.length() + DASHES.length()
        ? line.substring(marker.length(), line.length() - DASHES.length())
        : null;
  }

  /**
   * PKCS#8 around a PKCS#1 or SEC1 key: {@code SEQUENCE { INTEGER 0, AlgorithmIdentifier, OCTET STRING key }}. The
   * algorithm and the curve are those of the certificate's public key; with another one the key would not belong to it.
   */
  private static byte[] pkcs8(PublicKey publicKey, byte[] key) {
    ByteBuffer info =
        ByteBuffer.wrap(publicKey.getEncoded()); // SEQUENCE { AlgorithmIdentifier, BIT STRING }
    Der.enter(info);
    int begin = info.position();
    int length = Der.enter(info);
    byte[] algorithm = Arrays.copyOfRange(info.array(), begin, info.position() + length);
    byte[] version = {0x02, 0x01, 0x00};
    return Der.element(0x30, version, algorithm, Der.element(0x04, key));
  }
}
