package dev.evalops.examples.notes;

import java.io.IOException;
import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import okhttp3.tls.HeldCertificate;

/** A certificate authority, and one certificate for localhost that can be renewed, as PEM files in a folder. */
final class Certificates {
  private final Path folder;
  private BigInteger serialNumber = BigInteger.ZERO;
  private final HeldCertificate authority = new HeldCertificate.Builder()
      .commonName("notes demo CA")
      .certificateAuthority(0)
      .build();

  Certificates(Path folder) throws IOException {
    this.folder = folder;
    Files.writeString(caFile(), authority.certificatePem());
    renew();
  }

  Path caFile() {
    return folder.resolve("ca.pem");
  }

  Path certificateFile() {
    return folder.resolve("tls.crt");
  }

  Path keyFile() {
    return folder.resolve("tls.key");
  }

  BigInteger serialNumber() {
    return serialNumber;
  }

  /** Puts a new key and certificate in the place of the old ones. */
  void renew() throws IOException {
    HeldCertificate certificate = new HeldCertificate.Builder()
        .commonName("notes")
        .addSubjectAlternativeName("localhost")
        .addSubjectAlternativeName("127.0.0.1")
        .signedBy(authority)
        .build();
    serialNumber = certificate.certificate().getSerialNumber();
    replace(keyFile(), certificate.privateKeyPkcs8Pem());
    replace(certificateFile(), certificate.certificatePem());
  }

  /** Replaces a file as a whole: who reads it sees the old text or the new one. */
  static void replace(Path file, String text) throws IOException {
    Path next = file.resolveSibling(file.getFileName() + ".next");
    Files.writeString(next, text);
    Files.move(next, file, StandardCopyOption.ATOMIC_MOVE);
  }
}
