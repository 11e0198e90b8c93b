/**
 * The tests that every {@link dev.evalops.runtime.idempotency.IdempotencyStore} has to pass; needs {@code
 * junit-jupiter-api}.
 */
@NullMarked
package dev.evalops.runtime.idempotency.junit;

import org.jspecify.annotations.NullMarked;
