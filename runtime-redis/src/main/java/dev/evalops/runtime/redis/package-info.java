/** Placeholder. */
@NullMarked
package dev.evalops.runtime.redis;

import org.jspecify.annotations.NullMarked;
