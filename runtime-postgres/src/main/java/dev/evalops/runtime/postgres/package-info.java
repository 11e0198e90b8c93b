/**
 * Opens a connection pool on a Postgres that may not be up yet. Start at {@link dev.evalops.runtime.postgres.Postgres}.
 */
@NullMarked
package dev.evalops.runtime.postgres;

import org.jspecify.annotations.NullMarked;
