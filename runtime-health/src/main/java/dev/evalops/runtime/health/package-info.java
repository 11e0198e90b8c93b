/** Placeholder. */
@NullMarked
package dev.evalops.runtime.health;

import org.jspecify.annotations.NullMarked;
