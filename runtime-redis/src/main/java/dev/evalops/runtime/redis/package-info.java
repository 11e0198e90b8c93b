/**
 * Opens a connection to a Redis that may not be up yet. Start at {@link dev.evalops.runtime.redis.Redis}.
 */
@NullMarked
package dev.evalops.runtime.redis;

import org.jspecify.annotations.NullMarked;
