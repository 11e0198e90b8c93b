/**
 * Metrics, the request log and wide events of a service: {@link dev.evalops.runtime.observability.ServiceMetrics} is
 * the entry point.
 */
@NullMarked
package dev.evalops.runtime.observability;

import org.jspecify.annotations.NullMarked;
