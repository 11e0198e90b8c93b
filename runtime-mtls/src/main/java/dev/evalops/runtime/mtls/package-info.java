/**
 * Mutual TLS from PEM files that rotate without a restart: {@link dev.evalops.runtime.mtls.ClientTls} for calls, {@link
 * dev.evalops.runtime.mtls.ServerTls} for a server, {@link dev.evalops.runtime.mtls.MtlsFilters} for handlers that
 * require a client certificate.
 */
@NullMarked
package dev.evalops.runtime.mtls;

import org.jspecify.annotations.NullMarked;
