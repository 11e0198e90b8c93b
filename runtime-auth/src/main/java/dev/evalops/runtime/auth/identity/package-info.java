/**
 * Tokens that the identity service knows, {@link dev.evalops.runtime.auth.identity.IdentityTokens}; needs {@code
 * dev.evalops:runtime-identity}.
 */
@NullMarked
package dev.evalops.runtime.auth.identity;

import org.jspecify.annotations.NullMarked;
