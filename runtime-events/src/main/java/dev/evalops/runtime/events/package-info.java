/**
 * Events of what has changed in a service: {@link dev.evalops.runtime.events.Change} on its way out, {@link
 * dev.evalops.runtime.events.Event} on its way in, and how they are written as CloudEvents.
 *
 * @serial exclude
 */
@NullMarked
package dev.evalops.runtime.events;

import org.jspecify.annotations.NullMarked;
