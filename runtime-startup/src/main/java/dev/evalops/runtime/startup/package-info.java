/**
 * Retries a dependency until it is up, and stops a service in reverse order.
 *
 * <p>Start with {@link dev.evalops.runtime.startup.Lifecycle} in {@code main}, and with {@link
 * dev.evalops.runtime.startup.Retry} around what may not be up yet.
 */
@NullMarked
package dev.evalops.runtime.startup;

import org.jspecify.annotations.NullMarked;
