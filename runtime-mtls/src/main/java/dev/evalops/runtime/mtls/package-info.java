/**
 * Mutual TLS from PEM files that rotate without a restart: {@link dev.evalops.runtime.mtls.Mtls} is the entry point, {@link
 * dev.evalops.runtime.mtls.MtlsFilters} asks for client certificates at an HTTP handler.
 */
@NullMarked
package dev.evalops.runtime.mtls;

import org.jspecify.annotations.NullMarked;
