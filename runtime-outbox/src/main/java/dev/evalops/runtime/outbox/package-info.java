/**
 * Committed changes reach the broker, in order and exactly once in effect.
 *
 * <p>Start with {@link dev.evalops.runtime.outbox.Outbox} on the side that changes things, and with {@link
 * dev.evalops.runtime.outbox.Inbox} on the side that handles the events.
 */
@NullMarked
package dev.evalops.runtime.outbox;

import org.jspecify.annotations.NullMarked;
