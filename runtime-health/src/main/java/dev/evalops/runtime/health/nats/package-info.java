/**
 * The check of a NATS connection, {@link dev.evalops.runtime.health.nats.NatsHealth}; needs {@code
 * io.nats:jnats}.
 */
@NullMarked
package dev.evalops.runtime.health.nats;

import org.jspecify.annotations.NullMarked;
