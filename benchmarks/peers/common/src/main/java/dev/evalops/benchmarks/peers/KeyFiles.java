package dev.evalops.benchmarks.peers;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.Optional;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** A folder with the certificate and the key of a service that is to speak HTTPS, as PEM and as a PKCS #12 store. */
public record KeyFiles(Path folder) {
  /** The system property that names the folder. Without it a service speaks HTTP. */
  public static final String PROPERTY = "key.files";

  /** The only version of TLS that a service is to speak. */
  public static final String PROTOCOL = "TLSv1.3";

  /** The password of the store, and its only entry. */
  public static final String PASSWORD = "changeit";

  public static final String ALIAS = "server";

  public static Optional<KeyFiles> find() {
    return Optional.ofNullable(System.getProperty(PROPERTY)).map(Path::of).map(KeyFiles::new);
  }

  public String certificate() {
    return folder.resolve("cert.pem").toString();
  }

  public String key() {
    return folder.resolve("key.pem").toString();
  }

  public String store() {
    return folder.resolve("server.p12").toString();
  }

  /** For a server that has the key, and for a client that trusts the certificate. */
  public SSLContext context() throws IOException, GeneralSecurityException {
    KeyStore store = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(Path.of(store()))) {
      store.load(in, PASSWORD.toCharArray());
    }
    KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    keys.init(store, PASSWORD.toCharArray());
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    return context;
  }
}
