/**
 * The check of a Redis connection, {@link dev.evalops.runtime.health.redis.RedisHealth}; needs {@code
 * io.lettuce:lettuce-core}.
 */
@NullMarked
package dev.evalops.runtime.health.redis;

import org.jspecify.annotations.NullMarked;
