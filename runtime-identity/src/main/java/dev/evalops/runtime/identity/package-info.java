/**
 * Who a token belongs to, and tokens for calls between services: {@link dev.evalops.runtime.identity.IdentityClient} is
 * the entry point.
 */
@NullMarked
package dev.evalops.runtime.identity;

import org.jspecify.annotations.NullMarked;
