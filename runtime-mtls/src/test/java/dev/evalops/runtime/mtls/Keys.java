package dev.evalops.runtime.mtls;

import java.io.IOException;
import java.io.StringWriter;
import java.math.BigInteger;
import java.security.GeneralSecurityException;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.interfaces.ECPrivateKey;
import java.security.spec.ECGenParameterSpec;
import java.util.Base64;
import org.bouncycastle.asn1.ASN1Encodable;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.asn1.x509.SubjectPublicKeyInfo;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.jcajce.JcaMiscPEMGenerator;
import org.bouncycastle.openssl.jcajce.JcaPKCS8Generator;
import org.bouncycastle.openssl.jcajce.JceOpenSSLPKCS8EncryptorBuilder;
import org.bouncycastle.openssl.jcajce.JcePEMEncryptorBuilder;
import org.bouncycastle.operator.OperatorCreationException;
import org.bouncycastle.util.io.pem.PemObjectGenerator;
import org.bouncycastle.util.io.pem.PemWriter;

/** Key pairs, and the texts in which they are stored. */
final class Keys {
  static final BouncyCastleProvider BOUNCY_CASTLE = new BouncyCastleProvider();

  private Keys() {}

  static KeyPair rsa() {
    return generate("RSA", null);
  }

  static KeyPair ec(String curve) {
    return generate("EC", curve);
  }

  static KeyPair ec() {
    return ec("secp256r1");
  }

  static KeyPair ed25519() {
    return generate("Ed25519", null);
  }

  private static KeyPair generate(String algorithm, String curve) {
    try {
      KeyPairGenerator generator = KeyPairGenerator.getInstance(algorithm);
      if (curve != null) {
        generator.initialize(new ECGenParameterSpec(curve));
      }
      return generator.generateKeyPair();
    } catch (GeneralSecurityException e) {
      throw new AssertionError(e);
    }
  }

  static String pkcs8(KeyPair pair) {
    return pem("PRIVATE KEY", pair.getPrivate().getEncoded());
  }

  static String pkcs1(KeyPair rsa) throws IOException {
    return pem("RSA PRIVATE KEY", inner(rsa));
  }

  /** As openssl writes it, with the curve and the public key. */
  static String sec1(KeyPair ec) throws IOException {
    ECPrivateKey key = (ECPrivateKey) ec.getPrivate();
    BigInteger order = key.getParams().getOrder();
    SubjectPublicKeyInfo publicKey =
        SubjectPublicKeyInfo.getInstance(ec.getPublic().getEncoded());
    ASN1Encodable curve = publicKey.getAlgorithm().getParameters();
    byte[] der = new org.bouncycastle.asn1.sec.ECPrivateKey(
            order.bitLength(), key.getS(), publicKey.getPublicKeyData(), curve)
        .getEncoded();
    return pem("EC PARAMETERS", curve.toASN1Primitive().getEncoded()) + pem("EC PRIVATE KEY", der);
  }

  /** As the smallest writers do, without the curve. */
  static String bareSec1(KeyPair ec) throws IOException {
    return pem("EC PRIVATE KEY", inner(ec));
  }

  private static byte[] inner(KeyPair pair) throws IOException {
    return PrivateKeyInfo.getInstance(pair.getPrivate().getEncoded())
        .parsePrivateKey()
        .toASN1Primitive()
        .getEncoded();
  }

  static String encryptedPkcs8(KeyPair pair) throws IOException, OperatorCreationException {
    return write(new JcaPKCS8Generator(
        pair.getPrivate(),
        new JceOpenSSLPKCS8EncryptorBuilder(JcaPKCS8Generator.AES_256_CBC)
            .setProvider(BOUNCY_CASTLE)
            .setPassword("secret".toCharArray())
            .build()));
  }

  static String encryptedTraditional(KeyPair rsa) throws IOException {
    return write(new JcaMiscPEMGenerator(
        rsa.getPrivate(),
        new JcePEMEncryptorBuilder("AES-128-CBC")
            .setProvider(BOUNCY_CASTLE)
            .build("secret".toCharArray())));
  }

  private static String write(PemObjectGenerator generator) throws IOException {
    StringWriter text = new StringWriter();
    try (PemWriter writer = new PemWriter(text)) {
      writer.writeObject(generator);
    }
    return text.toString();
  }

  static String pem(String label, byte[] der) {
    String base64 = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der);
    return "-----BEGIN " + label + "-----\n" + base64 + "\n-----END " + label + "-----\n";
  }
}
