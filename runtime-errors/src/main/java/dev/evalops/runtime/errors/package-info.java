/** Placeholder. */
@NullMarked
package dev.evalops.runtime.errors;

import org.jspecify.annotations.NullMarked;
