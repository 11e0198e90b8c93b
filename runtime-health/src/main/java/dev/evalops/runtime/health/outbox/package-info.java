/**
 * The check of an outbox, {@link dev.evalops.runtime.health.outbox.OutboxHealth}; needs {@code
 * dev.evalops:runtime-outbox}.
 */
@NullMarked
package dev.evalops.runtime.health.outbox;

import org.jspecify.annotations.NullMarked;
