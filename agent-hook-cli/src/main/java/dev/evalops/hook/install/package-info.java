/**
 * Puts the hook into the settings of the coding agents and finds what keeps it from being asked. No tool call waits for
 * what is here, and the check in {@code dev.evalops.hook} knows nothing of it.
 */
@NullMarked
package dev.evalops.hook.install;

import org.jspecify.annotations.NullMarked;
