/**
 * Who calls, and what they may do: bearer tokens and API keys become an {@link dev.evalops.runtime.auth.Actor} and a
 * {@link dev.evalops.runtime.auth.Principal}.
 *
 * <p>Start with {@link dev.evalops.runtime.auth.Auth}.
 */
@NullMarked
package dev.evalops.runtime.auth;

import org.jspecify.annotations.NullMarked;
