/** Traces for HTTP clients: {@link dev.evalops.runtime.mtls.opentelemetry.TracingHttpClient}. */
@NullMarked
package dev.evalops.runtime.mtls.opentelemetry;

import org.jspecify.annotations.NullMarked;
