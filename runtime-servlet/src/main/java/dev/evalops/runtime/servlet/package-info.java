/**
 * The filters, routes and handlers of {@code runtime-http} inside a servlet container.
 *
 * <p>Start with {@link dev.evalops.runtime.servlet.Servlets#addTo}.
 */
@NullMarked
package dev.evalops.runtime.servlet;

import org.jspecify.annotations.NullMarked;
