/** A small service that keeps notes; {@link dev.evalops.examples.notes.NotesService} is its main. */
@NullMarked
package dev.evalops.examples.notes;

import org.jspecify.annotations.NullMarked;
