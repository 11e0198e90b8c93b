/** Placeholder. */
@NullMarked
package dev.evalops.runtime.testutil;

import org.jspecify.annotations.NullMarked;
