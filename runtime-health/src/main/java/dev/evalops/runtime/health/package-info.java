/**
 * Readiness checks of a service's dependencies, bounded, shared and cached. The entry point is {@link
 * dev.evalops.runtime.health.HealthChecker}; ready-made checks are in {@link
 * dev.evalops.runtime.health.HealthChecks} and, for clients that a service may not have on its class path,
 * in the sub-packages.
 */
@NullMarked
package dev.evalops.runtime.health;

import org.jspecify.annotations.NullMarked;
