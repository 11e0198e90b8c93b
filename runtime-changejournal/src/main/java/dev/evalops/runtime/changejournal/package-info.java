/**
 * Writes what a mutation changed, and who did it, in the mutation's own transaction. Start at {@link
 * dev.evalops.runtime.changejournal.ChangeJournal}.
 */
@NullMarked
package dev.evalops.runtime.changejournal;

import org.jspecify.annotations.NullMarked;
