/**
 * Requests, responses, filters and a server that drains, on {@code com.sun.net.httpserver}.
 *
 * <p>Start with {@link dev.evalops.runtime.http.HttpService}; a service that has a server of its own puts {@link
 * dev.evalops.runtime.http.HttpFilters#chain} around its handlers.
 */
@NullMarked
package dev.evalops.runtime.http;

import org.jspecify.annotations.NullMarked;
