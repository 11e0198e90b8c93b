/**
 * Error codes with their HTTP and Connect mapping, and the one JSON error shape.
 *
 * <p>Start with {@link dev.evalops.runtime.errors.ServiceException}: a handler throws it with an {@link
 * dev.evalops.runtime.errors.ErrorCode}, and {@link dev.evalops.runtime.errors.RecoveryFilter} answers it.
 */
@NullMarked
package dev.evalops.runtime.errors;

import org.jspecify.annotations.NullMarked;
