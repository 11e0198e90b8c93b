/**
 * The traces of events; needs {@code opentelemetry-api}.
 *
 * <p>Start with {@link dev.evalops.runtime.natsbus.opentelemetry.NatsTelemetry#extractContext}.
 */
@NullMarked
package dev.evalops.runtime.natsbus.opentelemetry;

import org.jspecify.annotations.NullMarked;
