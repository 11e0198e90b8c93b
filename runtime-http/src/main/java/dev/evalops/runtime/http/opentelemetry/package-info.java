/**
 * Server spans for the requests of a service; needs {@code opentelemetry-api}.
 *
 * <p>Start with {@link dev.evalops.runtime.http.opentelemetry.HttpTelemetry#filter}.
 */
@NullMarked
package dev.evalops.runtime.http.opentelemetry;

import org.jspecify.annotations.NullMarked;
