/**
 * The actor of a request as the actor of a change, {@link dev.evalops.runtime.changejournal.auth.ChangeActors}; needs
 * {@code dev.evalops:runtime-auth}.
 */
@NullMarked
package dev.evalops.runtime.changejournal.auth;

import org.jspecify.annotations.NullMarked;
