/**
 * One effect and one answer for each {@code Idempotency-Key}.
 *
 * <p>Start with {@link dev.evalops.runtime.idempotency.Idempotency#of(javax.sql.DataSource)}.
 */
@NullMarked
package dev.evalops.runtime.idempotency;

import org.jspecify.annotations.NullMarked;
