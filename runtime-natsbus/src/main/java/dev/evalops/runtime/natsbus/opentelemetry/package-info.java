/** The trace context of events; needs {@code io.opentelemetry:opentelemetry-api}. */
@NullMarked
package dev.evalops.runtime.natsbus.opentelemetry;

import org.jspecify.annotations.NullMarked;
