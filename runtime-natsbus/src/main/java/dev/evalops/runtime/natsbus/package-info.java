/**
 * Publishes events to NATS JetStream, and consumes them. Start at {@link dev.evalops.runtime.natsbus.NatsBus}.
 *
 * @serial exclude
 */
@NullMarked
package dev.evalops.runtime.natsbus;

import org.jspecify.annotations.NullMarked;
