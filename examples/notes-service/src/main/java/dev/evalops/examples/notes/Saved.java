package dev.evalops.examples.notes;

/** A note after a change, with the number of that change. */
record Saved(Note note, long sequence) {}
