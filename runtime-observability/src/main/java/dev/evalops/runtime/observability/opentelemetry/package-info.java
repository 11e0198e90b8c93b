/** Tracing from the standard environment, on OpenTelemetry's SDK: {@link dev.evalops.runtime.observability.opentelemetry.Tracing}. */
@NullMarked
package dev.evalops.runtime.observability.opentelemetry;

import org.jspecify.annotations.NullMarked;
