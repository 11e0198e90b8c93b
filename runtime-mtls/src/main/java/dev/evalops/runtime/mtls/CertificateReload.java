package dev.evalops.runtime.mtls;

import java.time.Instant;
import java.util.Optional;

/**
 * A change of the certificate files.
 *
 * @param notAfter when our certificate in use expires; empty on a client without a certificate
 * @param problem why the files cannot be used, in which case the last good certificates stay in use; empty when they
 *     are
 */
public record CertificateReload(Optional<Instant> notAfter, Optional<String> problem) {
  /** Returns the line for the log. */
  @Override
  public String toString() {
    String validity = notAfter.map(end -> ", valid until " + end).orElse("");
    return problem
        .map(why ->
            "certificate reload failed; using the last good certificates" + validity + ": " + why)
        .orElse("certificates reloaded" + validity);
  }
}
