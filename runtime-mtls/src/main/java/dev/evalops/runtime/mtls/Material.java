package dev.evalops.runtime.mtls;

import javax.net.ssl.SSLContext;
import javax.net.ssl.X509ExtendedTrustManager;
import org.jspecify.annotations.Nullable;

/**
 * What was made of one state of the files.
 *
 * @param digest of the contents of the files
 * @param pair our certificate, if we have one
 * @param trust judges the peer's chain; none on a server that asks for none
 * @param context with its own session cache
 */
record Material(
    String digest,
    @Nullable CertifiedKey pair,
    @Nullable X509ExtendedTrustManager trust,
    SSLContext context) {}
