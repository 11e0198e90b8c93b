/** Placeholder. */
@NullMarked
package dev.evalops.runtime.http;

import org.jspecify.annotations.NullMarked;
