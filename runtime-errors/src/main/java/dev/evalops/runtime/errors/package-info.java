/**
 * Error codes with their HTTP and Connect mapping, and the one JSON error shape.
 *
 * <p>Start with {@link dev.evalops.runtime.errors.ServiceException}: a handler throws it with an {@link
 * dev.evalops.runtime.errors.ErrorCode}, and the client gets its {@link dev.evalops.runtime.errors.ErrorResponse}.
 * {@link dev.evalops.runtime.errors.FailureKind} tells whether a failure of a dependency can pass.
 */
@NullMarked
package dev.evalops.runtime.errors;

import org.jspecify.annotations.NullMarked;
