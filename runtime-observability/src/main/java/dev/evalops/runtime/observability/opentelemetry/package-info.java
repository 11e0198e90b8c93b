/**
 * Tracing from the standard environment, on OpenTelemetry's SDK: {@link
 * dev.evalops.runtime.observability.opentelemetry.Tracing}; and spans of calls: {@link
 * dev.evalops.runtime.observability.opentelemetry.TracedHttpClient}, {@link
 * dev.evalops.runtime.observability.opentelemetry.RedisTracing}.
 */
@NullMarked
package dev.evalops.runtime.observability.opentelemetry;

import org.jspecify.annotations.NullMarked;
