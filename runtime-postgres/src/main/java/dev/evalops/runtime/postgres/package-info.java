/** Placeholder. */
@NullMarked
package dev.evalops.runtime.postgres;

import org.jspecify.annotations.NullMarked;
