package dev.evalops.runtime.servlet;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.ArrayList;
import java.util.List;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Self-signed key pairs for server, client and stranger, made by the JDK's keytool. */
final class TestCertificates {
  static final char[] PASSWORD = "changeit".toCharArray();
  private static final KeyStore SERVER = generate("localhost");
  private static final KeyStore CLIENT = generate("client");

  private TestCertificates() {}

  static KeyStore server() {
    return SERVER;
  }

  /** Holds the certificates of clients that are trusted. */
  static KeyStore clients() {
    return trusting(CLIENT);
  }

  static SSLContext client(boolean withCertificate) {
    return context(withCertificate ? CLIENT : null, SERVER);
  }

  private static KeyStore trusting(KeyStore trusted) {
    try {
      KeyStore cas = KeyStore.getInstance("PKCS12");
      cas.load(null, null);
      cas.setCertificateEntry("ca", trusted.getCertificate("key"));
      return cas;
    } catch (GeneralSecurityException | IOException e) {
      throw new IllegalStateException(e);
    }
  }

  private static SSLContext context(KeyStore own, KeyStore trusted) {
    try {
      KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
      keys.init(own, PASSWORD);
      TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
      trust.init(trusting(trusted));
      SSLContext context = SSLContext.getInstance("TLS");
      context.init(own == null ? null : keys.getKeyManagers(), trust.getTrustManagers(), null);
      return context;
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException(e);
    }
  }

  private static KeyStore generate(String name) {
    try {
      Path file = Files.createTempDirectory("certificates").resolve(name + ".p12");
      List<String> command = new ArrayList<>(List.of(
          Path.of(System.getProperty("java.home"), "bin", "keytool").toString(),
          "-genkeypair",
          "-alias",
          "key",
          "-keyalg",
          "EC",
          "-groupname",
          "secp256r1",
          "-dname",
          "CN=" + name,
          "-ext",
          "SAN=DNS:" + name,
          "-validity",
          "2",
          "-storetype",
          "PKCS12",
          "-keystore",
          file.toString(),
          "-storepass",
          "changeit"));
      Process keytool = new ProcessBuilder(command).redirectErrorStream(true).start();
      String output = new String(
          keytool.getInputStream().readAllBytes(), java.nio.charset.StandardCharsets.UTF_8);
      if (keytool.waitFor() != 0) {
        throw new IllegalStateException(output);
      }
      KeyStore store = KeyStore.getInstance(file.toFile(), PASSWORD);
      Files.delete(file);
      Files.delete(file.getParent());
      return store;
    } catch (IOException | GeneralSecurityException e) {
      throw new IllegalStateException(e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(e);
    }
  }
}
