/** Placeholder. */
@NullMarked
package dev.evalops.runtime.startup;

import org.jspecify.annotations.NullMarked;
