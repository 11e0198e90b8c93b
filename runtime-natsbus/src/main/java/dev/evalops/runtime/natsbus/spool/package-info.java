/**
 * Spools changes on disk while a broker is away. Start at {@link dev.evalops.runtime.natsbus.spool.SpooledPublisher}.
 *
 * @serial exclude
 */
@NullMarked
package dev.evalops.runtime.natsbus.spool;

import org.jspecify.annotations.NullMarked;
