package dev.evalops.runtime.mtls;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.KeyManager;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedTrustManager;
import org.jspecify.annotations.Nullable;

/**
 * The files of a client or a server, and what is made of them.
 *
 * @param ca the authorities that issue the peer's certificates
 * @param certificate ours, set together with the key
 */
record PemFiles(
    Policy policy,
    @Nullable String ca,
    @Nullable String certificate,
    @Nullable String key) {
  /** How long a session can be resumed without a new look at the certificates. */
  private static final int SESSION_SECONDS = 3600;

  private static final int MAX_READS = 3;

  /** The files cannot be used; the message has every problem. */
  static final class UnusableException extends Exception {
    private static final long serialVersionUID = 1L;

    private UnusableException(List<String> problems) {
      super(String.join("; ", problems));
    }
  }

  /** A file's text, or why it could not be read. */
  private record Read(String path, String text, @Nullable String problem) {}

  private record Contents(
      @Nullable Read ca,
      @Nullable Read certificate,
      @Nullable Read key,
      String digest) {}

  /**
   * Reads the files.
   *
   * @param current what is in use; given back when the files say the same
   */
  Material load(@Nullable Material current) throws UnusableException {
    Contents contents = read();
    for (int reads = 1; ; reads++) {
      if (current != null && contents.digest.equals(current.digest())) {
        return current;
      }
      try {
        return make(contents);
      } catch (UnusableException e) {
        // A pair that was replaced between the reading of its two files is whole when read again.
        Contents again = read();
        if (reads == MAX_READS || again.digest.equals(contents.digest)) {
          throw e;
        }
        contents = again;
      }
    }
  }

  private Contents read() {
    Read readCa = read(ca);
    Read readCertificate = read(certificate);
    Read readKey = read(key);
    return new Contents(readCa, readCertificate, readKey, digest(readCa, readCertificate, readKey));
  }

  private static @Nullable Read read(@Nullable String path) {
    if (path == null) {
      return null;
    }
    try {
      return new Read(path, Files.readString(Path.of(path), ISO_8859_1), null);
    } catch (InvalidPathException e) {
      return new Read(path, "", "not a path");
    } catch (NoSuchFileException e) {
      return new Read(path, "", "no such file");
    } catch (AccessDeniedException e) {
      return new Read(path, "", "permission denied");
    } catch (IOException e) {
      return new Read(path, "", String.valueOf(e.getMessage()));
    }
  }

  private static String digest(@Nullable Read... reads) {
    MessageDigest sha256;
    try {
      sha256 = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e); // every JDK has it
    }
    for (Read read : reads) {
      if (read != null) {
        sha256.update((read.text.length() + " " + read.problem + " ").getBytes(ISO_8859_1));
        sha256.update(read.text.getBytes(ISO_8859_1));
      }
    }
    return HexFormat.of().formatHex(sha256.digest());
  }

  private Material make(Contents contents) throws UnusableException {
    List<String> problems = new ArrayList<>();
    X509ExtendedTrustManager trust = trust(contents.ca, problems);
    CertifiedKey pair = pair(contents, problems);
    if (!problems.isEmpty()) {
      throw new UnusableException(problems);
    }
    try {
      SSLContext context = SSLContext.getInstance("TLSv1.3");
      // An empty list, unlike null, keeps the JDK from loading its own roots.
      context.init(
          pair == null
              ? new KeyManager[0]
              : new KeyManager[] {new PairKeyManager(() -> List.of(pair), true)},
          trust == null
              ? new TrustManager[0]
              : new TrustManager[] {new PolicyTrustManager(() -> trust, policy)},
          null);
      context.getClientSessionContext().setSessionTimeout(SESSION_SECONDS);
      context.getServerSessionContext().setSessionTimeout(SESSION_SECONDS);
      return new Material(contents.digest, pair, trust, context);
    } catch (GeneralSecurityException e) {
      throw new IllegalStateException("this JDK has no TLS 1.3", e);
    }
  }

  private @Nullable X509ExtendedTrustManager trust(@Nullable Read read, List<String> problems) {
    if (read == null && !policy.isClient()) {
      return null;
    }
    if (read != null && read.problem != null) {
      problems.add((policy.isClient() ? "read_server_ca: " : "read_client_ca: ") + read.path + ": "
          + read.problem);
      return null;
    }
    try {
      TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
      if (read == null) {
        factory.init((KeyStore) null); // the JDK's public roots
      } else {
        Set<TrustAnchor> anchors = new HashSet<>();
        for (X509Certificate authority : Pem.certificates(read.text)) {
          anchors.add(new TrustAnchor(authority, null));
        }
        PKIXBuilderParameters parameters = new PKIXBuilderParameters(anchors, null);
        parameters.setRevocationEnabled(false);
        factory.init(new CertPathTrustManagerParameters(parameters));
      }
      for (TrustManager manager : factory.getTrustManagers()) {
        if (manager instanceof X509ExtendedTrustManager extended) {
          return extended;
        }
      }
      throw new IllegalStateException("this JDK has no X509ExtendedTrustManager");
    } catch (GeneralSecurityException e) {
      problems.add((policy.isClient() ? "parse_server_ca: " : "parse_client_ca: ") + ca + ": "
          + e.getMessage());
      return null;
    }
  }

  private @Nullable CertifiedKey pair(Contents contents, List<String> problems) {
    Read readCertificate = contents.certificate;
    Read readKey = contents.key;
    if (readCertificate == null || readKey == null) {
      return null;
    }
    String code = policy.isClient() ? "load_client_keypair: " : "load_server_keypair: ";
    boolean readable = true;
    for (Read read : new Read[] {readCertificate, readKey}) {
      if (read.problem != null) {
        problems.add(code + read.path + ": " + read.problem);
        readable = false;
      }
    }
    if (!readable) {
      return null;
    }
    String reading = readCertificate.path;
    try {
      List<X509Certificate> chain = Pem.certificates(readCertificate.text);
      reading = readKey.path;
      return new CertifiedKey(contents.digest, Pem.privateKey(readKey.text, chain.get(0)), chain);
    } catch (GeneralSecurityException e) {
      problems.add(code + reading + ": " + e.getMessage());
      return null;
    }
  }
}
