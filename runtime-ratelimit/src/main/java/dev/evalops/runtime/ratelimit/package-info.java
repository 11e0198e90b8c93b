/**
 * Token buckets in memory and in Redis. {@link dev.evalops.runtime.ratelimit.RateLimiter} is the entry point; {@link
 * dev.evalops.runtime.ratelimit.TrustedProxies} says whose {@code X-Forwarded-For} counts. Lettuce and Micrometer are
 * needed by those alone who pass one of their objects to the builder.
 */
@NullMarked
package dev.evalops.runtime.ratelimit;

import org.jspecify.annotations.NullMarked;
