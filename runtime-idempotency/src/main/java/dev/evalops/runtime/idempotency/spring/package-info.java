/**
 * Spring's transactions for {@link dev.evalops.runtime.idempotency.Idempotency}; needs {@code spring-jdbc}. Begin with
 * {@link dev.evalops.runtime.idempotency.spring.SpringTransactions#of}.
 */
@NullMarked
package dev.evalops.runtime.idempotency.spring;

import org.jspecify.annotations.NullMarked;
